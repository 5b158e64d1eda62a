import { may, type Viewer } from '../access/policy.ts';
import { seesRunFacts, visibleRun } from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments, type PageQuery } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import {
  parseRunRanges,
  type ProductionStatus,
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
}

/** By what is hidden of a run in production one cannot look for it either. */
function runConditions(viewer: Viewer, filter: RunConditions): RawBuilder<unknown> {
  const ranges = filter.numbers ? parseRunRanges(filter.numbers) : undefined;
  const asksForFacts = filter.verdict != null || filter.stream != null;
  return allOf([
    visibleRun(viewer),
    ranges &&
      sql`exists (select from jsonb_to_recordset(${JSON.stringify(ranges)}::jsonb) as x (first integer, last integer)
        where r.number between x.first and x.last)`,
    filter.source ? sql`r.source = ${filter.source}` : undefined,
    filter.productionStatus
      ? sql`r.production_status = ${filter.productionStatus}`
      : sql`r.production_status = 'AVAILABLE'`,
    asksForFacts && !may(viewer, 'readProduction')
      ? sql`r.production_status = 'AVAILABLE'`
      : undefined,
    filter.verdict ? sql`r.verdict = ${filter.verdict}` : undefined,
    filter.stream
      ? sql`exists (select from file_runs fr join files f on f.id = fr.file_id
          where fr.run_id = r.id and f.stream = ${filter.stream})`
      : undefined,
  ]);
}

const byNumber = (source: RawBuilder<unknown>, number: RawBuilder<unknown>) => [
  { sql: source, type: 'text' as const },
  { sql: number, type: 'bigint' as const },
];

function runsPage(where: RawBuilder<unknown>): PageQuery {
  return {
    order: 'runs:number',
    keys: byNumber(sql`r.source`, sql`r.number`),
    select: runColumns,
    from: sql`runs r`,
    where,
  };
}

/** Runs by source and number; without a status only those that are AVAILABLE. */
export const listedRunsPage = (viewer: Viewer, filter: RunConditions): PageQuery =>
  runsPage(runConditions(viewer, filter));

/** The runs whose data a file, or the files of a dataset, hold; `of` is a condition on runs r. */
export const runsOfPage = (viewer: Viewer, of: RawBuilder<unknown>): PageQuery =>
  runsPage(allOf([of, visibleRun(viewer)]));

export async function listRuns(
  db: Db,
  viewer: Viewer,
  filter: RunConditions,
  page: PageArguments,
): Promise<Page<RunRow>> {
  return seen(viewer, await readPage<RunRow>(db, listedRunsPage(viewer, filter), page));
}

export async function listRunsOf(
  db: Db,
  viewer: Viewer,
  of: RawBuilder<unknown>,
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
