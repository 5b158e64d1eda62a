import { requestOwed } from '../backups/owed-copies.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { registerInTransaction } from '../files/files.service.ts';
import { keepIncoming } from '../files/incoming-copies.service.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import type { Expected } from '../storage/contract.ts';
import { afterFailure, isPassingFault } from './imports.rules.ts';

/** A file that a worker fetches; `attempt` is the fence, as with backups. */
export interface FetchClaim {
  readonly id: number;
  readonly importId: number;
  readonly attempt: number;
  readonly worker: string;
  readonly sourceSite: string;
  readonly lfn: string;
  readonly expected: Expected;
  readonly urls: readonly string[];
  /** An earlier attempt has put it there. */
  readonly isBrought: boolean;
}

interface ClaimedRow extends Omit<FetchClaim, 'worker' | 'expected'> {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
}

/** Takes files that wait, and those whose worker fell silent; no two workers the same one. */
export async function claimFetches(
  db: Db,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<FetchClaim[]> {
  const claimed = await rows(
    db.fork(),
    sql<ClaimedRow>`
    with due as materialized (
      select x.id, i.source_site from import_files x join imports i on i.id = x.import_id and i.status = 'RUNNING'
      where (x.status = 'WAITING' and x.next_attempt_at <= clock_timestamp())
        or (x.status = 'FETCHING' and x.lease_until < clock_timestamp())
      order by x.next_attempt_at, x.id limit ${most} for update of x skip locked)
    update import_files x set status = 'FETCHING', attempt = x.attempt + 1, worker = ${worker},
      lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
    from due where x.id = due.id
    returning x.id, x.import_id as "importId", x.attempt, due.source_site as "sourceSite", x.lfn,
      x.size_bytes as "sizeBytes", x.adler32, x.sha256, x.urls, x.is_brought as "isBrought"`,
  );
  return claimed.map(({ sizeBytes, adler32, sha256, ...row }) => ({
    ...row,
    worker,
    expected: { sizeBytes, adler32, sha256 },
  }));
}

/** Says that these fetches are alive, and how far; returns those that are still wanted. */
export async function renewFetches(
  db: Db,
  held: readonly { claim: FetchClaim; bytes: number }[],
  leaseSeconds: number,
): Promise<Set<number>> {
  if (held.length === 0) return new Set();
  const alive = await rows(
    db.fork(),
    sql<{ id: number }>`
    update import_files x set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}),
      fetched_bytes = greatest(x.fetched_bytes, t.bytes)
    from unnest(${held.map((h) => h.claim.id)}::bigint[], ${held.map((h) => h.claim.attempt)}::integer[],
      ${held.map((h) => h.bytes)}::bigint[]) as t (id, attempt, bytes), imports i
    where x.id = t.id and x.attempt = t.attempt and x.status = 'FETCHING' and i.id = x.import_id
      and i.status = 'RUNNING' returning x.id`,
  );
  return new Set(alive.map((row) => row.id));
}

const lost = (claim: FetchClaim) =>
  new SweepbookError(
    'LEASE_LOST',
    `${claim.lfn}: attempt ${claim.attempt} was too slow and has been overtaken, or its import was called off`,
    { id: claim.id, attempt: claim.attempt },
  );

/** Before the file gets its name on disk: whoever cleans up knows that it is ours. LEASE_LOST. */
export async function announcePlacing(db: Db, claim: FetchClaim, path: string): Promise<void> {
  const changed = await changedRows(
    db.fork(),
    sql`update import_files x set path = ${path}, is_brought = true from imports i
      where x.id = ${claim.id} and x.attempt = ${claim.attempt} and x.status = 'FETCHING'
        and i.id = x.import_id and i.status = 'RUNNING' returning x.id`,
  );
  if (changed !== 1) throw lost(claim);
}

export interface Brought {
  readonly path: string;
  readonly volume: string;
  readonly site: string;
  readonly from: string | null;
}

interface StagedFile {
  readonly importId: number;
  readonly storeId: number;
  readonly requestedBy: string;
  readonly eventCount: number | null;
  readonly stream: string | null;
  readonly release: string | null;
  readonly site: string;
  readonly parents: string[];
}

/**
 * The file is here and is what the manifest told: it is registered, without its runs, so that nobody sees it before its
 * dataset; and its backup is asked for. One transaction, by the holder of the attempt only (LEASE_LOST).
 */
export async function recordBrought(
  db: Db,
  jobs: JobQueue,
  claim: FetchClaim,
  brought: Brought,
): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<StagedFile>`
      select x.import_id as "importId", i.store_id as "storeId", i.requested_by as "requestedBy",
        x.event_count as "eventCount", x.stream, x.release, x.site, x.parents
      from import_files x join imports i on i.id = x.import_id and i.status = 'RUNNING'
      where x.id = ${claim.id} and x.attempt = ${claim.attempt} and x.status = 'FETCHING' for update of x`,
    );
    if (!row) throw lost(claim);
    const fileId = await registerBare(tx, claim, row);
    await keepIncoming(tx, fileId, brought);
    await requestOwed(tx, jobs, [fileId], row.storeId);
    await rows(
      tx,
      sql`update import_files x set file_id = ${fileId}, fetched_at = clock_timestamp(), path = ${brought.path},
          fetched_from = coalesce(${brought.from}, x.fetched_from), fetched_bytes = x.size_bytes, lease_until = null,
          worker = null, failure_count = 0, silent_since = null, last_error = null, last_error_code = null,
          status = case when f.missing_copies = 0 then 'SAFE' else 'BACKING_UP' end
        from files f where x.id = ${claim.id} and f.id = ${fileId}`,
    );
  });
}

async function registerBare(tx: Db, claim: FetchClaim, row: StagedFile): Promise<number> {
  const { stream, release, site, eventCount } = row;
  const parents = await rows(
    tx,
    sql<{
      lfn: string;
    }>`select lfn from files where lfn = any (${row.parents}::text[]) and lfn <> ${claim.lfn}`,
  );
  const known = await firstRow(tx, sql`select 1 from files where lfn = ${claim.lfn}`);
  const [outcome] = await registerInTransaction(
    tx,
    [
      {
        lfn: claim.lfn,
        kind: 'MERGED_FILE',
        ...claim.expected,
        stream,
        release,
        site,
        eventCount,
        // Told when a file is registered, and never later; of those that are known here.
        parents: known ? null : parents.map((parent) => parent.lfn),
      },
    ],
    site,
  );
  if (outcome?.fileId !== undefined) return outcome.fileId;
  const { code, message } = outcome?.error ?? { code: 'INTERNAL' as const, message: claim.lfn };
  throw new SweepbookError(code, message, { lfn: claim.lfn });
}

export interface FetchFailure {
  readonly code: string;
  readonly message: string;
  /** Nobody's fault (the worker is being stopped): does not count, and is tried again at once. */
  readonly isInnocent?: boolean;
}

const longestDelayMs = 300_000;
const longestError = 2000;

/** It could not be fetched: tried again with backoff, or FAILED with the reason; nothing if the lease is lost. */
export async function failFetch(
  db: Db,
  claim: FetchClaim,
  failure: FetchFailure,
  retryBaseMs: number,
): Promise<'WAITING' | 'FAILED' | 'LEASE_LOST'> {
  const message = failure.message.slice(0, longestError);
  return inTransaction(db, { principal: claim.worker, reason: message }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{ failureCount: number; silentSince: Date | null }>`
      select failure_count as "failureCount", silent_since as "silentSince" from import_files
      where id = ${claim.id} and attempt = ${claim.attempt} and status = 'FETCHING' for update`,
    );
    if (!row) return 'LEASE_LOST';
    const { code, isInnocent } = failure;
    const passes = isPassingFault(code);
    // A source that was away for long starts anew when it answers again, however badly.
    const before = row.silentSince && !passes && !isInnocent ? 0 : row.failureCount;
    const failureCount = before + (isInnocent ? 0 : 1);
    const silentSince = passes && !isInnocent ? (row.silentSince ?? new Date()) : null;
    const silentMs = silentSince ? Date.now() - silentSince.getTime() : 0;
    const next = isInnocent ? 'WAITING' : afterFailure({ errorCode: code, failureCount, silentMs });
    const delayMs = isInnocent
      ? 0
      : nextDelayMs(failureCount, { baseMs: retryBaseMs, maxMs: longestDelayMs });
    await rows(
      tx,
      sql`update import_files set status = ${next}, failure_count = ${failureCount}, silent_since = ${silentSince},
          last_error_code = ${code}, last_error = ${message}, next_attempt_at = ${new Date(Date.now() + delayMs)},
          worker = null, lease_until = null where id = ${claim.id}`,
    );
    return next;
  });
}
