import type { Residency } from './contract.ts';
import type { ListedByTool } from './store-tool.ts';

const months = new Set('Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' '));

/** A line of "ls -l"; undefined = it is none. Owner, class of service and DISK or TAPE may stand between. */
export interface HpssLine {
  readonly path: string;
  readonly isFolder: boolean;
  readonly isFile: boolean;
  readonly sizeBytes: number;
  readonly changedAt: Date | undefined;
}

export function parseLine(line: string): HpssLine | undefined {
  const words = line.trim().split(/\s+/);
  const mode = /^([-dlbcps])[rwxsStT-]{9}$/.exec(words[0] ?? '')?.[1];
  const path = words.at(-1);
  // The path is the last word, so the month is looked for before it.
  const month = words.findLastIndex((word, at) => at < words.length - 2 && months.has(word));
  if (mode === undefined || path === undefined || month < 3) return undefined;
  const hasWeekday = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)$/.test(words[month - 1] ?? '');
  const size = words[month - (hasWeekday ? 2 : 1)] ?? '';
  if (!/^\d{1,16}$/.test(size)) return undefined;
  const changedAt = timeOf(words.slice(month, -1));
  return {
    path,
    isFolder: mode === 'd',
    isFile: mode === '-',
    sizeBytes: Number(size),
    changedAt,
  };
}

/** Nov 26 01:09:08 2026; without the year, or anything else, it is not known. */
function timeOf([month = '', day = '', time = '', year = '']: readonly string[]): Date | undefined {
  if (!/^\d{4}$/.test(year) || !/^\d\d:\d\d(:\d\d)?$/.test(time)) return undefined;
  const date = new Date(`${day} ${month} ${year} ${time} UTC`);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

interface Level {
  readonly kind: 'disk' | 'tape';
  readonly bytes: number;
}

/** A line of the storage block: level, kind, count, width, bytes. */
const levelLine = /^\s*(\d+)\s+\((tape|disk)\)\s+\d+\s+\d+\s+(\d+|\(no data at this level\))\s*$/;

export interface Extended {
  readonly line: HpssLine;
  readonly levels: readonly Level[];
  /** As it was printed. */
  readonly text: string;
}

/** What "ls -X" printed: for each file its line, and below it what lies at each level. */
export function parseExtended(text: string): Extended[] {
  const found: (Extended & { levels: Level[]; text: string })[] = [];
  for (const printed of text.split('\n')) {
    const line = parseLine(printed);
    if (line) {
      found.push({ line, levels: [], text: printed });
      continue;
    }
    const last = found.at(-1);
    if (!last) continue;
    last.text += `\n${printed}`;
    const [, level, kind, bytes] = levelLine.exec(printed) ?? [];
    if (level === undefined) continue;
    last.levels.push({
      kind: kind === 'tape' ? 'tape' : 'disk',
      bytes: bytes?.startsWith('(') ? 0 : Number(bytes),
    });
  }
  return found;
}

/** On tape is what lies whole at as many tape levels as are asked for; levels that hold more than the file say nothing. */
export function residencyOf({ line, levels }: Extended, tapeCopies: number): Residency {
  if (levels.length === 0 || levels.some(({ bytes }) => bytes > line.sizeBytes)) return 'UNKNOWN';
  const whole = (kind: Level['kind']) =>
    levels.filter((level) => level.kind === kind && level.bytes === line.sizeBytes).length;
  const onDisk = whole('disk') > 0;
  if (line.sizeBytes === 0) return 'UNKNOWN';
  if (whole('tape') >= tapeCopies) return onDisk ? 'DISK_AND_TAPE' : 'TAPE';
  return onDisk ? 'DISK' : 'UNKNOWN';
}

/** "hashlist": the stored adler32 of exactly this path, said once. */
export function parseHashlist(text: string, path: string): string | undefined {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const words = lines[0]?.trim().split(/\s+/) ?? [];
  if (lines.length !== 1 || words.length < 3 || words.length > 4) return undefined;
  const [sum = '', kind, named] = words;
  return kind === 'adler32' && named === path && /^[0-9a-f]{8}$/.test(sum) ? sum : undefined;
}

/** "hashverify": it read the bytes of exactly this path, and they fit what it had stored. */
export function verifies(text: string, path: string): boolean {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.length === 1 && lines[0]?.trim() === `${path}: (adler32) OK`;
}

/** The files of a folder; undefined = a line was not understood. */
export function parseFolder(text: string, folder: string): ListedByTool[] | undefined {
  const found: ListedByTool[] = [];
  for (const printed of text.split('\n')) {
    if (printed.trim() === '' || printed.trim() === `${folder}:` || /^total \d+$/.test(printed))
      continue;
    if (printed.trim() === `${folder}/:`) continue;
    const line = parseLine(printed);
    if (!line) return undefined;
    const path = line.path.replace(/\/$/, '');
    const name = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : path;
    if (name === '.' || name === '..' || path === folder) continue;
    if (name === '' || name.includes('/') || !(line.isFile || line.isFolder)) return undefined;
    const { isFolder, sizeBytes, changedAt } = line;
    found.push({ name, isFolder, sizeBytes, changedAt });
  }
  return found;
}
