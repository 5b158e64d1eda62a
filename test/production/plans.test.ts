import { afterAll, beforeAll, expect, test } from 'vitest';
import { CompiledQuery } from 'kysely';
import { anonymous } from '../../src/access/policy.ts';
import { listAvailable, verdictsOf } from '../../src/runs/dqm.queries.ts';
import { goodRuns } from '../../src/production/good-runs.queries.ts';
import { productionOf } from '../../src/production/run-production.queries.ts';
import {
  badDatasets,
  failedBackups,
  oldSweeps,
  troubleOfSweeps,
  unfinishedDatasets,
  waitingBackups,
} from '../../src/production/stuck.queries.ts';
import { readTotals } from '../../src/production/totals.queries.ts';
import type { Db } from '../../src/database/orm.ts';
import { parametersFor } from '../../src/database/late.ts';
import type { ReadPool } from '../../src/database/read-pool.ts';
import { defaultLimits } from '../../src/limits.ts';
import { Complexity } from '../../src/server/complexity.ts';
import { FastReads } from '../../src/server/fast-reads.ts';
import { makeSchema } from '../../src/server/schema.ts';
import { OpenStores } from '../../src/storage/open.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

const viewer = { principal: 'olga', roles: ['OPERATOR'] } as const;
const page = { first: 50 };
/** Much is well, and a little is not. */
const many = 20_000;
const schema = makeSchema();
let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
  // Only the plans are looked at: rows as they would be, without the work that makes them.
  await database.sql(`
    do $$ declare t record; begin
      for t in select tablename as name from pg_tables where schemaname = 'public' loop
        execute format('alter table %I disable trigger user', t.name);
      end loop; end $$;
    insert into sites (name) values ('here');
    insert into mass_stores (site_id, name, kind, root) values (1, 'tape', 'directory', '/x');
    insert into runs (source, number, production_status, available_at, verdict, verdict_at)
      select 'DATA', n, case when n <= 100 then 'AVAILABLE' else 'IN_PRODUCTION' end, case when n <= 100 then now() end,
        case when n <= 50 then 'GOOD' end, case when n <= 50 then now() end from generate_series(1, ${many}) n;
    insert into files (lfn, kind, site_id, run_id, stream, size_bytes, adler32)
      select '/f/' || n, case when n % 2 = 0 then 'RUN_FILE' else 'MERGED_FILE' end, 1,
        case when n % 2 = 0 then n end, 'S' || n % 10, 1, '00000000' from generate_series(1, ${many}) n;
    insert into file_runs (file_id, run_id) select n, n from generate_series(1, ${many}, 2) n;
    insert into events (kind, file_id) select 'FILE_REGISTERED', n from generate_series(1, ${many}) n;
    insert into events (kind, run_id, from_state, to_state) select 'RUN_STATUS', n, 'IN_PRODUCTION', 'AVAILABLE'
      from generate_series(1, 100) n;
    insert into events (kind, run_id, to_state) select 'RUN_VERDICT', n, 'GOOD' from generate_series(1, 50) n;
    insert into backup_records (file_id, store_id, status, attempt, answered_attempt, store_key, stored_size_bytes,
        stored_adler32, confirmed_at, evidence, last_error, last_error_code)
      select n, 1, case when n <= 100 then 'FAILED' when n <= 200 then 'REQUESTED' else 'CONFIRMED' end, 1, 1, 'k' || n, 1,
        '00000000', now(), '{"asked": "a", "answer": "b", "askedAt": "c"}', 'full', 'NO_SPACE' from generate_series(1, ${many}) n;
    insert into datasets (name, kind, owner, status, closed_at, sealed)
      select 'd' || n, 'PR', 'o', case when n <= 20 then 'OPEN' else 'CLOSED' end, case when n > 20 then now() end, n <= 3
      from generate_series(1, ${many}) n;
    insert into dataset_files (dataset_id, file_id, lfn) select n, n, '/f/' || n from generate_series(1, ${many}) n;
    insert into dataset_runs (dataset_id, source, number, run_id, file_count, event_count, size_bytes)
      select n, 'DATA', n, n, 1, 1, 1 from generate_series(1, ${many}, 2) n;
    insert into sweeps (dataset_id, store_id, finished_at, outcome)
      select n, 1, case when n > 3 then now() end, case when n > 3 then 'CLOSED' end from generate_series(1, ${many}) n;
    insert into bad_marks (dataset_id, reason) select id, 'wet' from datasets where id between 100 and 110;
    insert into counted_datasets select n from generate_series(21, ${many}) n;
    insert into file_totals select null, 1, 'RUN_FILE', 'S' || n, 'R', 1, 1, 1, 1, 1, 1, 1, 1, 1 from generate_series(1, 1000) n;
  `);
  await database.sql('vacuum analyze');
});
afterAll(() => database.close({ check: false }));

/** Rows that were read one after the other through whole tables by this work, by table; in one connection, which then tells. */
async function scannedBy(work: (db: Db) => Promise<unknown>): Promise<Record<string, number>> {
  return database.db
    .fork()
    .getKysely()
    .transaction()
    .execute(async (transaction) => {
      const db = database.db.fork();
      db.setTransactionContext(transaction);
      const scanned = async () =>
        (
          await db.execute<{ relname: string; n: string }[]>(
            `select relname, seq_tup_read as n from pg_stat_xact_user_tables where seq_tup_read > 0`,
          )
        ).map((row) => [row.relname, Number(row.n)] as const);
      await work(db);
      return Object.fromEntries(await scanned());
    });
}

const now = new Date(Date.now() + 60_000);
const big = new Set([
  'files',
  'runs',
  'file_runs',
  'backup_records',
  'events',
  'datasets',
  'dataset_files',
  'sweeps',
  'counted_datasets',
]);

test.each<[string, (db: Db) => Promise<unknown>]>([
  ['runsAvailable', (db) => listAvailable(db, 'x', viewer, {}, page)],
  ['Run.verdicts', (db) => verdictsOf(db, [1, 2, 3])],
  ['Run.production', (db) => productionOf(db, [1, 2, 3])],
  ['goodRuns', (db) => goodRuns(db, viewer, { source: 'DATA' })],
  ['goodRuns of a dataset', (db) => goodRuns(db, viewer, { source: 'DATA', dataset: 'd4000' })],
  ['stuck sweeps', (db) => oldSweeps(db, now, page)],
  ['their trouble', (db) => troubleOfSweeps(db, [1, 2, 3])],
  ['failed backups', (db) => failedBackups(db, viewer, 50)],
  ['waiting backups', (db) => waitingBackups(db, viewer, now, [], 50)],
  ['unfinished datasets', (db) => unfinishedDatasets(db, now, page)],
  ['bad datasets', (db) => badDatasets(db, 50)],
  ['totals', (db) => readTotals(db, viewer, ['SITE', 'STREAM'], {}, 1000)],
  ['totals by status', (db) => readTotals(db, viewer, ['STATUS'], {}, 1000)],
  ['totals of what is published', (db) => readTotals(db, anonymous, ['STREAM'], {}, 1000)],
  ['totals by store', (db) => readTotals(db, viewer, ['STORE'], {}, 1000)],
])('%s reads through no big table', async (_, work) => {
  const scanned = await scannedBy(work);
  // A join may look at a first row and stop.
  const through = Object.entries(scanned).filter(([name, n]) => big.has(name) && n > 100);
  expect(through).toEqual([]);
});

/** Asks by the fast road, which runs its statement in this connection. */
async function askFast(db: Db, query: string): Promise<void> {
  const pool: ReadPool = {
    async text({ text, parameters }, given) {
      const statement = CompiledQuery.raw(text, parametersFor(parameters, given));
      const { rows } = await db.getKysely().executeQuery<{ data: string | null }>(statement);
      return rows[0]?.data ?? null;
    },
    close: async () => undefined,
  };
  const log = { warn: (facts: object) => Promise.reject(new Error(JSON.stringify(facts))) };
  const reads = new FastReads(new Complexity(schema, defaultLimits), new OpenStores(), pool, log);
  const answer = await reads.answer({ query, operationName: undefined, variables: {} }, viewer);
  expect(answer).toMatch(/^{"data":{"list":{"nodes":\[{/);
}

test.each([
  '{ list: runs(first: 50) { nodes { number verdicts { to actor } files { nodes { lfn } } datasets { nodes { name } } } } }',
  '{ list: backupRecords(filter: { status: [FAILED] }) { nodes { store lastError file { lfn } } } }',
  '{ list: datasets(filter: { status: [OPEN] }) { nodes { name badMark { reason } runCount runRange { first } } } }',
])('by the fast road %s reads through no big table', async (query) => {
  const scanned = await scannedBy((db) => askFast(db, query));
  const through = Object.entries(scanned).filter(([name, n]) => big.has(name) && n > 100);
  expect(through).toEqual([]);
});

test('the measure sees a scan', async () => {
  const scanned = await scannedBy((db) =>
    db.execute(`select count(*) from files where adler32 <> ''`),
  );
  expect(scanned['files']).toBe(many);
});
