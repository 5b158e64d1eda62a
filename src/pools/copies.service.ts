import { claimLock, type StoredCopy } from '../backups/attempts.service.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { lockDatasetsOf } from '../incidents/checks.service.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import {
  keptEvidence,
  type Evidence,
  type Expected,
  type StoreAnswer,
} from '../storage/contract.ts';
import { makeRoom } from './evictions.service.ts';
import { afterFailure } from './pools.rules.ts';
import type { PoolRow } from './pools.service.ts';

/** A copy that a worker brings into a pool; `attempt` is the fence, as with backups. */
export interface PoolClaim {
  readonly copyId: number;
  readonly attempt: number;
  readonly worker: string;
  readonly pool: PoolRow;
  readonly fileId: number;
  readonly lfn: string;
  /** Absolute, in the pool. */
  readonly path: string;
  readonly expected: Expected;
  readonly copy: StoredCopy;
}

interface ClaimedRow extends Omit<PoolClaim, 'worker' | 'expected' | 'pool'> {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
}

/** Copies c that somebody may take. */
const isDue = sql`((c.status = 'REQUESTED' and c.next_attempt_at <= clock_timestamp())
  or (c.status = 'COPYING' and c.lease_until < clock_timestamp()))`;
/** Waiting ones that are looked at for one that has a place: behind those of a full store others may stand. */
const mostLookedAt = 1000;

/**
 * The store that a copy c is read from: one without tape rather than one with it, another one after each failure;
 * what a store was asked to bring from tape is read there.
 */
export const chosenStore = sql`(
  select b.store_id, b.store_key as key, s.concurrency, s.needs_recall from (
    select b.*, row_number() over (order by s.has_tape, b.id) - 1 as at, count(*) over () as n
    from backup_records b join mass_stores s on s.id = b.store_id
    where b.file_id = c.file_id and b.status = 'CONFIRMED' and s.is_configured) b
  join mass_stores s on s.id = b.store_id
  order by (c.is_recalled and b.store_id = c.recall_store_id) desc, b.at = c.failure_count % b.n desc limit 1)`;

/**
 * Takes copies for a pool that this host has. Each takes a place of its store (mass_stores.concurrency, over all
 * workers) and room in the pool; where there is none, what may go is evicted, and the copy waits for it.
 */
export async function claimPoolCopies(
  db: Db,
  pool: PoolRow,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<PoolClaim[]> {
  const claimed = await inTransaction(db, { principal: worker }, async (tx) => {
    const isAny = await firstRow(
      tx,
      sql`select 1 from pool_copies c where c.pool_id = ${pool.id} and ${isDue} limit 1`,
    );
    if (!isAny) return [];
    const room = await firstRow(
      tx,
      sql<{ limit: number; used: number }>`
      select size_limit as limit, used_bytes as used from pools where id = ${pool.id} for no key update`,
    );
    await rows(
      tx,
      sql`select pg_advisory_xact_lock(${claimLock}, id) from (select id from mass_stores order by id) s`,
    );
    const due = await rows(
      tx,
      sql<{ id: number; storeId: number; key: string; sizeBytes: number; holdsRoom: boolean }>`
      with due as materialized (
        select c.id, c.size_bytes, c.status, c.file_id, c.failure_count, c.is_recalled, c.recall_store_id
        from pool_copies c where c.pool_id = ${pool.id} and ${isDue} order by c.next_attempt_at, c.id
        limit ${mostLookedAt} for update skip locked),
      placed as (
        select c.id, c.size_bytes, c.status, b.store_id, b.key, b.concurrency,
          row_number() over (partition by b.store_id order by c.id) as nth
        from due c cross join lateral ${chosenStore} b
        where c.is_recalled or not b.needs_recall)
      select id, store_id as "storeId", key, size_bytes as "sizeBytes", status = 'COPYING' as "holdsRoom"
      from placed where nth <= concurrency - copies_under_way(store_id) order by id limit ${most}`,
    );
    let free = (room?.limit ?? 0) - (room?.used ?? 0);
    const fitting = [];
    let wanting = 0;
    for (const copy of due) {
      if (!copy.holdsRoom) {
        if (copy.sizeBytes > free) {
          wanting += copy.sizeBytes;
          continue;
        }
        free -= copy.sizeBytes;
      }
      fitting.push(copy);
    }
    if (wanting > 0) await makeRoom(tx, pool, worker, wanting - free);
    return rows(
      tx,
      sql<ClaimedRow>`
      update pool_copies c set status = 'COPYING', attempt = c.attempt + 1, worker = ${worker}, copied_bytes = 0,
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}), store_id = t.store_id
      from unnest(${fitting.map((copy) => copy.id)}::bigint[], ${fitting.map((copy) => copy.storeId)}::integer[],
        ${fitting.map((copy) => copy.key)}::text[]) as t (id, store_id, key), files f
      where c.id = t.id and f.id = c.file_id
      returning c.id as "copyId", c.attempt, c.file_id as "fileId", f.lfn, c.path, f.size_bytes as "sizeBytes",
        f.adler32, f.sha256, json_build_object('storeId', t.store_id, 'key', t.key) as copy`,
    );
  });
  return claimed.map(({ sizeBytes, adler32, sha256, ...row }) => ({
    ...row,
    pool,
    worker,
    expected: { sizeBytes, adler32, sha256 },
  }));
}

/** Says that these copies are alive, and how far; returns those that are still held. */
export async function renewPoolCopies(
  db: Db,
  held: readonly { readonly claim: PoolClaim; readonly bytes: number }[],
  leaseSeconds: number,
): Promise<Set<number>> {
  if (held.length === 0) return new Set();
  const alive = await rows(
    db.fork(),
    sql<{ id: number }>`
    update pool_copies c set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}),
      copied_bytes = least(greatest(c.copied_bytes, t.bytes), c.size_bytes)
    from unnest(${held.map((h) => h.claim.copyId)}::bigint[], ${held.map((h) => h.claim.attempt)}::integer[],
      ${held.map((h) => h.bytes)}::bigint[]) as t (id, attempt, bytes)
    where c.id = t.id and c.attempt = t.attempt and c.status = 'COPYING' returning c.id`,
  );
  return new Set(alive.map((row) => row.id));
}

const leaseLost = (claim: PoolClaim) =>
  new SweepbookError(
    'LEASE_LOST',
    `${claim.path}: attempt ${claim.attempt} was too slow and has been overtaken; its result is thrown away`,
    { copyId: claim.copyId, attempt: claim.attempt },
  );

/**
 * The copy is in the pool and was read back: it is ONLINE, its replica AVAILABLE, and its pins begin. The answer must
 * have been judged; the database compares it again. By the holder of the attempt only (LEASE_LOST).
 */
export async function recordOnline(db: Db, claim: PoolClaim, answer: StoreAnswer): Promise<void> {
  const { copyId, attempt, fileId, path, pool } = claim;
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await lockDatasetsOf(tx, fileId);
    const held = await firstRow(
      tx,
      sql`select 1 from pool_copies where id = ${copyId} and attempt = ${attempt} and status = 'COPYING' for update`,
    );
    if (!held) throw leaseLost(claim);
    await rows(
      tx,
      sql`insert into replicas (file_id, volume_id, path) values (${fileId}, ${pool.volumeId}, ${path})
        on conflict (file_id, volume_id, path) do nothing`,
    );
    await rows(
      tx,
      sql`update pool_copies c set status = 'ONLINE', answered_attempt = ${attempt}, lease_until = null,
          copied_bytes = c.size_bytes, online_at = clock_timestamp(), last_error = null, last_error_code = null,
          failure_count = 0, is_recalled = false,
          read_size_bytes = ${answer.sizeBytes ?? null}, read_adler32 = ${answer.adler32 ?? null},
          read_sha256 = ${answer.sha256 ?? null}, evidence = ${JSON.stringify(keptEvidence(answer.evidence))}::jsonb,
          replica_id = p.id
        from replicas p where c.id = ${copyId} and p.file_id = ${fileId} and p.volume_id = ${pool.volumeId} and p.path = ${path}`,
    );
    await restoreReplica(tx, copyId, fileId);
    await beginPins(tx, copyId);
  });
}

/** What incidents hold of this copy is restored; what they hold of other copies of its file is not. */
async function restoreReplica(tx: Db, copyId: number, fileId: number): Promise<void> {
  const [back] = await rows(
    tx,
    sql<{ id: number }>`
    update replicas set status = 'AVAILABLE', incident_id = null where status <> 'AVAILABLE'
      and id = (select replica_id from pool_copies where id = ${copyId}) returning id`,
  );
  if (!back) return;
  await rows(
    tx,
    sql`update incident_items set is_lost = false,
        status = case when replica_id = ${back.id} and status = 'HIT' then 'RESTORED' else status end,
        restored_at = case when replica_id = ${back.id} and status = 'HIT' then clock_timestamp() else restored_at end
      where file_id = ${fileId} and (is_lost or (status = 'HIT' and replica_id = ${back.id}))`,
  );
}

async function beginPins(tx: Db, copyId: number): Promise<void> {
  await rows(
    tx,
    sql`update stage_items i set pinned_until = clock_timestamp() + make_interval(secs => r.pin_seconds)
      from stage_requests r
      where i.copy_id = ${copyId} and i.released_at is null and i.pinned_until is null and r.id = i.request_id`,
  );
  await rows(
    tx,
    sql`update pool_copies c set pinned_until = greatest(c.pinned_until, (
        select max(i.pinned_until) from stage_items i where i.copy_id = c.id and i.released_at is null))
      where c.id = ${copyId}`,
  );
}

const longestError = 2000;
const longestDelayMs = 600_000;

export interface PoolFailure {
  readonly code: string;
  readonly message: string;
  readonly evidence?: Evidence | undefined;
  /** Nobody's fault (the worker is being stopped): does not count, and is tried again at once. */
  readonly isInnocent?: boolean;
}

/** The attempt failed: tried again with backoff, or FAILED with the reason; nothing if the lease is lost. */
export async function failPoolCopy(
  db: Db,
  claim: Pick<PoolClaim, 'copyId' | 'attempt' | 'worker'>,
  failure: PoolFailure,
  retryBaseMs: number,
): Promise<'REQUESTED' | 'FAILED' | 'LEASE_LOST'> {
  const message = failure.message.slice(0, longestError);
  return inTransaction(db, { principal: claim.worker, reason: message }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{ failureCount: number; copyCount: number }>`
      select c.failure_count + ${failure.isInnocent ? 0 : 1} as "failureCount",
        (select count(*) from backup_records b where b.file_id = c.file_id and b.status = 'CONFIRMED') as "copyCount"
      from pool_copies c where c.id = ${claim.copyId} and c.attempt = ${claim.attempt}
        and c.status in ('COPYING', 'RECALLING') for update`,
    );
    if (!row) return 'LEASE_LOST';
    const next = failure.isInnocent
      ? 'REQUESTED'
      : afterFailure({ errorCode: failure.code, ...row });
    const delayMs = failure.isInnocent
      ? 0
      : nextDelayMs(row.failureCount, { baseMs: retryBaseMs, maxMs: longestDelayMs });
    await rows(
      tx,
      sql`update pool_copies set status = ${next}, answered_attempt = ${claim.attempt},
          failure_count = ${row.failureCount}, last_error_code = ${failure.code}, last_error = ${message},
          evidence = ${failure.evidence ? JSON.stringify(keptEvidence(failure.evidence)) : null}::jsonb,
          next_attempt_at = ${new Date(Date.now() + delayMs)}, worker = null, lease_until = null,
          is_recalled = is_recalled and ${failure.isInnocent === true}
        where id = ${claim.copyId}`,
    );
    return next;
  });
}
