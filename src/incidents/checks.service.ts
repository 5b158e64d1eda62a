import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { filesByLfn } from '../files/files.service.ts';
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
  /** Confirmed copies, where a restaged file comes from. */
  readonly copies: readonly { readonly storeId: number; readonly key: string }[];
}

interface ClaimedRow extends Omit<CheckClaim, 'worker' | 'expected'> {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
}

/** Takes checks that wait, and those whose worker fell silent; no two workers the same one. */
export async function claimChecks(
  db: Db,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<CheckClaim[]> {
  const claimed = await inTransaction(db, { principal: worker }, (tx) =>
    rows(
      tx,
      sql<ClaimedRow>`
      with mine as (
        select id from replica_checks
        where (status = 'REQUESTED' and next_attempt_at <= clock_timestamp())
          or (status = 'RUNNING' and lease_until < clock_timestamp())
        order by id limit ${most} for update skip locked)
      update replica_checks c set status = 'RUNNING', attempt = c.attempt + 1, worker = ${worker},
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      from mine, replicas p, files f
      where c.id = mine.id and p.id = c.replica_id and f.id = c.file_id
      returning c.id as "checkId", c.attempt, c.replica_id as "replicaId", c.file_id as "fileId", f.lfn, p.path,
        c.is_restage as "isRestage", f.size_bytes as "sizeBytes", f.adler32, f.sha256,
        coalesce((select json_agg(json_build_object('storeId', b.store_id, 'key', b.store_key) order by b.id)
          from backup_records b where b.file_id = f.id and b.status = 'CONFIRMED'), '[]') as copies`,
    ),
  );
  return claimed.map(({ sizeBytes, adler32, sha256, ...row }) => ({
    ...row,
    worker,
    expected: { sizeBytes, adler32, sha256 },
  }));
}

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

async function lockDatasetsOf(tx: Db, fileId: number): Promise<void> {
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
      sql<{ failureCount: number }>`
      select failure_count + ${failure.isInnocent ? 0 : 1} as "failureCount" from replica_checks
      where id = ${claim.checkId} and attempt = ${claim.attempt} and status = 'RUNNING' for update`,
    );
    if (!row) return 'LEASE_LOST';
    const isOver =
      !failure.isInnocent && (row.failureCount >= attemptLimit || hopeless.has(failure.code));
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

export interface ReplicaPlace {
  readonly lfn: string;
  readonly path: string;
  readonly volume?: string | null | undefined;
  readonly site?: string | null | undefined;
}

/**
 * Tells that a copy of a file is on disk (again): a worker reads it before it counts. A copy that is AVAILABLE
 * is read again and stays so meanwhile. Asked for twice while it waits is asked for once.
 */
export async function confirmReplica(
  db: Db,
  viewer: Viewer,
  input: ReplicaPlace,
  defaultSite: string,
): Promise<{ checkId: number; changed: boolean }> {
  demand(viewer, 'confirmReplica');
  if (
    !input.path.startsWith('/') ||
    input.path.includes('\0') ||
    Buffer.byteLength(input.path) > 4096
  ) {
    throw badInput('path', input.path, 'an absolute path of at most 4096 bytes');
  }
  return inTransaction(db, viewer, async (tx) => {
    const [file] = await filesByLfn(tx, [input.lfn]);
    if (!file) throw new Error('filesByLfn found nothing and said nothing');
    const replicaId =
      (await replicaAt(tx, file.id, input)) ?? (await newReplica(tx, file.id, input, defaultSite));
    await rows(
      tx,
      sql`update replicas set status = 'STAGING' where id = ${replicaId} and status = 'LOST'`,
    );
    const made = await firstRow(
      tx,
      sql<{
        id: number;
      }>`insert into replica_checks (replica_id, file_id) values (${replicaId}, ${file.id})
        on conflict do nothing returning id`,
    );
    const check = await firstRow(
      tx,
      sql<{ id: number; isNew: boolean }>`
      select id, xmin = pg_current_xact_id()::xid as "isNew" from replica_checks
      where replica_id = ${replicaId} order by id desc limit 1`,
    );
    if (!check) throw new Error(`no check of replica ${replicaId}`);
    return { checkId: check.id, changed: made !== undefined || check.isNew };
  });
}

async function replicaAt(tx: Db, fileId: number, input: ReplicaPlace): Promise<number | undefined> {
  const found = await rows(
    tx,
    sql<{ id: number; volume: string }>`
    select p.id, v.name as volume from replicas p join volumes v on v.id = p.volume_id join sites s on s.id = v.site_id
    where p.file_id = ${fileId} and p.path = ${input.path}
      and ${input.volume == null ? sql`true` : sql`v.name = ${input.volume}`}
      and ${input.site == null ? sql`true` : sql`s.name = ${input.site}`} order by p.id limit 2 for no key update of p`,
  );
  if (found.length > 1) {
    throw badInput(
      'volume',
      null,
      `${input.path} is registered on ${found.map((r) => r.volume).join(' and ')}: say which`,
    );
  }
  return found[0]?.id;
}

async function newReplica(
  tx: Db,
  fileId: number,
  input: ReplicaPlace,
  defaultSite: string,
): Promise<number> {
  const site = input.site ?? defaultSite;
  const known = await firstRow(tx, sql<{ id: number }>`select id from sites where name = ${site}`);
  if (!known) {
    throw new SweepbookError('NOT_FOUND', `site ${site} is not known here`, {
      field: 'site',
      value: site,
    });
  }
  const volume = input.volume ?? 'default';
  if (volume === '' || volume.length > 200 || volume.includes('\0')) {
    throw badInput('volume', volume, '1 to 200 printable characters');
  }
  await rows(
    tx,
    sql`insert into volumes (site_id, name) values (${known.id}, ${volume}) on conflict do nothing`,
  );
  const made = await firstRow(
    tx,
    sql<{ id: number }>`
    insert into replicas (file_id, volume_id, path, status)
    select ${fileId}::bigint, v.id, ${input.path}::text, 'STAGING' from volumes v
    where v.site_id = ${known.id} and v.name = ${volume} returning id`,
  );
  if (!made) throw new Error(`no replica at ${input.path}`);
  return made.id;
}
