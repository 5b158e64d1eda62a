import type { Command } from 'commander';
import { addNoun, addVerb, runs, wholeNumber, wordOf, wordsOf, type Context } from './command.ts';
import { addChangeCommands } from './dataset-changes.ts';
import { datasetKinds, historyOf, noDataset, type EventRow } from './dataset-facts.ts';
import { addFilesCommand } from './dataset-files.ts';
import { addRunsCommand } from './dataset-runs.ts';
import { addShareCommands } from './dataset-shares.ts';
import { addWatchCommand } from './dataset-watch.ts';
import { addSpanOptions, spanOf, type SpanOptions } from './filters.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { humanBytes } from './table.ts';

const datasetStatuses = ['OPEN', 'BACKED_UP', 'CLOSED'];
const datasetOrders = [
  'NAME',
  'CREATED_AT_DESC',
  'CLOSED_AT_DESC',
  'SIZE_DESC',
  'EVENTS_DESC',
  'FILES_DESC',
];

export function addDatasetCommands(program: Command): void {
  const noun = addNoun(program, 'dataset', 'datasets: what users ask for by name');
  const list = addVerb(noun, 'list', 'datasets; without filters those that users can read')
    .option('--name <pattern>', 'names that fit: * = anything, ? = one character')
    .option('--kind <kinds>', datasetKinds.join(', '), wordsOf(datasetKinds))
    .option('--status <statuses>', `${datasetStatuses.join(', ')} or all`, wordsOf(datasetStatuses))
    .option('--owner <principal>', 'those of this owner')
    .option('--stream <name>', 'those of this stream')
    .option('--release <name>', 'those of this software release')
    .option('--run <number>', 'those with data of this run', wholeNumber)
    .option('--runs <list>', 'those with data of any of these: 36172-39320,40001')
    .option('--order <order>', datasetOrders.join(', '), wordOf(datasetOrders))
    .option('--bad', 'those that are marked bad');
  runs<DatasetListOptions>(addListOptions(addSpanOptions(list, 'created')), listDatasets);
  runs<object, [string]>(addVerb(noun, 'show <name>', 'all about one dataset'), showDataset);
  const history = addVerb(noun, 'history <name>', 'everything that ever happened to a dataset');
  runs<ListOptions, [string]>(addListOptions(history), showHistory);
  addChangeCommands(noun);
  addFilesCommand(noun, 'datasets');
  addRunsCommand(noun);
  addShareCommands(noun);
  addWatchCommand(noun, wordOf(datasetStatuses));
}

interface DatasetListOptions extends ListOptions, SpanOptions {
  readonly run?: number;
  readonly runs?: string;
  readonly order?: string;
  readonly name?: string;
  readonly kind?: string[];
  readonly status?: string[];
  readonly owner?: string;
  readonly stream?: string;
  readonly release?: string;
  readonly bad?: boolean;
}

interface DatasetRow {
  readonly name: string;
  readonly kind: string;
  readonly status: string;
  readonly owner: string;
  readonly sealed: boolean;
  readonly backupWaived: boolean;
  readonly badMark: { readonly reason: string } | null;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly createdAt: string;
  readonly closedAt: string | null;
}

const rowFields = `name kind status owner stream release sealed backupWaived badMark { reason markedBy markedAt }
  fileCount sizeBytes eventCount createdAt backedUpAt closedAt`;

const listQuery = `query Datasets($filter: DatasetFilter, $orderBy: DatasetOrder, $first: Int!, $after: String) {
  datasets(filter: $filter, orderBy: $orderBy, first: $first, after: $after) { nodes { ${rowFields} } ${pageFields} }
}`;

async function listDatasets(
  { client, output }: Context,
  options: DatasetListOptions,
): Promise<void> {
  const filter = {
    name: options.name === undefined ? undefined : { glob: options.name },
    kind: options.kind,
    status: options.status,
    owner: options.owner,
    stream: options.stream,
    release: options.release,
    isBad: options.bad,
    holdsRun: options.run === undefined ? undefined : { number: options.run },
    runs: options.runs,
    minEvents: options.minEvents,
    createdAt: spanOf(options),
  };
  const rows = paged(
    client,
    listQuery,
    { filter, orderBy: options.order },
    (data: { datasets: Connection<DatasetRow> }) => data.datasets,
    options,
  );
  await output.list(rows, [
    { title: 'NAME', value: (row) => row.name },
    { title: 'KIND', value: (row) => row.kind },
    { title: 'STATUS', value: (row) => row.status },
    { title: 'OWNER', value: (row) => row.owner },
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'CLOSED', value: (row) => row.closedAt },
    { title: 'MARKS', value: marks },
  ]);
}

function marks(row: Pick<DatasetRow, 'sealed' | 'backupWaived' | 'badMark'>): string {
  return [
    row.badMark === null ? '' : 'bad',
    row.backupWaived ? 'waived' : '',
    row.sealed ? 'sealed' : '',
  ]
    .filter((mark) => mark !== '')
    .join(',');
}

interface DatasetDetails extends DatasetRow {
  readonly version: number;
  readonly stream: string | null;
  readonly release: string | null;
  readonly treeName: string | null;
  readonly description: string | null;
  readonly waiverReason: string | null;
  readonly badMark: { reason: string; markedBy: string; markedAt: string } | null;
  readonly isAvailable: boolean;
  readonly confirmedCount: number;
  readonly luminosity: number | null;
  readonly runRange: { readonly first: number; readonly last: number } | null;
  readonly backedUpAt: string | null;
  readonly origin: { site: string; dataset: string; importedBy: string } | null;
  readonly sweep: {
    readonly isRunning: boolean;
    readonly requestedBy: string;
    readonly requestedAt: string;
    readonly total: number;
    readonly confirmed: number;
    readonly copying: number;
    readonly requested: number;
    readonly failed: number;
    readonly lastError: string | null;
  } | null;
}

const showQuery = `query Dataset($name: String!) {
  dataset(name: $name) {
    ${rowFields} version treeName description waiverReason isAvailable confirmedCount luminosity
    runRange { first last }
    origin { site dataset enteredAt importedBy sites manifestSha256 signedBy }
    sweep {
      isRunning requestedBy requestedAt finishedAt
      total confirmed copying requested failed lastError
    }
  }
}`;

async function showDataset(
  { client, output }: Context,
  _options: object,
  name: string,
): Promise<void> {
  const { dataset } = await client.call<{ dataset: DatasetDetails | null }>(showQuery, { name });
  if (dataset === null) throw noDataset(name);
  const { badMark, runRange, sweep, origin } = dataset;
  await output.object(dataset, {
    name: dataset.name,
    kind: dataset.kind,
    status: dataset.status + (dataset.sealed ? ' (sealed by a sweep)' : ''),
    'users see it': dataset.isAvailable ? 'yes' : 'no',
    bad: badMark && `${badMark.reason} (${badMark.markedBy}, ${badMark.markedAt})`,
    'backup waived': dataset.backupWaived ? (dataset.waiverReason ?? 'yes') : null,
    'imported from':
      origin && `${origin.site}, where it is ${origin.dataset}, by ${origin.importedBy}`,
    owner: dataset.owner,
    stream: dataset.stream,
    release: dataset.release,
    tree: dataset.treeName,
    description: dataset.description,
    files: `${dataset.fileCount}, ${dataset.confirmedCount} with confirmed backup`,
    size: `${dataset.sizeBytes} bytes (${humanBytes(dataset.sizeBytes)})`,
    events: String(dataset.eventCount),
    luminosity: dataset.luminosity === null ? null : `${dataset.luminosity} /pb`,
    runs: runRange && `${runRange.first}-${runRange.last}`,
    created: dataset.createdAt,
    'backed up': dataset.backedUpAt,
    closed: dataset.closedAt,
    version: String(dataset.version),
    sweep: sweep && describeSweep(sweep),
  });
}

function describeSweep(sweep: NonNullable<DatasetDetails['sweep']>): string {
  const counts = [
    `${sweep.confirmed} of ${sweep.total} confirmed`,
    ...(sweep.copying > 0 ? [`${sweep.copying} copying`] : []),
    ...(sweep.requested > 0 ? [`${sweep.requested} waiting`] : []),
    ...(sweep.failed > 0 ? [`${sweep.failed} failed`] : []),
  ].join(', ');
  const error = sweep.lastError === null ? '' : `; last error: ${sweep.lastError}`;
  const state = sweep.isRunning ? 'running' : 'ended';
  return `${state}: ${counts} (asked for by ${sweep.requestedBy}, ${sweep.requestedAt})${error}`;
}

async function showHistory(context: Context, options: ListOptions, name: string): Promise<void> {
  await context.output.list(historyOf(context, name, options), [
    { title: 'TIME', value: (row) => row.occurredAt },
    { title: 'WHAT', value: (row) => row.kind },
    { title: 'CHANGE', value: (row) => changeOf(row) },
    { title: 'WHO', value: (row) => row.actor },
    { title: 'WHY', value: (row) => row.reason },
    { title: 'CURSOR', value: (row) => row.cursor },
  ]);
}

function changeOf({ fromState, toState }: EventRow): string {
  if (toState === null) return '';
  return fromState === null || fromState === '' ? toState : `${fromState} → ${toState}`;
}
