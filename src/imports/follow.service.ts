import { demand, may, type Viewer } from '../access/policy.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import { checkContainerName } from '../containers/containers.rules.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { sourceOf, type ImportSettings } from '../storage/import-sources.ts';
import { serverOf } from './fetch-manifest.ts';
import type { FollowFilter, RuleClaim } from './follow-rule.ts';
import { demandMirrorName } from './mirror.service.ts';

export interface CreateRule {
  readonly site: string;
  readonly filter: FollowFilter;
  readonly store?: string | null | undefined;
  /** What a followed container is called here; its name there if not given. */
  readonly mirror?: string | null | undefined;
}

const mostFilterBytes = 32_768;
const mostRules = 100;

/** A standing rule: what matches there is imported, now and from now on. */
export async function createRule(
  db: Db,
  imports: ImportSettings | undefined,
  viewer: Viewer,
  input: CreateRule,
): Promise<number> {
  demand(viewer, 'importDatasets');
  serverOf(sourceOf(imports, input.site));
  const given = Object.entries(input.filter).filter(([, value]) => value != null);
  const { container } = input.filter;
  if (container != null && given.length > 1) {
    throw badInput('filter.container', container, 'a container, or other conditions: not both');
  }
  const mirror = container == null ? null : (input.mirror ?? container);
  if (mirror === null && input.mirror != null) {
    throw badInput('mirror', input.mirror, 'a name for the container of filter.container');
  }
  if (mirror !== null) checkContainerName(mirror);
  const filter = JSON.stringify(Object.fromEntries(given));
  if (filter.length > mostFilterBytes || filter.includes('\\u0000')) {
    throw badInput(
      'filter',
      filter.length,
      `at most ${mostFilterBytes} characters, none of them NUL`,
    );
  }
  const store = await getMassStore(db, input.store);
  return inTransaction(db, viewer, async (tx) => {
    await rows(tx, sql`lock table follow_rules in share row exclusive mode`);
    const count = await firstRow(tx, sql<{ n: number }>`select count(*) as n from follow_rules`);
    if ((count?.n ?? 0) >= mostRules) {
      throw new SweepbookError('LIMIT_REACHED', `there are ${mostRules} rules: delete one first`, {
        most: mostRules,
      });
    }
    if (mirror !== null && container != null) {
      await demandMirrorName(tx, viewer, mirror, { site: input.site, container });
    }
    const made = await firstRow(
      tx,
      sql<{ id: number }>`insert into follow_rules (site, filter, store_id, mirror)
        values (${input.site}, ${filter}::jsonb, ${store.id}, ${mirror}) returning id`,
    );
    return made?.id ?? 0;
  });
}

/** Ends a rule. Imports that it began go on; the container that it kept stays as it is. */
export async function deleteRule(db: Db, viewer: Viewer, id: number): Promise<void> {
  await inTransaction(db, viewer, async (tx) => {
    await lockRule(tx, viewer, id);
    await rows(tx, sql`delete from followed_departures where rule_id = ${id}`);
    await rows(tx, sql`delete from follow_rules where id = ${id}`);
  });
}

/** Looks at once, and tries again what could not be begun. */
export async function lookNow(db: Db, viewer: Viewer, id: number): Promise<boolean> {
  return inTransaction(db, viewer, async (tx) => {
    await lockRule(tx, viewer, id);
    await rows(
      tx,
      sql`update followed_datasets set error = null, error_code = null where rule_id = ${id}`,
    );
    const changed = await changedRows(
      tx,
      sql`update follow_rules set next_look_at = now() where id = ${id} returning id`,
    );
    return changed === 1;
  });
}

async function lockRule(tx: Db, viewer: Viewer, id: number): Promise<void> {
  if (!may(viewer, 'handleImport', viewer.principal)) demand(viewer, 'handleImport');
  const found = await firstRow(
    tx,
    sql<{
      owner: string;
    }>`select created_by as owner from follow_rules where id = ${id} for update`,
  );
  if (found && may(viewer, 'handleImport', found.owner)) return;
  throw new SweepbookError('NOT_FOUND', `no rule ${id} of yours: look at "import rules"`, {
    rule: id,
  });
}

const leaseSeconds = 600;

/** Takes one rule whose time has come. */
export async function claimRule(db: Db): Promise<RuleClaim | undefined> {
  return firstRow(
    db.fork(),
    sql<RuleClaim>`
    with due as materialized (
      select id from follow_rules where next_look_at <= clock_timestamp()
        and (lease_until is null or lease_until < clock_timestamp())
      order by next_look_at, id limit 1 for update skip locked)
    update follow_rules r set claim = r.claim + 1,
      lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
    from due, mass_stores m where r.id = due.id and m.id = r.store_id
    returning r.id, r.claim, r.site, r.filter, m.name as store, r.created_by as "createdBy", r.mirror, r.cursor,
      r.listed_until as "listedUntil"`,
  );
}

/** A member that has left the container that is followed. */
export interface Departure {
  readonly name: string;
  readonly at: string;
  readonly reason: string;
}

export interface Heard {
  readonly cursor: string | null;
  readonly names: readonly string[];
  readonly listedUntil: Date | null;
  /** Of a container: who has left; or it was listed in full, and whoever is not named has. */
  readonly departures?: readonly Departure[] | 'all others';
}

/** Keeps what was heard: the names first, then the place up to which it was heard, in one transaction. */
export async function recordHeard(db: Db, rule: RuleClaim, heard: Heard): Promise<number> {
  return inTransaction(db, { principal: rule.createdBy }, async (tx) => {
    const held = await changedRows(
      tx,
      sql`update follow_rules set cursor = ${heard.cursor}, listed_until = coalesce(${heard.listedUntil}, listed_until)
        where id = ${rule.id} and claim = ${rule.claim} returning id`,
    );
    if (held !== 1)
      throw new SweepbookError('LEASE_LOST', `rule ${rule.id} is looked at by another worker`);
    const found = await changedRows(
      tx,
      sql`insert into followed_datasets (rule_id, name)
        select ${rule.id}::bigint, name from unnest(${heard.names}::text[]) as t (name) on conflict do nothing returning name`,
    );
    if (heard.departures) await recordDepartures(tx, rule.id, heard.names, heard.departures);
    return found;
  });
}

/** Who is in the container is not gone; who has left it, and was found by the rule, is. */
async function recordDepartures(
  tx: Db,
  ruleId: number,
  names: readonly string[],
  departures: readonly Departure[] | 'all others',
): Promise<void> {
  await rows(
    tx,
    sql`delete from followed_departures where rule_id = ${ruleId} and name = any (${names}::text[])`,
  );
  const gone =
    departures === 'all others'
      ? sql`select f.name, now(), null from followed_datasets f
          where f.rule_id = ${ruleId} and f.name <> all (${names}::text[])`
      : sql`select f.name, t.at, left(t.reason, 2000)
          from jsonb_to_recordset(${JSON.stringify(departures)}::jsonb) as t (name text, at timestamptz, reason text)
          join followed_datasets f on f.rule_id = ${ruleId} and f.name = t.name`;
  await rows(
    tx,
    sql`insert into followed_departures (rule_id, name, left_at, reason)
      select ${ruleId}::bigint, g.* from (${gone}) g on conflict do nothing`,
  );
}

/** The look is over; the next one comes by the clock. */
export async function endLook(
  db: Db,
  rule: RuleClaim,
  nextMs: number,
  error?: { code: string; message: string },
): Promise<void> {
  await rows(
    db.fork(),
    sql`update follow_rules set lease_until = null, looked_at = now(), next_look_at = ${new Date(Date.now() + nextMs)},
        last_error_code = ${error?.code ?? null}, last_error = ${error?.message.slice(0, 2000) ?? null}
      where id = ${rule.id} and claim = ${rule.claim}`,
  );
}

/** Names that wait for their import, if so many more may run now. */
export async function waitingNames(
  db: Db,
  rule: RuleClaim,
  mostRunning: number,
): Promise<string[]> {
  const found = await rows(
    db.fork(),
    sql<{ name: string }>`
    select name from followed_datasets w where rule_id = ${rule.id} and import_id is null and error is null
      and not exists (select from followed_departures d where d.rule_id = w.rule_id and d.name = w.name)
    order by found_at, name limit greatest(0, ${mostRunning} - (
      select count(*) from followed_datasets f join imports i on i.id = f.import_id
      where f.rule_id = ${rule.id} and i.status = 'RUNNING'))`,
  );
  return found.map((row) => row.name);
}

export async function recordBegun(
  db: Db,
  rule: RuleClaim,
  name: string,
  begun: { importId: number | null; code?: string; message?: string },
): Promise<void> {
  await rows(
    db.fork(),
    sql`update followed_datasets set import_id = ${begun.importId}, error_code = ${begun.code ?? null},
        error = ${begun.message?.slice(0, 2000) ?? null} where rule_id = ${rule.id} and name = ${name}`,
  );
}

export interface FollowedState {
  readonly name: string;
  readonly badReason: string | null;
  readonly badMarkId: number | null;
  readonly datasetId: number;
}

/** Datasets of a rule that have been entered here, by name. */
export async function enteredAfter(
  db: Db,
  rule: RuleClaim,
  after: string,
  most: number,
): Promise<FollowedState[]> {
  return rows(
    db.fork(),
    sql<FollowedState>`
    select f.name, f.bad_reason as "badReason", f.bad_mark_id as "badMarkId", i.dataset_id as "datasetId"
    from followed_datasets f join imports i on i.id = f.import_id and i.status = 'ENTERED'
    where f.rule_id = ${rule.id} and f.name > ${after} order by f.name limit ${most}`,
  );
}

/**
 * What its site says of a dataset is known here. Data that are called bad there are marked bad here, too, and exactly
 * that mark goes when they are good there again. A loss of storage there says nothing of the copies here: it is told only.
 */
export async function recordVerdict(
  db: Db,
  rule: RuleClaim,
  { name, datasetId, badMarkId }: FollowedState,
  verdict: { reason: string; isLoss: boolean } | undefined,
): Promise<void> {
  const reason = verdict
    ? `at ${rule.site}: ${verdict.reason}`.slice(0, 2000)
    : `good again at ${rule.site}`;
  await inTransaction(db, { principal: rule.createdBy, reason }, async (tx) => {
    await rows(tx, sql`select 1 from datasets where id = ${datasetId} for no key update`);
    let mark = badMarkId;
    if (verdict && !verdict.isLoss && badMarkId === null) {
      const made = await firstRow(
        tx,
        sql<{
          id: number;
        }>`insert into bad_marks (dataset_id, reason) values (${datasetId}, ${reason}) returning id`,
      );
      mark = made?.id ?? null;
    }
    if (!verdict && badMarkId !== null) {
      // Somebody here may have taken it off already.
      await rows(
        tx,
        sql`update bad_marks set cleared_at = clock_timestamp(), cleared_by = ${rule.createdBy}, cleared_reason = ${reason}
          where id = ${badMarkId} and cleared_at is null`,
      );
      mark = null;
    }
    await rows(
      tx,
      sql`update followed_datasets set bad_reason = ${verdict ? verdict.reason.slice(0, 2000) : null}, bad_mark_id = ${mark}
        where rule_id = ${rule.id} and name = ${name}`,
    );
  });
}
