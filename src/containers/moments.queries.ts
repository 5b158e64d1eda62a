import { setTimeout as wait } from 'node:timers/promises';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction, postgresCode } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { isAfter } from '../events/event-feed.ts';
import { currentPlace, readPlace, type Place } from '../events/events.queries.ts';
import { timeOf } from '../api/scalars.ts';

/** A moment in the life of a container: a time, or a marker, which is a place in the log and exact. */
export type Moment = Date | Place;

/** Before everything. */
export const beginning: Place = { xid: '0', id: 0 };

/** A moment as a query string has it: an RFC 3339 time, or a marker. BAD_USER_INPUT, INVALID_CURSOR, CURSOR_TOO_OLD. */
export function readMoment(epoch: string, field: string, text: string): Moment {
  if (!/^\d{4}-/.test(text)) return readMarker(epoch, field, text);
  const time = timeOf(text);
  if (time) return time;
  throw badInput(
    field,
    text,
    'a time like 2026-01-31T12:00:00Z (RFC 3339, with the zone), or a marker',
  );
}

/** The place of a marker; the refusals of a cursor, with the name of the field. */
export function readMarker(epoch: string, field: string, marker: string): Place {
  try {
    return readPlace(epoch, marker);
  } catch (error) {
    if (!(error instanceof SweepbookError)) throw error;
    const message = error.message.replace(/^after: /, '');
    throw new SweepbookError(error.code, `${field}: ${message}`, { ...error.facts, field });
  }
}

/** The one of the two that is given. */
export function eitherMoment(
  epoch: string,
  timeField: string,
  time: Date | null | undefined,
  marker: string | null | undefined,
): Moment | undefined {
  if (time != null && marker != null) {
    throw badInput('marker', marker, `give ${timeField} or marker, not both`);
  }
  return marker == null ? (time ?? undefined) : readMarker(epoch, 'marker', marker);
}

/**
 * The place in the log of a moment, for a container: the same whenever it is asked for. A marker is
 * its own place, and has settled. A time stands for the last change of the container up to then.
 */
export async function placeOf(
  db: Db,
  containerId: number,
  moment: Moment,
  field: string,
): Promise<Place> {
  if (moment instanceof Date) return placeOfTime(db, containerId, moment, field);
  if (!isAfter(moment, await currentPlace(db.fork()))) return moment;
  throw new SweepbookError(
    'INVALID_CURSOR',
    `${field}: this place of the log has not settled yet: take a marker that an earlier answer gave`,
    { field },
  );
}

/**
 * The changes of a container are written one after the other, under its lock, and their times never
 * go back: behind a change that is later than the time nothing up to it can be written any more.
 * Where there is none, whoever writes right now is waited for.
 */
async function placeOfTime(db: Db, containerId: number, time: Date, field: string): Promise<Place> {
  const found = await lastChangeUpTo(db, containerId, time);
  if (found.isPassed) return found.place;
  await waitUntilPast(db, time, field);
  await waitForWriters(db, containerId);
  return (await lastChangeUpTo(db, containerId, time)).place;
}

async function lastChangeUpTo(db: Db, containerId: number, time: Date) {
  const row = await firstRow(
    db.fork(),
    sql<{ xid: string | null; id: number | null; isPassed: boolean }>`
    select l.xid::text as xid, l.event_id as id, exists (
      select from container_changes where container_id = ${containerId} and occurred_at > ${time}) as "isPassed"
    from (select 1) one left join lateral (
      select xid, event_id from container_changes
      where container_id = ${containerId} and occurred_at <= ${time}
      order by occurred_at desc, event_id desc limit 1) l on true`,
  );
  const place = row?.xid != null && row.id !== null ? { xid: row.xid, id: row.id } : beginning;
  return { place, isPassed: row?.isPassed === true };
}

/** Clocks differ a little: so much ahead is waited for, more is refused. */
const mostAheadMs = 1000;

async function waitUntilPast(db: Db, time: Date, field: string): Promise<void> {
  for (;;) {
    const row = await firstRow(
      db.fork(),
      sql<{ now: Date }>`select date_trunc('milliseconds', clock_timestamp()) as now`,
    );
    const aheadMs = time.getTime() - (row?.now.getTime() ?? 0);
    if (aheadMs < 0) return;
    if (aheadMs > mostAheadMs) {
      throw badInput(field, time, 'lies in the future: leave it out for what is there now');
    }
    await wait(aheadMs + 1);
  }
}

const longestWaitMs = 10_000;
const lookAgainMs = 20;

/**
 * The place up to which the log has settled, not before `from`: a marker that one can go on from. A
 * change that was just made stands behind it for as long as an older transaction is open.
 */
export async function presentPlace(db: Db, from: Place): Promise<Place> {
  for (const end = Date.now() + longestWaitMs; ; await wait(lookAgainMs)) {
    const place = await currentPlace(db.fork());
    if (!isAfter(from, place)) return place;
    if (Date.now() > end) throw uncertain();
  }
}

const uncertain = () =>
  new SweepbookError(
    'UNAVAILABLE',
    'the container is being changed, and what it held at that time is not certain yet: try again in a moment',
  );

async function waitForWriters(db: Db, containerId: number): Promise<void> {
  try {
    await inTransaction(db, { principal: 'sweepbook' }, async (tx) => {
      await rows(tx, sql`select set_config('lock_timeout', ${String(longestWaitMs)}, true)`);
      await rows(tx, sql`select id from containers where id = ${containerId} for share`);
    });
  } catch (error) {
    if (postgresCode(error) === '55P03') throw uncertain();
    throw error;
  }
}
