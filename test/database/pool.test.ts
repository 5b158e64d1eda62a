import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDatabase, type Orm } from '../../src/database/orm.ts';
import { rows, sql } from '../../src/database/sql.ts';
import { inTransaction } from '../../src/database/transaction.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

const most = 12;
let database: TestDatabase;
let orm: Orm;

beforeAll(async () => {
  database = await openTestDatabase();
  orm = await openDatabase({ url: database.url, poolSize: most, applicationName: 'pool' });
});

afterAll(async () => {
  await orm.close();
  await database.close();
});

const connections = async () =>
  (await database.sql(`select from pg_stat_activity where application_name = 'pool'`)).length;

test('what many ask in one moment opens no connection for each of them', async () => {
  const answers = await Promise.all(
    Array.from({ length: most }, () => rows(orm.em.fork(), sql`select 1`)),
  );
  expect(answers).toHaveLength(most);
  expect(await connections()).toBeLessThan(most);
});

test('what takes long has a connection each, and who finds none free gets the next one', async () => {
  let begun = 0;
  let tellAll: () => void = () => undefined;
  const all = new Promise<void>((resolve) => (tellAll = resolve));
  const work = async () => {
    if (++begun === most) tellAll();
    await all;
  };
  const held = Array.from({ length: most }, () => inTransaction(orm.em, { principal: 'x' }, work));
  const after = all.then(() => rows(orm.em.fork(), sql`select 1`));
  await Promise.all([...held, after]);
  expect(begun).toBe(most);
  expect(await connections()).toBe(most);
});
