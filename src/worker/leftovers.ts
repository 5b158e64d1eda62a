import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import type { MassStore, TemporaryFile } from '../storage/contract.ts';

const strangerAgeMs = 3_600_000;
const uploadAgeMs = 86_400_000;

interface RecordState {
  readonly id: number;
  readonly status: string;
  readonly attempt: number;
}

/** Removes what dead attempts left in a store's incoming folder; returns how many files. */
export async function sweepLeftovers(
  db: Db,
  storeId: number,
  store: MassStore,
  now: number,
): Promise<number> {
  // Files first, records after: an attempt that begins meanwhile is not among the files.
  const files = await store.listTemporary();
  if (files.length === 0) return 0;
  const found = await rows(
    db.fork(),
    sql<RecordState>`select id, status, attempt from backup_records
      where store_id = ${storeId} and id = any (${files.map((file) => file.backupId)}::bigint[])`,
  );
  const records = new Map(found.map((row) => [row.id, row]));
  const leftovers = files.filter((file) => isLeftover(file, records.get(file.backupId), now));
  for (const file of leftovers) await store.removeTemporary(file.key);
  return leftovers.length;
}

/** Whether nobody will ever ask for this file again. */
export function isLeftover(
  file: TemporaryFile,
  record: RecordState | undefined,
  now: number,
): boolean {
  const ageMs = now - file.changedAt.getTime();
  if (!record) return ageMs > strangerAgeMs;
  if (file.attempt === undefined) return record.status === 'CONFIRMED' || ageMs > uploadAgeMs;
  // A later attempt than the record knows: the database is older than the store; hands off for a while.
  if (file.attempt > record.attempt) return ageMs > uploadAgeMs;
  return file.attempt < record.attempt || !['COPYING', 'COPIED'].includes(record.status);
}
