import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';
import { openWorld, dataset, marked, moved, newDataset } from './world.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openWorld();
});
afterAll(() => database.close());

const eventsOf = async (name: string, where = 'true') =>
  (
    await database.sql<{ kind: string }>(
      `select kind from events where dataset_id = ${dataset(name)} and ${where} order by xid, id`,
    )
  ).map((event) => event.kind);
const settled = 'xid < pg_snapshot_xmin(pg_current_snapshot())';

test('what an older transaction writes after a younger one stands after it in the log', async () => {
  await database.sql(newDataset('ordered'));
  const older = await database.client();
  await older.query('begin');
  await older.query('select pg_current_xact_id()');
  await database.sql(marked('ordered'));
  // Transactions of other databases hold the readers' horizon back for a moment, too.
  const first = await until('the first event is settled', async () => {
    const read = await eventsOf('ordered', settled);
    return read.length > 0 && read;
  });
  expect(first).toEqual(['DATASET_STATUS']);

  await older.query(`update bad_marks set cleared_at = now(), cleared_by = 'olga', cleared_reason = 'x'
    where dataset_id = ${dataset('ordered')}`);
  await older.query('commit');
  const all = await until('all three are settled', async () => {
    const read = await eventsOf('ordered', settled);
    return read.length === 3 && read;
  });
  expect(all).toEqual(['DATASET_STATUS', 'DATASET_MARKED_BAD', 'DATASET_CLEARED']);
});

test('a temporary table of the same name does not swallow events', async () => {
  const client = await database.client();
  await client.query('create temp table events (like public.events including defaults)');
  await client.query(newDataset('shadowed'));
  await client.query(marked('shadowed'));
  const { rows } = await client.query('select * from pg_temp.events');
  expect(rows).toEqual([]);
  expect(await eventsOf('shadowed')).toEqual(['DATASET_STATUS', 'DATASET_MARKED_BAD']);
});

test('of two transactions that move one dataset at once, one writes an event', async () => {
  await database.sql(`insert into datasets (name, kind, owner, backup_waived, waiver_reason)
    values ('raced', 'USER', 'anna', true, 'x')`);
  await database.sql(`insert into dataset_files values (${dataset('raced')},
    (select id from files where lfn = '/merged/new'))`);
  const close = `update datasets set status = 'CLOSED' where name = 'raced' and status = 'OPEN'`;
  const [first, second] = [await database.client(), await database.client()];
  await first.query(`begin; ${close}`);
  const waiting = second.query(close);
  await first.query('commit');
  expect((await waiting).rowCount).toBe(0);
  expect(await eventsOf('raced', `kind = 'DATASET_STATUS' and to_state = 'CLOSED'`)).toHaveLength(
    1,
  );
});

test('a change that is rolled back leaves no event', async () => {
  const client = await database.client();
  const before = await eventsOf('backed');
  await client.query(`begin; ${moved('backed', 'CLOSED')}`);
  await client.query('rollback');
  expect(await eventsOf('backed')).toEqual(before);
});

test('the actor and the reason of the transaction stand in its events', async () => {
  const client = await database.client();
  await client.query(`begin; select set_config('sweepbook.actor', 'olga', true),
    set_config('sweepbook.reason', 'one file too many', true); ${moved('backed', 'OPEN')} commit`);
  const events = await database.sql(
    `select actor, reason, from_state, to_state from events
     where dataset_id = ${dataset('backed')} order by xid desc, id desc limit 1`,
  );
  expect(events).toEqual([
    { actor: 'olga', reason: 'one file too many', from_state: 'BACKED_UP', to_state: 'OPEN' },
  ]);
});

test('every guard stays awake in a session that plays replica', async () => {
  const asleep = await database.sql(
    `select tgrelid::regclass::text, tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = 'public'::regnamespace and not tgisinternal and tgenabled <> 'A'`,
  );
  expect(asleep).toEqual([]);
});

test('every function that guards names the schema it looks at', async () => {
  const loose = await database.sql(
    `select p.oid::regprocedure::text as name from pg_proc p join pg_language l on l.oid = p.prolang
     where p.pronamespace = 'public'::regnamespace and (l.lanname = 'plpgsql' or p.proretset)
       and not coalesce(p.proconfig, '{}') @> array['search_path=public, pg_temp']`,
  );
  expect(loose).toEqual([]);
});
