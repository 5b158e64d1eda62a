import { MassStoreEntity } from '../backups/mass-stores.entity.ts';
import type { MassStoreRow } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import { keptEvidence, type Evidence, type Expected } from '../storage/contract.ts';
import type { Witness } from '../storage/disk-copy.ts';
import { loseCopy, type LostCopy } from './losses.ts';
import { afterBlindCheck } from './suspicions.rules.ts';

/** A check that a worker holds; `attempt` is the fence. */
export interface CheckClaim {
  readonly id: number;
  readonly attempt: number;
  readonly worker: string;
  readonly host: string;
  readonly lfn: string;
  readonly place: string;
  readonly expected: Expected;
  readonly copy: LostCopy;
  readonly at: CopyPlace;
}

export type CopyPlace =
  | { readonly kind: 'disk'; readonly path: string; readonly witnesses: readonly Witness[] }
  | { readonly kind: 'store'; readonly store: MassStoreRow; readonly key: string };

interface ClaimedRow {
  readonly id: number;
  readonly attempt: number;
  readonly fileId: number;
  readonly replicaId: number | null;
  readonly backupId: number | null;
  readonly place: string;
}

interface CopyRow extends Expected {
  readonly lfn: string;
  readonly path: string | null;
  readonly volumeId: number | null;
  readonly storeId: number | null;
  readonly key: string | null;
}

export interface CheckWorker {
  readonly worker: string;
  readonly host: string;
  readonly leaseSeconds: number;
}

/**
 * Takes one suspicious copy to read it; undefined = there is none for this host now. A copy that is
 * known as lost by now is not read: its suspicion is OBSOLETE.
 */
export async function claimCheck(db: Db, by: CheckWorker): Promise<CheckClaim | undefined> {
  const { worker, host, leaseSeconds } = by;
  return inTransaction(db, { principal: worker }, async (tx) => {
    for (;;) {
      const row = await firstRow(
        tx,
        sql<ClaimedRow>`
        update suspicions s set state = 'CHECKING', attempt = s.attempt + 1, worker = ${worker},
          lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
        where s.id = (
          select id from suspicions
          where (state = 'SUSPICIOUS' and (next_attempt_at <= clock_timestamp()
              or (cardinality(blind_hosts) > 0 and not ${host} = any (blind_hosts))))
            or (state = 'CHECKING' and lease_until < clock_timestamp())
          order by next_attempt_at, id limit 1 for update skip locked)
        returning s.id, s.attempt, s.file_id as "fileId", s.replica_id as "replicaId", s.backup_id as "backupId", s.place`,
      );
      if (!row) return undefined;
      const found = await readCopy(tx, row);
      const at = found && (await placeOf(tx, row, found));
      if (found && at) {
        const { lfn, sizeBytes, adler32, sha256 } = found;
        const { id, attempt, place, ...copy } = row;
        const expected = { sizeBytes, adler32, sha256 };
        return { id, attempt, worker, host, lfn, place, expected, copy: { ...copy, lfn }, at };
      }
      await rows(
        tx,
        sql`update suspicions set state = 'OBSOLETE', lease_until = null,
          finding = 'the copy is known as lost' where id = ${row.id}`,
      );
    }
  });
}

/** The copy, if it is still thought to be readable. */
async function readCopy(tx: Db, row: ClaimedRow): Promise<CopyRow | undefined> {
  return firstRow(
    tx,
    sql<CopyRow>`
    select f.lfn, f.size_bytes as "sizeBytes", f.adler32, f.sha256, p.path, p.volume_id as "volumeId",
      b.store_id as "storeId", b.store_key as key
    from files f left join replicas p on p.id = ${row.replicaId} and p.status = 'AVAILABLE'
      left join backup_records b on b.id = ${row.backupId} and b.status = 'CONFIRMED'
    where f.id = ${row.fileId} and (p.id is not null or b.id is not null)`,
  );
}

const mostWitnesses = 10;

async function placeOf(tx: Db, row: ClaimedRow, copy: CopyRow): Promise<CopyPlace | undefined> {
  if (copy.path !== null) {
    const witnesses = await rows(
      tx,
      sql<Witness>`
      select p.path, f.size_bytes as "sizeBytes" from replicas p join files f on f.id = p.file_id
      where p.volume_id = ${copy.volumeId} and p.status = 'AVAILABLE' and p.id <> ${row.replicaId}
        and p.path <> ${copy.path}
      order by p.id desc limit ${mostWitnesses}`,
    );
    return { kind: 'disk', path: copy.path, witnesses };
  }
  const store = await tx.findOne(
    MassStoreEntity,
    { id: copy.storeId ?? 0 },
    { populate: ['site'] },
  );
  return store && copy.key !== null ? { kind: 'store', store, key: copy.key } : undefined;
}

/** Says that the check is alive; false = it has been overtaken. */
export async function renewCheck(
  db: Db,
  claim: CheckClaim,
  leaseSeconds: number,
): Promise<boolean> {
  const held = await changedRows(
    db.fork(),
    sql`update suspicions set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      where id = ${claim.id} and attempt = ${claim.attempt} and state = 'CHECKING' returning id`,
  );
  return held === 1;
}

/** What reading a copy came to. */
export type Finding =
  | { readonly kind: 'GOOD' | 'BAD'; readonly says: string; readonly evidence: Evidence }
  /** Neither: it cannot be read from this host, or nobody can tell. */
  | { readonly kind: 'BLIND'; readonly says: string };

const longestFinding = 2000;
const longestDelayMs = 600_000;

export interface Settled {
  readonly state: 'CHECKED_GOOD' | 'BAD' | 'SUSPICIOUS' | 'UNREADABLE_FROM_HERE' | 'LEASE_LOST';
  /** Names of the datasets that were marked bad because of it. */
  readonly markedBad: readonly string[];
}

/**
 * Writes down what reading the copy came to, in one transaction: a good one closes the reports with
 * that answer; a bad one is LOST, and the datasets that nothing else holds are marked bad.
 */
export async function settleCheck(
  db: Db,
  claim: CheckClaim,
  finding: Finding,
  retryBaseMs: number,
): Promise<Settled> {
  const says = finding.says.slice(0, longestFinding);
  return inTransaction(db, { principal: claim.worker, reason: says }, async (tx) => {
    if (finding.kind === 'BLIND') return settleBlind(tx, claim, says, retryBaseMs);
    const state = finding.kind === 'GOOD' ? 'CHECKED_GOOD' : 'BAD';
    const evidence = keptEvidence(finding.evidence);
    const changed = await changedRows(
      tx,
      sql`update suspicions set state = ${state}, checked_at = clock_timestamp(), finding = ${says},
          evidence = ${JSON.stringify(evidence)}::jsonb, lease_until = null
        where id = ${claim.id} and attempt = ${claim.attempt} and state = 'CHECKING' returning id`,
    );
    if (changed !== 1) return { state: 'LEASE_LOST', markedBad: [] };
    const storeId = claim.at.kind === 'store' ? claim.at.store.id : null;
    const markedBad = finding.kind === 'BAD' ? await loseCopy(tx, claim.copy, storeId, says) : [];
    return { state, markedBad };
  });
}

async function settleBlind(
  tx: Db,
  claim: CheckClaim,
  says: string,
  retryBaseMs: number,
): Promise<Settled> {
  const row = await firstRow(
    tx,
    sql<{ blindHosts: string[] }>`
    select blind_hosts || ${claim.host}::text as "blindHosts" from suspicions
    where id = ${claim.id} and attempt = ${claim.attempt} and state = 'CHECKING' for update`,
  );
  if (!row) return { state: 'LEASE_LOST', markedBad: [] };
  const { blindHosts } = row;
  const isOver = afterBlindCheck(claim.host, blindHosts) === 'give up';
  const state = isOver ? 'UNREADABLE_FROM_HERE' : 'SUSPICIOUS';
  const waitMs = nextDelayMs(blindHosts.length, { baseMs: retryBaseMs, maxMs: longestDelayMs });
  await rows(
    tx,
    sql`update suspicions set state = ${state}, blind_hosts = ${blindHosts}::text[], finding = ${says},
        checked_at = case when ${isOver} then clock_timestamp() end, lease_until = null,
        next_attempt_at = clock_timestamp() + make_interval(secs => ${waitMs / 1000})
      where id = ${claim.id}`,
  );
  return { state, markedBad: [] };
}

/** The worker is being stopped: another one takes it at once, and nothing is counted. */
export async function giveBackCheck(db: Db, claim: CheckClaim): Promise<void> {
  await inTransaction(db, { principal: claim.worker, reason: 'the worker was stopped' }, (tx) =>
    rows(
      tx,
      sql`update suspicions set state = 'SUSPICIOUS', lease_until = null, next_attempt_at = clock_timestamp()
        where id = ${claim.id} and attempt = ${claim.attempt} and state = 'CHECKING'`,
    ),
  );
}

export function checkOvertaken(claim: CheckClaim): SweepbookError {
  return new SweepbookError(
    'LEASE_LOST',
    `check of ${claim.lfn} at ${claim.place}: attempt ${claim.attempt} was too slow and has been overtaken`,
    { suspicionId: claim.id, attempt: claim.attempt },
  );
}
