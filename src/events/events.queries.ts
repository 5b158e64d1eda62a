import { sharedWith, visibleEvent } from '../access/visibility.ts';
import { may, type Viewer } from '../access/policy.ts';
import { invalidCursor, readCursor, writeCursor } from '../database/cursor.ts';
import { oneOf, textIs } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type Walk,
} from '../database/page.ts';
import { asMoment, timeIn, type TimeConditions } from '../database/range-filter.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { SweepbookError } from '../errors.ts';
import { isForAll, type EventKind } from './events.rules.ts';
import { isKept } from '../text.ts';

/** A place in the log: transaction and line. Lines are ordered by it, and it never changes. */
export interface Place {
  readonly xid: string;
  readonly id: number;
}

/**
 * What a line tells beside its own words. The counts of an incident hold files that are private to others: to whom those
 * are hidden, the incident tells its counts, and not the log.
 */
export function seenFacts(
  viewer: Viewer,
  { kind, facts }: Pick<EventRow, 'kind' | 'facts'>,
): unknown {
  if (kind !== 'INCIDENT_STATUS' || may(viewer, 'readPublications')) return facts;
  return facts['what'] === undefined ? {} : { what: facts['what'] };
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
  readonly datasetSharedWith: string[];
  /** Owner of the publication that the line is of, as long as it is not published. */
  readonly privateOwner: string | null;
  readonly runStatus: string | null;
}

const eventColumns = sql`e.xid::text as xid, e.id, e.kind, e.occurred_at as "occurredAt", e.actor, e.reason,
  e.dataset_id as "datasetId", e.file_id as "fileId", e.run_id as "runId", e.backup_id as "backupId",
  e.container_id as "containerId", e.incident_id as "incidentId", e.from_state as "fromState", e.to_state as "toState", e.facts, d.name as "datasetName", d.kind as "datasetKind",
  d.owner as "datasetOwner", d.is_available as "datasetIsAvailable", r.production_status as "runStatus",
  ${sharedWith} as "datasetSharedWith", case when e.kind = 'PUBLICATION_STATUS' then e.facts ->> 'owner'
    when e.file_id is not null then (select pp.requested_by from publication_composites pc
      join publications pp on pp.id = pc.publication_id where pc.file_id = e.file_id and pp.status <> 'PUBLISHED')
    end as "privateOwner"`;

/** Looked up line by line: joined otherwise, all datasets would be read for a page of lines. */
const eventTables = sql`events e
  left join lateral (select d.* from datasets d where d.id = e.dataset_id limit 1) d on true
  left join lateral (select r.* from runs r where r.id = e.run_id limit 1) r on true`;

/**
 * Lines below the oldest running transaction: nothing can come in among them any more.
 * Reading by id alone would skip what commits late.
 */
export const settled = sql`e.xid < pg_snapshot_xmin(pg_current_snapshot())`;

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
    select ${eventColumns} from ${eventTables}
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
  // As PostgreSQL writes it: places are compared as texts.
  return { xid: String(BigInt(String(xid))), id: Number(id) };
}

export interface EventConditions {
  readonly kind?: readonly EventKind[] | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly datasetId?: number | undefined;
  readonly container?: string | null | undefined;
  readonly lfn?: string | null | undefined;
  readonly run?: number | null | undefined;
  readonly runSource?: string | null | undefined;
  readonly runId?: number | undefined;
  readonly incidentId?: number | undefined;
  readonly actor?: string | null | undefined;
  readonly occurredAt?: TimeConditions | null | undefined;
}

/** What is asked of the log: conditions on lines e, and how its index is walked. */
export interface EventQuestion {
  readonly where: RawBuilder<unknown>;
  readonly countWhere: RawBuilder<unknown>;
  readonly walks: readonly Walk[];
}

/** A filter on the log; always with what the viewer may see. */
export function eventConditions(viewer: Viewer, filter: EventConditions): EventQuestion {
  const kinds =
    filter.kind == null
      ? undefined
      : [...new Set(filter.kind)].filter((kind) => isSeen(viewer, kind));
  const subject = [
    filter.dataset == null
      ? undefined
      : sql`e.dataset_id = (select id from datasets where ${textIs(sql`name`, filter.dataset)})`,
    filter.datasetId === undefined ? undefined : sql`e.dataset_id = ${filter.datasetId}`,
    filter.container == null
      ? undefined
      : sql`e.container_id = (select id from containers where ${textIs(sql`name`, filter.container)})`,
    filter.lfn == null
      ? undefined
      : sql`e.file_id = (select id from files where ${textIs(sql`lfn`, filter.lfn)})`,
    filter.run == null
      ? undefined
      : sql`e.run_id = (select id from runs where number = ${filter.run}
          and ${textIs(sql`source`, filter.runSource ?? 'DATA')})`,
    filter.runId === undefined ? undefined : sql`e.run_id = ${filter.runId}`,
    filter.incidentId === undefined ? undefined : sql`e.incident_id = ${filter.incidentId}`,
  ];
  // The lines of one thing have their index; else those of each kind, or of the actor.
  const isOfOne = subject.some((condition) => condition !== undefined);
  const { actor } = filter;
  const byKind = !isOfOne && kinds !== undefined && kinds.length > 0;
  const byActor = !isOfOne && kinds === undefined && actor != null && isKept(actor);
  const where = allOf([
    visibleEvent(viewer),
    ...subject,
    timeIn(sql`e.occurred_at`, filter.occurredAt),
  ]);
  const isKind = kinds && oneOf(sql`e.kind`, kinds);
  const isActor = textIs(sql`e.actor`, actor);
  const pins = byKind
    ? kinds.map((kind) => [{ sql: sql`e.kind`, is: sql`${kind}` }])
    : [byActor ? [{ sql: sql`e.actor`, is: sql`${actor}` }] : []];
  return {
    // An equality beside its bound would let the planner take any index again.
    where: allOf([where, byKind ? undefined : isKind, byActor ? undefined : isActor]),
    countWhere: allOf([isKind, isActor]),
    walks: pins.map((pinned) => ({ pins: pinned, ...spanOf(filter.occurredAt ?? {}) })),
  };
}

/** What others than production never see is not looked for among millions of lines. */
const isSeen = (viewer: Viewer, kind: EventKind) => may(viewer, 'readProduction') || isForAll(kind);

/** Longer than any transaction of ours takes from its first write to its last. */
const longestTransaction = sql`interval '1 hour'`;

/**
 * Times follow places, but for transactions that overlap: a line of this time stands behind what was written
 * long before, and before what was written long after. The log is entered there, and not at its beginning.
 */
function spanOf({ gte, lt }: TimeConditions): Pick<Walk, 'from' | 'to'> {
  return {
    from:
      gte == null
        ? undefined
        : sql`coalesce((select w.xid from events w where w.occurred_at < ${asMoment(gte)} - ${longestTransaction}
            order by w.occurred_at desc limit 1), '0'::xid8)`,
    to:
      lt == null
        ? undefined
        : sql`coalesce((select w.xid from events w where w.occurred_at > ${asMoment(lt)} + ${longestTransaction}
            order by w.occurred_at limit 1), pg_snapshot_xmax(pg_current_snapshot()))`,
  };
}

export const eventOrders = ['OLDEST_FIRST', 'NEWEST_FIRST'] as const;
export type EventOrder = (typeof eventOrders)[number];

const orderKeys = (descending: boolean): OrderKey[] => [
  { sql: sql`e.xid`, type: 'xid8', descending },
  { sql: sql`e.id`, type: 'bigint', descending },
];

/** A page of the log; the cursors are those of the subscriptions, whichever way one reads. */
export async function listEvents(
  db: Db,
  epoch: string,
  { where, countWhere, walks }: EventQuestion,
  page: PageArguments,
  order: EventOrder = 'OLDEST_FIRST',
): Promise<Page<EventRow>> {
  return readPage<EventRow>(
    db,
    {
      order: 'events',
      keys: orderKeys(order === 'NEWEST_FIRST'),
      select: eventColumns,
      from: eventTables,
      where: allOf([settled, where]),
      walks,
      overlap: true,
      countWhere,
      cursors: {
        read(cursor) {
          const { xid, id } = readPlace(epoch, cursor);
          return [xid, id];
        },
        write: ([xid, id]) => writePlace(epoch, { xid: String(xid), id: Number(id) }),
      },
    },
    page,
  );
}
