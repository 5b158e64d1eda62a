import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import type { PoolRow } from './pools.service.ts';

/** Whether what was claimed then (performance.now) may be removed still, with time to spare. */
export const evictionIsMine = (claimedAt: number, leaseSeconds: number): boolean =>
  performance.now() - claimedAt < (leaseSeconds * 1000) / 2;

/** A copy that a worker removes from a pool. */
export interface Eviction {
  readonly copyId: number;
  readonly attempt: number;
  readonly path: string;
}

/**
 * Lets go of what may go, until there is room for so many bytes more: copies whose last pin ended the longest ago
 * first, none that is pinned, and none that is the last copy of its file. The pool is locked by the caller; the room is
 * there when the files are removed.
 */
export async function makeRoom(
  tx: Db,
  pool: PoolRow,
  worker: string,
  bytes: number,
): Promise<number> {
  const leaving = await rows(
    tx,
    sql<{ bytes: number }>`
    select coalesce(sum(size_bytes), 0)::bigint as bytes from pool_copies
    where pool_id = ${pool.id} and status = 'EVICTING'`,
  );
  const needed = bytes - (leaving[0]?.bytes ?? 0);
  if (needed <= 0) return 0;
  const going = await rows(
    tx,
    sql<{ replicaId: number }>`
    with idle as materialized (
      select c.id, c.size_bytes, c.pinned_until from pool_copies c join files f on f.id = c.file_id
      where c.pool_id = ${pool.id} and c.status = 'ONLINE' and c.pinned_until <= clock_timestamp()
        and f.confirmed_copies > 0 order by c.pinned_until, c.id limit ${mostAtOnce} for update of c skip locked),
    first as (
      select id from (
        select id, sum(size_bytes) over (order by pinned_until, id) - size_bytes as before from idle) i
      where before < ${needed}::bigint)
    update pool_copies c set status = 'EVICTING', attempt = c.attempt + 1, worker = ${worker},
      lease_until = clock_timestamp()
    from first where c.id = first.id returning c.replica_id as "replicaId"`,
  );
  await rows(
    tx,
    sql`update replicas set status = 'EVICTED'
      where id = any (${going.map((row) => row.replicaId)}::bigint[]) and status = 'AVAILABLE'`,
  );
  return going.length;
}

const mostAtOnce = 10_000;

/** More than a pool may hold, since its limit was lowered: what may go goes. */
export async function keepLimit(db: Db, pool: PoolRow, worker: string): Promise<number> {
  if (pool.usedBytes <= pool.sizeLimit) return 0;
  return inTransaction(
    db,
    { principal: worker, reason: 'the pool is over its limit' },
    async (tx) => {
      await rows(tx, sql`select 1 from pools where id = ${pool.id} for no key update`);
      return makeRoom(tx, pool, worker, pool.usedBytes - pool.sizeLimit);
    },
  );
}

/** Takes copies that are to be removed from a pool; what a dead worker left is taken again. */
export async function claimEvictions(
  db: Db,
  poolId: number,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<Eviction[]> {
  return inTransaction(db, { principal: worker }, (tx) =>
    rows(
      tx,
      sql<Eviction>`
      with due as materialized (
        select id from pool_copies where pool_id = ${poolId} and status = 'EVICTING' and lease_until <= clock_timestamp()
        order by lease_until, id limit ${most} for update skip locked)
      update pool_copies c set attempt = c.attempt + 1, worker = ${worker},
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      from due where c.id = due.id returning c.id as "copyId", c.attempt, c.path`,
    ),
  );
}

/** The name of an eviction among all others. */
export const markOf = ({ copyId, attempt }: Pick<Eviction, 'copyId' | 'attempt'>): string =>
  `p${copyId}.a${attempt}`;

/** A file that was taken off its name for an eviction, and what is to become of it. */
export interface SetAside extends Eviction {
  /** REMOVE: it is what was to be evicted, or nobody's. PUT_BACK: it is a copy that came later. WAIT: not known yet. */
  readonly fate: 'REMOVE' | 'PUT_BACK' | 'WAIT';
}

/**
 * What these evictions have set aside. As long as nobody else has taken the eviction, nothing else can have come under
 * the name before; else a worker that was frozen may have hit a later copy.
 */
export async function fateOf(
  db: Db,
  worker: string,
  marks: readonly string[],
): Promise<SetAside[]> {
  const items = marks.flatMap((mark) => {
    const [, copyId, attempt] = /^p(\d{1,15})\.a(\d{1,9})$/.exec(mark) ?? [];
    return copyId === undefined ? [] : [{ copyId: Number(copyId), attempt: Number(attempt) }];
  });
  return rows(
    db.fork(),
    sql<SetAside>`
    select t.id as "copyId", t.attempt, c.path, case
        when c.status = 'EVICTING' and c.attempt = t.attempt and c.worker <> ${worker} then 'WAIT'
        when c.status in ('ONLINE', 'COPYING') then 'PUT_BACK'
        else 'REMOVE' end as fate
    from unnest(${items.map((item) => item.copyId)}::bigint[], ${items.map((item) => item.attempt)}::integer[])
      as t (id, attempt) join pool_copies c on c.id = t.id`,
  );
}

/**
 * Some are gone: what somebody asked for meanwhile is brought again. Those that there was no time for are given back,
 * so that nobody waits for the lease. By the holder of the attempt only.
 */
export async function recordEvicted(
  db: Db,
  poolId: number,
  worker: string,
  gone: readonly Eviction[],
  left: readonly Eviction[],
): Promise<void> {
  if (gone.length + left.length === 0) return;
  await inTransaction(db, { principal: worker }, async (tx) => {
    // As who stages: he has either seen it EVICTING, or sees it EVICTED.
    await rows(tx, sql`select 1 from pools where id = ${poolId} for no key update`);
    const ids = gone.map((item) => item.copyId);
    await changedRows(
      tx,
      sql`update pool_copies c set status = 'EVICTED', worker = null, lease_until = null, copied_bytes = 0
        from ${fenced(gone)} where ${isHeld} returning c.id`,
    );
    await changedRows(
      tx,
      sql`update pool_copies c set lease_until = clock_timestamp() from ${fenced(left)} where ${isHeld} returning c.id`,
    );
    await rows(
      tx,
      sql`update pool_copies c set status = 'REQUESTED', requested_at = clock_timestamp(),
          next_attempt_at = clock_timestamp(), failure_count = 0
        where c.id = any (${ids}::bigint[]) and c.status = 'EVICTED' and exists (
          select from stage_items i where i.copy_id = c.id and i.released_at is null and i.pinned_until is null)`,
    );
  });
}

const fenced = (items: readonly Eviction[]) =>
  sql`unnest(${items.map((item) => item.copyId)}::bigint[], ${items.map((item) => item.attempt)}::integer[]) as t (id, attempt)`;
const isHeld = sql`c.id = t.id and c.attempt = t.attempt and c.status = 'EVICTING'`;
