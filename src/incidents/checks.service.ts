import { claimLock, type StoredCopy } from '../backups/attempts.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import {
  keptEvidence,
  type Evidence,
  type Expected,
  type StoreAnswer,
} from '../storage/contract.ts';

/** A check that a worker holds; `attempt` is the fence, as with backups. */
export interface CheckClaim {
  readonly checkId: number;
  readonly attempt: number;
  readonly worker: string;
  readonly replicaId: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly path: string;
  readonly isRestage: boolean;
  readonly expected: Expected;
  /** Restage: the confirmed copy that it comes from; null = no store has one any more. */
  readonly copy: StoredCopy | null;
}

interface ClaimedRow extends Omit<CheckClaim, 'worker' | 'expected'> {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
}

/**
 * Takes checks that wait, and those whose worker fell silent; no two workers the same one. One that restages
 * takes a place of the store that its file comes from (mass_stores.concurrency, over all workers) and waits for
 * one. The store of a file that failed is another one the next time, if another has it.
 */
export async function claimChecks(
  db: Db,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<CheckClaim[]> {
  const claimed = await inTransaction(db, { principal: worker }, async (tx) => {
    const isAny = await firstRow(tx, sql`select 1 from replica_checks c where ${isDue} limit 1`);
    if (!isAny) return [];
    await rows(
      tx,
      sql`select pg_advisory_xact_lock(${claimLock}, id) from (
      select id from mass_stores order by id) s`,
    );
    return rows(
      tx,
      sql<ClaimedRow>`
      with due as materialized (
        select c.id, c.file_id, c.is_restage, c.failure_count from replica_checks c where ${isDue}
        order by c.id limit ${mostLookedAt} for update skip locked),
      placed as (
        select d.id, d.is_restage, b.store_id, b.key, s.concurrency,
          row_number() over (partition by b.store_id order by d.id) as nth
        from due d left join lateral (
          select b.store_id, b.store_key as key, row_number() over (order by b.id) - 1 as at, count(*) over () as n
          from backup_records b where b.file_id = d.file_id and b.status = 'CONFIRMED' and d.is_restage) b
          on b.at = d.failure_count % b.n
        left join mass_stores s on s.id = b.store_id),
      mine as (
        select id, store_id, key from placed p
        where store_id is null or nth <= concurrency - copies_under_way(store_id) order by id limit ${most})
      update replica_checks c set status = 'RUNNING', attempt = c.attempt + 1, worker = ${worker},
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}), store_id = mine.store_id
      from mine, replicas p, files f
      where c.id = mine.id and p.id = c.replica_id and f.id = c.file_id
      returning c.id as "checkId", c.attempt, c.replica_id as "replicaId", c.file_id as "fileId", f.lfn, p.path,
        c.is_restage as "isRestage", f.size_bytes as "sizeBytes", f.adler32, f.sha256,
        case when mine.store_id is not null
          then json_build_object('storeId', mine.store_id, 'key', mine.key) end as copy`,
    );
  });
  return claimed.map(({ sizeBytes, adler32, sha256, ...row }) => ({
    ...row,
    worker,
    expected: { sizeBytes, adler32, sha256 },
  }));
}

/** Checks c that somebody may take. */
const isDue = sql`((c.status = 'REQUESTED' and c.next_attempt_at <= clock_timestamp())
  or (c.status = 'RUNNING' and c.lease_until < clock_timestamp()))`;
/** Waiting ones that are looked at for one that has a place: behind those of a full store others may stand. */
const mostLookedAt = 1000;

/** Says that these checks are alive; returns those that are still held. */
export async function renewChecks(
  db: Db,
  claims: readonly CheckClaim[],
  leaseSeconds: number,
): Promise<Set<number>> {
  if (claims.length === 0) return new Set();
  const held = await rows(
    db.fork(),
    sql<{ id: number }>`
    update replica_checks c set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
    from unnest(${claims.map((c) => c.checkId)}::bigint[], ${claims.map((c) => c.attempt)}::integer[]) as t (id, attempt)
    where c.id = t.id and c.attempt = t.attempt and c.status = 'RUNNING' returning c.id`,
  );
  return new Set(held.map((row) => row.id));
}

/**
 * A copy was read and is what was registered: it is AVAILABLE, its file is lost no more, and with the last
 * lost file of a dataset the mark goes. The answer must have been judged; the database compares it again.
 */
export async function recordGood(db: Db, claim: CheckClaim, answer: StoreAnswer): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await lockDatasetsOf(tx, claim.fileId);
    await finish(tx, claim, 'GOOD', answer, undefined);
    await rows(
      tx,
      sql`update replicas set status = 'AVAILABLE', incident_id = null
        where id = ${claim.replicaId} and status = 'STAGING'`,
    );
    await rows(
      tx,
      sql`update incident_items set is_lost = false,
          status = case when replica_id is not null and status = 'HIT' then 'RESTORED' else status end,
          restored_at = case when replica_id is not null and status = 'HIT' then clock_timestamp() else restored_at end
        where file_id = ${claim.fileId} and (is_lost or (status = 'HIT' and replica_id is not null))`,
    );
  });
}

/**
 * A copy was read and is something else. A copy that was STAGING is LOST; one that was AVAILABLE is left to
 * the caller, who reports it. Returns its state.
 */
export async function recordBad(
  db: Db,
  claim: CheckClaim,
  answer: StoreAnswer,
  error: SweepbookError,
): Promise<'LOST' | 'AVAILABLE'> {
  return inTransaction(db, { principal: claim.worker, reason: error.message }, async (tx) => {
    await finish(tx, claim, 'BAD', answer, error);
    return giveUp(tx, claim.replicaId);
  });
}

/** Before items and incidents, as who reports a loss locks them. */
export async function lockDatasetsOf(tx: Db, fileId: number): Promise<void> {
  await rows(
    tx,
    sql`select 1 from datasets d where d.id in (select dataset_id from dataset_files where file_id = ${fileId})
      order by d.id for no key update`,
  );
}

async function finish(
  tx: Db,
  claim: CheckClaim,
  status: 'GOOD' | 'BAD',
  answer: StoreAnswer,
  error: SweepbookError | undefined,
): Promise<void> {
  const changed = await changedRows(
    tx,
    sql`update replica_checks set status = ${status}, answered_attempt = ${claim.attempt}, lease_until = null,
        read_size_bytes = ${answer.sizeBytes ?? null}, read_adler32 = ${answer.adler32 ?? null},
        read_sha256 = ${answer.sha256 ?? null}, evidence = ${JSON.stringify(keptEvidence(answer.evidence))}::jsonb,
        last_error_code = ${error?.code ?? null}, last_error = ${error?.message.slice(0, longestError) ?? null}
      where id = ${claim.checkId} and attempt = ${claim.attempt} and status = 'RUNNING' returning id`,
  );
  if (changed === 1) return;
  throw new SweepbookError(
    'LEASE_LOST',
    `${claim.path}: attempt ${claim.attempt} was too slow and has been overtaken; its result is thrown away`,
    { checkId: claim.checkId, attempt: claim.attempt },
  );
}

async function giveUp(tx: Db, replicaId: number): Promise<'LOST' | 'AVAILABLE'> {
  await rows(
    tx,
    sql`update replicas set status = 'LOST' where id = ${replicaId} and status = 'STAGING'`,
  );
  const row = await firstRow(
    tx,
    sql<{ status: string }>`select status from replicas where id = ${replicaId}`,
  );
  return row?.status === 'AVAILABLE' ? 'AVAILABLE' : 'LOST';
}

const longestError = 2000;
const longestDelayMs = 600_000;
/** What one worker cannot read, another may: a few tries, then it is told. */
const attemptLimit = 3;
/** Another try with the same disk helps nothing. */
const hopeless = new Set(['DUPLICATE', 'FORBIDDEN']);

export interface CheckFailure {
  readonly code: string;
  readonly message: string;
  readonly evidence?: Evidence | undefined;
  /** Nobody's fault (the worker is being stopped): does not count, and is tried again at once. */
  readonly isInnocent?: boolean;
}

/** Nothing could be read: tried again with backoff, or FAILED with the reason; nothing if the lease is lost. */
export async function failCheck(
  db: Db,
  claim: CheckClaim,
  failure: CheckFailure,
  retryBaseMs: number,
): Promise<'REQUESTED' | 'FAILED' | 'LEASE_LOST'> {
  const message = failure.message.slice(0, longestError);
  return inTransaction(db, { principal: claim.worker, reason: message }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{ failureCount: number; copyCount: number }>`
      select c.failure_count + ${failure.isInnocent ? 0 : 1} as "failureCount",
        (select count(*) from backup_records b where b.file_id = c.file_id and b.status = 'CONFIRMED') as "copyCount"
      from replica_checks c where id = ${claim.checkId} and attempt = ${claim.attempt} and status = 'RUNNING' for update`,
    );
    if (!row) return 'LEASE_LOST';
    const isOver =
      !failure.isInnocent &&
      (row.failureCount >= Math.max(attemptLimit, row.copyCount) || hopeless.has(failure.code));
    const delayMs = failure.isInnocent
      ? 0
      : nextDelayMs(row.failureCount, { baseMs: retryBaseMs, maxMs: longestDelayMs });
    await rows(
      tx,
      sql`update replica_checks set status = ${isOver ? 'FAILED' : 'REQUESTED'}, answered_attempt = ${claim.attempt},
          failure_count = ${row.failureCount}, last_error_code = ${failure.code}, last_error = ${message},
          evidence = ${failure.evidence ? JSON.stringify(keptEvidence(failure.evidence)) : null}::jsonb,
          next_attempt_at = ${new Date(Date.now() + delayMs)}, worker = null, lease_until = null
        where id = ${claim.checkId}`,
    );
    if (isOver) await giveUp(tx, claim.replicaId);
    return isOver ? 'FAILED' : 'REQUESTED';
  });
}
