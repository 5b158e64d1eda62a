import { randomInt } from 'node:crypto';
import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import type { MassStore, PutOptions } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';
import { selfTest, type Finding, type SelfTest } from '../storage/self-test.ts';
import { getMassStore, type MassStoreRow } from './mass-stores.service.ts';

/** A self-test as it was recorded. */
export interface StoreTestRow {
  readonly storeId: number;
  readonly testedAt: Date;
  readonly host: string;
  readonly passed: boolean;
  readonly isConclusive: boolean;
  readonly findings: readonly Finding[];
}

const mostAttempts = 999_999_999;

/**
 * Tests a store with canaries and records what was found; from then on its word is believed, or not. Two tests at
 * once do each other no harm. What could not be reached is recorded too, and changes nothing.
 */
export async function testMassStore(
  db: Db,
  row: Pick<MassStoreRow, 'id'>,
  store: MassStore,
  options: PutOptions = {},
): Promise<SelfTest> {
  const test = await selfTest(store, randomInt(1, mostAttempts), options);
  await inTransaction(db, { principal: 'self-test' }, (tx) =>
    rows(
      tx,
      sql`insert into store_tests (store_id, host, passed, is_conclusive, findings)
        values (${row.id}, ${test.host}, ${test.passed}, ${test.isConclusive}, ${JSON.stringify(
          test.trouble === undefined
            ? test.findings
            : [...test.findings, { step: 'could not go on', reason: test.trouble }],
        )}::jsonb)`,
    ),
  );
  return test;
}

/** Whether the last test is a day old, or there is none. */
export async function dueForTest(db: Db, storeId: number): Promise<boolean> {
  const row = await firstRow(
    db.fork(),
    sql<{ due: boolean }>`select not exists (select from store_tests
      where store_id = ${storeId} and tested_at > clock_timestamp() - interval '1 day') as due`,
  );
  return row?.due ?? true;
}

/** The last test of each of these stores. */
export async function lastTests(db: Db, storeIds: readonly number[]): Promise<StoreTestRow[]> {
  return rows(
    db.fork(),
    sql<StoreTestRow>`
    select distinct on (store_id) store_id as "storeId", tested_at as "testedAt", host, passed,
      is_conclusive as "isConclusive", findings
    from store_tests where store_id = any (${storeIds}::integer[]) order by store_id, id desc`,
  );
}

/** An operator has a store tested now, from the host of the server; NOT_FOUND. */
export async function checkMassStore(
  db: Db,
  stores: OpenStores,
  viewer: Viewer,
  name: string | null | undefined,
): Promise<MassStoreRow> {
  demand(viewer, 'testStores');
  const row = await getMassStore(db, name);
  demand(viewer, 'testStores', { site: row.site.name });
  await testMassStore(db, row, stores.of(row));
  return getMassStore(db, row.name);
}
