import type { Command } from 'commander';
import { addVerb, runs, wholeNumber, type Context } from './command.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { counted, humanBytes } from './table.ts';

interface RunsOptions extends ListOptions {
  readonly good?: boolean;
  readonly minEvents?: number;
  readonly runs?: string;
}

interface RunRow {
  readonly dataset: { readonly name: string };
  readonly run: {
    readonly number: number;
    readonly source: string;
    readonly verdict: string | null;
  };
  readonly eventCount: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly luminosity: number | null;
}

export function addRunsCommand(noun: Command): void {
  const command = addVerb(noun, 'runs <name...>', 'events and luminosity of datasets, run by run')
    .option('--good', 'only runs that DQM found good')
    .option('--min-events <number>', 'runs with so many events or more in it', wholeNumber)
    .option('--runs <list>', 'these: 36172-39320,40001');
  runs<RunsOptions, [string[]]>(addListOptions(command), listRuns);
}

const selection = `query DatasetRuns($datasets: [String!]!, $good: Boolean!, $minEvents: SafeInt, $runs: String, $first: Int!, $after: String) {
  datasetRuns(datasets: $datasets, goodRunsOnly: $good, minEvents: $minEvents, runs: $runs, first: $first, after: $after)`;
const listQuery = `${selection} {
    nodes { dataset { name } run { number source verdict } eventCount fileCount sizeBytes luminosity } ${pageFields} } }`;
const totalsQuery = `${selection} { totals { dataset runCount eventCount luminosity } } }`;

interface Totals {
  readonly dataset: string;
  readonly runCount: number;
  readonly eventCount: number;
  readonly luminosity: number | null;
}

async function listRuns(
  { client, output }: Context,
  options: RunsOptions,
  datasets: string[],
): Promise<void> {
  const { good = false, minEvents, runs: ranges } = options;
  const asked = { datasets, good, minEvents, runs: ranges };
  const rows = paged(
    client,
    listQuery,
    asked,
    (data: { datasetRuns: Connection<RunRow> }) => data.datasetRuns,
    options,
  );
  await output.list(rows, [
    { title: 'DATASET', value: (row) => row.dataset.name },
    { title: 'RUN', value: (row) => row.run.number, align: 'right' },
    { title: 'SOURCE', value: (row) => row.run.source },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: '1/PB', value: (row) => row.luminosity, align: 'right' },
    { title: 'VERDICT', value: (row) => row.run.verdict },
  ]);
  if (output.json) return;
  const { datasetRuns } = await client.call<{ datasetRuns: { totals: Totals[] } }>(totalsQuery, {
    ...asked,
    first: 1,
    after: null,
  });
  for (const { dataset, runCount, eventCount, luminosity } of datasetRuns.totals) {
    const sum = luminosity === null ? '' : `, ${luminosity} /pb`;
    await output.say(
      `${dataset}: ${counted(runCount, 'run')}, ${counted(eventCount, 'event')}${sum}`,
    );
  }
}
