import { may, type Viewer } from '../access/policy.ts';
import { visibleDataset, visibleFile } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { PoolCopyStatus } from './pools.rules.ts';

export interface StageRow {
  readonly id: number;
  readonly pool: string;
  readonly principal: string;
  /** null = files that were named, or one that is not seen any more. */
  readonly dataset: string | null;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly pinSeconds: number;
  readonly requestedAt: Date;
  readonly releasedAt: Date | null;
  readonly releasedBy: string | null;
}

/** A stage request (alias r) is the business of who made it, and of operators. */
function visibleStage(viewer: Viewer): RawBuilder<unknown> {
  if (may(viewer, 'handleStage')) return sql`true`;
  if (!may(viewer, 'handleStage', viewer.principal)) return sql`false`;
  return sql`r.principal = ${viewer.principal}`;
}

const columns = (viewer: Viewer) => sql`r.id, o.name as pool, r.principal, (
    select d.name from datasets d where d.id = r.dataset_id and ${visibleDataset(viewer)}) as dataset,
  r.file_count as "fileCount", r.size_bytes as "sizeBytes", r.pin_seconds as "pinSeconds",
  r.requested_at as "requestedAt", r.released_at as "releasedAt", r.released_by as "releasedBy"`;
const tables = sql`stage_requests r join pools o on o.id = r.pool_id`;

export async function stagesByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<StageRow[]> {
  return rows(
    db,
    sql<StageRow>`select ${columns(viewer)} from ${tables}
      where r.id = any (${ids}::bigint[]) and ${visibleStage(viewer)}`,
  );
}

export interface StageConditions {
  readonly pool?: string | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly requestedBy?: string | null | undefined;
  readonly isReleased?: boolean | null | undefined;
}

/** Stage requests, the last one first. */
export async function listStages(
  db: Db,
  viewer: Viewer,
  filter: StageConditions,
  page: PageArguments,
): Promise<Page<StageRow>> {
  return readPage<StageRow>(
    db,
    {
      order: 'stages:id',
      keys: [{ sql: sql`r.id`, type: 'bigint', descending: true }],
      select: columns(viewer),
      from: tables,
      where: allOf([
        visibleStage(viewer),
        filter.pool == null ? undefined : sql`o.name = ${filter.pool}`,
        filter.requestedBy == null ? undefined : sql`r.principal = ${filter.requestedBy}`,
        filter.dataset == null
          ? undefined
          : sql`r.dataset_id = (select d.id from datasets d
              where d.name = ${filter.dataset} and ${visibleDataset(viewer)})`,
        filter.isReleased == null
          ? undefined
          : sql`(r.released_at is not null) = ${filter.isReleased}::boolean`,
      ]),
    },
    page,
  );
}

/** How the files of a request come along; counts are files. */
export interface StageProgressRow {
  readonly requestId: number;
  readonly waiting: number;
  readonly recalling: number;
  readonly copying: number;
  readonly online: number;
  readonly failed: number;
  readonly gone: number;
  readonly copiedBytes: number;
  readonly pinnedUntil: Date | null;
  readonly lastError: string | null;
}

export async function progressOfStages(
  db: Db,
  ids: readonly number[],
): Promise<StageProgressRow[]> {
  return rows(
    db,
    sql<StageProgressRow>`
    select t.id as "requestId", n.waiting, n.recalling, n.copying, n.online, n.failed, n.gone,
      n.bytes::bigint as "copiedBytes", n.pinned as "pinnedUntil", e.last_error as "lastError"
    from unnest(${ids}::bigint[]) as t (id) cross join lateral (
      select
        count(*) filter (where c.status = 'REQUESTED' or (c.status in ('EVICTING', 'EVICTED') and i.pinned_until is null
          and i.released_at is null)) as waiting,
        count(*) filter (where c.status = 'RECALLING') as recalling, count(*) filter (where c.status = 'COPYING') as copying,
        count(*) filter (where c.status = 'ONLINE') as online, count(*) filter (where c.status = 'FAILED') as failed,
        count(*) filter (where c.status in ('LOST', 'CANCELLED') or (c.status in ('EVICTING', 'EVICTED')
          and (i.pinned_until is not null or i.released_at is not null))) as gone,
        coalesce(sum(case c.status when 'ONLINE' then c.size_bytes when 'COPYING' then c.copied_bytes else 0 end), 0) as bytes,
        min(i.pinned_until) filter (where i.released_at is null and c.status = 'ONLINE') as pinned
      from stage_items i join pool_copies c on c.id = i.copy_id where i.request_id = t.id) n
    left join lateral (
      select c.last_error from stage_items i join pool_copies c on c.id = i.copy_id
      where i.request_id = t.id and c.status in ('FAILED', 'REQUESTED') and c.last_error is not null
      order by c.status, c.id limit 1) e on true`,
  );
}

export interface StagedFileRow {
  readonly fileId: number;
  readonly copyId: number;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly status: PoolCopyStatus;
  readonly copiedBytes: number;
  readonly pinnedUntil: Date | null;
  readonly isReleased: boolean;
  readonly attempts: number;
  readonly nextAttemptAt: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
}

/** The files of a request by LFN, as far as they are seen now; the caller has looked whether the request is. */
export async function listStagedFiles(
  db: Db,
  viewer: Viewer,
  requestId: number,
  statuses: readonly PoolCopyStatus[] | null,
  page: PageArguments,
): Promise<Page<StagedFileRow>> {
  return readPage<StagedFileRow>(
    db,
    {
      order: `staged-files:${requestId}`,
      keys: [{ sql: sql`f.lfn`, type: 'text' }],
      select: sql`f.id as "fileId", c.id as "copyId", f.lfn, f.size_bytes as "sizeBytes", c.status,
        case c.status when 'ONLINE' then c.size_bytes else c.copied_bytes end as "copiedBytes",
        i.pinned_until as "pinnedUntil", i.released_at is not null as "isReleased", c.attempt as attempts,
        case when c.status = 'REQUESTED' then c.next_attempt_at end as "nextAttemptAt",
        c.last_error_code as "lastErrorCode", c.last_error as "lastError"`,
      from: sql`stage_items i join pool_copies c on c.id = i.copy_id join files f on f.id = c.file_id`,
      where: allOf([
        sql`i.request_id = ${requestId}`,
        visibleFile(viewer),
        statuses ? sql`c.status = any (${statuses}::text[])` : undefined,
      ]),
    },
    page,
  );
}

/** What lies in each pool: copies that are there, and bytes that pins hold. */
export interface PoolContent {
  readonly poolId: number;
  readonly onlineCount: number;
  readonly pinnedBytes: number;
}

export async function contentOfPools(db: Db, ids: readonly number[]): Promise<PoolContent[]> {
  return rows(
    db,
    sql<PoolContent>`
    select t.id as "poolId", count(c.id) as "onlineCount",
      coalesce(sum(c.size_bytes) filter (where c.pinned_until > clock_timestamp()), 0)::bigint as "pinnedBytes"
    from unnest(${ids}::integer[]) as t (id) left join pool_copies c on c.pool_id = t.id and c.status = 'ONLINE'
    group by t.id`,
  );
}
