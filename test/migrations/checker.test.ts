import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { allChecks, checkInvariants, findings } from '../support/check-invariants.ts';
import type { TestDatabase } from '../support/database.ts';
import { plants } from './plants.ts';
import { openWorld, dataset } from './world.ts';

let database: TestDatabase;
let unguarded: pg.Client;

/** From here on nothing but the checker sees what is wrong. */
const takeGuardsAway = `
do $$
declare
  it record;
begin
  for it in select tablename as name from pg_tables where schemaname = 'public' loop
    execute format('alter table %I disable trigger user', it.name);
  end loop;
  for it in select conrelid::regclass as of, conname as name from pg_constraint
            where connamespace = 'public'::regnamespace and contype in ('f', 'c') loop
    execute format('alter table %s drop constraint %I', it.of, it.name);
  end loop;
  for it in select conrelid::regclass as of, conname as name from pg_constraint
            where connamespace = 'public'::regnamespace and contype = 'u' loop
    execute format('alter table %s drop constraint %I', it.of, it.name);
  end loop;
  alter table merge_inputs drop constraint merge_inputs_pkey;
  drop index sweeps_one_running, backup_records_one_key;
  alter table datasets alter column is_available drop expression;
  alter table events alter column id drop identity;
end
$$`;

beforeAll(async () => {
  database = await openWorld();
});
afterAll(() => database.close({ check: false }));

test('a database with rows in every state is found healthy', async () => {
  expect(await checkInvariants(database.url)).toEqual([]);
  unguarded = await database.client();
  await unguarded.query(takeGuardsAway);
});

/** Whether each check has found something in its turn. */
const proven = new Set<number>();

async function foundAfter(plant: string): Promise<string[]> {
  await unguarded.query('begin');
  try {
    await unguarded.query(plant);
    const found: string[] = [];
    for (const [index, check] of allChecks.entries()) {
      const told = await findings(unguarded, check);
      if (told.length > 0) proven.add(index);
      found.push(...told);
    }
    return found;
  } finally {
    await unguarded.query('rollback');
  }
}

describe('the checker finds', () => {
  test.each(Object.entries(plants))('%s', async (_, [plant, sentence]) => {
    expect(await foundAfter(plant)).toContainEqual(expect.stringMatching(sentence));
  });

  test('something with each of its questions', () => {
    const idle = allChecks.filter((_, index) => !proven.has(index));
    expect(idle.map((check) => `${check.invariant}: ${check.sql}`)).toEqual([]);
  });

  test('twenty of very many, and counts the others', async () => {
    const found = await foundAfter(`
      insert into dataset_files select ${dataset('open')}, n from generate_series(1000, 1049) n`);
    expect(found).toContain('I1: and 30 more like the last');
  });
});
