import { may, type Viewer } from '../access/policy.ts';
import { seesRunFacts, visibleDataset, visibleRun } from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import { textIs } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type PageQuery,
} from '../database/page.ts';
import { timeIn, type TimeConditions } from '../database/range-filter.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { badInput } from '../errors.ts';
import {
  parseRunRanges,
  runSources,
  type ProductionStatus,
  type RunNumberRange,
  type RunSource,
  type RunVerdict,
} from './runs.rules.ts';

export interface RunRow {
  readonly id: number;
  readonly number: number;
  readonly source: RunSource;
  readonly productionStatus: ProductionStatus;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  readonly eventCount: number | null;
  readonly luminosity: number | null;
  readonly conditions: string | null;
  readonly expectedStreams: string[] | null;
  readonly availableAt: Date | null;
  readonly verdict: RunVerdict | null;
  readonly verdictComment: string | null;
  readonly verdictBy: string | null;
  readonly verdictAt: Date | null;
}

/** Over the alias r (runs). */
export const runColumns = sql`r.id, r.number, r.source, r.production_status as "productionStatus", r.started_at as "startedAt",
  r.ended_at as "endedAt", r.event_count as "eventCount", r.luminosity, r.conditions,
  r.expected_streams as "expectedStreams", r.available_at as "availableAt", r.verdict,
  r.verdict_comment as "verdictComment", r.verdict_by as "verdictBy", r.verdict_at as "verdictAt"`;

/** Of a run in production, DQM learns that it is in production and nothing else (the users' note). */
function asSeen(viewer: Viewer, run: RunRow): RunRow {
  if (seesRunFacts(viewer, run.productionStatus)) return run;
  const { id, number, source, productionStatus } = run;
  return { id, number, source, productionStatus, ...nothingKnown };
}

const nothingKnown = {
  startedAt: null,
  endedAt: null,
  eventCount: null,
  luminosity: null,
  conditions: null,
  expectedStreams: null,
  availableAt: null,
  verdict: null,
  verdictComment: null,
  verdictBy: null,
  verdictAt: null,
} as const;

export async function runsByIds(db: Db, viewer: Viewer, ids: readonly number[]): Promise<RunRow[]> {
  const found = await rows(
    db,
    sql<RunRow>`select ${runColumns} from runs r where r.id = any (${ids}::bigint[]) and ${visibleRun(viewer)}`,
  );
  return found.map((run) => asSeen(viewer, run));
}

/** The run of this number, if the viewer may know of it: condition on runs r. */
export const runIsNumbered = (
  viewer: Viewer,
  number: number | Late,
  source: RunSource,
): RawBuilder<unknown> =>
  sql`r.number = ${number} and r.source = ${source} and ${visibleRun(viewer)}`;

export async function findRun(
  db: Db,
  viewer: Viewer,
  number: number,
  source: RunSource,
): Promise<RunRow | undefined> {
  const found = await rows(
    db,
    sql<RunRow>`select ${runColumns} from runs r where ${runIsNumbered(viewer, number, source)}`,
  );
  return found[0] && asSeen(viewer, found[0]);
}

export interface RunConditions {
  readonly numbers?: string | null | undefined;
  readonly source?: RunSource | null | undefined;
  readonly productionStatus?: ProductionStatus | null | undefined;
  readonly verdict?: RunVerdict | null | undefined;
  readonly stream?: string | null | undefined;
  readonly conditions?: string | null | undefined;
  readonly minEvents?: number | null | undefined;
  readonly startedAt?: TimeConditions | null | undefined;
  readonly endedAt?: TimeConditions | null | undefined;
  readonly availableAt?: TimeConditions | null | undefined;
  readonly inDataset?: string | null | undefined;
}

/**
 * Numbers in ranges: between the lowest and the highest by index, and of those the ones that
 * the set holds, which takes no longer for a thousand ranges than for two.
 */
export function numberIn(
  column: RawBuilder<unknown>,
  ranges: readonly RunNumberRange[],
): RawBuilder<unknown> {
  const lowest = Math.min(...ranges.map((range) => range.first));
  const highest = Math.max(...ranges.map((range) => range.last));
  const set = `{${ranges.map(({ first, last }) => `[${first},${last}]`).join()}}`;
  return allOf([
    sql`${column} between ${lowest}::integer and ${highest}::integer`,
    ranges.length > 1 ? sql`${set}::int8multirange @> ${column}::bigint` : undefined,
  ]);
}

/**
 * The ids of the runs in ranges that the viewer may know of, as an array: the planner cannot tell how many runs a
 * range holds, and would rather read all of what is joined to them. Each range is entered by the index.
 */
export function runIdsIn(
  viewer: Viewer,
  ranges: readonly RunNumberRange[],
  source?: RunSource,
): RawBuilder<unknown> {
  return sql`array(select found.id
    from unnest(${source ? [source] : [...runSources]}::text[]) as wanted_source (source) cross join
      unnest(${ranges.map((range) => range.first)}::integer[], ${ranges.map((range) => range.last)}::integer[])
        as wanted (first, last)
      cross join lateral (select r.id from runs r where r.source = wanted_source.source
        and r.number between wanted.first and wanted.last and ${visibleRun(viewer)} order by r.number offset 0) found)`;
}

/** What is asked beyond the state; by what is hidden of a run in production one cannot look for it either. */
function factConditions(viewer: Viewer, filter: RunConditions): RawBuilder<unknown> {
  const facts = [
    textIs(sql`r.verdict`, filter.verdict),
    textIs(sql`r.conditions`, filter.conditions),
    filter.minEvents == null ? undefined : sql`r.event_count >= ${filter.minEvents}::bigint`,
    timeIn(sql`r.started_at`, filter.startedAt),
    timeIn(sql`r.ended_at`, filter.endedAt),
    timeIn(sql`r.available_at`, filter.availableAt),
    filter.stream == null
      ? undefined
      : sql`exists (select from file_runs fr join files f on f.id = fr.file_id
          where fr.run_id = r.id and ${textIs(sql`f.stream`, filter.stream)})`,
    filter.inDataset == null
      ? undefined
      : sql`exists (select from dataset_runs x join datasets d on d.id = x.dataset_id
          where x.source = r.source and x.number = r.number
            and ${textIs(sql`d.name`, filter.inDataset)} and ${visibleDataset(viewer)})`,
  ];
  const asksForFacts = facts.some((fact) => fact !== undefined);
  return allOf([
    asksForFacts && !may(viewer, 'readProduction')
      ? sql`r.production_status = 'AVAILABLE'`
      : undefined,
    ...facts,
  ]);
}

/** Conditions on runs r that the viewer may know of; without a status those that are AVAILABLE, or all of them. */
export function runConditions(
  viewer: Viewer,
  filter: RunConditions,
  otherwise: 'AVAILABLE' | 'all' = 'AVAILABLE',
): RawBuilder<unknown> {
  const status = filter.productionStatus ?? (otherwise === 'all' ? undefined : otherwise);
  return allOf([
    visibleRun(viewer),
    filter.numbers == null
      ? undefined
      : numberIn(sql`r.number`, parseRunRanges(filter.numbers, 'numbers')),
    textIs(sql`r.source`, filter.source),
    textIs(sql`r.production_status`, status),
    factConditions(viewer, filter),
  ]);
}

export const runOrders = ['NUMBER', 'AVAILABLE_AT_DESC'] as const;
export type RunOrder = (typeof runOrders)[number];

const orderKeys: Record<RunOrder, OrderKey[]> = {
  NUMBER: [
    { sql: sql`r.source`, type: 'text' },
    { sql: sql`r.number`, type: 'bigint' },
  ],
  AVAILABLE_AT_DESC: [
    { sql: sql`r.available_at`, type: 'timestamptz', descending: true },
    { sql: sql`r.id`, type: 'bigint', descending: true },
  ],
};

/** By number; what is asked for by the time when it left production is listed by it. */
const usualOrder = ({ availableAt, productionStatus }: RunConditions): RunOrder =>
  (availableAt?.gte ?? availableAt?.lt) && productionStatus !== 'IN_PRODUCTION'
    ? 'AVAILABLE_AT_DESC'
    : 'NUMBER';

/** Runs by source and number, or the last that left production first; without a status those that are AVAILABLE. */
export function listedRunsPage(
  viewer: Viewer,
  filter: RunConditions,
  order: RunOrder = usualOrder(filter),
): PageQuery {
  if (order === 'AVAILABLE_AT_DESC' && filter.productionStatus === 'IN_PRODUCTION') {
    throw badInput('orderBy', order, 'a run in production has left it at no time: order by NUMBER');
  }
  // Ranges of numbers are entered by the index only where the source is known.
  const bySource = order === 'NUMBER' && filter.source == null && filter.numbers != null;
  return {
    order: `runs:${order.toLowerCase()}`,
    keys: orderKeys[order],
    select: runColumns,
    from: sql`runs r`,
    where: runConditions(viewer, filter),
    walks: bySource
      ? runSources.map((source) => ({ where: sql`r.source = ${source}` }))
      : undefined,
  };
}

export async function listRuns(
  db: Db,
  viewer: Viewer,
  filter: RunConditions,
  page: PageArguments,
  order?: RunOrder,
): Promise<Page<RunRow>> {
  return seen(viewer, await readPage<RunRow>(db, listedRunsPage(viewer, filter, order), page));
}

/** Runs of something; `from` joins it to runs r, in one row each. */
export interface RunsOf {
  readonly from: RawBuilder<unknown>;
  readonly where: RawBuilder<unknown>;
  /** Where source and number stand, if not in the run: in a table that has them in order. */
  readonly keys?: readonly OrderKey[];
}

/** The runs whose data a file, or the files of a dataset, hold. */
export function runsOfPage(viewer: Viewer, of: RunsOf): PageQuery {
  return {
    order: 'runs:number',
    keys: of.keys ?? orderKeys.NUMBER,
    select: runColumns,
    from: of.from,
    where: allOf([of.where, visibleRun(viewer)]),
  };
}

export async function listRunsOf(
  db: Db,
  viewer: Viewer,
  of: RunsOf,
  page: PageArguments,
): Promise<Page<RunRow>> {
  return seen(viewer, await readPage<RunRow>(db, runsOfPage(viewer, of), page));
}

function seen(viewer: Viewer, page: Page<RunRow>): Page<RunRow> {
  return {
    ...page,
    edges: page.edges.map((edge) => ({ cursor: edge.cursor, node: asSeen(viewer, edge.node) })),
  };
}

/** Whether a run fits a filter right now; for feeds. */
export async function runFits(
  db: Db,
  viewer: Viewer,
  runId: number,
  filter: RunConditions,
): Promise<boolean> {
  const found = await rows(
    db,
    sql`select r.id from runs r where r.id = ${runId} and ${runConditions(viewer, filter)}`,
  );
  return found.length > 0;
}
