import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { keptEvidence, type Expected, type StoredFile } from '../storage/contract.ts';
import type { AuditClaim } from './audits.service.ts';
import type { Finding } from './checks.service.ts';

/** A confirmed copy to be read back. */
export interface CopyToRead {
  readonly backupId: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly key: string;
  /** As PostgreSQL writes it: to the microsecond. */
  readonly confirmedAt: string;
  readonly expected: Expected;
}

interface CopyRow extends Omit<CopyToRead, 'expected'>, Expected {}

const toRead = ({ sizeBytes, adler32, sha256, ...rest }: CopyRow): CopyToRead => ({
  ...rest,
  expected: { sizeBytes, adler32, sha256 },
});

const copyColumns = sql`b.id as "backupId", b.file_id as "fileId", f.lfn, b.store_key as key,
  b.confirmed_at::text as "confirmedAt", f.size_bytes as "sizeBytes", f.adler32, f.sha256`;

/** The next copy of a reading: what was confirmed longest ago comes first. */
export async function nextToRead(db: Db, claim: AuditClaim): Promise<CopyToRead | undefined> {
  const row = await firstRow(
    db.fork(),
    sql<CopyRow>`
    select ${copyColumns} from audits a
    join backup_records b on b.store_id = a.store_id and b.status = 'CONFIRMED'
      and (b.confirmed_at, b.id) > (a.after_at, a.after_id) and b.confirmed_at < a.started_at
    join files f on f.id = b.file_id
    where a.id = ${claim.id} order by b.confirmed_at, b.id limit 1`,
  );
  return row && toRead(row);
}

const overtaken = (claim: AuditClaim) =>
  new SweepbookError('LEASE_LOST', `audit ${claim.id} was taken over by another worker`, {});

/** What reading a copy came to, and where the audit goes on; in one transaction, by the holder only (LEASE_LOST). */
export async function recordReading(
  db: Db,
  claim: AuditClaim,
  copy: CopyToRead,
  finding: Finding,
  isNext: boolean,
): Promise<void> {
  const { backupId, key, confirmedAt, expected } = copy;
  const isBad = finding.kind === 'BAD';
  const isBlind = finding.kind === 'BLIND';
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    const held = await changedRows(
      tx,
      sql`update audits set
          after_at = case when ${isNext} then ${confirmedAt}::timestamptz else after_at end,
          after_id = case when ${isNext} then ${backupId} else after_id end,
          looked_count = looked_count + ${isNext ? 1 : 0}, looked_bytes = looked_bytes + ${isNext ? expected.sizeBytes : 0},
          wrong_count = wrong_count + ${isBad ? 1 : 0}, unreadable_count = unreadable_count + ${isBlind ? 1 : 0}
        where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING' returning id`,
    );
    if (held !== 1) throw overtaken(claim);
    if (!isBad && !isBlind) return;
    const evidence = isBlind ? null : JSON.stringify(keptEvidence(finding.evidence));
    await rows(
      tx,
      sql`insert into audit_findings (audit_id, backup_id, store_key, what, says, evidence)
        values (${claim.id}, ${backupId}, ${key}, ${isBad ? 'BAD' : 'UNREADABLE'}, ${finding.says.slice(0, 2000)}, ${evidence}::jsonb)`,
    );
  });
}

/** A comparison begins anew: a listing cannot be gone on with. */
export async function beginComparison(db: Db, claim: AuditClaim): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await rows(tx, sql`delete from audit_seen where audit_id = ${claim.id}`);
    const held = await changedRows(
      tx,
      sql`update audits set looked_count = 0, looked_bytes = 0, wrong_count = 0, unreadable_count = 0, unknown_count = 0
        where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING' returning id`,
    );
    if (held !== 1) throw overtaken(claim);
  });
}

const mostUnknownKept = 1000;

/**
 * Notes a part of a listing: which confirmed copies are there with their size, and what nobody knows. A file that is
 * just being published is known by its record, and what is younger than an hour is left alone.
 */
export async function noteListed(
  db: Db,
  claim: AuditClaim,
  files: readonly StoredFile[],
): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, (tx) =>
    rows(
      tx,
      sql`
      with listed as materialized (
        select * from unnest(${files.map((file) => file.key)}::text[], ${files.map((file) => file.sizeBytes)}::bigint[],
          ${files.map((file) => file.changedAt?.toISOString() ?? null)}::timestamptz[]) t (key, size_bytes, changed_at)
      ), seen as (
        insert into audit_seen (audit_id, backup_id)
        select ${claim.id}, b.id from listed l
        join backup_records b on b.store_id = ${claim.storeId} and b.store_key = l.key and b.status = 'CONFIRMED'
        join files f on f.id = b.file_id and f.size_bytes = l.size_bytes
        on conflict do nothing
      ), unknown as materialized (
        select l.* from listed l
        where coalesce(l.changed_at < ${claim.startedAt}::timestamptz - interval '1 hour', true)
          and not exists (select from backup_records b where b.store_id = ${claim.storeId} and b.store_key = l.key)
          and not exists (select from files f join backup_records b on b.file_id = f.id
            where f.lfn = '/' || l.key and b.store_id = ${claim.storeId})
      ), kept as (
        insert into audit_findings (audit_id, store_key, what, says)
        select ${claim.id}, u.key, 'UNKNOWN', format('%s bytes, last changed %s', u.size_bytes, coalesce(u.changed_at::text, 'at a time that is not told'))
        from unknown u
        where not exists (select from audit_findings x where x.audit_id = ${claim.id} and x.what = 'UNKNOWN' and x.store_key = u.key)
        order by u.key
        limit greatest(0, ${mostUnknownKept} - (
          select count(*) from audit_findings x where x.audit_id = ${claim.id} and x.what = 'UNKNOWN')))
      update audits set looked_count = looked_count + (select count(*) from listed),
        looked_bytes = looked_bytes + (select coalesce(sum(size_bytes), 0) from listed),
        unknown_count = unknown_count + (select count(*) from unknown)
      where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING'`,
    ),
  );
}

/** Copies that were confirmed before the listing began and did not show in it as they should; each is looked at again. */
export async function notSeen(
  db: Db,
  claim: AuditClaim,
  most: number,
): Promise<{
  readonly count: number;
  readonly confirmed: number;
  readonly copies: readonly CopyToRead[];
}> {
  const [counted] = await rows(
    db.fork(),
    sql<{ count: number; confirmed: number }>`
    select count(*) filter (where s.backup_id is null) as count, count(*) as confirmed from backup_records b
    left join audit_seen s on s.audit_id = ${claim.id} and s.backup_id = b.id
    where b.store_id = ${claim.storeId} and b.status = 'CONFIRMED' and b.confirmed_at < ${claim.startedAt}`,
  );
  const copies = await rows(
    db.fork(),
    sql<CopyRow>`
    select ${copyColumns} from backup_records b join files f on f.id = b.file_id
    where b.store_id = ${claim.storeId} and b.status = 'CONFIRMED' and b.confirmed_at < ${claim.startedAt}
      and not exists (select from audit_seen s where s.audit_id = ${claim.id} and s.backup_id = b.id)
    order by b.id limit ${most}`,
  );
  return {
    count: counted?.count ?? 0,
    confirmed: counted?.confirmed ?? 0,
    copies: copies.map(toRead),
  };
}
