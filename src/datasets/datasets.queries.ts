import type { Viewer } from '../access/policy.ts';
import { visibleDataset, visibleThroughDataset } from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type PageQuery,
} from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { SweepbookError } from '../errors.ts';
import {
  fileColumns,
  fileConditions,
  filesOrder,
  type FileConditions,
} from '../files/files.queries.ts';
import type { DatasetKind, DatasetStatus } from './datasets.rules.ts';

export interface DatasetRow {
  readonly id: number;
  readonly name: string;
  readonly kind: DatasetKind;
  readonly status: DatasetStatus;
  readonly owner: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly treeName: string | null;
  readonly description: string | null;
  readonly sealed: boolean;
  readonly backupWaived: boolean;
  readonly waiverReason: string | null;
  readonly isAvailable: boolean;
  readonly isBad: boolean;
  readonly fileCount: number;
  readonly confirmedCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly version: number;
  readonly createdAt: Date;
  readonly backedUpAt: Date | null;
  readonly closedAt: Date | null;
}

/** Over the alias d (datasets). */
export const datasetColumns = sql`d.id, d.name, d.kind, d.status, d.owner, d.stream, d.release, d.tree_name as "treeName",
  d.description, d.sealed, d.backup_waived as "backupWaived",
  d.waiver_reason as "waiverReason", d.is_available as "isAvailable", d.bad_mark_count > 0 as "isBad",
  d.file_count as "fileCount", d.confirmed_count as "confirmedCount", d.size_bytes as "sizeBytes",
  d.event_count as "eventCount", d.version, d.created_at as "createdAt", d.backed_up_at as "backedUpAt",
  d.closed_at as "closedAt"`;

export async function datasetsByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<DatasetRow[]> {
  return rows(
    db,
    sql<DatasetRow>`select ${datasetColumns} from datasets d
      where d.id = any (${ids}::bigint[]) and ${visibleDataset(viewer)}`,
  );
}

/** The dataset of this name, if the viewer may see it: condition on datasets d. */
export const datasetIsNamed = (viewer: Viewer, name: string | Late): RawBuilder<unknown> =>
  sql`d.name = ${name} and ${visibleDataset(viewer)}`;

/**
 * A dataset by name; undefined when there is none that the viewer may see. A published one that has
 * turned bad says so and why (DATASET_BAD): its users must learn what happened to it.
 */
export async function findDataset(
  db: Db,
  viewer: Viewer,
  name: string,
): Promise<DatasetRow | undefined> {
  const clean = name.replaceAll('\0', '');
  const found = await firstRow(
    db,
    sql<DatasetRow>`select ${datasetColumns} from datasets d where ${datasetIsNamed(viewer, clean)}`,
  );
  if (found) return found;
  const bad = await firstRow(
    db,
    sql<{ reason: string; markedAt: Date }>`
    select b.reason, b.marked_at as "markedAt" from datasets d join bad_marks b on b.dataset_id = d.id
    where d.name = ${clean} and d.status = 'CLOSED' and b.cleared_at is null order by b.id limit 1`,
  );
  if (!bad) return undefined;
  throw new SweepbookError(
    'DATASET_BAD',
    `dataset ${name} is marked bad since ${bad.markedAt.toISOString()}: ${bad.reason}`,
    { dataset: name, reason: bad.reason, markedAt: bad.markedAt },
  );
}

export interface DatasetConditions {
  readonly name?: NameConditions | null | undefined;
  readonly kind?: readonly DatasetKind[] | null | undefined;
  readonly status?: readonly DatasetStatus[] | null | undefined;
  readonly owner?: string | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly isBad?: boolean | null | undefined;
}

/** Bad and unfinished data is left out unless it is asked for. */
function datasetConditions(viewer: Viewer, filter: DatasetConditions): RawBuilder<unknown> {
  return allOf([
    visibleDataset(viewer),
    nameIs(sql`d.name`, filter.name),
    filter.kind ? sql`d.kind = any (${filter.kind}::text[])` : undefined,
    filter.status
      ? sql`d.status = any (${filter.status}::text[])`
      : filter.isBad == null
        ? sql`d.is_available`
        : undefined,
    filter.isBad == null
      ? sql`d.bad_mark_count = 0`
      : sql`(d.bad_mark_count > 0) = ${filter.isBad}`,
    filter.owner ? sql`d.owner = ${filter.owner}` : undefined,
    filter.stream ? sql`d.stream = ${filter.stream}` : undefined,
    filter.release ? sql`d.release = ${filter.release}` : undefined,
  ]);
}

export const datasetOrders = ['NAME', 'CREATED_AT_DESC', 'CLOSED_AT_DESC'] as const;
export type DatasetOrder = (typeof datasetOrders)[number];

const idLast: OrderKey = { sql: sql`d.id`, type: 'bigint', descending: true };
const orderKeys: Record<DatasetOrder, OrderKey[]> = {
  NAME: [{ sql: sql`d.name`, type: 'text' }],
  CREATED_AT_DESC: [{ sql: sql`d.created_at`, type: 'timestamptz', descending: true }, idLast],
  CLOSED_AT_DESC: [
    {
      sql: sql`coalesce(d.closed_at, timestamptz '0001-01-01 00:00:00+00')`,
      type: 'timestamptz',
      descending: true,
    },
    idLast,
  ],
};

/** Datasets as far as the viewer may see them; `of` narrows them to what belongs to something. */
export function datasetsPage(
  viewer: Viewer,
  filter: DatasetConditions | 'all',
  order: DatasetOrder,
  of?: RawBuilder<unknown>,
): PageQuery {
  return {
    order: `datasets:${order}`,
    keys: orderKeys[order],
    select: datasetColumns,
    from: sql`datasets d`,
    where: allOf([
      of,
      filter === 'all' ? visibleDataset(viewer) : datasetConditions(viewer, filter),
    ]),
  };
}

export async function listDatasets(
  db: Db,
  viewer: Viewer,
  filter: DatasetConditions | 'all',
  order: DatasetOrder,
  page: PageArguments,
  of?: RawBuilder<unknown>,
): Promise<Page<DatasetRow>> {
  return readPage<DatasetRow>(db, datasetsPage(viewer, filter, order, of), page);
}

export interface BadMarkRow {
  readonly datasetId: number;
  readonly reason: string;
  readonly markedBy: string;
  readonly markedAt: Date;
}

export const badMarkColumns = sql`reason, marked_by as "markedBy", marked_at as "markedAt"`;

/** The oldest standing mark of each. */
export async function badMarksOf(db: Db, ids: readonly number[]): Promise<BadMarkRow[]> {
  return rows(
    db,
    sql<BadMarkRow>`
    select distinct on (dataset_id) dataset_id as "datasetId", ${badMarkColumns}
    from bad_marks where dataset_id = any (${ids}::bigint[]) and cleared_at is null order by dataset_id, id`,
  );
}

export interface DatasetRunSummary {
  readonly datasetId: number;
  /** Sum over the runs, 1/pb; null when no run has one. */
  readonly luminosity: number | null;
  readonly first: number | null;
  readonly last: number | null;
}

/** Luminosity and run range of datasets, from the runs that their files hold; each run counts once. */
export async function runSummariesOf(db: Db, ids: readonly number[]): Promise<DatasetRunSummary[]> {
  return rows(
    db,
    sql<DatasetRunSummary>`
    select x.dataset_id as "datasetId", sum(r.luminosity) as luminosity, min(r.number) as first, max(r.number) as last
    from (select distinct df.dataset_id, fr.run_id from dataset_files df join file_runs fr on fr.file_id = df.file_id
          where df.dataset_id = any (${ids}::bigint[])) x
    join runs r on r.id = x.run_id group by x.dataset_id`,
  );
}

/** Whether the viewer sees a dataset right now and it fits; for feeds. */
export async function datasetFits(
  db: Db,
  viewer: Viewer,
  id: number,
  filter: Pick<DatasetConditions, 'name' | 'kind'>,
): Promise<boolean> {
  const found = await rows(
    db,
    sql`select d.id from datasets d where ${allOf([
      sql`d.id = ${id}`,
      visibleDataset(viewer),
      nameIs(sql`d.name`, filter.name),
      filter.kind ? sql`d.kind = any (${filter.kind}::text[])` : undefined,
    ])}`,
  );
  return found.length > 0;
}

/** A dataset and its runs: condition on runs r. `id` is a number or a column. */
export const runsOfDataset = (id: unknown): RawBuilder<unknown> =>
  sql`r.id in (select fr.run_id from dataset_files df join file_runs fr on fr.file_id = df.file_id
    where df.dataset_id = ${id})`;

/** The files of a dataset by LFN; the list of the dataset has the names in order. `id` is a number or a column. */
export function datasetFilesPage(viewer: Viewer, filter: FileConditions, id: unknown): PageQuery {
  return {
    order: filesOrder,
    keys: [{ sql: sql`df.lfn`, type: 'text' }],
    select: fileColumns,
    from: sql`dataset_files df join datasets d on d.id = df.dataset_id
      join files f on f.id = df.file_id left join sites s on s.id = f.site_id`,
    where: allOf([
      sql`df.dataset_id = ${id}`,
      fileConditions(filter),
      visibleThroughDataset(viewer),
    ]),
  };
}

/** The datasets that hold a file: condition on datasets d. `id` is a number or a column. */
export const datasetsOfFile = (id: unknown): RawBuilder<unknown> =>
  sql`d.id in (select dataset_id from dataset_files where file_id = ${id})`;
