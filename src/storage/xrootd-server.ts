import { badInput, SweepbookError } from '../errors.ts';
import type { PutOptions } from './contract.ts';
import { marker } from './incoming.ts';
import { copyDeadlineMs } from './store-settings.ts';
import { XrootdReservations } from './xrootd-reserve.ts';
import type { XrootdSettings } from './xrootd-settings.ts';
import {
  failureOf,
  isFile,
  linesOf,
  parseListed,
  parseStat,
  runXrootd,
  saysAbsent,
  serverCodes,
  XrootdQuestions,
  type ListedEntry,
  type XrootdAnswer,
  type XrootdRun,
  type XrootdStat,
  type XrootdTools,
} from './xrootd-tools.ts';

const reservation = /^Sweepbook reserves this name for (\S+) +\n$/;
const reservationBytes = 100;

/** What holds a final key while what lies under this temporary one is on its way there; always of the same size. */
export function reservationFor(temporary: string): string {
  return `${`Sweepbook reserves this name for ${temporary} `.padEnd(reservationBytes - 1)}\n`;
}

/** A listing of XRootD cuts longer names off, by a byte or more. */
const mostNameBytes = 254;

/** What keeps a key from being the name of a file there. */
export function faultOf(key: string): string | undefined {
  // The server takes what follows a "?" for itself: such a key would reach another file.
  if (/[\p{Cc}?]/u.test(key)) return 'no "?" and no control characters';
  const parts = key.split('/');
  if (parts.some((part) => part === '.' || part === '..')) return 'no "." or ".."';
  const isLong = parts.some((part) => Buffer.byteLength(part) > mostNameBytes);
  return isLong ? `no name of more than ${mostNameBytes} bytes` : undefined;
}

/** The single questions to an XRootD server; by key, inside the folder of the store. */
export class XrootdServer {
  readonly tools: XrootdTools;
  private readonly questions: XrootdQuestions;
  private readonly reservations = new XrootdReservations(this);
  private readonly root: string;

  constructor(readonly settings: XrootdSettings) {
    const { name, url, root, xrdfs, xrdcp, tokenFile, askSeconds } = settings;
    this.root = root;
    this.tools = { store: name, url, xrdfs, xrdcp, tokenFile, askSeconds };
    this.questions = new XrootdQuestions(this.tools);
  }

  pathOf(key: string): string {
    const fault = faultOf(key);
    if (fault !== undefined) {
      throw badInput('key', key, `${fault} in store ${this.tools.store} (XRootD)`);
    }
    return key === '' ? this.root : `${this.root}/${key}`;
  }

  urlOf(key: string): string {
    return `${this.tools.url}/${this.pathOf(key)}`;
  }

  /** The key of a URL, an absolute path or a key; undefined = not below the root. */
  keyBelowRoot(place: string): string | undefined {
    const path = place.startsWith(`${this.tools.url}/`)
      ? place.slice(this.tools.url.length).replace(/^\/+/, '/')
      : place;
    const isAbsolute = path.startsWith('/') || /^x?roots?:\/\//.test(path);
    if (isAbsolute && !path.startsWith(`${this.root}/`)) return undefined;
    const key = isAbsolute ? path.slice(this.root.length + 1) : path;
    const isPlain = key.split('/').every((part) => !['', '.', '..'].includes(part));
    return isPlain ? key : undefined;
  }

  /** How long a copy, or a checksum over the whole file, may take. */
  deadlineMs(sizeBytes: number): number {
    return copyDeadlineMs(sizeBytes, this.settings);
  }

  ask(args: readonly string[], run?: XrootdRun): Promise<XrootdAnswer> {
    return this.questions.ask(args, run);
  }

  copy(args: readonly string[], run: XrootdRun): Promise<XrootdAnswer> {
    return runXrootd(this.tools, 'xrdcp', ['--nopbar', ...args], run);
  }

  /** What lies there; undefined only if the server says that nothing does. */
  async stat(
    key: string,
    { signal }: PutOptions = {},
  ): Promise<{ stat: XrootdStat | undefined; answer: XrootdAnswer }> {
    const answer = await this.ask(['stat', this.pathOf(key)], { signal });
    if (answer.code !== 0) {
      if (saysAbsent(answer)) return { stat: undefined, answer };
      throw failureOf(this.tools, answer);
    }
    const stat = answer.isCut ? undefined : parseStat(answer.stdout);
    if (stat) return { stat, answer };
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.tools.store} answered something else than a stat: ${JSON.stringify(answer.stdout.slice(0, 200))}`,
      { store: this.tools.store, key },
    );
  }

  checksum(key: string, deadlineMs: number, { signal }: PutOptions): Promise<XrootdAnswer> {
    const asked = `${this.pathOf(key)}?cks.type=adler32`;
    return this.ask(['query', 'checksum', asked], { signal, deadlineMs });
  }

  /** A server whose disk is not mounted serves an empty folder: that nothing is there counts with the marker only. */
  async demandMounted({ signal }: PutOptions = {}): Promise<void> {
    const answer = await this.ask(['stat', this.pathOf(marker)], { signal });
    if (answer.code === 0 && parseStat(answer.stdout)) return;
    if (answer.serverCode !== serverCodes.notFound) throw failureOf(this.tools, answer);
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.tools.store} is not there: ${this.urlOf(marker)} cannot be seen; is its disk mounted, and was the store prepared?`,
      { store: this.tools.store },
    );
  }

  async freeBytes(): Promise<number | undefined> {
    const answer = await this.ask(['spaceinfo', this.root]);
    const free = answer.code === 0 ? /^Free:\s+(\d{1,19})$/m.exec(answer.stdout)?.[1] : undefined;
    return free === undefined ? undefined : Number(free);
  }

  /** What a folder holds; undefined = there is none. Throws unless every line was understood. */
  async list(folder: string, { signal }: PutOptions = {}): Promise<ListedEntry[] | undefined> {
    const path = this.pathOf(folder);
    let lines: string[] = [];
    const answer = await this.ask(['ls', '-l', path], {
      signal,
      onOutput: async (output) => {
        lines = await linesOf(output);
      },
    });
    if (answer.serverCode === serverCodes.notFound) return undefined;
    if (answer.code !== 0 || answer.stderr !== '') throw this.listingBroken(folder, answer.stderr);
    if (lines.length === 1 && lines[0] === '') return [];
    const entries = lines.map((line) => {
      const entry = parseListed(line, path);
      if (entry) return entry;
      throw this.listingBroken(folder, `it has a line ${JSON.stringify(line.slice(0, 200))}`);
    });
    for (const { name } of entries) {
      if (Buffer.byteLength(name) < mostNameBytes) continue;
      const { stat } = await this.stat(folder === '' ? name : `${folder}/${name}`, { signal });
      if (!stat) throw this.listingBroken(folder, `it cuts off the name that begins ${name}`);
    }
    return entries;
  }

  listingBroken(folder: string, why: string): SweepbookError {
    return new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.tools.store}: ${this.urlOf(folder)} cannot be listed (${why.trim()}); a listing with a hole is none`,
      { store: this.tools.store, folder },
    );
  }

  /** Makes a small file; false = something has this name already. */
  async create(key: string, text: string): Promise<boolean> {
    // --posc: one that is broken off leaves nothing that would look like another file.
    const answer = await this.copy(['--posc', '-', this.urlOf(key)], { input: text });
    if (answer.code === 0) return true;
    if (answer.code === 50 && /file exists/i.test(answer.stderr)) return false;
    if (answer.serverCode === serverCodes.exists) return false;
    throw failureOf(this.tools, answer);
  }

  /** Makes small files; those that are asked for at about the same time by one start of the tool. */
  reserve(key: string, temporary: string): Promise<boolean> {
    return this.reservations.reserve(key, reservationFor(temporary));
  }

  copyInto(sources: readonly string[]): Promise<XrootdAnswer> {
    return this.copy(['--posc', '-r', ...sources, `${this.urlOf('')}/`], {});
  }

  async smallText(key: string, options: PutOptions = {}): Promise<string | undefined> {
    const { stat } = await this.stat(key, options);
    if (!stat) return undefined;
    return isFile(stat) && stat.sizeBytes === reservationBytes ? this.textOf(key, options) : '';
  }

  private async textOf(key: string, { signal }: PutOptions): Promise<string> {
    const answer = await this.ask(['cat', this.pathOf(key)], { signal });
    if (answer.code === 0 || answer.serverCode === serverCodes.notFound) return answer.stdout;
    throw failureOf(this.tools, answer);
  }

  /** The temporary key that a name is held for; undefined = what lies there is no reservation. */
  async reservedFor(
    key: string,
    sizeBytes: number,
    options: PutOptions = {},
  ): Promise<string | undefined> {
    if (sizeBytes !== reservationBytes) return undefined;
    return reservation.exec(await this.textOf(key, options))?.[1];
  }

  /** Removes one file; whether it may be removed is the caller's to know. */
  async remove(key: string, { signal }: PutOptions = {}): Promise<void> {
    const answer = await this.ask(['rm', this.pathOf(key)], { signal });
    if (answer.code === 0 || answer.serverCode === serverCodes.notFound) return;
    throw failureOf(this.tools, answer);
  }
}
