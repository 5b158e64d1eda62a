import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';

/** A file of a dataset with what a job needs to open it. */
export interface ExportRow {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly runs: number[];
  readonly storeId: number | null;
  readonly storeKey: string | null;
  /** Only where there is no confirmed copy: the backup was waived, or is not made yet. */
  readonly replicaPath: string | null;
}

const pageSize = 2000;

/** All files of a dataset by LFN, page by page: memory does not grow with the dataset. */
export async function* exportFiles(
  db: Db,
  datasetId: number,
): AsyncGenerator<ExportRow[], void, void> {
  for (let after = ''; ;) {
    const page = await rows(
      db.fork(),
      sql<ExportRow>`
      select f.lfn, f.size_bytes as "sizeBytes", f.event_count as "eventCount", f.adler32, f.sha256,
        array(select r.number from file_runs fr join runs r on r.id = fr.run_id
              where fr.file_id = f.id order by r.number) as runs,
        c.store_id as "storeId", c.store_key as "storeKey",
        case when c.store_id is null then (
          select p.path from replicas p where p.file_id = f.id and p.status = 'AVAILABLE' order by p.id limit 1)
        end as "replicaPath"
      from dataset_files df join files f on f.id = df.file_id
      left join lateral (
        select b.store_id, b.store_key from backup_records b join mass_stores m on m.id = b.store_id
        where b.file_id = f.id and b.status = 'CONFIRMED' order by m.is_default desc, b.id limit 1) c on true
      where df.dataset_id = ${datasetId} and f.lfn > ${after}
      order by f.lfn limit ${pageSize}`,
    );
    if (page.length > 0) yield page;
    if (page.length < pageSize) return;
    after = page.at(-1)?.lfn ?? '';
  }
}
