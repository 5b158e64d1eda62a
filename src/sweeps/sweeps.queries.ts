import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';

/** How far the last sweep of a dataset has come; counts are files. */
export interface SweepRow {
  readonly datasetId: number;
  readonly isRunning: boolean;
  readonly outcome: 'CLOSED' | 'CANCELLED' | null;
  readonly store: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly finishedAt: Date | null;
  readonly total: number;
  readonly confirmed: number;
  readonly copying: number;
  readonly requested: number;
  readonly failed: number;
  readonly lastError: string | null;
}

/** The last sweep of each dataset that had one. */
export async function sweepsOf(db: Db, datasetIds: readonly number[]): Promise<SweepRow[]> {
  return rows(
    db,
    sql<SweepRow>`
    select s.dataset_id as "datasetId", s.finished_at is null as "isRunning", s.outcome, m.name as store,
      s.requested_by as "requestedBy", s.requested_at as "requestedAt", s.finished_at as "finishedAt",
      d.file_count as total, d.confirmed_count as confirmed, coalesce(n.copying, 0) as copying,
      case when s.finished_at is null
        then d.file_count - d.confirmed_count - coalesce(n.copying, 0) - coalesce(n.failed, 0) else 0 end as requested,
      coalesce(n.failed, 0) as failed, n.last_error as "lastError"
    from (select distinct on (dataset_id) * from sweeps where dataset_id = any (${datasetIds}::bigint[])
          order by dataset_id, id desc) s
    join datasets d on d.id = s.dataset_id
    join mass_stores m on m.id = s.store_id
    left join lateral (
      select count(*) filter (where x.copying and not x.failed) as copying, count(*) filter (where x.failed) as failed,
        (array_agg(x.last_error order by x.told_at desc) filter (where x.last_error is not null))[1] as last_error
      from (
        select bool_or(b.status in ('COPYING', 'COPIED')) as copying, bool_or(b.status = 'FAILED') as failed,
          (array_agg(b.last_error order by b.updated_at desc) filter (where b.last_error is not null))[1] as last_error,
          max(b.updated_at) filter (where b.last_error is not null) as told_at
        from dataset_files df
        join files f on f.id = df.file_id and f.missing_copies > 0
        left join backup_policies p on p.id = f.policy_id
        join backup_records b on b.file_id = f.id and b.store_id = any (coalesce(p.store_ids, array[s.store_id]))
        where df.dataset_id = s.dataset_id group by f.id) x) n on s.finished_at is null`,
  );
}
