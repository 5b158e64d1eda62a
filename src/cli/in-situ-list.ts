import { formats, type ExportFormat } from '../formats/formats.ts';
import type { ExportFile, ListFacts } from '../formats/list.ts';
import { Splitter, Tally } from '../formats/tally.ts';
import type { KnownFile } from './disk-facts.ts';
import { CliError, exitCode, wrongUsage } from './exit-codes.ts';
import { counted } from './table.ts';

/** Where the paths lead for a job. */
export interface Addressing {
  /** Before each path: root://se1.example.org/ */
  readonly urlPrefix?: string;
  /** What of the beginning of the paths does not belong into addresses. */
  readonly strip?: string;
}

export interface ListOptions extends Addressing {
  readonly format: ExportFormat;
  readonly name: string;
  readonly tree?: string;
  readonly split?: number;
  readonly chunk?: number;
  readonly print0?: boolean;
}

/** Checks an addressing; CliError (wrong usage) names what does not fit. */
export function checkAddressing({ urlPrefix, strip }: Addressing): void {
  if (
    urlPrefix !== undefined &&
    // eslint-disable-next-line no-control-regex
    !/^(?:\/|[a-z][a-z0-9+.-]*:\/)[^\u0000-\u0020\u007f]*$/i.test(urlPrefix)
  ) {
    throw wrongUsage(`--url-prefix ${urlPrefix}: must be like root://se1.example.org/`);
  }
  if (strip !== undefined && !strip.startsWith('/')) {
    throw wrongUsage(`--strip ${strip}: must start with "/", as the paths do`);
  }
}

/** The address of a path, as stores make theirs: encoded for http, as it is for everything else. */
export function urlOf(path: string, { urlPrefix = '', strip = '' }: Addressing): string {
  const beginning = strip.replace(/\/+$/, '');
  const isBelow = path.startsWith(`${beginning}/`);
  if (!isBelow) {
    throw new CliError(exitCode.usage, `${path}: is not below --strip ${strip}`);
  }
  const rest = path.slice(beginning.length);
  const isEncoded = /^(?:https?|davs?|file):/i.test(urlPrefix);
  return urlPrefix + (isEncoded ? rest.split('/').map(encodeURIComponent).join('/') : rest);
}

/** Why a name cannot stand in a list of this format; undefined = it can. */
export function unfitName(
  path: string,
  { format, print0, ...addressing }: ListOptions,
): string | undefined {
  const { ending } = formats[format];
  const url = urlOf(path, addressing);
  if (format === 'txt' && !print0 && /[\n\r]/.test(url)) {
    return 'its name has a line break: take --print0, or another format';
  }
  if (ending !== undefined && !url.endsWith(ending)) {
    return `its name does not end in ${ending}, and readers of ${format} take no others`;
  }
  if (format === 'rdataframe' && /[*?[\]]/.test(path)) {
    return 'ROOT takes * ? [ ] in names for wildcards: rename it, or take another format';
  }
  if (/^x?roots?:/i.test(addressing.urlPrefix ?? '') && path.includes('?')) {
    return 'what stands behind ? in a root: address is no name: rename it';
  }
  return undefined;
}

/** Files in the form of lists, with their chunks. */
export function listedFiles(files: readonly KnownFile[], options: ListOptions): ExportFile[] {
  const splitter = options.split === undefined ? undefined : new Splitter(options.split);
  return files.map((file): ExportFile => {
    const { path, sizeBytes, events, adler32, sha256, changedAt } = file;
    const facts = {
      lfn: path,
      url: urlOf(path, options),
      sizeBytes,
      eventCount: events,
      adler32,
      sha256,
      addedAt: changedAt,
      // The disk knows of no runs.
      runs: [],
      fittingRuns: null,
      runFacts: null,
    };
    return splitter ? { ...facts, chunk: splitter.chunkOf(facts) } : facts;
  });
}

/** What stands over the list; CliError where a format needs a tree and none or several were found. */
export function factsOf(files: readonly KnownFile[], options: ListOptions): ListFacts {
  const { format, name, tree } = options;
  const treeName = tree ?? (formats[format].needsTree ? onlyTree(files, format) : null);
  const eventCount = files.reduce((sum, file) => sum + (file.events ?? 0), 0);
  const unknown = { kind: null, status: null, stream: null, release: null };
  return { name, ...unknown, treeName, eventCount };
}

function onlyTree(files: readonly KnownFile[], format: ExportFormat): string {
  const first = files[0];
  const other = files.find((file) => file.tree !== first?.tree);
  if (first?.tree && other?.tree) {
    throw wrongUsage(
      `the tree of ${first.path} is ${first.tree}, that of ${other.path} ${other.tree}: name one by --tree`,
    );
  }
  const nameless = files.find((file) => file.tree === null);
  if (!nameless && first?.tree) return first.tree;
  throw wrongUsage(
    `${format} needs the name of the tree, and ${nameless?.path} does not tell one: --tree Events`,
  );
}

/** The text of a whole list, piece by piece. In txt the lines that are no files are left out: a job reads it. */
export function* textOf(
  files: readonly ExportFile[],
  facts: ListFacts,
  { format, split, print0 }: ListOptions,
  isWhole: boolean,
): Generator<string> {
  if (format === 'txt') {
    for (const { url } of files) yield `${url}${print0 ? '\0' : '\n'}`;
    return;
  }
  const writer = formats[format].writer(facts);
  const tally = new Tally();
  if (split !== undefined && isWhole) tally.chunks = files.at(-1)?.chunk ?? 0;
  yield writer.head();
  for (const file of files) {
    tally.add(file);
    yield writer.file(file);
  }
  yield writer.tail(tally.totals);
}

/** The files of each chunk, in order. */
export function chunksOf(files: readonly ExportFile[]): ExportFile[][] {
  return [...Map.groupBy(files, (file) => file.chunk ?? 1).values()];
}

/** The files of one chunk; CliError (not found) when there is none of this number. */
export function chunkOf(files: readonly ExportFile[], chunk: number): ExportFile[] {
  const found = files.filter((file) => file.chunk === chunk);
  if (found.length > 0) return found;
  const count = files.at(-1)?.chunk ?? 0;
  throw new CliError(
    exitCode.notFound,
    `there is no chunk ${chunk}: there are ${counted(count, 'chunk')}`,
  );
}
