import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { addContainerChangeCommands } from './container-changes.ts';
import { addContentCommands } from './container-content.ts';
import { noContainer, totalsFields, type Totals } from './container-facts.ts';
import { addContainerWatchCommand } from './container-watch.ts';
import { addFilesCommand } from './dataset-files.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { humanBytes } from './table.ts';

export function addContainerCommands(program: Command): void {
  const noun = addNoun(program, 'container', 'containers: living lists of closed datasets');
  const list = addVerb(noun, 'list', 'containers')
    .option('--name <pattern>', 'names that fit: * = anything, ? = one character')
    .option('--owner <principal>', 'those of this owner')
    .option('--holds <dataset>', 'those that list this dataset');
  runs<ContainerListOptions>(addListOptions(list), listContainers);
  runs<object, [string]>(addVerb(noun, 'show <name>', 'all about one container'), showContainer);
  const history = addVerb(noun, 'history <name>', 'what came and left, when, by whom and why');
  runs<ListOptions, [string]>(addListOptions(history), showHistory);
  addContentCommands(noun);
  addContainerChangeCommands(noun);
  addContainerWatchCommand(noun);
  addFilesCommand(noun, 'containers');
}

interface ContainerListOptions extends ListOptions {
  readonly name?: string;
  readonly owner?: string;
  readonly holds?: string;
}

interface ContainerRow extends Totals {
  readonly name: string;
  readonly owner: string;
  readonly description: string | null;
  readonly suspendedCount: number;
  readonly changedAt: string | null;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly version: number;
  readonly origin: {
    readonly site: string;
    readonly container: string;
    readonly isFollowed: boolean;
    readonly heardAt: string;
    readonly hereCount: number;
    readonly memberCount: number | null;
  } | null;
}

const rowFields = `name owner description suspendedCount changedAt createdAt createdBy version ${totalsFields}
  origin { site container isFollowed heardAt hereCount memberCount }`;

const listQuery = `query Containers($filter: ContainerFilter, $first: Int!, $after: String) {
  containers(filter: $filter, first: $first, after: $after) { nodes { ${rowFields} } ${pageFields} }
}`;

async function listContainers(
  { client, output }: Context,
  options: ContainerListOptions,
): Promise<void> {
  const filter = {
    name: options.name === undefined ? undefined : { glob: options.name },
    owner: options.owner,
    holdsDataset: options.holds,
  };
  const rows = paged(
    client,
    listQuery,
    { filter },
    (data: { containers: Connection<ContainerRow> }) => data.containers,
    options,
  );
  await output.list(rows, [
    { title: 'NAME', value: (row) => row.name },
    { title: 'OWNER', value: (row) => row.owner },
    { title: 'MIRRORS', value: (row) => row.origin?.site },
    { title: 'DATASETS', value: (row) => row.datasetCount, align: 'right' },
    { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'EVENTS', value: (row) => row.eventCount, align: 'right' },
    { title: 'LUMINOSITY', value: (row) => row.luminosity, align: 'right' },
    { title: 'CHANGED', value: (row) => row.changedAt },
  ]);
}

const showQuery = `query Container($name: String!) { container(name: $name) { ${rowFields} marker } }`;

async function showContainer(
  { client, output }: Context,
  _options: object,
  name: string,
): Promise<void> {
  const { container } = await client.call<{
    container: (ContainerRow & { readonly marker: string }) | null;
  }>(showQuery, { name });
  if (container === null) throw noContainer(name);
  const { suspendedCount, luminosity } = container;
  await output.object(container, {
    name: container.name,
    mirrors: mirrorText(container.origin),
    owner: container.owner,
    description: container.description,
    datasets:
      String(container.datasetCount) +
      (suspendedCount > 0 ? `, and ${suspendedCount} that are bad now` : ''),
    files: String(container.fileCount),
    size: `${container.sizeBytes} bytes (${humanBytes(container.sizeBytes)})`,
    events: String(container.eventCount),
    luminosity: luminosity === null ? null : `${luminosity} /pb`,
    created: `${container.createdAt} by ${container.createdBy}`,
    changed: container.changedAt,
    version: String(container.version),
    marker: container.marker,
  });
}

function mirrorText(origin: ContainerRow['origin']): string | null {
  if (!origin) return null;
  const { site, container, isFollowed, heardAt, hereCount, memberCount } = origin;
  const what = `${container} of ${site}`;
  if (!isFollowed) return `${what} until ${heardAt}: its import rule has ended`;
  return `${what}: ${hereCount} of ${memberCount} members are here, as heard ${heardAt}`;
}

interface HistoryRow {
  readonly cursor: string;
  readonly kind: string;
  readonly occurredAt: string;
  readonly actor: string;
  readonly reason: string | null;
  readonly givenUpCount: number;
  readonly added: Totals;
  readonly removed: Totals;
  readonly total: Totals;
}

const historyQuery = `query History($name: String!, $first: Int!, $after: String) {
  container(name: $name) { history(first: $first, after: $after) {
    nodes {
      cursor kind occurredAt actor reason givenUpCount
      added { ${totalsFields} } removed { ${totalsFields} } total { ${totalsFields} }
    } ${pageFields}
  } }
}`;

/** Events and luminosity are those that came in; what left had brought its own before. */
async function showHistory(
  { client, output }: Context,
  options: ListOptions,
  name: string,
): Promise<void> {
  const pick = ({ container }: { container: { history: Connection<HistoryRow> } | null }) => {
    if (container === null) throw noContainer(name);
    return container.history;
  };
  await output.list(paged(client, historyQuery, { name }, pick, options), [
    { title: 'CREATED', value: (row) => row.occurredAt },
    { title: 'ADDED', value: (row) => row.added.datasetCount, align: 'right' },
    { title: 'REMOVED', value: (row) => row.removed.datasetCount, align: 'right' },
    { title: 'EVENTS', value: (row) => row.added.eventCount, align: 'right' },
    { title: 'LUMINOSITY', value: (row) => row.added.luminosity ?? 0, align: 'right' },
    { title: 'BY', value: (row) => row.actor },
    { title: 'WHY', value: (row) => row.reason },
  ]);
}
