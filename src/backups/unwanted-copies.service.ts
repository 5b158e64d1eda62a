import type { Db } from '../database/orm.ts';
import { rows, sql, type RawBuilder } from '../database/sql.ts';

/** A copy in a mass store that nothing counts on. */
export interface UnwantedCopy {
  readonly storeId: number;
  readonly key: string;
}

/** What was called off, or failed, and leaves copies that nobody wants. */
export interface GivenUpFiles {
  /** Its files as rows: file_id, and since when copies are its doing. */
  readonly files: RawBuilder<unknown>;
  /** Stores that can be asked to remove a file; copies in others stay, and stay CONFIRMED. */
  readonly stores: readonly number[];
  /** Always the same words for the same doing: by them those of a worker that died are found again. */
  readonly why: string;
}

/** Whether nothing that goes on, or has come about, has to do with the file (f). */
const isNobodys = sql`not exists (select from dataset_files df where df.file_id = f.id)
  and not exists (select from replicas p where p.file_id = f.id and p.status <> 'LOST')
  and not exists (select from file_parents fp where fp.parent_id = f.id)
  and not exists (select from merges m where m.output_file_id = f.id)
  and not exists (select from merge_inputs mi where mi.input_file_id = f.id)
  and not exists (select from publication_composites k join publications p on p.id = k.publication_id
    where k.file_id = f.id and p.status not in ('FAILED', 'WITHDRAWN'))
  and not exists (select from import_files y join imports j on j.id = y.import_id
    where y.lfn = f.lfn and j.status in ('RUNNING', 'FAILED'))`;

/** Whether it is not settled yet if one of these stores has a copy of the file. */
export const isBeingCopied = (
  fileId: RawBuilder<unknown>,
  stores: readonly number[],
) => sql`exists (
  select from backup_records b where b.file_id = ${fileId} and b.store_id = any (${stores}::integer[])
    and b.status in ('COPYING', 'COPIED'))`;

/** Holds the files until the transaction ends: nobody takes them into a dataset meanwhile. */
export async function holdFiles(tx: Db, files: RawBuilder<unknown>): Promise<void> {
  await rows(
    tx,
    sql`select 1 from files f where f.id in (select file_id from ${files} t) order by f.id for update`,
  );
}

/**
 * Takes copies of these files, which the caller holds, out of the books before their bytes go: those that nobody else
 * wants count as lost, with the reason. Returns all that are to be removed, also what a worker that died has left so. A
 * store never uses such a key again, so it can be removed whatever happens meanwhile, and twice.
 */
export async function giveUpCopies(
  tx: Db,
  { files, stores, why }: GivenUpFiles,
): Promise<UnwantedCopy[]> {
  await rows(
    tx,
    sql`update backup_records b set status = 'LOST', last_error_code = 'NOT_CONFIRMED', last_error = ${why}
      from ${files} t join files f on f.id = t.file_id
      where b.file_id = f.id and b.status = 'CONFIRMED' and b.confirmed_at >= t.since
        and b.store_id = any (${stores}::integer[]) and ${isNobodys}`,
  );
  return rows(
    tx,
    sql<UnwantedCopy>`
    select b.store_id as "storeId", b.store_key as key from ${files} t join backup_records b on b.file_id = t.file_id
    where b.status = 'LOST' and b.last_error = ${why} and b.store_id = any (${stores}::integer[])`,
  );
}
