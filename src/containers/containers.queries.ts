import type { Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments, type PageQuery } from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { Place } from '../events/events.queries.ts';
import type { ContainerChangeKind } from './containers.rules.ts';
import { cameBetween, countUnavailable, coversPlace, readableMembers } from './members.queries.ts';
import { placeOf, presentPlace, type Moment } from './moments.queries.ts';

/** Counts of what is listed; luminosity in 1/pb, null when no run says. */
export interface TotalsRow {
  readonly datasetCount: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly luminosity: number | null;
}

export interface ContainerRow extends TotalsRow {
  readonly id: number;
  readonly name: string;
  readonly owner: string;
  readonly description: string | null;
  readonly suspendedCount: number;
  readonly version: number;
  readonly changedAt: Date | null;
  readonly createdAt: Date;
  readonly createdBy: string;
}

/** Over the alias c (containers). */
export const containerColumns = sql`c.id, c.name, c.owner, c.description, c.dataset_count as "datasetCount",
  c.suspended_count as "suspendedCount", c.file_count as "fileCount", c.size_bytes as "sizeBytes",
  c.event_count as "eventCount", case when c.luminosity_run_count > 0 then c.luminosity end as luminosity,
  c.version, c.changed_at as "changedAt", c.created_at as "createdAt", c.created_by as "createdBy"`;

export async function containersByIds(db: Db, ids: readonly number[]): Promise<ContainerRow[]> {
  return rows(
    db,
    sql<ContainerRow>`select ${containerColumns} from containers c where c.id = any (${ids}::bigint[])`,
  );
}

/** A container by name. Containers are there for everybody; what they list is not. */
export async function findContainer(db: Db, name: string): Promise<ContainerRow | undefined> {
  return firstRow(
    db,
    sql<ContainerRow>`select ${containerColumns} from containers c where c.name = ${name.replaceAll('\0', '')}`,
  );
}

export interface ContainerConditions {
  readonly container?: string | null | undefined;
  readonly name?: NameConditions | null | undefined;
  readonly owner?: string | null | undefined;
  readonly holdsDataset?: string | null | undefined;
}

function containerConditions(viewer: Viewer, filter: ContainerConditions): RawBuilder<unknown> {
  return allOf([
    nameIs(sql`c.name`, { eq: filter.container }),
    nameIs(sql`c.name`, filter.name),
    filter.owner == null ? undefined : sql`c.owner = ${filter.owner}`,
    filter.holdsDataset == null
      ? undefined
      : sql`c.id in (select cd.container_id from container_datasets cd join datasets d on d.id = cd.dataset_id
          where d.name = ${filter.holdsDataset} and not cd.suspended and ${visibleDataset(viewer)})`,
  ]);
}

/** Containers by name; `of` narrows them to what belongs to something. */
export function containersPage(
  viewer: Viewer,
  filter: ContainerConditions,
  of?: RawBuilder<unknown>,
): PageQuery {
  return {
    order: 'containers:NAME',
    keys: [{ sql: sql`c.name`, type: 'text' }],
    select: containerColumns,
    from: sql`containers c`,
    where: allOf([of, containerConditions(viewer, filter)]),
  };
}

export async function listContainers(
  db: Db,
  viewer: Viewer,
  filter: ContainerConditions,
  page: PageArguments,
  of?: RawBuilder<unknown>,
): Promise<Page<ContainerRow>> {
  return readPage<ContainerRow>(db, containersPage(viewer, filter, of), page);
}

/** The containers that hold a dataset, also while it is bad: who sees it then may know. */
export const containersOfDataset = (datasetId: unknown): RawBuilder<unknown> =>
  sql`c.id in (select container_id from container_datasets where dataset_id = ${datasetId})`;

/** Whether a container fits a filter; for feeds. */
export async function containerFits(
  db: Db,
  viewer: Viewer,
  id: number,
  filter: ContainerConditions,
): Promise<boolean> {
  const found = await rows(
    db,
    sql`select c.id from containers c where c.id = ${id} and ${containerConditions(viewer, filter)}`,
  );
  return found.length > 0;
}

/** A line of the history. */
export interface ChangeRow extends Place {
  readonly containerId: number;
  readonly kind: ContainerChangeKind;
  readonly occurredAt: Date;
  readonly actor: string;
  readonly reason: string | null;
  readonly givenUpCount: number;
  readonly added: TotalsRow;
  readonly removed: TotalsRow;
  readonly total: TotalsRow;
}

interface FlatChange extends Omit<ChangeRow, 'added' | 'removed' | 'total'>, TotalsRow {
  readonly addedCount: number;
  readonly removedCount: number;
  readonly fileCountChange: number;
  readonly sizeBytesChange: number;
  readonly eventCountChange: number;
  readonly luminosityChange: number | null;
}

const changeColumns = sql`h.xid::text as xid, h.event_id as id, h.container_id as "containerId", h.kind,
  h.occurred_at as "occurredAt", h.actor, h.reason, h.given_up_count as "givenUpCount",
  h.added_count as "addedCount", h.removed_count as "removedCount", h.file_count_change as "fileCountChange",
  h.size_bytes_change as "sizeBytesChange", h.event_count_change as "eventCountChange",
  h.luminosity_change as "luminosityChange", h.dataset_count as "datasetCount", h.file_count as "fileCount",
  h.size_bytes as "sizeBytes", h.event_count as "eventCount", h.luminosity`;

export const nothing: TotalsRow = {
  datasetCount: 0,
  fileCount: 0,
  sizeBytes: 0,
  eventCount: 0,
  luminosity: null,
};

function toChange(flat: FlatChange): ChangeRow {
  const { datasetCount, fileCount, sizeBytes, eventCount, luminosity } = flat;
  const moved: TotalsRow = {
    datasetCount: flat.addedCount + flat.removedCount,
    fileCount: Math.abs(flat.fileCountChange),
    sizeBytes: Math.abs(flat.sizeBytesChange),
    eventCount: Math.abs(flat.eventCountChange),
    luminosity: flat.luminosityChange === null ? null : Math.abs(flat.luminosityChange),
  };
  return {
    ...flat,
    added: flat.addedCount > 0 ? moved : nothing,
    removed: flat.removedCount > 0 ? moved : nothing,
    total: { datasetCount, fileCount, sizeBytes, eventCount, luminosity },
  };
}

/** The history of a container, oldest first. */
export async function listChanges(
  db: Db,
  containerId: number,
  page: PageArguments,
): Promise<Page<ChangeRow>> {
  const found = await readPage<FlatChange>(
    db,
    {
      order: 'container-history',
      keys: [{ sql: sql`h.event_id`, type: 'bigint' }],
      select: changeColumns,
      from: sql`container_changes h`,
      where: sql`h.container_id = ${containerId}`,
    },
    page,
  );
  const edges = found.edges.map(({ cursor, node }) => ({ cursor, node: toChange(node) }));
  return { ...found, edges };
}

export async function changesByEvents(db: Db, eventIds: readonly number[]): Promise<ChangeRow[]> {
  const found = await rows(
    db,
    sql<FlatChange>`select ${changeColumns} from container_changes h where h.event_id = any (${eventIds}::bigint[])`,
  );
  return found.map(toChange);
}

/** The last change up to a place, or of all. */
export async function lastChange(
  db: Db,
  containerId: number,
  place?: Place,
): Promise<ChangeRow | undefined> {
  const found = await firstRow(
    db,
    sql<FlatChange>`
    select ${changeColumns} from container_changes h where ${allOf([
      sql`h.container_id = ${containerId}`,
      place && sql`(h.xid, h.event_id) <= (${place.xid}::text::xid8, ${place.id}::bigint)`,
    ])} order by h.event_id desc limit 1`,
  );
  return found && toChange(found);
}

/** What of a container: as of a moment (now, if it is not given), and only what is new since another one. */
export interface Extent {
  readonly asOf?: Moment | undefined;
  readonly since?: Moment | undefined;
}

async function periodsOf(db: Db, containerId: number, { asOf, since }: Extent) {
  const until = asOf && (await placeOf(db, containerId, asOf, 'asOf'));
  if (!since) return coversPlace(until);
  const from = await placeOf(db, containerId, since, 'since');
  return cameBetween(from, until ?? (await presentPlace(db, from)));
}

/**
 * The datasets of a container that can be read, by name. Who wants to ask for what is new later
 * reads `currentPlace` first, gives it as `asOf`, and keeps it as the marker.
 */
export async function containerMembers(
  db: Db,
  viewer: Viewer,
  containerId: number,
  extent: Extent,
): Promise<{ id: number; name: string }[]> {
  const which = await periodsOf(db, containerId, extent);
  return readableMembers(db.fork(), viewer, containerId, which);
}

/** How many datasets `containerMembers` leaves out because they are bad now. */
export async function unavailableMemberCount(
  db: Db,
  containerId: number,
  extent: Extent,
): Promise<number> {
  return countUnavailable(db.fork(), containerId, await periodsOf(db, containerId, extent));
}
