import { demand, type Viewer } from '../access/policy.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { auditedByHim } from './audits.queries.ts';
import { isAlarm, type AuditKind } from './audits.rules.ts';
import { loseCopy } from './losses.ts';

/** Starts an audit of a store, unless one is under way; NOT_FOUND. */
export async function startAudit(
  db: Db,
  viewer: Viewer,
  store: string | null | undefined,
  what: AuditKind,
): Promise<{ id: number; changed: boolean }> {
  demand(viewer, 'testStores');
  const { id: storeId, site } = await getMassStore(db, store);
  demand(viewer, 'testStores', { site: site.name });
  return inTransaction(db, viewer, async (tx) => {
    const made = await firstRow(
      tx,
      sql<{ id: number }>`insert into audits (store_id, what) values (${storeId}, ${what})
        on conflict (store_id, what) where state = 'RUNNING' do nothing returning id`,
    );
    if (made) return { id: made.id, changed: true };
    const known = await firstRow(
      tx,
      sql<{ id: number }>`select id from audits
        where store_id = ${storeId} and what = ${what} and state = 'RUNNING'`,
    );
    if (known) return { id: known.id, changed: false };
    throw new SweepbookError('UNAVAILABLE', 'the audit has just ended: start another one', {});
  });
}

/** Starts what is due: so many days after the last one began; none while an alarm stands. Returns how many. */
export async function startDueAudit(
  db: Db,
  storeId: number,
  what: AuditKind,
  everyDays: number,
): Promise<number> {
  if (everyDays === 0) return 0;
  return inTransaction(db, { principal: 'audit' }, (tx) =>
    changedRows(
      tx,
      sql`insert into audits (store_id, what)
        select s.id, ${what} from mass_stores s left join lateral (
          select started_at, state from audits a where a.store_id = s.id and a.what = ${what}
          order by id desc limit 1) l on true
        where s.id = ${storeId} and s.is_configured and l.state is distinct from 'RUNNING'
          and l.state is distinct from 'ALARM'
          and coalesce(l.started_at, s.known_since) < clock_timestamp() - make_interval(days => ${everyDays})
        on conflict (store_id, what) where state = 'RUNNING' do nothing returning id`,
    ),
  );
}

/** An audit that a worker is at; `attempt` is the fence. */
export interface AuditClaim {
  readonly id: number;
  readonly attempt: number;
  readonly worker: string;
  readonly storeId: number;
  readonly what: AuditKind;
  readonly startedAt: Date;
}

/** Takes an audit of this store on; undefined = there is none to be taken. */
export async function claimAudit(
  db: Db,
  storeId: number,
  worker: string,
  leaseSeconds: number,
): Promise<AuditClaim | undefined> {
  const row = await inTransaction(db, { principal: worker }, (tx) =>
    firstRow(
      tx,
      sql<AuditClaim>`
      update audits a set attempt = a.attempt + 1, worker = ${worker},
        lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      where a.id = (
        select id from audits where store_id = ${storeId} and state = 'RUNNING'
          and (lease_until is null or lease_until < clock_timestamp())
        -- A comparison takes minutes, a reading weeks.
        order by what, id limit 1 for update skip locked)
      returning a.id, a.attempt, a.worker, a.store_id as "storeId", a.what, a.started_at as "startedAt"`,
    ),
  );
  return row;
}

export async function renewAudit(
  db: Db,
  claim: AuditClaim,
  leaseSeconds: number,
): Promise<boolean> {
  const held = await changedRows(
    db.fork(),
    sql`update audits set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
      where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING' returning id`,
  );
  return held === 1;
}

/** Left for another worker, or for a later time; what came of it so far is kept. */
export async function leaveAudit(
  db: Db,
  claim: AuditClaim,
  waitSeconds: number,
  detail: string | null,
): Promise<void> {
  await rows(
    db.fork(),
    sql`update audits set detail = coalesce(${detail?.slice(0, 2000) ?? null}, detail),
        lease_until = clock_timestamp() + make_interval(secs => ${waitSeconds})
      where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING'`,
  );
}

interface OpenFinding {
  readonly id: number;
  readonly backupId: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly says: string;
  readonly isCurrent: boolean;
}

/**
 * Deals with what was found bad: the records are LOST by incidents, asked for again from another copy where there is
 * one, and datasets that nothing else holds are marked bad. Each is looked at again first. Returns how many.
 */
export async function loseWhatIsBad(db: Db, auditId: number, principal: string): Promise<number> {
  let lost = 0;
  for (;;) {
    const [finding] = await rows(
      db.fork(),
      sql<OpenFinding>`
      select x.id, x.backup_id as "backupId", b.file_id as "fileId", f.lfn, x.says,
        b.status = 'CONFIRMED' and b.confirmed_at < x.found_at as "isCurrent"
      from audit_findings x join backup_records b on b.id = x.backup_id join files f on f.id = b.file_id
      where x.audit_id = ${auditId} and x.what = 'BAD' and x.outcome is null order by x.id limit 1`,
    );
    if (!finding) return lost;
    const { id, backupId, fileId, lfn, says, isCurrent } = finding;
    await inTransaction(db, { principal, reason: says }, async (tx) => {
      const outcome = isCurrent ? 'LOST' : 'DISMISSED';
      const taken = await changedRows(
        tx,
        sql`update audit_findings set outcome = ${outcome} where id = ${id} and outcome is null returning id`,
      );
      if (taken !== 1 || !isCurrent) return;
      const { storeId } = (await firstRow(
        tx,
        sql<{ storeId: number }>`select store_id as "storeId" from audits where id = ${auditId}`,
      )) ?? { storeId: 0 };
      await loseCopy(tx, { fileId, lfn, replicaId: null, backupId }, storeId, says);
      lost++;
    });
  }
}

/** What was counted so far, beside how many confirmed copies the store had when the audit began. */
async function countsOf(
  db: Db,
  auditId: number,
): Promise<{ looked: number; wrong: number; confirmed: number }> {
  const row = await firstRow(
    db.fork(),
    sql<{ looked: number; wrong: number; confirmed: number }>`
    select a.looked_count as looked, a.wrong_count as wrong, (
      select count(*) from backup_records b where b.store_id = a.store_id and b.status = 'CONFIRMED'
        and b.confirmed_at < a.started_at) as confirmed
    from audits a where a.id = ${auditId}`,
  );
  return row ?? { looked: 0, wrong: 0, confirmed: 0 };
}

/**
 * What is to be done about what was found: at the end, and while a reading goes on. Few bad copies are dealt with,
 * more than the share raise the alarm and nothing is touched.
 */
export async function judgeAudit(
  db: Db,
  claim: AuditClaim,
  { share, isAtEnd }: { readonly share: number; readonly isAtEnd: boolean },
): Promise<'RUNNING' | 'DONE' | 'ALARM' | 'LEASE_LOST'> {
  const { looked, wrong, confirmed } = await countsOf(db, claim.id);
  if (isAlarm(wrong, confirmed, share)) {
    const why = `${wrong} of ${confirmed} copies look wrong, and ${share} would be the share to act on`;
    return raiseAlarm(db, claim, why);
  }
  // Early in a reading few have been looked at: what is too much for them may be little in the end.
  if (isAtEnd || !isAlarm(wrong, looked, share)) await loseWhatIsBad(db, claim.id, claim.worker);
  if (!isAtEnd) return 'RUNNING';
  return (await endAudit(db, claim, 'DONE', null)) ? 'DONE' : 'LEASE_LOST';
}

/** So much looks wrong that nothing is done about it, before somebody has looked at the store. */
export async function raiseAlarm(
  db: Db,
  claim: AuditClaim,
  why: string,
): Promise<'ALARM' | 'LEASE_LOST'> {
  const detail = `${why}: no more is done about them; look at the store, then accept or dismiss`;
  return (await endAudit(db, claim, 'ALARM', detail)) ? 'ALARM' : 'LEASE_LOST';
}

async function endAudit(
  db: Db,
  claim: AuditClaim,
  state: 'DONE' | 'ALARM',
  detail: string | null,
): Promise<boolean> {
  await rows(db.fork(), sql`delete from audit_seen where audit_id = ${claim.id}`);
  const ended = await changedRows(
    db.fork(),
    sql`update audits set state = ${state}, finished_at = clock_timestamp(), lease_until = null, detail = ${detail}
      where id = ${claim.id} and attempt = ${claim.attempt} and state = 'RUNNING' returning id`,
  );
  return ended === 1;
}

/** An operator has looked: the findings of an alarm are true, or they are not. NOT_FOUND, ILLEGAL_TRANSITION. */
export async function settleAlarm(
  db: Db,
  viewer: Viewer,
  id: number,
  isTrue: boolean,
): Promise<{ lostCount: number }> {
  demand(viewer, 'testStores');
  const audit = await firstRow(
    db.fork(),
    sql<{ state: string }>`select a.state from audits a join mass_stores s on s.id = a.store_id
      where a.id = ${id} and ${auditedByHim(viewer)}`,
  );
  if (!audit) throw new SweepbookError('NOT_FOUND', `audit ${id} is not known here`, { id });
  if (audit.state !== 'ALARM') {
    throw new SweepbookError(
      'ILLEGAL_TRANSITION',
      `audit ${id} is ${audit.state}: only an alarm is accepted or dismissed`,
      { id, state: audit.state },
    );
  }
  const lostCount = isTrue ? await loseWhatIsBad(db, id, viewer.principal) : 0;
  await inTransaction(db, viewer, async (tx) => {
    await rows(
      tx,
      sql`update audit_findings set outcome = 'DISMISSED'
        where audit_id = ${id} and what = 'BAD' and outcome is null`,
    );
    await rows(
      tx,
      sql`update audits set state = ${isTrue ? 'DONE' : 'DISMISSED'} where id = ${id} and state = 'ALARM'`,
    );
  });
  return { lostCount };
}
