import { may, type Viewer } from '../access/policy.ts';
import { visibleDataset, visibleRun } from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import { nameIs, oneOf, textIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type PageQuery,
} from '../database/page.ts';
import {
  countIn,
  timeIn,
  type CountConditions,
  type TimeConditions,
} from '../database/range-filter.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { SweepbookError } from '../errors.ts';
import { numberIn } from '../runs/runs.queries.ts';
import { parseRunRanges, runSources, type RunSource } from '../runs/runs.rules.ts';
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
  readonly runCount: number;
  /** Sum over its runs, each once, 1/pb; null when no run has one. */
  readonly luminosity: number | null;
  readonly firstRun: number | null;
  readonly lastRun: number | null;
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
  d.event_count as "eventCount", d.run_count as "runCount",
  case when d.luminosity_run_count > 0 then d.luminosity end as luminosity,
  d.first_run as "firstRun", d.last_run as "lastRun", d.version, d.created_at as "createdAt", d.backed_up_at as "backedUpAt",
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
    sql<BadMarkRow & { incident: number | null }>`
    select b.incident_id as incident, ${badMarkColumns} from ${badMarkTables} join datasets d on d.id = b.dataset_id
    where d.name = ${clean} and d.status = 'CLOSED' and b.cleared_at is null order by b.id limit 1`,
  );
  if (!bad) return undefined;
  const { reason, markedAt, incident, lostFileCount } = bad;
  const isLoss = incident !== null;
  throw new SweepbookError(
    'DATASET_BAD',
    `dataset ${name} is marked bad since ${markedAt.toISOString()}: ${reason}` +
      (isLoss ? `; ${lostFileCount} of ${bad.fileCount} files are not good now` : ''),
    {
      dataset: name,
      reason,
      markedAt,
      ...(isLoss ? { incident, lostFileCount, fileCount: bad.fileCount } : {}),
    },
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
  readonly backupWaived?: boolean | null | undefined;
  /** Ranges of run numbers, "36172-39320,40001": with data of any run in them. */
  readonly runs?: string | null | undefined;
  readonly holdsRun?: { readonly number: number; readonly source: RunSource } | null | undefined;
  readonly minEvents?: number | null | undefined;
  readonly sizeBytes?: CountConditions | null | undefined;
  readonly fileCount?: CountConditions | null | undefined;
  readonly createdAt?: TimeConditions | null | undefined;
  readonly closedAt?: TimeConditions | null | undefined;
}

/** Conditions on datasets d. Bad and unfinished data is left out unless it is asked for. */
export function datasetConditions(viewer: Viewer, filter: DatasetConditions): RawBuilder<unknown> {
  return allOf([
    visibleDataset(viewer),
    nameIs(sql`d.name`, filter.name),
    oneOf(sql`d.kind`, filter.kind),
    filter.status
      ? oneOf(sql`d.status`, filter.status)
      : filter.isBad == null
        ? sql`d.is_available`
        : undefined,
    filter.isBad === true ? sql`d.bad_mark_count > 0` : undefined,
    filter.isBad !== true ? sql`d.bad_mark_count = 0` : undefined,
    filter.backupWaived == null
      ? undefined
      : filter.backupWaived
        ? sql`d.backup_waived`
        : sql`not d.backup_waived`,
    textIs(sql`d.owner`, filter.owner),
    textIs(sql`d.stream`, filter.stream),
    textIs(sql`d.release`, filter.release),
    filter.minEvents == null ? undefined : sql`d.event_count >= ${filter.minEvents}::bigint`,
    countIn(sql`d.size_bytes`, filter.sizeBytes),
    countIn(sql`d.file_count`, filter.fileCount),
    timeIn(sql`d.created_at`, filter.createdAt),
    timeIn(sql`d.closed_at`, filter.closedAt),
    filter.holdsRun
      ? holdsRuns(
          viewer,
          sql`x.source = ${filter.holdsRun.source} and x.number = ${filter.holdsRun.number}::bigint`,
        )
      : undefined,
    filter.runs == null
      ? undefined
      : holdsRuns(viewer, numberIn(sql`x.number`, parseRunRanges(filter.runs, 'runs'))),
  ]);
}

/** With data of such runs (x of dataset_runs), as far as the viewer may know them. */
function holdsRuns(viewer: Viewer, which: RawBuilder<unknown>): RawBuilder<unknown> {
  const isKnown = may(viewer, 'readRunStatus')
    ? undefined
    : sql`exists (select from runs r where r.id = x.run_id and ${visibleRun(viewer)})`;
  const bySource = sql`x.source in (${sql.join(runSources.map((source) => sql.lit(source)))})`;
  return sql`d.id in (select x.dataset_id from dataset_runs x where ${allOf([bySource, which, isKnown])})`;
}

export const datasetOrders = [
  'NAME',
  'CREATED_AT_DESC',
  'CLOSED_AT_DESC',
  'SIZE_DESC',
  'EVENTS_DESC',
  'FILES_DESC',
] as const;
export type DatasetOrder = (typeof datasetOrders)[number];

const largestFirst = (key: RawBuilder<unknown>, type: OrderKey['type']): OrderKey[] => [
  { sql: key, type, descending: true },
  { sql: sql`d.id`, type: 'bigint', descending: true },
];
const orderKeys: Record<DatasetOrder, OrderKey[]> = {
  NAME: [{ sql: sql`d.name`, type: 'text' }],
  CREATED_AT_DESC: largestFirst(sql`d.created_at`, 'timestamptz'),
  CLOSED_AT_DESC: largestFirst(
    sql`coalesce(d.closed_at, timestamptz '0001-01-01 00:00:00+00')`,
    'timestamptz',
  ),
  SIZE_DESC: largestFirst(sql`d.size_bytes`, 'bigint'),
  EVENTS_DESC: largestFirst(sql`d.event_count`, 'bigint'),
  FILES_DESC: largestFirst(sql`d.file_count`, 'bigint'),
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

/** The datasets that hold a file: condition on datasets d. `id` is a number or a column. */
export const datasetsOfFile = (id: unknown): RawBuilder<unknown> =>
  sql`d.id in (select dataset_id from dataset_files where file_id = ${id})`;

/** The datasets that hold data of a run: condition on datasets d. Its source and number are values or columns. */
export const datasetsOfRun = (run: {
  readonly source: unknown;
  readonly number: unknown;
}): RawBuilder<unknown> =>
  sql`d.id in (select x.dataset_id from dataset_runs x where x.source = ${run.source} and x.number = ${run.number})`;

export interface BadMarkRow {
  readonly datasetId: number;
  readonly reason: string;
  readonly markedBy: string;
  readonly markedAt: Date;
  /** Set by an incident: files that are not good now, of how many. */
  readonly lostFileCount: number | null;
  readonly fileCount: number | null;
}

/** Over a mark b and what its incident did to the dataset. */
export const badMarkColumns = sql`b.dataset_id as "datasetId", b.reason, b.marked_by as "markedBy", b.marked_at as "markedAt",
  x.lost_count + x.unbacked_count as "lostFileCount", x.file_count as "fileCount"`;
export const badMarkTables = sql`bad_marks b left join incident_datasets x on x.incident_id = b.incident_id and x.dataset_id = b.dataset_id`;

/** The oldest standing mark of each. */
export async function badMarksOf(db: Db, ids: readonly number[]): Promise<BadMarkRow[]> {
  return rows(
    db,
    sql<BadMarkRow>`
    select distinct on (b.dataset_id) ${badMarkColumns} from ${badMarkTables}
    where b.dataset_id = any (${ids}::bigint[]) and b.cleared_at is null order by b.dataset_id, b.id`,
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
      oneOf(sql`d.kind`, filter.kind),
    ])}`,
  );
  return found.length > 0;
}
