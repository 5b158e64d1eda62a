import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import {
  keptEvidence,
  type ConfirmLevel,
  type Evidence,
  type Expected,
  type StoreAnswer,
} from '../storage/contract.ts';
import { afterFailure, type StorePolicy } from './backups.rules.ts';

/** An attempt at a backup that somebody holds; `attempt` is the fence. */
export interface Claim {
  readonly backupId: number;
  readonly attempt: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly expected: Expected;
  readonly storeId: number;
  readonly worker: string;
  /** Keys under which its store lost it before. */
  readonly lostKeys: readonly string[];
  /** What its store asks for, at the time of the claim. */
  readonly policy: StorePolicy;
}

export type ClaimAnswer =
  | {
      readonly kind: 'claimed';
      readonly claim: Claim;
      readonly sources: readonly string[];
      /** Confirmed copies in other stores, to copy from when no disk has the file. */
      readonly copies: readonly StoredCopy[];
    }
  /** Not now: somebody holds it, or its time has not come. */
  | { readonly kind: 'later'; readonly at: Date }
  | { readonly kind: 'nothing to do' };

export interface StoredCopy {
  readonly storeId: number;
  readonly key: string;
}

interface ClaimedRow {
  readonly attempt: number;
  readonly fileId: number;
  readonly storeId: number;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly confirmLevel: ConfirmLevel;
  readonly isTrusted: boolean;
  readonly lostKeys: string[];
}

/** Takes a backup for one attempt; `atOnce` does not wait for the time of the next attempt. */
export async function claimBackup(
  db: Db,
  backupId: number,
  worker: string,
  leaseSeconds: number,
  atOnce = false,
): Promise<ClaimAnswer> {
  return inTransaction(db, { principal: worker }, async (tx) => {
    if (!atOnce && !(await hasSlot(tx, backupId))) {
      return { kind: 'later', at: new Date(Date.now() + fullStoreWaitMs) };
    }
    const row = await firstRow(
      tx,
      sql<ClaimedRow>`
      update backup_records b set status = 'COPYING', attempt = b.attempt + 1, worker = ${worker},
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      from files f, mass_stores s
      where b.id = ${backupId} and f.id = b.file_id and s.id = b.store_id and (
        (b.status = 'REQUESTED' and (${atOnce} or b.next_attempt_at <= clock_timestamp()))
        or (b.status in ('COPYING', 'COPIED') and b.lease_until < clock_timestamp()))
      returning b.attempt, b.file_id as "fileId", b.store_id as "storeId", f.lfn, f.size_bytes as "sizeBytes",
        f.adler32, f.sha256, s.confirm_level as "confirmLevel", s.is_trusted as "isTrusted", b.lost_keys as "lostKeys"`,
    );
    if (!row) return whenNext(tx, backupId);
    const { sizeBytes, adler32, sha256, confirmLevel, isTrusted, ...rest } = row;
    const claim = {
      backupId,
      worker,
      ...rest,
      expected: { sizeBytes, adler32, sha256 },
      policy: { confirmLevel, isTrusted },
    };
    const sources = await sourcesOf(tx, row.fileId);
    return { kind: 'claimed', claim, sources, copies: await copiesOf(tx, row.fileId) };
  });
}

/** A store that takes no more copies at once is tried again after this. */
const fullStoreWaitMs = 1000;
/** Held by who claims: places are counted one claim at a time, over all workers. */
export const claimLock = 77_340;

/** Whether the record's store takes one more copy; counted one claim at a time, over all workers. */
async function hasSlot(tx: Db, backupId: number): Promise<boolean> {
  const store = await firstRow(
    tx,
    sql<{ id: number }>`select store_id as id from backup_records where id = ${backupId}`,
  );
  if (!store) return true;
  await rows(tx, sql`select pg_advisory_xact_lock(${claimLock}, ${store.id})`);
  return (await freeSlots(tx, store.id)) > 0;
}

/** How many more copies a store takes, or gives back to disk, at once. */
export async function freeSlots(db: Db, storeId: number): Promise<number> {
  const row = await firstRow(
    db,
    sql<{ n: number }>`
    select s.concurrency - copies_under_way(s.id) as n from mass_stores s where s.id = ${storeId}`,
  );
  return row?.n ?? 0;
}

async function whenNext(tx: Db, backupId: number): Promise<ClaimAnswer> {
  const row = await firstRow(
    tx,
    sql<{ at: Date }>`
    select case status when 'REQUESTED' then next_attempt_at else lease_until end as at
    from backup_records
    where id = ${backupId} and status in ('REQUESTED', 'COPYING', 'COPIED') and awaits_tape_since is null`,
  );
  return row ? { kind: 'later', at: row.at } : { kind: 'nothing to do' };
}

async function sourcesOf(tx: Db, fileId: number): Promise<string[]> {
  const found = await rows(
    tx,
    sql<{ path: string }>`
    (select path from incoming_copies where file_id = ${fileId})
    union all
    (select path from replicas where file_id = ${fileId} and status = 'AVAILABLE' order by id desc limit 20)`,
  );
  return found.map((row) => row.path);
}

async function copiesOf(tx: Db, fileId: number): Promise<StoredCopy[]> {
  return rows(
    tx,
    sql<StoredCopy>`
    select store_id as "storeId", store_key as key from backup_records
    where file_id = ${fileId} and status = 'CONFIRMED' order by id`,
  );
}

export function leaseLost(claim: Claim): SweepbookError {
  return new SweepbookError(
    'LEASE_LOST',
    `${claim.lfn}: attempt ${claim.attempt} was too slow and has been overtaken; its result is thrown away`,
    { backupId: claim.backupId, attempt: claim.attempt },
  );
}

/** COPYING → COPIED, by the holder of the attempt only (LEASE_LOST). */
export async function recordCopied(
  db: Db,
  claim: Claim,
  storeKey: string,
  leaseSeconds: number,
): Promise<void> {
  const changed = await inTransaction(db, { principal: claim.worker }, (tx) =>
    copiedInTransaction(tx, claim, storeKey, leaseSeconds),
  );
  if (changed !== 1) throw leaseLost(claim);
}

export async function copiedInTransaction(
  tx: Db,
  claim: Claim,
  storeKey: string,
  leaseSeconds: number,
): Promise<number> {
  return changedRows(
    tx,
    sql`update backup_records set status = 'COPIED', answered_attempt = ${claim.attempt}, store_key = ${storeKey},
        copied_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      where id = ${claim.backupId} and attempt = ${claim.attempt} and status = 'COPYING' returning id`,
  );
}

/** COPIED → CONFIRMED with what the store answered, in the transaction that also moves the sweeps on. */
export async function confirmedInTransaction(
  tx: Db,
  claim: Claim,
  storeKey: string,
  answer: StoreAnswer,
  level: ConfirmLevel,
): Promise<void> {
  const changed = await changedRows(
    tx,
    sql`update backup_records set status = 'CONFIRMED', answered_attempt = ${claim.attempt}, store_key = ${storeKey},
        stored_size_bytes = ${answer.sizeBytes ?? null}, stored_adler32 = ${answer.adler32 ?? null},
        stored_sha256 = ${answer.sha256 ?? null}, evidence = ${JSON.stringify(keptEvidence(answer.evidence))}::jsonb,
        confirm_level = ${level}, awaits_tape_since = null, next_look_at = null,
        confirmed_at = clock_timestamp(), last_error = null, last_error_code = null, lease_until = null
      where id = ${claim.backupId} and attempt = ${claim.attempt} and status = 'COPIED' returning id`,
  );
  if (changed !== 1) throw leaseLost(claim);
}

export interface AttemptFailure {
  readonly code: string;
  readonly message: string;
  readonly evidence?: Evidence | undefined;
  /** Whatever is left of attempts, this one was the last. */
  readonly isFinal?: boolean;
  /** Nobody's fault (the worker is being stopped): does not count, and is tried again at once. */
  readonly isInnocent?: boolean;
}

const longestError = 2000;

/** The attempt failed: asked for again after a while (as its store says, if it does), or FAILED with the reason; nothing if the lease is lost. */
export async function failAttempt(
  db: Db,
  jobs: JobQueue,
  claim: Claim,
  failure: AttemptFailure,
  retryBaseMs: number,
): Promise<'REQUESTED' | 'FAILED' | 'LEASE_LOST'> {
  await jobs.prepare(claim.storeId);
  const message = failure.message.slice(0, longestError);
  return inTransaction(db, { principal: claim.worker, reason: message }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{
        failureCount: number;
        attemptLimit: number;
        baseMs: number;
        maxMs: number;
        factor: number;
      }>`
      select b.failure_count + 1 as "failureCount", s.attempt_limit as "attemptLimit",
        coalesce(s.retry_first_ms, ${retryBaseMs}::integer) as "baseMs", s.retry_longest_ms as "maxMs", s.retry_factor as factor
      from backup_records b join mass_stores s on s.id = b.store_id
      where b.id = ${claim.backupId} and b.attempt = ${claim.attempt} and b.status in ('COPYING', 'COPIED')
      for update of b`,
    );
    if (!row) return 'LEASE_LOST';
    const next = nextStatus(failure, row);
    const delayMs = failure.isInnocent ? 0 : nextDelayMs(row.failureCount, row);
    const nextAt = new Date(Date.now() + delayMs);
    await rows(
      tx,
      sql`update backup_records set status = ${next}, answered_attempt = ${claim.attempt},
          failure_count = ${row.failureCount - (failure.isInnocent ? 1 : 0)}, last_error_code = ${failure.code}, last_error = ${message},
          evidence = ${failure.evidence ? JSON.stringify(keptEvidence(failure.evidence)) : null}::jsonb,
          next_attempt_at = ${nextAt}, worker = null, lease_until = null, awaits_tape_since = null,
          next_look_at = null, look_count = 0
        where id = ${claim.backupId}`,
    );
    if (next === 'REQUESTED') await jobs.enqueue(tx, claim.storeId, [claim.backupId], nextAt);
    return next;
  });
}

function nextStatus(
  failure: AttemptFailure,
  row: { failureCount: number; attemptLimit: number },
): 'REQUESTED' | 'FAILED' {
  if (failure.isInnocent) return 'REQUESTED';
  return failure.isFinal ? 'FAILED' : afterFailure({ errorCode: failure.code, ...row });
}

/** Says that these attempts are alive; returns those that are still held. */
export async function renewLeases(
  db: Db,
  claims: readonly Claim[],
  leaseSeconds: number,
): Promise<Set<number>> {
  if (claims.length === 0) return new Set();
  const held = await rows(
    db.fork(),
    sql<{ id: number }>`
    update backup_records b set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
    from unnest(${claims.map((c) => c.backupId)}::bigint[], ${claims.map((c) => c.attempt)}::integer[]) as t (id, attempt)
    where b.id = t.id and b.attempt = t.attempt and b.status in ('COPYING', 'COPIED') returning b.id`,
  );
  return new Set(held.map((row) => row.id));
}

/** Asks again for work whose job is gone or whose worker fell silent; asked for twice does no harm. */
export async function reviveForgotten(db: Db, jobs: JobQueue): Promise<number> {
  const forgotten = await rows(
    db.fork(),
    sql<{ id: number; storeId: number }>`
    (select id, store_id as "storeId" from backup_records
      where status in ('COPYING', 'COPIED') and lease_until < clock_timestamp() - interval '2 seconds' limit 1000)
    union all
    (select id, store_id from backup_records
      where status = 'REQUESTED' and next_attempt_at < clock_timestamp() - interval '60 seconds'
      order by next_attempt_at, id limit 1000)`,
  );
  const byStore = Map.groupBy(forgotten, (row) => row.storeId);
  for (const [storeId, records] of byStore) {
    await jobs.enqueue(
      db.fork(),
      storeId,
      records.map((row) => row.id),
    );
  }
  return forgotten.length;
}
