import type { Command } from 'commander';
import { addNoun, addVerb, runs, wholeNumber, wordOf, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { addSpanOptions, spanOf, type SpanOptions } from './filters.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';

const sources = ['DATA', 'SIMULATION'];
const verdicts = ['GOOD', 'BAD'];
const productionStatuses = ['IN_PRODUCTION', 'AVAILABLE'];

export function addRunCommands(program: Command): void {
  const noun = addNoun(program, 'run', 'runs: periods of data taking, real or simulated');
  const list = addVerb(noun, 'list', 'runs')
    .option('--numbers <list>', 'these: 36172-39320,40001')
    .option('--source <source>', 'DATA or SIMULATION', wordOf(sources))
    .option('--status <status>', productionStatuses.join(' or '), wordOf(productionStatuses))
    .option('--verdict <verdict>', 'GOOD or BAD', wordOf(verdicts))
    .option('--stream <name>', 'those with files of this stream')
    .option('--conditions <name>', 'those under these conditions, for one ON_PEAK')
    .option('--dataset <name>', 'those with data in this dataset');
  runs<RunListOptions>(addListOptions(addSpanOptions(list, 'started')), listRuns);
  const show = withSource(addVerb(noun, 'show', 'all about one run'));
  runs<SourceOptions, [number]>(show, showRun);
  const verdict = withSource(addVerb(noun, 'verdict', 'say whether a run is good for analysis'))
    .argument('<verdict>', 'GOOD or BAD', wordOf(verdicts))
    .option('--comment <text>', 'why');
  runs<VerdictOptions, [number, string]>(verdict, setVerdict);
}

function withSource(command: Command): Command {
  return command
    .argument('<number>', 'run number', wholeNumber)
    .option('--source <source>', 'DATA or SIMULATION', wordOf(sources), 'DATA');
}

interface SourceOptions {
  readonly source: string;
}

interface VerdictOptions extends SourceOptions {
  readonly comment?: string;
}

interface RunListOptions extends ListOptions, SpanOptions {
  readonly conditions?: string;
  readonly dataset?: string;
  readonly numbers?: string;
  readonly source?: string;
  readonly status?: string;
  readonly verdict?: string;
  readonly stream?: string;
}

interface RunRow {
  readonly number: number;
  readonly source: string;
  readonly productionStatus: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly eventCount: number | null;
  readonly luminosity: number | null;
  readonly conditions: string | null;
  readonly expectedStreams: readonly string[] | null;
  readonly availableAt: string | null;
  readonly verdict: string | null;
  readonly verdictComment: string | null;
  readonly verdictBy: string | null;
  readonly verdictAt: string | null;
}

const runFields = `number source productionStatus startedAt endedAt eventCount luminosity conditions
  expectedStreams availableAt verdict verdictComment verdictBy verdictAt`;

const listQuery = `query Runs($filter: RunFilter, $first: Int!, $after: String) {
  runs(filter: $filter, first: $first, after: $after) { nodes { ${runFields} } ${pageFields} }
}`;

async function listRuns({ client, output }: Context, options: RunListOptions): Promise<void> {
  const { numbers, source, status, verdict, stream, conditions, dataset, minEvents } = options;
  const filter = {
    productionStatus: status,
    inDataset: dataset,
    startedAt: spanOf(options),
    numbers,
    source,
    verdict,
    stream,
    conditions,
    minEvents,
  };
  const rows = paged(
    client,
    listQuery,
    { filter },
    (data: { runs: Connection<RunRow> }) => data.runs,
    options,
  );
  await output.list(rows, [
    { title: 'RUN', value: (row) => row.number, align: 'right' },
    { title: 'SOURCE', value: (row) => row.source },
    { title: 'STATUS', value: (row) => row.productionStatus },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: '1/PB', value: (row) => row.luminosity, align: 'right' },
    { title: 'CONDITIONS', value: (row) => row.conditions },
    { title: 'STARTED', value: (row) => row.startedAt },
    { title: 'VERDICT', value: (row) => row.verdict },
  ]);
}

const showQuery = `query Run($number: Int!, $source: RunSource) {
  run(number: $number, source: $source) { ${runFields} }
}`;

async function showRun(
  { client, output }: Context,
  { source }: SourceOptions,
  number: number,
): Promise<void> {
  const { run } = await client.call<{ run: RunRow | null }>(showQuery, { number, source });
  if (run === null) {
    throw new CliError(
      exitCode.notFound,
      `run ${number} (${source}): there is none that you may see`,
    );
  }
  await output.object(run, {
    run: String(run.number),
    source: run.source,
    status: run.productionStatus,
    started: run.startedAt,
    ended: run.endedAt,
    events: run.eventCount?.toString(),
    luminosity: run.luminosity === null ? null : `${run.luminosity} /pb`,
    conditions: run.conditions,
    'expected streams': run.expectedStreams?.join(', '),
    available: run.availableAt,
    verdict: run.verdict && `${run.verdict} (${run.verdictBy}, ${run.verdictAt})`,
    comment: run.verdictComment,
  });
}

const verdictQuery = `mutation Verdict($input: RunVerdictInput!) {
  setRunVerdict(input: $input) { changed run { ${runFields} } }
}`;

async function setVerdict(
  { client, output }: Context,
  { source, comment }: VerdictOptions,
  number: number,
  verdict: string,
): Promise<void> {
  const { setRunVerdict } = await client.call<{
    setRunVerdict: { changed: boolean; run: RunRow };
  }>(verdictQuery, { input: { number, source, verdict, comment } });
  const { changed, run } = setRunVerdict;
  await output.result(
    setRunVerdict,
    `run ${run.number} (${run.source}) is ${changed ? '' : 'already '}${run.verdict}`,
  );
}
