import type { Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { Place } from '../events/events.queries.ts';
import type { ContainerChangeKind } from './containers.rules.ts';

/** A period in which a dataset was in a container. */
export interface MemberRow {
  readonly datasetId: number;
  readonly name: string;
  readonly isAvailable: boolean;
  readonly addedAt: Date;
  readonly addedBy: string;
  readonly addedReason: string | null;
  readonly removedAt: Date | null;
  readonly removedBy: string | null;
  readonly removedReason: string | null;
  readonly removedKind: ContainerChangeKind | null;
}

const memberColumns = sql`d.id as "datasetId", d.name, d.is_available as "isAvailable",
  a.occurred_at as "addedAt", a.actor as "addedBy", a.reason as "addedReason",
  r.occurred_at as "removedAt", r.actor as "removedBy", r.reason as "removedReason", r.kind as "removedKind"`;

const memberTables = sql`container_memberships m join datasets d on d.id = m.dataset_id
  join container_changes a on a.event_id = m.added_id left join container_changes r on r.event_id = m.removed_id`;

const at = (place: Place) => sql`(${place.xid}::text::xid8, ${place.id}::bigint)`;

/** Periods (alias m) that cover this place; without one, those that go on. */
export function coversPlace(place: Place | undefined): RawBuilder<unknown> {
  if (!place) return sql`m.removed_id is null`;
  return sql`((m.added_xid, m.added_id) <= ${at(place)}
    and (m.removed_id is null or (m.removed_xid, m.removed_id) > ${at(place)}))`;
}

/** What is new at `until` and was not there at `from`: nothing of what came and went in between. */
export function cameBetween(from: Place, until: Place): RawBuilder<unknown> {
  return sql`((m.added_xid, m.added_id) > ${at(from)} and ${coversPlace(until)} and not exists (
    select from container_memberships b
    where b.container_id = m.container_id and b.dataset_id = m.dataset_id
      and (b.added_xid, b.added_id) <= ${at(from)}
      and (b.removed_id is null or (b.removed_xid, b.removed_id) > ${at(from)})))`;
}

/** What was there at `from` and is not at `until`, by its last period in between, which tells why it left. */
export function leftBetween(from: Place, until: Place): RawBuilder<unknown> {
  return sql`(m.removed_id is not null and (m.removed_xid, m.removed_id) > ${at(from)}
    and (m.removed_xid, m.removed_id) <= ${at(until)}
    and exists (
      select from container_memberships b
      where b.container_id = m.container_id and b.dataset_id = m.dataset_id
        and (b.added_xid, b.added_id) <= ${at(from)}
        and (b.removed_id is null or (b.removed_xid, b.removed_id) > ${at(from)}))
    and not exists (
      select from container_memberships l
      where l.container_id = m.container_id and l.dataset_id = m.dataset_id
        and l.added_id > m.added_id and (l.added_xid, l.added_id) <= ${at(until)}))`;
}

/** Periods that a line of the history began or ended. */
export const touchedBy = (eventId: number): RawBuilder<unknown> =>
  sql`(m.added_id = ${eventId} or m.removed_id = ${eventId})`;

const ofContainer = (containerId: number, which: RawBuilder<unknown>) =>
  allOf([sql`m.container_id = ${containerId}`, which]);

/** Datasets of a container by name, as far as the viewer sees them; `which` gives each at most once. */
export async function listMembers(
  db: Db,
  viewer: Viewer,
  containerId: number,
  which: RawBuilder<unknown>,
  page: PageArguments,
): Promise<Page<MemberRow>> {
  return readPage<MemberRow>(
    db,
    {
      order: 'container-datasets',
      keys: [{ sql: sql`d.name`, type: 'text' }],
      select: memberColumns,
      from: memberTables,
      where: allOf([ofContainer(containerId, which), visibleDataset(viewer)]),
    },
    page,
  );
}

/** Datasets that are bad now and come back when they are cleared, as far as the viewer sees them. */
export async function listSuspended(
  db: Db,
  viewer: Viewer,
  containerId: number,
  page: PageArguments,
): Promise<Page<MemberRow>> {
  const isLast = sql`exists (
      select from container_datasets s
      where s.container_id = m.container_id and s.dataset_id = m.dataset_id and s.suspended)
    and not exists (
      select from container_memberships l
      where l.container_id = m.container_id and l.dataset_id = m.dataset_id and l.added_id > m.added_id)`;
  return listMembers(db, viewer, containerId, isLast, page);
}

/** How many of these are bad now: nobody reads them, whoever may see them. */
export async function countUnavailable(
  db: Db,
  containerId: number,
  which: RawBuilder<unknown>,
): Promise<number> {
  const row = await firstRow(
    db,
    sql<{ n: number }>`
    select count(*) as n from container_memberships m join datasets d on d.id = m.dataset_id
    where ${ofContainer(containerId, which)} and not d.is_available`,
  );
  return row?.n ?? 0;
}

/** The datasets of these that can be read, by name. */
export async function readableMembers(
  db: Db,
  viewer: Viewer,
  containerId: number,
  which: RawBuilder<unknown>,
): Promise<{ id: number; name: string }[]> {
  return rows(
    db,
    sql<{ id: number; name: string }>`
    select d.id, d.name from container_memberships m join datasets d on d.id = m.dataset_id
    where ${ofContainer(containerId, which)} and d.is_available and ${visibleDataset(viewer)}
    order by d.name`,
  );
}
