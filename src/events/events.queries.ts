import { visibleEvent } from '../access/visibility.ts';
import type { Viewer } from '../access/policy.ts';
import { invalidCursor, readCursor, writeCursor } from '../database/cursor.ts';
import type { Db } from '../database/orm.ts';
import type { Page, PageArguments } from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { SweepbookError } from '../errors.ts';
import type { EventKind } from './events.rules.ts';

/** A place in the log: transaction and line. Lines are ordered by it, and it never changes. */
export interface Place {
  readonly xid: string;
  readonly id: number;
}

/** One line of the log, with what is needed to decide who sees it. */
export interface EventRow extends Place {
  readonly kind: EventKind;
  readonly occurredAt: Date;
  readonly actor: string;
  readonly reason: string | null;
  readonly datasetId: number | null;
  readonly fileId: number | null;
  readonly runId: number | null;
  readonly backupId: number | null;
  readonly containerId: number | null;
  readonly incidentId: number | null;
  readonly fromState: string | null;
  readonly toState: string | null;
  readonly facts: Record<string, unknown>;
  readonly datasetName: string | null;
  readonly datasetKind: string | null;
  readonly datasetOwner: string | null;
  readonly datasetIsAvailable: boolean | null;
  readonly runStatus: string | null;
}

const eventColumns = sql`e.xid::text as xid, e.id, e.kind, e.occurred_at as "occurredAt", e.actor, e.reason,
  e.dataset_id as "datasetId", e.file_id as "fileId", e.run_id as "runId", e.backup_id as "backupId",
  e.container_id as "containerId", e.incident_id as "incidentId", e.from_state as "fromState", e.to_state as "toState", e.facts, d.name as "datasetName", d.kind as "datasetKind",
  d.owner as "datasetOwner", d.is_available as "datasetIsAvailable", r.production_status as "runStatus"`;

/**
 * Lines below the oldest running transaction: nothing can come in among them any more.
 * Reading by id alone would skip what commits late.
 */
const settled = sql`e.xid < pg_snapshot_xmin(pg_current_snapshot())`;

const afterPlace = (place: Place) =>
  sql`(e.xid, e.id) > (${place.xid}::text::xid8, ${place.id}::bigint)`;

/** Settled lines after a place, in order. */
export async function eventsAfter(
  db: Db,
  place: Place,
  limit: number,
  where?: RawBuilder<unknown>,
): Promise<EventRow[]> {
  return rows(
    db,
    sql<EventRow>`
    select ${eventColumns}
    from events e left join datasets d on d.id = e.dataset_id left join runs r on r.id = e.run_id
    where ${allOf([settled, afterPlace(place), where])}
    order by e.xid, e.id limit ${limit}`,
  );
}

/** The place before which all is settled: who follows from here misses nothing that is still to come. */
export async function currentPlace(db: Db): Promise<Place> {
  const row = await firstRow(
    db,
    sql<{ xid: string }>`select pg_snapshot_xmin(pg_current_snapshot())::text as xid`,
  );
  return { xid: row?.xid ?? '0', id: 0 };
}

/** What an event cursor is bound to: a database made anew has another one. */
export async function readEpoch(db: Db): Promise<string> {
  const row = await firstRow(db, sql<{ epoch: string }>`select epoch from meta`);
  return row?.epoch ?? '';
}

const cursorOrder = 'events';

export function writePlace(epoch: string, place: Place): string {
  return writeCursor(cursorOrder, [epoch, place.xid, place.id]);
}

/** The place of a cursor; INVALID_CURSOR, or CURSOR_TOO_OLD when it is of a database that is gone. */
export function readPlace(epoch: string, cursor: string): Place {
  const [of, xid, id] = readCursor(cursorOrder, cursor, ['string', 'string', 'number']);
  if (of !== epoch) {
    throw new SweepbookError(
      'CURSOR_TOO_OLD',
      'after: this cursor is of an earlier database: read the present state again, then follow from its cursor',
    );
  }
  // 2^64 and more is no transaction number.
  if (!/^\d{1,19}$/.test(String(xid))) throw invalidCursor(cursorOrder);
  return { xid: String(xid), id: Number(id) };
}

export interface EventConditions {
  readonly kind?: readonly string[] | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly datasetId?: number | undefined;
  readonly container?: string | null | undefined;
  readonly lfn?: string | null | undefined;
  readonly run?: number | null | undefined;
  readonly runSource?: string | null | undefined;
  readonly runId?: number | undefined;
  readonly incidentId?: number | undefined;
  readonly actor?: string | null | undefined;
}

/** The conditions of a filter on the log, as SQL; always with what the viewer may see. */
export function eventConditions(viewer: Viewer, filter: EventConditions): RawBuilder<unknown> {
  return allOf([
    visibleEvent(viewer),
    filter.kind ? sql`e.kind = any (${filter.kind}::text[])` : undefined,
    filter.dataset
      ? sql`e.dataset_id = (select id from datasets where name = ${filter.dataset})`
      : undefined,
    filter.datasetId === undefined ? undefined : sql`e.dataset_id = ${filter.datasetId}`,
    filter.container
      ? sql`e.container_id = (select id from containers where name = ${filter.container})`
      : undefined,
    filter.lfn ? sql`e.file_id = (select id from files where lfn = ${filter.lfn})` : undefined,
    filter.run
      ? sql`e.run_id = (select id from runs where number = ${filter.run} and source = ${filter.runSource ?? 'DATA'})`
      : undefined,
    filter.runId === undefined ? undefined : sql`e.run_id = ${filter.runId}`,
    filter.incidentId === undefined ? undefined : sql`e.incident_id = ${filter.incidentId}`,
    filter.actor ? sql`e.actor = ${filter.actor}` : undefined,
  ]);
}

/** A page of the log, in its order; the cursors are those of the subscriptions. */
export async function listEvents(
  db: Db,
  epoch: string,
  where: RawBuilder<unknown>,
  page: PageArguments,
): Promise<Page<EventRow>> {
  const place = page.after ? readPlace(epoch, page.after) : { xid: '0', id: 0 };
  const found = await eventsAfter(db, place, page.first + 1, where);
  return {
    edges: found.slice(0, page.first).map((node) => ({ cursor: writePlace(epoch, node), node })),
    hasNextPage: found.length > page.first,
    hasPreviousPage: Boolean(page.after),
    total: () => countEvents(db, where),
  };
}

async function countEvents(db: Db, where: RawBuilder<unknown>): Promise<number> {
  const row = await firstRow(
    db,
    sql<{
      n: number;
    }>`select count(*) as n from events e left join datasets d on d.id = e.dataset_id
      where ${where} and ${settled}`,
  );
  return row?.n ?? 0;
}
