import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import type { RuleClaim } from './follow-rule.ts';

interface Source {
  readonly site: string;
  readonly container: string;
}

const taken = (name: string, by: string): SweepbookError =>
  new SweepbookError('DUPLICATE', `${by}: give the mirrored container another name here`, {
    container: name,
  });

/** Whether the container that a rule is to keep may be called so; what a rule kept that has ended is taken up again. */
export async function demandMirrorName(
  tx: Db,
  viewer: Viewer,
  name: string,
  { site, container }: Source,
): Promise<void> {
  const rule = await firstRow(
    tx,
    sql<{ id: number }>`select id from follow_rules where mirror = ${name}`,
  );
  if (rule) throw taken(name, `import rule ${rule.id} keeps the container ${name} already`);
  const standing = await firstRow(
    tx,
    sql<{ owner: string; isItsMirror: boolean }>`
    select o.owner, exists (select from mirrored_containers m
      where m.container_id = o.id and m.site = ${site} and m.name = ${container}) as "isItsMirror"
    from containers o where o.name = ${name}`,
  );
  if (!standing) return;
  if (!standing.isItsMirror) throw taken(name, `there is a container ${name} already`);
  demand(viewer, 'changeContainer', standing.owner);
}

/**
 * Has the container that mirrors the followed one list what its rule knows: members that are here, and not who left.
 * Who is bad there leaves by its mark and comes back with it, as there. Nothing is listed that is not here.
 */
export async function mirrorContainer(db: Db, rule: RuleClaim, isHeard: boolean): Promise<void> {
  const { mirror } = rule;
  const { container } = rule.filter;
  if (mirror === null || container == null) return;
  const id = await changing(db, rule, undefined, (tx) =>
    findOrMake(tx, rule, mirror, { site: rule.site, container }, isHeard),
  );
  if (id === undefined) return;
  for (const { reason, ids } of await departing(db, rule, id)) {
    await changing(db, rule, reason, (tx) =>
      rows(
        tx,
        sql`delete from container_datasets where container_id = ${id} and dataset_id = any (${ids}::bigint[])`,
      ),
    );
  }
  await changing(db, rule, `listed at ${rule.site}`, (tx) => addMembers(tx, rule, id));
}

/** A transaction of the rule, which alone may change what it keeps. */
async function changing<T>(
  db: Db,
  rule: RuleClaim,
  reason: string | undefined,
  work: (tx: Db) => Promise<T>,
): Promise<T> {
  return inTransaction(db, { principal: rule.createdBy, reason }, async (tx) => {
    const held = await rows(
      tx,
      sql`select set_config('sweepbook.mirror_rule', id::text, true) from follow_rules
        where id = ${rule.id} and claim = ${rule.claim} for share`,
    );
    if (held.length === 1) return work(tx);
    throw new SweepbookError('LEASE_LOST', `rule ${rule.id} is looked at by another worker`);
  });
}

/** Its number; undefined = nothing has been heard of the container yet. */
async function findOrMake(
  tx: Db,
  rule: RuleClaim,
  name: string,
  { site, container }: Source,
  isHeard: boolean,
): Promise<number | undefined> {
  const found = await firstRow(
    tx,
    sql<{ id: number }>`
    update mirrored_containers m set rule_id = ${rule.id}, heard_at = case when ${isHeard} then now() else heard_at end
    from containers o where o.id = m.container_id and o.name = ${name} and m.site = ${site} and m.name = ${container}
      and coalesce(m.rule_id, ${rule.id}) = ${rule.id} and (m.rule_id is not null or ${isHeard})
    returning m.container_id as id`,
  );
  if (found || !isHeard) return found?.id;
  const made = await firstRow(
    tx,
    sql<{ id: number }>`
    with made as (insert into containers (name, owner) values (${name}, ${rule.createdBy})
      on conflict (name) do nothing returning id)
    insert into mirrored_containers (container_id, site, name, rule_id, heard_at)
    select id, ${site}, ${container}, ${rule.id}, now() from made returning container_id as id`,
  );
  if (!made) throw taken(name, `there is a container ${name} already`);
  return made.id;
}

/** Listed here and there no more, by the reason that its site tells. */
async function departing(
  db: Db,
  rule: RuleClaim,
  containerId: number,
): Promise<{ reason: string; ids: number[] }[]> {
  return rows(
    db.fork(),
    sql<{ reason: string; ids: number[] }>`
    with known as (
      select coalesce(i.dataset_id, d.id) as id, g.reason, g.name is not null and f.bad_reason is null as has_left
      from followed_datasets f
      left join imports i on i.id = f.import_id
      -- Of a rule that takes up what another one kept, while it has not come so far.
      left join datasets d on f.import_id is null and f.error is null and d.name = f.name
      left join followed_departures g on g.rule_id = f.rule_id and g.name = f.name
      where f.rule_id = ${rule.id})
    select coalesce((select min(k.reason) from known k where k.id = c.dataset_id), 'not listed') as reason,
      array_agg(c.dataset_id order by c.dataset_id) as ids
    from container_datasets c where c.container_id = ${containerId}
      and not exists (select from known k where k.id = c.dataset_id and not k.has_left)
    group by 1 order by 1`,
  ).then((groups) =>
    groups.map(({ reason, ids }) => ({ reason: `at ${rule.site}: ${reason}`.slice(0, 2000), ids })),
  );
}

async function addMembers(tx: Db, rule: RuleClaim, containerId: number): Promise<number> {
  // Datasets before the container, as a bad mark does: they stay good until we are done.
  const found = await rows(
    tx,
    sql<{ id: number }>`
    select d.id from datasets d where d.is_available and d.id in (
      select i.dataset_id from followed_datasets f join imports i on i.id = f.import_id and i.status = 'ENTERED'
      where f.rule_id = ${rule.id}
        and not exists (select from followed_departures g where g.rule_id = f.rule_id and g.name = f.name)
        and not exists (
          select from container_datasets c where c.container_id = ${containerId} and c.dataset_id = i.dataset_id))
    order by d.id for share`,
  );
  if (found.length === 0) return 0;
  return changedRows(
    tx,
    sql`insert into container_datasets (container_id, dataset_id)
      select ${containerId}::bigint, unnest(${found.map((row) => row.id)}::bigint[])
      on conflict do nothing returning dataset_id`,
  );
}
