import type { Command } from 'commander';
import { addVerb, runs, wholeNumber, wordOf, type Context } from './command.ts';
import { addSpanOptions, spanOf, type SpanOptions } from './filters.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { humanBytes } from './table.ts';

const kinds = ['RUN_FILE', 'MERGED_FILE'];

interface FileListOptions extends ListOptions, SpanOptions {
  readonly name?: string;
  readonly kind?: string;
  readonly dataset?: string;
  readonly run?: number;
  readonly runs?: string;
  readonly stream?: string;
  readonly release?: string;
  readonly site?: string;
  readonly backedUp?: boolean;
}

export function addFileListCommand(noun: Command): void {
  const list = addVerb(noun, 'list', 'files, as far as you see them')
    .option('--name <pattern>', 'names that fit, /store/PR/*: * = anything, ? = one character')
    .option('--kind <kind>', kinds.join(' or '), wordOf(kinds))
    .option('--dataset <name>', 'those of this dataset')
    .option('--run <number>', 'those with data of this run', wholeNumber)
    .option('--runs <list>', 'those with data of these: 36172-39320,40001')
    .option('--stream <name>', 'those of this stream')
    .option('--release <name>', 'those of this software release')
    .option('--site <name>', 'those made at this site')
    .option('--backed-up', 'those with a confirmed backup')
    .option('--no-backed-up', 'those without one');
  runs<FileListOptions>(addListOptions(addSpanOptions(list, 'registered')), listFiles);
}

interface FileRow {
  readonly lfn: string;
  readonly kind: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  readonly isBackedUp: boolean;
}

const listQuery = `query Files($filter: FileFilter, $first: Int!, $after: String) {
  files(filter: $filter, first: $first, after: $after) {
    nodes { lfn kind site stream release sizeBytes adler32 sha256 eventCount createdAt createdBy isBackedUp } ${pageFields}
  }
}`;

async function listFiles({ client, output }: Context, options: FileListOptions): Promise<void> {
  const { name, kind, dataset, run, runs: ranges, stream, release, site, minEvents } = options;
  const filter = {
    lfn: name === undefined ? undefined : { glob: name },
    holdsRun: run === undefined ? undefined : { number: run },
    runs: ranges,
    createdAt: spanOf(options),
    isBackedUp: options.backedUp,
    kind,
    dataset,
    stream,
    release,
    site,
    minEvents,
  };
  const rows = paged(
    client,
    listQuery,
    { filter },
    (data: { files: Connection<FileRow> }) => data.files,
    options,
  );
  await output.list(rows, [
    { title: 'LFN', value: (row) => row.lfn },
    { title: 'KIND', value: (row) => row.kind },
    { title: 'STREAM', value: (row) => row.stream },
    { title: 'RELEASE', value: (row) => row.release },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'SAFE', value: (row) => (row.isBackedUp ? 'yes' : 'no') },
  ]);
}
