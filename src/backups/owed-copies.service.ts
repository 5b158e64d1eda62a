import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import { owedStores } from './backups.queries.ts';
import { requestInTransaction } from './backups.service.ts';

/** A copy that a file owes. */
export interface OwedCopy {
  readonly fileId: number;
  readonly storeId: number;
}

/** Asks for these copies, store by store; what is under way or confirmed stays as it is. */
export async function requestCopies(
  tx: Db,
  jobs: JobQueue,
  owed: readonly OwedCopy[],
): Promise<number> {
  let asked = 0;
  for (const [storeId, files] of Map.groupBy(owed, (row) => row.storeId)) {
    await jobs.prepare(storeId);
    const ids = files.map((row) => row.fileId);
    asked += await requestInTransaction(tx, jobs, ids, storeId);
  }
  return asked;
}

/** Asks for each copy that these files owe. */
export async function requestOwed(
  tx: Db,
  jobs: JobQueue,
  fileIds: readonly number[],
  storeId: number,
): Promise<number> {
  if (fileIds.length === 0) return 0;
  const owed = await rows(
    tx,
    sql<OwedCopy>`
    select f.id as "fileId", w.store_id as "storeId" from files f
    cross join lateral unnest(${owedStores(storeId)}) w (store_id)
    where f.id = any (${fileIds}::bigint[]) order by w.store_id, f.id`,
  );
  return requestCopies(tx, jobs, owed);
}
