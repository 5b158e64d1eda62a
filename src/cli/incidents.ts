import type { Command } from 'commander';
import { addNoun, addVerb, runs, wordsOf, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { addIncidentChanges } from './incident-changes.ts';
import { addIncidentWatch } from './incident-watch.ts';
import { addReportCommand } from './incident-report.ts';
import { tableFields, textOfTables, type Loss } from './incident-table.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { counted, humanBytes } from './table.ts';
import { visibleJson } from '../text.ts';

const statuses = ['OPEN', 'RECOVERING', 'CLOSED', 'UNDONE'];

export function addIncidentCommands(program: Command): void {
  const noun = addNoun(program, 'incident', 'losses of storage: what they hit, and their repair');
  addReportCommand(noun);
  const list = addVerb(noun, 'list', 'all incidents, the last one first')
    .option('--status <statuses>', `${statuses.join(', ')} or all`, wordsOf(statuses))
    .option('--dataset <name>', 'those that hit this dataset')
    .option('--volume <name>', 'those reported of this volume')
    .option('--store <name>', 'those reported of this mass store');
  runs<IncidentListOptions>(addListOptions(list), listIncidents);
  const show = addVerb(noun, 'show <incident>', 'all about one incident, by its number')
    .option('--table', 'the table of its report: datasets, containers, owners, derived files')
    .option('--items', 'the copies that were hit, last copies first')
    .option('--datasets', 'the datasets that were hit')
    .option('--lost', 'with --items: those whose file nothing holds now');
  runs<ShowOptions, [string]>(addListOptions(show), showIncident);
  addIncidentChanges(noun);
  addIncidentWatch(noun);
}

interface IncidentListOptions extends ListOptions {
  readonly status?: string[];
  readonly dataset?: string;
  readonly volume?: string;
  readonly store?: string;
}

interface IncidentRow {
  readonly number: number;
  readonly status: string;
  readonly what: string;
  readonly reason: string;
  readonly scope: string | null;
  readonly reportedBy: string;
  readonly reportedAt: string;
  readonly itemCount: number;
  readonly safeCount: number;
  readonly recoverableCount: number;
  readonly lostCount: number;
  readonly openCount: number;
  readonly stillLostCount: number;
  readonly restoredCount: number;
  readonly datasetCount: number;
  readonly markedDatasetCount: number;
  readonly hiddenDatasetCount: number;
  readonly closedAt: string | null;
  readonly closedBy: string | null;
  readonly closingReason: string | null;
}

const rowFields = `number status what reason scope since until reportedBy reportedAt itemCount safeCount
  recoverableCount lostCount openCount stillLostCount restoredCount datasetCount markedDatasetCount
  hiddenDatasetCount closedAt closedBy closingReason`;

const listQuery = `query Incidents($filter: IncidentFilter, $first: Int!, $after: String) {
  incidents(filter: $filter, first: $first, after: $after) { nodes { ${rowFields} } ${pageFields} }
}`;

async function listIncidents(
  { client, output }: Context,
  options: IncidentListOptions,
): Promise<void> {
  const filter = {
    status: options.status,
    dataset: options.dataset,
    volume: options.volume,
    massStore: options.store,
  };
  const found = paged(
    client,
    listQuery,
    { filter },
    (data: { incidents: Connection<IncidentRow> }) => data.incidents,
    options,
  );
  await output.list(found, [
    { title: 'INCIDENT', value: (row) => row.number, align: 'right' },
    { title: 'STATUS', value: (row) => row.status },
    { title: 'REPORTED', value: (row) => row.reportedAt },
    { title: 'SCOPE', value: (row) => row.scope },
    { title: 'HIT', value: (row) => row.itemCount, align: 'right' },
    { title: 'LOST', value: (row) => row.lostCount, align: 'right' },
    { title: 'STILL LOST', value: (row) => row.stillLostCount, align: 'right' },
    { title: 'RESTORED', value: (row) => row.restoredCount, align: 'right' },
    { title: 'HIDDEN DATASETS', value: (row) => row.hiddenDatasetCount, align: 'right' },
    { title: 'REASON', value: (row) => row.reason },
  ]);
}

interface ShowOptions extends ListOptions {
  readonly table?: boolean;
  readonly items?: boolean;
  readonly datasets?: boolean;
  readonly lost?: boolean;
}

const showQuery = `query Incident($id: ID!) { incident(id: $id) { ${rowFields} } }`;

async function showIncident(context: Context, options: ShowOptions, id: string): Promise<void> {
  if (options.table) return showTable(context, id);
  if (options.items) return showItems(context, options, id);
  if (options.datasets) return showDatasets(context, options, id);
  const { client, output } = context;
  const { incident } = await client.call<{ incident: IncidentRow | null }>(showQuery, { id });
  if (incident === null) throw noIncident(id);
  await output.object(incident, {
    incident: String(incident.number),
    status: incident.status,
    reason: incident.reason,
    scope: incident.scope,
    reported: `${incident.reportedAt} by ${incident.reportedBy}`,
    hit:
      `${counted(incident.itemCount, incident.what === 'BACKUPS' ? 'backup' : 'replica')}: ${incident.safeCount} safe, ` +
      `${incident.recoverableCount} recoverable, ${incident.lostCount} lost`,
    now: `${incident.restoredCount} restored, ${incident.openCount} not back, ${incident.stillLostCount} lost`,
    datasets: `${incident.datasetCount} hit, ${incident.markedDatasetCount} marked bad, ${incident.hiddenDatasetCount} bad now`,
    closed:
      incident.closedAt &&
      `${incident.closedAt} by ${incident.closedBy}: ${incident.closingReason}`,
  });
}

function noIncident(id: string): CliError {
  return new CliError(
    exitCode.notFound,
    `incident ${id}: there is none that you see; look at "incident list"`,
    'NOT_FOUND',
  );
}

async function showTable({ client, output }: Context, id: string): Promise<void> {
  const { incident } = await client.call<{ incident: { table: Loss | null } | null }>(
    `query IncidentTable($id: ID!) { incident(id: $id) { table { ${tableFields} } } }`,
    { id },
  );
  if (!incident?.table) throw noIncident(id);
  await output.write(
    output.json ? `${visibleJson(incident.table)}\n` : textOfTables(incident.table).trimStart(),
  );
}

interface ItemRow {
  readonly finding: string;
  readonly status: string;
  readonly isLost: boolean;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly place: string | null;
  readonly path: string | null;
  readonly lastError: string | null;
}

const itemsQuery = `query IncidentItems($id: ID!, $filter: IncidentItemFilter, $first: Int!, $after: String) {
  incident(id: $id) { items(filter: $filter, first: $first, after: $after) {
    nodes { ordinal finding status isLost lfn sizeBytes place path restoredAt lastError } ${pageFields} } }
}`;

async function showItems(
  { client, output }: Context,
  options: ShowOptions,
  id: string,
): Promise<void> {
  const found = paged(
    client,
    itemsQuery,
    { id, filter: options.lost ? { isLost: true } : undefined },
    (data: { incident: { items: Connection<ItemRow> } | null }) => {
      if (data.incident === null) throw noIncident(id);
      return data.incident.items;
    },
    options,
  );
  await output.list(found, [
    { title: 'FOUND', value: (row) => row.finding },
    { title: 'NOW', value: (row) => (row.isLost ? 'LOST' : row.status) },
    { title: 'FILE', value: (row) => row.lfn },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'PLACE', value: (row) => row.place },
    { title: 'PATH', value: (row) => row.path },
    { title: 'WHY NOT BACK', value: (row) => (row.status === 'HIT' ? row.lastError : null) },
  ]);
}

interface DatasetRow {
  readonly name: string;
  readonly fileCount: number;
  readonly hitCount: number;
  readonly lostTotal: number;
  readonly lostCount: number;
  readonly unbackedCount: number;
  readonly isMarked: boolean;
}

const datasetsQuery = `query IncidentDatasets($id: ID!, $first: Int!, $after: String) {
  incident(id: $id) { datasets(first: $first, after: $after) {
    nodes { name fileCount hitCount lostTotal lostCount unbackedCount isMarked markedAt clearedAt } ${pageFields} } }
}`;

async function showDatasets(
  { client, output }: Context,
  options: ShowOptions,
  id: string,
): Promise<void> {
  const found = paged(
    client,
    datasetsQuery,
    { id },
    (data: { incident: { datasets: Connection<DatasetRow> } | null }) => {
      if (data.incident === null) throw noIncident(id);
      return data.incident.datasets;
    },
    options,
  );
  await output.list(found, [
    { title: 'DATASET', value: (row) => row.name },
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    { title: 'HIT', value: (row) => row.hitCount, align: 'right' },
    { title: 'LOST', value: (row) => row.lostTotal, align: 'right' },
    { title: 'STILL LOST', value: (row) => row.lostCount, align: 'right' },
    { title: 'NO BACKUP', value: (row) => row.unbackedCount, align: 'right' },
    { title: 'BAD', value: (row) => (row.isMarked ? 'yes' : 'no') },
  ]);
}
