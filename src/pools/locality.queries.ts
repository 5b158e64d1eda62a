import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { localityOf, type Locality } from './pools.rules.ts';

/** A copy of a file f in a pool that jobs are sent to. */
const isPooled = sql`exists (select from pool_copies c join pools o on o.id = c.pool_id
  where c.file_id = f.id and c.status = 'ONLINE' and o.is_configured)`;
/** A confirmed copy of a file f in a store like this (s). */
const isStored = (how: RawBuilder<unknown>) => sql`exists (
  select from backup_records b join mass_stores s on s.id = b.store_id
  where b.file_id = f.id and b.status = 'CONFIRMED' and ${how})`;
/** A job can open a file f without waiting. */
const isOnline = sql`(${isPooled} or ${isStored(sql`s.is_configured and not s.has_tape`)})`;

/** Where the copies of these files are; the caller has looked whether the files may be seen. */
export async function localitiesOf(
  db: Db,
  fileIds: readonly number[],
): Promise<Map<number, Locality>> {
  const found = await rows(
    db,
    sql<{
      id: number;
      isOnline: boolean;
      isNearline: boolean;
      isElsewhere: boolean;
      wasThere: boolean;
    }>`
    select f.id, ${isOnline} as "isOnline", ${isStored(sql`s.is_configured and s.has_tape`)} as "isNearline",
      (${isStored(sql`true`)} or exists (select from replicas p
        where p.file_id = f.id and p.status in ('AVAILABLE', 'STAGING'))) as "isElsewhere",
      (exists (select from replicas p where p.file_id = f.id)
        or exists (select from backup_records b where b.file_id = f.id and b.confirmed_at is not null)) as "wasThere"
    from files f where f.id = any (${fileIds}::bigint[])`,
  );
  return new Map(found.map((row) => [row.id, localityOf(row)]));
}

export interface OnlineShareRow {
  readonly fileCount: number;
  readonly onlineFiles: number;
  readonly sizeBytes: number;
  readonly onlineBytes: number;
}

/** How much of a dataset jobs can open without waiting. */
export async function onlineShareOf(db: Db, datasetId: number): Promise<OnlineShareRow> {
  const row = await firstRow(
    db,
    sql<OnlineShareRow>`
    with online as materialized (
      select c.file_id from pool_copies c join pools o on o.id = c.pool_id and o.is_configured
      join dataset_files df on df.file_id = c.file_id and df.dataset_id = ${datasetId} where c.status = 'ONLINE'
      union
      select b.file_id from dataset_files df join backup_records b on b.file_id = df.file_id
      join mass_stores s on s.id = b.store_id and s.is_configured and not s.has_tape
      where df.dataset_id = ${datasetId} and b.status = 'CONFIRMED')
    select d.file_count as "fileCount", d.size_bytes as "sizeBytes", (select count(*) from online) as "onlineFiles",
      (select coalesce(sum(f.size_bytes), 0)::bigint from online o join files f on f.id = o.file_id) as "onlineBytes"
    from datasets d where d.id = ${datasetId}`,
  );
  if (!row) throw new Error(`no dataset ${datasetId}`);
  return row;
}

/** A copy that a job can open without waiting, in a pool or in a store. */
export interface OnlineCopy {
  readonly fileId: number;
  readonly poolId: number | null;
  readonly storeId: number | null;
  /** In a pool: below its folder; in a store: the key. */
  readonly place: string;
}

/** Pools first: they are made for reading. */
export async function onlineCopies(db: Db, fileIds: readonly number[]): Promise<OnlineCopy[]> {
  return rows(
    db,
    sql<OnlineCopy>`
    (select c.file_id as "fileId", c.pool_id as "poolId", null::integer as "storeId",
        substr(c.path, length(o.path) + 1) as place
      from pool_copies c join pools o on o.id = c.pool_id and o.is_configured
      where c.file_id = any (${fileIds}::bigint[]) and c.status = 'ONLINE' order by c.id)
    union all
    (select b.file_id, null, b.store_id, b.store_key from backup_records b
      join mass_stores s on s.id = b.store_id and s.is_configured and not s.has_tape
      where b.file_id = any (${fileIds}::bigint[]) and b.status = 'CONFIRMED' order by s.is_default desc, b.id)`,
  );
}
