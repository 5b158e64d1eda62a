import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import { badCopyInTransaction } from '../incidents/report.service.ts';

/** A copy that was read and is not what was registered: on disk, or in a mass store. */
export interface LostCopy {
  readonly fileId: number;
  readonly lfn: string;
  readonly replicaId: number | null;
  readonly backupId: number | null;
}

const longestReason = 2000;

/**
 * The copy is lost by an incident of its own, in the transaction that writes down what was read; returns
 * the names of the datasets that were marked bad by it.
 */
export async function loseCopy(
  tx: Db,
  { lfn, replicaId }: LostCopy,
  storeId: number | null,
  says: string,
): Promise<string[]> {
  const reason = `a copy of ${lfn} was read and is not what was registered: ${says}`;
  const copy = replicaId === null ? { storeId: storeId ?? 0, lfn } : { replicaId };
  const incidentId = await badCopyInTransaction(tx, copy, reason.slice(0, longestReason));
  const marked = await rows(
    tx,
    sql<{ name: string }>`
    select d.name from bad_marks m join datasets d on d.id = m.dataset_id
    where m.incident_id = ${incidentId} order by d.name`,
  );
  return marked.map(({ name }) => name);
}
