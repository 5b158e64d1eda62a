import type { Command } from 'commander';
import { addVerb, runs, wordOf, wordsOf, type Context } from './command.ts';
import type { Column } from './table.ts';

const keys = ['SITE', 'STREAM', 'KIND', 'STATUS', 'RELEASE', 'STORE'];
const kinds = ['RUN_FILE', 'MERGED_FILE'];
const statuses = ['REGISTERED', 'BACKED_UP', 'PUBLISHED', 'PUBLISHED_WITHOUT_BACKUP'];

export function addTotalsCommand(program: Command): void {
  const command = addVerb(program, 'totals', 'files, events and GB by site, stream, status …')
    .option('--by <keys>', `${keys.join(', ').toLowerCase()} (stream,status)`, wordsOf(keys))
    .option('--site <name>', 'made by this site: * = anything, ? = one character')
    .option('--stream <pattern>', 'of these streams: * = anything, ? = one character')
    .option('--release <pattern>', 'of these releases: * = anything, ? = one character')
    .option('--kind <kind>', kinds.join(' or '), wordOf(kinds))
    .option('--status <statuses>', statuses.join(', '), wordsOf(statuses))
    .option('--store <name>', 'with a confirmed copy in this mass store');
  runs<TotalsOptions>(command, showTotals);
}

interface TotalsOptions {
  readonly by?: readonly string[];
  readonly site?: string;
  readonly stream?: string;
  readonly release?: string;
  readonly kind?: string;
  readonly status?: readonly string[];
  readonly store?: string;
}

interface Totals {
  readonly [key: string]: string | number | null;
  readonly fileCount: number;
  readonly eventCount: number;
  readonly sizeBytes: number;
}

const query = `query Totals($by: [TotalsKey!]!, $filter: TotalsFilter) {
  totals(by: $by, filter: $filter, first: 5000) {
    site stream kind status release store fileCount eventCount sizeBytes
  }
}`;

async function showTotals({ client, output }: Context, options: TotalsOptions): Promise<void> {
  const { kind, status, store } = options;
  const by = [...new Set(options.by ?? ['STREAM', 'STATUS'])];
  const glob = (pattern: string | undefined) =>
    pattern === undefined ? undefined : { glob: pattern };
  const filter = {
    site: glob(options.site),
    stream: glob(options.stream),
    release: glob(options.release),
    kind,
    status,
    store,
  };
  const { totals } = await client.call<{ totals: readonly Totals[] }>(query, { by, filter });
  const names = by.map((key) => key.toLowerCase());
  const columns: Column<Totals>[] = [
    ...names.map((name) => ({ title: name.toUpperCase(), value: (row: Totals) => row[name] })),
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'GB', value: (row) => gigabytes(row.sizeBytes), align: 'right' },
  ];
  await output.list(output.json ? totals : [...totals, sumOf(totals, names)], columns);
}

/** The last line, as on paper; a file in two stores counts in both. */
function sumOf(rows: readonly Totals[], names: readonly string[]): Totals {
  const sum = (value: (row: Totals) => number) =>
    rows.reduce((total, row) => total + value(row), 0);
  return {
    ...(names[0] === undefined ? {} : { [names[0]]: 'total' }),
    fileCount: sum((row) => row.fileCount),
    eventCount: sum((row) => row.eventCount),
    sizeBytes: sum((row) => row.sizeBytes),
  };
}

const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1);
