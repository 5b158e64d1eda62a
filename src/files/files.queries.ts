import type { Viewer } from '../access/policy.ts';
import {
  notPrivate,
  visibleDataset,
  visibleFile,
  visibleRun,
  waysToSeeFile,
} from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import { nameIs, spanOf, textIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type PageQuery,
  type Walk,
} from '../database/page.ts';
import {
  countIn,
  timeIn,
  type CountConditions,
  type TimeConditions,
} from '../database/range-filter.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { numberIn, runIdsIn, type RunsOf } from '../runs/runs.queries.ts';
import { parseRunRanges, type RunNumberRange, type RunSource } from '../runs/runs.rules.ts';
import { fileKinds, type FileKind, type ReplicaStatus } from './files.rules.ts';
import { isKept } from '../text.ts';

export interface FileRow {
  readonly id: number;
  readonly lfn: string;
  readonly kind: FileKind;
  readonly site: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly createdAt: Date;
  readonly createdBy: string;
  readonly isBackedUp: boolean;
}

/** Over the aliases f (files) and s (sites). */
export const fileColumns = sql`f.id, f.lfn, f.kind, s.name as site, f.stream, f.release, f.size_bytes as "sizeBytes",
  f.adler32, f.sha256, f.event_count as "eventCount", f.created_at as "createdAt", f.created_by as "createdBy",
  f.missing_copies = 0 as "isBackedUp"`;
// A left join is left out by PostgreSQL when nothing of it is asked for.
export const fileTables = sql`files f left join sites s on s.id = f.site_id`;

export async function filesByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<FileRow[]> {
  return rows(
    db,
    sql<FileRow>`select ${fileColumns} from ${fileTables}
      where f.id = any (${ids}::bigint[]) and ${visibleFile(viewer)}`,
  );
}

/** The file of this LFN, if the viewer may see it: condition on files f. */
export const fileIsNamed = (viewer: Viewer, lfn: string | Late): RawBuilder<unknown> =>
  sql`f.lfn = ${lfn} and ${visibleFile(viewer)}`;

export async function findFile(db: Db, viewer: Viewer, lfn: string): Promise<FileRow | undefined> {
  const found = await rows(
    db,
    sql<FileRow>`select ${fileColumns} from ${fileTables}
      where ${fileIsNamed(viewer, lfn.replaceAll('\0', ''))}`,
  );
  return found[0];
}

export interface FileConditions {
  readonly lfn?: NameConditions | null | undefined;
  readonly kind?: FileKind | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly site?: string | null | undefined;
  /** Ranges of run numbers, "36172-39320,40001". */
  readonly runs?: string | null | undefined;
  readonly holdsRun?: { readonly number: number; readonly source: RunSource } | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly minEvents?: number | null | undefined;
  readonly sizeBytes?: CountConditions | null | undefined;
  readonly createdAt?: TimeConditions | null | undefined;
  readonly isBackedUp?: boolean | null | undefined;
}

/** LFNs are too many to be walked through for a pattern that may begin with anything. */
const lfnOptions = { globPrefix: 3 };
export const lfnIs = (column: RawBuilder<unknown>, filter: NameConditions | null | undefined) =>
  nameIs(column, filter, lfnOptions);

/** Conditions on files f; where the name stands in another table too, in order, `lfn` is that column. */
export function fileConditions(
  viewer: Viewer,
  filter: FileConditions,
  lfn: RawBuilder<unknown> = sql`f.lfn`,
): RawBuilder<unknown> {
  return allOf([
    lfnIs(lfn, filter.lfn),
    textIs(sql`f.kind`, filter.kind),
    textIs(sql`f.stream`, filter.stream),
    textIs(sql`f.release`, filter.release),
    filter.site == null ? undefined : sql`f.site_id = ${siteNamed(filter.site)}`,
    filter.minEvents == null ? undefined : sql`f.event_count >= ${filter.minEvents}::bigint`,
    countIn(sql`f.size_bytes`, filter.sizeBytes),
    timeIn(sql`f.created_at`, filter.createdAt),
    filter.isBackedUp == null
      ? undefined
      : sql`(f.missing_copies = 0) = ${filter.isBackedUp}::boolean`,
    filter.holdsRun
      ? holdsRuns(viewer, [rangeOf(filter.holdsRun)], filter.holdsRun.source)
      : undefined,
    filter.runs == null ? undefined : holdsRuns(viewer, parseRunRanges(filter.runs, 'runs')),
    filter.dataset == null
      ? undefined
      : sql`f.id in (select df.file_id from dataset_files df join datasets d on d.id = df.dataset_id
          where ${textIs(sql`d.name`, filter.dataset)} and ${visibleDataset(viewer)})`,
  ]);
}

const siteNamed = (site: string) => sql`(select id from sites where ${textIs(sql`name`, site)})`;

const rangeOf = ({ number }: { readonly number: number }) => ({ first: number, last: number });
/** Runs whose files are collected first; of more runs the files are met soon on the way, each asked for its runs. */
const mostRunsCollected = 5000;

/** Files with data of such runs, as far as the viewer may know them. */
function holdsRuns(
  viewer: Viewer,
  ranges: readonly RunNumberRange[],
  source?: RunSource,
): RawBuilder<unknown> {
  const spanned = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  if (spanned <= mostRunsCollected) {
    const ids = runIdsIn(viewer, ranges, source);
    return sql`f.id = any (array(select fr.file_id from file_runs fr where fr.run_id = any (${ids})
      union all select rf.id from files rf where rf.run_id = any (${ids})))`;
  }
  const such = allOf([numberIn(sql`r.number`, ranges), visibleRun(viewer)]);
  return sql`case when f.kind = 'RUN_FILE'
    then (select true from runs r where r.id = f.run_id and ${such} limit 1)
    else (select true from file_runs fr join runs r on r.id = fr.run_id where fr.file_id = f.id and ${such} limit 1)
    end`;
}

export const fileOrders = ['LFN', 'CREATED_AT_DESC'] as const;
export type FileOrder = (typeof fileOrders)[number];

const orderKeys: Record<FileOrder, OrderKey[]> = {
  LFN: [{ sql: sql`f.lfn`, type: 'text' }],
  CREATED_AT_DESC: [
    { sql: sql`f.created_at`, type: 'timestamptz', descending: true },
    { sql: sql`f.id`, type: 'bigint', descending: true },
  ],
};

/** By LFN; what is asked for by its time is listed by its time, which is how the index finds it. */
const usualOrder = (filter: FileConditions): FileOrder =>
  filter.createdAt?.gte || filter.createdAt?.lt ? 'CREATED_AT_DESC' : 'LFN';

/** The indexes that have the kind and then the name behind a column; the first that is asked for is walked. */
const pinnable = {
  release: ({ release }: FileConditions) => ({ sql: sql`f.release`, is: sql`${release}` }),
  stream: ({ stream }: FileConditions) => ({ sql: sql`f.stream`, is: sql`${stream}` }),
  isBackedUp: ({ isBackedUp }: FileConditions) => ({
    sql: sql`(f.missing_copies = 0)`,
    is: sql`${isBackedUp}::boolean`,
  }),
  site: ({ site }: FileConditions) => ({ sql: sql`f.site_id`, is: siteNamed(site ?? '') }),
};
const pinNames = ['release', 'stream', 'isBackedUp', 'site'] as const;

/** How the list is read, and the conditions that are left: a walk for each kind and for each way to see a file. */
function walksOf(
  viewer: Viewer,
  filter: FileConditions,
  order: FileOrder,
): { walks: Walk[]; rest: FileConditions } {
  const ways = waysToSeeFile(viewer);
  const kinds: readonly FileKind[] = (
    ways.length > 0 ? (['MERGED_FILE'] as const) : fileKinds
  ).filter((kind) => filter.kind == null || filter.kind === kind);
  if (kinds.length === 0) return { walks: [{ where: sql`false` }], rest: filter };
  // What is not backed up is no backed up file of an AVAILABLE run.
  const seen = filter.isBackedUp === false ? ways.slice(0, 1) : ways;
  const where = seen.length > 0 ? seen : [undefined];
  const isPin = (value: unknown) => (typeof value === 'string' ? isKept(value) : value != null);
  const pinName = pinNames.find((name) => isPin(filter[name]));
  const isNamed = filter.lfn?.eq != null || filter.lfn?.in != null;
  const isOfRuns = filter.holdsRun != null || filter.runs != null;
  // By time, by names, by runs, or all by name: the index has no kind in it, and needs none.
  if (order !== 'LFN' || isNamed || isOfRuns || (pinName === undefined && kinds.length > 1)) {
    const kind = kinds.length > 1 ? undefined : textIs(sql`f.kind`, kinds[0]);
    const bounds = isNamed ? {} : boundsOf(filter, order);
    return { walks: where.map((way) => ({ where: allOf([kind, way]), ...bounds })), rest: filter };
  }
  const pins = pinName === undefined ? [] : [pinnable[pinName](filter)];
  const walks = where.flatMap((way) =>
    kinds.map((kind) => ({
      pins: [...pins, { sql: sql`f.kind`, is: sql`${kind}` }],
      ...boundsOf(filter, order),
      where: way,
    })),
  );
  // An equality beside its bound would let the planner take any index again.
  const rest = { ...filter, kind: null, ...(pinName === undefined ? {} : { [pinName]: null }) };
  return { walks, rest };
}

/** Few files, found from what they are of. */
function plainWalks(viewer: Viewer): Walk[] {
  return waysToSeeFile(viewer).map((way) => ({ where: allOf([sql`f.kind = 'MERGED_FILE'`, way]) }));
}

function boundsOf(filter: FileConditions, order: FileOrder): Pick<Walk, 'from' | 'to'> {
  return order === 'LFN' ? spanOf(filter.lfn) : {};
}

export interface FilesAsked {
  readonly of?: RawBuilder<unknown>;
  readonly order?: FileOrder;
}

/** Files, as far as the viewer may see them; `of` narrows them to what belongs to something. */
export function filesPage(
  viewer: Viewer,
  filter: FileConditions,
  { of, order = usualOrder(filter) }: FilesAsked = {},
): PageQuery {
  if (of === undefined && order === 'LFN' && filter.dataset != null) {
    const { dataset, ...others } = filter;
    const id = sql`(select d.id from datasets d where ${textIs(sql`d.name`, dataset)} and ${visibleDataset(viewer)})`;
    return inDataset(viewer, id, others);
  }
  const { walks, rest } = of
    ? { walks: plainWalks(viewer), rest: filter }
    : walksOf(viewer, filter, order);
  return {
    order: `files:${order.toLowerCase()}`,
    keys: orderKeys[order],
    select: fileColumns,
    from: fileTables,
    // Whoever sees a file by its dataset sees nothing private.
    where: allOf([
      of,
      fileConditions(viewer, rest),
      waysToSeeFile(viewer).length === 0 ? notPrivate(viewer) : undefined,
    ]),
    walks,
    overlap: true,
    countWhere: allOf([fileConditions(viewer, filter), visibleFile(viewer)]),
  };
}

export async function listFiles(
  db: Db,
  viewer: Viewer,
  filter: FileConditions,
  page: PageArguments,
  asked: FilesAsked = {},
): Promise<Page<FileRow>> {
  return readPage<FileRow>(db, filesPage(viewer, filter, asked), page);
}

/** The runs that a file holds data of. `id` is a number or a column. */
export const runsOfFile = (id: unknown): RunsOf => ({
  from: sql`runs r`,
  where: sql`r.id in (select run_id from file_runs where file_id = ${id}
    union all select run_id from files where id = ${id})`,
});

/** Files with data of a run: condition on files f. `id` is a number or a column. */
export const filesOfRun = (id: unknown): RawBuilder<unknown> =>
  sql`f.id in (select file_id from file_runs where run_id = ${id}
    union all select id from files where run_id = ${id})`;

/** The files of a dataset, by LFN; what is seen of a dataset is seen of its files. */
function inDataset(viewer: Viewer, id: RawBuilder<unknown>, filter: FileConditions): PageQuery {
  return {
    order: 'files:lfn',
    keys: [{ sql: sql`df.lfn`, type: 'text' }],
    select: fileColumns,
    from: sql`dataset_files df join files f on f.id = df.file_id left join sites s on s.id = f.site_id`,
    where: allOf([sql`df.dataset_id = ${id}`, fileConditions(viewer, filter, sql`df.lfn`)]),
  };
}

/** The files of a dataset that was found, by LFN, from anywhere in it; its id and count are numbers or columns. */
export function datasetFilesPage(
  viewer: Viewer,
  dataset: {
    readonly id: number | RawBuilder<unknown>;
    readonly fileCount: number | RawBuilder<unknown>;
  },
  filter: FileConditions,
): PageQuery {
  // Seen when it was found is not seen now: it may have been marked bad since.
  const id = sql`(select d.id from datasets d where d.id = ${dataset.id} and ${visibleDataset(viewer)})`;
  const isAll = Object.values(filter).every((condition) => condition == null);
  const query = inDataset(viewer, id, filter);
  return isAll ? { ...query, total: dataset.fileCount } : query;
}

export async function listFilesOfDataset(
  db: Db,
  viewer: Viewer,
  dataset: { readonly id: number; readonly fileCount: number },
  filter: FileConditions,
  page: PageArguments,
): Promise<Page<FileRow>> {
  return readPage<FileRow>(db, datasetFilesPage(viewer, dataset, filter), page);
}

export interface ReplicaRow {
  readonly fileId: number;
  readonly volume: string;
  readonly path: string;
  readonly status: ReplicaStatus;
  readonly createdAt: Date;
}

/** Over the aliases p (replicas) and v (volumes). */
export const replicaColumns = sql`v.name as volume, p.path, p.status, p.created_at as "createdAt"`;
export const replicaTables = sql`replicas p join volumes v on v.id = p.volume_id`;

export async function replicasOf(db: Db, fileIds: readonly number[]): Promise<ReplicaRow[]> {
  return rows(
    db,
    sql<ReplicaRow>`select p.file_id as "fileId", ${replicaColumns} from ${replicaTables} where p.file_id = any (${fileIds}::bigint[]) order by p.id`,
  );
}

/** For each input the merged file that it went into. */
export async function mergedInto(
  db: Db,
  fileIds: readonly number[],
): Promise<{ inputId: number; outputId: number }[]> {
  return rows(
    db,
    sql<{ inputId: number; outputId: number }>`
    select mi.input_file_id as "inputId", m.output_file_id as "outputId"
    from merge_inputs mi join merges m on m.id = mi.merge_id where mi.input_file_id = any (${fileIds}::bigint[])`,
  );
}
