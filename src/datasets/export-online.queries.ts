import type { Db } from '../database/orm.ts';
import { firstRow, sql } from '../database/sql.ts';
import { fits, wasAdded, type ListFilter } from './datasets-export.queries.ts';

/** Pools and stores, by row number, that a job can open files of. */
export interface Reached {
  readonly pools: readonly number[];
  readonly stores: readonly number[];
}

/** The first files of a list that none of these pools and stores has, and how many there are. */
export async function filesOutOfReach(
  db: Db,
  ids: readonly number[],
  filter: ListFilter,
  { pools, stores }: Reached,
): Promise<{ count: number; first: string[] }> {
  const isOfRuns = filter.runs !== undefined || filter.goodRuns;
  const found = await firstRow(
    db.fork(),
    sql<{ count: number; first: string[] }>`
    with missing as (
      select distinct df.lfn from dataset_files df
      where df.dataset_id = any (${ids}::bigint[]) and ${wasAdded(filter)}
        and not exists (select from pool_copies c
          where c.file_id = df.file_id and c.status = 'ONLINE' and c.pool_id = any (${pools}::integer[]))
        and not exists (select from backup_records b
          where b.file_id = df.file_id and b.status = 'CONFIRMED' and b.store_id = any (${stores}::integer[]))
        and ${
          isOfRuns
            ? sql`exists (select from file_runs fr join runs r on r.id = fr.run_id
                where fr.file_id = df.file_id and ${fits(filter)})`
            : sql`true`
        })
    select count(*) as count, array(select lfn from missing order by lfn limit 20) as first from missing`,
  );
  return { count: found?.count ?? 0, first: found?.first ?? [] };
}
