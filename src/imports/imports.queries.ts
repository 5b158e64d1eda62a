import { may, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { ManifestHead } from './manifest.ts';
import type { ImportFileStatus, ImportStatus } from './imports.rules.ts';

/** What of a manifest's first line is kept. */
export type Origin = Pick<ManifestHead, 'site' | 'exportedAt' | 'cursor' | 'dataset'>;

export interface ImportRow {
  readonly id: number;
  readonly status: ImportStatus;
  readonly datasetName: string;
  readonly sourceSite: string;
  readonly origin: Origin;
  readonly manifestSha256: string;
  readonly signedBy: string | null;
  readonly store: string;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly runCount: number;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly finishedAt: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly datasetId: number | null;
}

const importColumns = sql`i.id, i.status, i.dataset_name as "datasetName", i.source_site as "sourceSite", i.origin,
  i.manifest_sha256 as "manifestSha256", i.signed_by as "signedBy", m.name as store, i.file_count as "fileCount",
  i.size_bytes as "sizeBytes", i.event_count as "eventCount", i.run_count as "runCount",
  i.requested_by as "requestedBy", i.requested_at as "requestedAt", i.finished_at as "finishedAt",
  i.last_error_code as "lastErrorCode", i.last_error as "lastError", i.dataset_id as "datasetId"`;
const importTables = sql`imports i join mass_stores m on m.id = i.store_id`;

/** An importer sees his own imports, production all. */
const visibleImport = (viewer: Viewer): RawBuilder<unknown> => {
  if (may(viewer, 'readImports')) return sql`true`;
  return may(viewer, 'readImports', viewer.principal)
    ? sql`i.requested_by = ${viewer.principal}`
    : sql`false`;
};

export async function importsByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<ImportRow[]> {
  return rows(
    db,
    sql<ImportRow>`select ${importColumns} from ${importTables}
      where i.id = any (${ids}::bigint[]) and ${visibleImport(viewer)}`,
  );
}

export interface ImportConditions {
  readonly status?: readonly ImportStatus[] | null | undefined;
  readonly site?: string | null | undefined;
  readonly dataset?: string | null | undefined;
}

/** Imports, the last one first. */
export async function listImports(
  db: Db,
  viewer: Viewer,
  filter: ImportConditions,
  page: PageArguments,
): Promise<Page<ImportRow>> {
  return readPage<ImportRow>(
    db,
    {
      order: 'imports:id',
      keys: [{ sql: sql`i.id`, type: 'bigint', descending: true }],
      select: importColumns,
      from: importTables,
      where: allOf([
        visibleImport(viewer),
        filter.status ? sql`i.status = any (${filter.status}::text[])` : undefined,
        filter.site == null ? undefined : sql`i.source_site = ${filter.site}`,
        filter.dataset == null ? undefined : sql`i.dataset_name = ${filter.dataset}`,
      ]),
    },
    page,
  );
}

/** How far the files of an import are; counts are files. */
export interface ProgressRow {
  readonly importId: number;
  readonly waiting: number;
  readonly fetching: number;
  readonly backingUp: number;
  readonly safe: number;
  readonly failed: number;
  readonly fetchedBytes: number;
  readonly lastError: string | null;
}

export async function progressOfImports(db: Db, ids: readonly number[]): Promise<ProgressRow[]> {
  return rows(
    db,
    sql<ProgressRow>`
    select t.id as "importId", coalesce(n.waiting, 0) as waiting, coalesce(n.fetching, 0) as fetching,
      coalesce(n.backing_up, 0) as "backingUp", coalesce(n.safe, 0) as safe, coalesce(n.failed, 0) as failed,
      coalesce(n.bytes, 0)::bigint as "fetchedBytes", coalesce(e.last_error, i.last_error) as "lastError"
    from unnest(${ids}::bigint[]) as t (id) join imports i on i.id = t.id left join lateral (
      select count(*) filter (where status = 'WAITING') as waiting, count(*) filter (where status = 'FETCHING') as fetching,
        count(*) filter (where status = 'BACKING_UP') as backing_up, count(*) filter (where status = 'SAFE') as safe,
        count(*) filter (where status = 'FAILED') as failed,
        sum(case when status in ('BACKING_UP', 'SAFE') then size_bytes else fetched_bytes end) as bytes
      from import_files f where f.import_id = t.id) n on true
    left join lateral (
      select last_error from import_files f where f.import_id = t.id and f.status in ('FAILED', 'WAITING')
        and f.last_error is not null order by f.status, f.id limit 1) e on true`,
  );
}

export interface ImportFileRow {
  readonly id: number;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly status: ImportFileStatus;
  readonly line: number;
  readonly urls: string[];
  readonly fetchedFrom: string | null;
  readonly fetchedBytes: number;
  readonly attempts: number;
  readonly nextAttemptAt: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
}

/** The files of an import by LFN; the caller has looked whether the import may be seen. */
export async function listImportFiles(
  db: Db,
  importId: number,
  statuses: readonly ImportFileStatus[] | null,
  page: PageArguments,
): Promise<Page<ImportFileRow>> {
  return readPage<ImportFileRow>(
    db,
    {
      order: `import-files:${importId}`,
      keys: [{ sql: sql`x.lfn`, type: 'text' }],
      select: sql`x.id, x.lfn, x.size_bytes as "sizeBytes", x.status, x.line, x.urls, x.fetched_from as "fetchedFrom",
        case when x.status in ('BACKING_UP', 'SAFE') then x.size_bytes else x.fetched_bytes end as "fetchedBytes",
        x.attempt as attempts, case when x.status = 'WAITING' then x.next_attempt_at end as "nextAttemptAt",
        x.last_error_code as "lastErrorCode", x.last_error as "lastError"`,
      from: sql`import_files x`,
      where: allOf([
        sql`x.import_id = ${importId}`,
        statuses ? sql`x.status = any (${statuses}::text[])` : undefined,
      ]),
    },
    page,
  );
}

export interface OriginRow {
  readonly datasetId: number;
  readonly importId: number;
  readonly origin: Origin;
  readonly manifestSha256: string;
  readonly signedBy: string | null;
  readonly requestedBy: string;
  readonly enteredAt: Date;
}

/** Where imported datasets come from; the caller has looked whether they may be seen. */
export async function originRows(db: Db, datasetIds: readonly number[]): Promise<OriginRow[]> {
  return rows(
    db,
    sql<OriginRow>`
    select i.dataset_id as "datasetId", i.id as "importId", i.origin, i.manifest_sha256 as "manifestSha256",
      i.signed_by as "signedBy", i.requested_by as "requestedBy", i.finished_at as "enteredAt"
    from imports i where i.dataset_id = any (${datasetIds}::bigint[])`,
  );
}

/** The sites that a dataset came through, the one that made it first. */
export async function originsOf(
  db: Db,
  datasetId: number,
): Promise<ManifestHead['dataset']['origins']> {
  const [row] = await originRows(db.fork(), [datasetId]);
  if (!row) return [];
  const { site, exportedAt, dataset } = row.origin;
  return [...dataset.origins, { site, dataset: dataset.name, exportedAt }].slice(-20);
}
