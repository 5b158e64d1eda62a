import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { momentVariables, noContainer } from './container-facts.ts';
import { readCursor, writeCursor } from './cursor-file.ts';
import { wrongUsage } from './exit-codes.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { complain } from './print.ts';
import { counted, type Column } from './table.ts';

const markerOption = '--marker-file';

/** What a container lists, and what is new in it. */
export function addContentCommands(noun: Command): void {
  const datasets = addVerb(noun, 'datasets <name>', 'what it lists, now or as of a moment')
    .option('--as-of <moment>', 'a time with its zone (2026-01-31T12:00:00Z), or a marker')
    .option('--marker-file <file>', 'keep a marker of what was listed there, for "changes"');
  runs<DatasetsOptions, [string]>(addListOptions(datasets), listDatasets);
  const changes = addVerb(noun, 'changes <name>', 'what is new and what has left since a moment')
    .option('--since <moment>', 'a time with its zone, or a marker; the beginning if not given')
    .option('--marker-file <file>', 'go on from the marker in this file, and keep it up to date');
  runs<ChangesOptions, [string]>(changes, listChanges);
}

interface Member {
  readonly name: string;
  readonly isAvailable: boolean;
  readonly addedAt: string;
  readonly addedBy: string;
  readonly addedReason: string | null;
  readonly removedAt: string | null;
  readonly removedBy: string | null;
  readonly removedReason: string | null;
  readonly removedKind: string | null;
  readonly dataset: { readonly fileCount: number; readonly eventCount: number } | null;
}

const memberFields = `name isAvailable addedAt addedBy addedReason removedAt removedBy removedReason removedKind
  dataset { fileCount eventCount }`;

interface DatasetsOptions extends ListOptions {
  readonly asOf?: string;
  readonly markerFile?: string;
}

const datasetsQuery = `query ContainerDatasets(
  $name: String!, $asOf: DateTime, $marker: String, $first: Int!, $after: String
) {
  container(name: $name) {
    datasets(asOf: $asOf, marker: $marker, first: $first, after: $after) {
      nodes { ${memberFields} } ${pageFields}
    }
  }
}`;

const unavailableQuery = `query Unavailable($name: String!, $asOf: DateTime, $marker: String) {
  container(name: $name) { marker unavailableCount(asOf: $asOf, marker: $marker) }
}`;

async function listDatasets(
  { client, output }: Context,
  options: DatasetsOptions,
  name: string,
): Promise<void> {
  const { asOf, markerFile } = options;
  if (asOf !== undefined && markerFile !== undefined) {
    throw wrongUsage(`${markerOption} keeps the present moment: it does not go with --as-of`);
  }
  interface Answer {
    readonly container: { readonly marker: string; readonly unavailableCount: number } | null;
  }
  const variables = { name, ...momentVariables(asOf, 'asOf') };
  const { container } = await client.call<Answer>(unavailableQuery, variables);
  if (container === null) throw noContainer(name);
  // Listed as of the marker that is kept: what comes meanwhile is told by "changes".
  const moment = markerFile === undefined ? variables : { name, marker: container.marker };
  const pick = (data: { container: { datasets: Connection<Member> } | null }) => {
    if (data.container === null) throw noContainer(name);
    return data.container.datasets;
  };
  // A marker stands for the whole list.
  const extent = markerFile === undefined ? options : { all: true, limit: 0 };
  await output.list(paged(client, datasetsQuery, moment, pick, extent), [
    { title: 'NAME', value: (row) => row.name },
    { title: 'FILES', value: (row) => row.dataset?.fileCount, align: 'right' },
    { title: 'EVENTS', value: (row) => row.dataset?.eventCount, align: 'right' },
    { title: 'ADDED', value: (row) => row.addedAt },
    { title: 'BY', value: (row) => row.addedBy },
    { title: 'READABLE', value: (row) => (row.isAvailable ? 'yes' : 'no, bad') },
  ]);
  if (container.unavailableCount > 0) {
    complain(`bad now: ${counted(container.unavailableCount, 'dataset')} of that moment`);
  }
  await writeCursor(markerFile, container.marker, markerOption);
}

interface ChangesOptions {
  readonly since?: string;
  readonly markerFile?: string;
}

interface Delta {
  readonly marker: string;
  readonly unavailableCount: number;
  readonly added: Connection<Member>;
  readonly removed: Connection<Member>;
}

const deltaQuery = `query Delta($name: String!, $since: DateTime, $marker: String) {
  container(name: $name) { changedSince(since: $since, marker: $marker) { marker unavailableCount } }
}`;
const listQuery = (field: 'added' | 'removed') => `query Delta(
  $name: String!, $since: DateTime, $marker: String, $until: String, $first: Int!, $after: String
) {
  container(name: $name) { changedSince(since: $since, marker: $marker, until: $until) {
    ${field}(first: $first, after: $after) { nodes { ${memberFields} } ${pageFields} }
  } }
}`;

type Change = Member & { readonly change: 'ADDED' | 'REMOVED' };
type DeltaAnswer = { readonly container: { readonly changedSince: Delta } | null };

async function listChanges(
  { client, output }: Context,
  { since, markerFile }: ChangesOptions,
  name: string,
): Promise<void> {
  if (since !== undefined && markerFile !== undefined) {
    throw wrongUsage(`give --since or ${markerOption}, not both`);
  }
  const from = since ?? (await readCursor(markerFile, markerOption));
  const variables = { name, ...momentVariables(from, 'since') };
  const { container } = await client.call<DeltaAnswer>(deltaQuery, variables);
  if (container === null) throw noContainer(name);
  const { marker, unavailableCount } = container.changedSince;
  const counts = { ADDED: 0, REMOVED: 0 };
  async function* changes(): AsyncGenerator<Change, void, undefined> {
    for (const field of ['added', 'removed'] as const) {
      const change = field === 'added' ? 'ADDED' : 'REMOVED';
      const pick = (data: DeltaAnswer) => {
        if (data.container === null) throw noContainer(name);
        return data.container.changedSince[field];
      };
      const all = { all: true, limit: 0 };
      for await (const member of paged(
        client,
        listQuery(field),
        { ...variables, until: marker },
        pick,
        all,
      )) {
        counts[change]++;
        yield { change, ...member };
      }
    }
  }
  if (output.json) {
    for await (const change of changes()) await output.result(change, '');
  } else {
    await output.list(changes(), columns);
  }
  const hidden = unavailableCount > 0 ? `, bad now: ${unavailableCount} of what left` : '';
  await output.result(
    { marker, addedCount: counts.ADDED, removedCount: counts.REMOVED, unavailableCount },
    `${counts.ADDED} added, ${counts.REMOVED} removed${hidden}; next time: --since ${marker}`,
  );
  await writeCursor(markerFile, marker, markerOption);
}

const columns: readonly Column<Change>[] = [
  { title: 'CHANGE', value: (row) => row.change.toLowerCase() },
  { title: 'NAME', value: (row) => row.name },
  { title: 'WHEN', value: (row) => (row.change === 'ADDED' ? row.addedAt : row.removedAt) },
  { title: 'BY', value: (row) => (row.change === 'ADDED' ? row.addedBy : row.removedBy) },
  { title: 'WHY', value: (row) => (row.change === 'ADDED' ? row.addedReason : row.removedReason) },
];
