import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import type { Evidence } from '../storage/contract.ts';

/** A copy that was read and is not what was registered: on disk, or in a mass store. */
export interface LostCopy {
  readonly fileId: number;
  readonly lfn: string;
  readonly replicaId: number | null;
  readonly backupId: number | null;
}

export interface Loss {
  readonly says: string;
  readonly code: string;
  readonly evidence: Evidence;
}

const longestReason = 2000;

/**
 * The copy is LOST, by the steps of its life, and what was found is kept with it. Datasets that lose
 * their safety by it are marked bad in the same transaction; returns their names.
 */
export async function loseCopy(
  tx: Db,
  { fileId, lfn, replicaId, backupId }: LostCopy,
  { says, code, evidence }: Loss,
): Promise<string[]> {
  // Of two copies that are lost at once the second sees that nothing is left.
  await rows(tx, sql`select from files where id = ${fileId} for no key update`);
  await rows(
    tx,
    sql`update replicas set status = 'LOST' where id = ${replicaId} and status = 'AVAILABLE'`,
  );
  await rows(
    tx,
    sql`update backup_records set status = 'LOST', last_error_code = ${code}, last_error = ${says},
        evidence = ${JSON.stringify(evidence)}::jsonb
      where id = ${backupId} and status = 'CONFIRMED'`,
  );
  const reason = `a copy of ${lfn} was read and is not what was registered: ${says}`;
  const marked = await rows(
    tx,
    sql<{ name: string }>`
    with hit as (
      select d.id, d.name from datasets d join dataset_files df on df.dataset_id = d.id join files f on f.id = df.file_id
      where f.id = ${fileId} and d.status <> 'OPEN' and f.confirmed_copies = 0
        -- A waived dataset lives by its copies on disk; every other one by its confirmed backups.
        and (not d.backup_waived or not exists (
          select from replicas p where p.file_id = f.id and p.status = 'AVAILABLE'))
      order by d.id for no key update of d),
    marks as (
      insert into bad_marks (dataset_id, reason)
      select id, ${reason.slice(0, longestReason)} from hit order by id returning dataset_id)
    select hit.name from hit join marks on marks.dataset_id = hit.id order by hit.name`,
  );
  return marked.map(({ name }) => name);
}
