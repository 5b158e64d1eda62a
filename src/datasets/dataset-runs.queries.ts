import type { Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import { oneOf } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type OrderKey, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { badInput, SweepbookError } from '../errors.ts';
import {
  listRunsOf,
  runConditions,
  type RunConditions,
  type RunRow,
  type RunsOf,
} from '../runs/runs.queries.ts';
import type { RunSource, RunVerdict } from '../runs/runs.rules.ts';
import { findDataset } from './datasets.queries.ts';

/** What one dataset holds of one run. */
export interface DatasetRunRow {
  readonly datasetId: number;
  readonly runId: number;
  readonly source: RunSource;
  readonly number: number;
  readonly fileCount: number;
  readonly eventCount: number;
  readonly sizeBytes: number;
  readonly luminosity: number | null;
}

/** Of the runs that were asked for, in one dataset. */
export interface DatasetRunTotals {
  readonly dataset: string;
  readonly runCount: number;
  readonly eventCount: number;
  /** 1/pb; null when no run has one. */
  readonly luminosity: number | null;
}

export interface DatasetRunConditions {
  readonly filter: RunConditions;
  readonly verdict?: RunVerdict | null | undefined;
  /** Events of the run in the dataset. */
  readonly minEvents?: number | null | undefined;
}

export interface NamedDataset {
  readonly id: number;
  readonly name: string;
}

export const mostDatasetsPerQuery = 200;

/** The datasets of these names. One that is missing would be missing from the sums: NOT_FOUND, DATASET_BAD. */
export async function demandDatasets(
  db: Db,
  viewer: Viewer,
  names: readonly string[],
): Promise<NamedDataset[]> {
  if (names.length > mostDatasetsPerQuery) {
    throw badInput('datasets', names.length, `at most ${mostDatasetsPerQuery} in one query`);
  }
  const found = await rows(
    db,
    sql<NamedDataset>`select d.id, d.name from datasets d
      where ${oneOf(sql`d.name`, names)} and ${visibleDataset(viewer)} order by d.name`,
  );
  const seen = new Set(found.map((dataset) => dataset.name));
  const missing = names.filter((name) => !seen.has(name));
  if (missing.length === 0) return found;
  for (const name of missing) await findDataset(db, viewer, name);
  throw new SweepbookError(
    'NOT_FOUND',
    `no dataset ${missing[0]}: look at "dataset list", names are case-sensitive`,
    { count: missing.length, first: missing.slice(0, 20) },
  );
}

/** Conditions on a dataset's run x and the run r itself. */
function conditions(viewer: Viewer, { filter, verdict, minEvents }: DatasetRunConditions) {
  return allOf([
    runConditions(viewer, filter, 'all'),
    verdict == null ? undefined : runConditions(viewer, { verdict }, 'all'),
    minEvents == null ? undefined : sql`x.event_count >= ${minEvents}::bigint`,
  ]);
}

const columns = sql`x.dataset_id as "datasetId", x.run_id as "runId", x.source, x.number,
  x.file_count as "fileCount", x.event_count as "eventCount", x.size_bytes as "sizeBytes", x.luminosity`;
/** As they stand inside of the page of one dataset and outside of it. */
const keys: OrderKey[] = [
  { sql: sql`w.name`, type: 'text' },
  { sql: sql`x.source`, type: 'text' },
  { sql: sql`x.number`, type: 'bigint' },
];

/** The runs of several datasets, one dataset after the other by name, each by run. */
export async function listDatasetRuns(
  db: Db,
  viewer: Viewer,
  datasets: readonly NamedDataset[],
  asked: DatasetRunConditions,
  page: PageArguments,
): Promise<Page<DatasetRunRow>> {
  const wanted = wantedDatasets(datasets);
  const such = conditions(viewer, asked);
  return readPage<DatasetRunRow>(
    db,
    {
      order: 'datasetRuns',
      keys,
      select: columns,
      from: sql`${wanted} join dataset_runs x on x.dataset_id = w.id join runs r on r.id = x.run_id`,
      where: sql`true`,
      // Each dataset gives its own page, in order by its index: the long ones are not read to the end.
      pageFrom: (place, limit) => sql`${wanted} cross join lateral (
        select x.*, r.luminosity from dataset_runs x join runs r on r.id = x.run_id
        where x.dataset_id = w.id and ${such} and ${place} order by x.source, x.number limit ${limit}) x`,
      countWhere: such,
    },
    page,
  );
}

const wantedDatasets = (datasets: readonly NamedDataset[]): RawBuilder<unknown> =>
  sql`unnest(${datasets.map((one) => one.id)}::bigint[], ${datasets.map((one) => one.name)}::text[]) as w (id, name)`;

/** Sums over the runs asked for, dataset by dataset; one without such a run has zeros. */
export async function datasetRunTotals(
  db: Db,
  viewer: Viewer,
  datasets: readonly NamedDataset[],
  asked: DatasetRunConditions,
): Promise<DatasetRunTotals[]> {
  return rows(
    db,
    sql<DatasetRunTotals>`
    select w.name as dataset, count(t.number) as "runCount", coalesce(sum(t.event_count), 0) as "eventCount",
      sum(t.luminosity::numeric) as luminosity
    from ${wantedDatasets(datasets)} left join lateral (
      select x.number, x.event_count, r.luminosity from dataset_runs x join runs r on r.id = x.run_id
      where x.dataset_id = w.id and ${conditions(viewer, asked)}) t on true
    group by w.name order by w.name`,
  );
}

/** The runs of one dataset, by source and number; `datasetId` is a number or a column. */
export function runsOfDataset(
  viewer: Viewer,
  datasetId: unknown,
  asked: DatasetRunConditions,
): RunsOf {
  return {
    from: sql`dataset_runs x join runs r on r.id = x.run_id`,
    where: allOf([sql`x.dataset_id = ${datasetId}`, conditions(viewer, asked)]),
    keys: keys.slice(1),
  };
}

export async function listRunsOfDataset(
  db: Db,
  viewer: Viewer,
  datasetId: number,
  asked: DatasetRunConditions,
  page: PageArguments,
): Promise<Page<RunRow>> {
  return listRunsOf(db, viewer, runsOfDataset(viewer, datasetId, asked), page);
}
