import type { Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { Place } from '../events/events.queries.ts';
import type { FileFacts, RunDetail } from '../formats/list.ts';

/** A time, or an exact place in the log. */
export type Moment = Date | Place;

/** Which files of a list are wanted. */
export interface ListFilter {
  /** Run numbers as a PostgreSQL int8multirange: of int4, the end after the largest number would be none. */
  readonly runs?: string | undefined;
  readonly goodRuns: boolean;
  /** Added after it. */
  readonly since?: Moment | undefined;
  /** Added until it. */
  readonly asOf?: Moment | undefined;
}

/** A file of a list with what a job needs to open it. */
export interface ExportRow extends FileFacts {
  readonly fileId: number;
  readonly storeId: number | null;
  readonly storeKey: string | null;
  /** Only where there is no confirmed copy: the backup was waived, or is not made yet. */
  readonly replicaPath: string | null;
  /** Whether it was added in the time that is asked for. */
  readonly isIn: boolean;
}

/** A dataset in the state that a list tells. */
export interface ListedDataset {
  readonly id: number;
  readonly version: number;
  readonly isAvailable: boolean;
  readonly fileCount: number;
  readonly confirmedCount: number;
  readonly eventCount: number;
  readonly treeName: string | null;
  /** Counts changes that the dataset's version does not. */
  readonly listVersion: number;
}

/** The datasets of a list that the viewer may see now. */
export async function listedDatasets(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<ListedDataset[]> {
  return rows(
    db.fork(),
    sql<ListedDataset>`
    select d.id, d.version, d.is_available as "isAvailable", d.file_count as "fileCount",
      d.confirmed_count as "confirmedCount", d.event_count as "eventCount",
      d.tree_name as "treeName", coalesce(l.version, 0) as "listVersion"
    from datasets d left join list_changes l on l.dataset_id = d.id
    where d.id = any (${ids}::bigint[]) and ${visibleDataset(viewer)} order by d.id`,
  );
}

/** Whether the datasets are still what they were, and still the viewer's to see. */
export async function areUnchanged(
  db: Db,
  viewer: Viewer,
  datasets: readonly ListedDataset[],
): Promise<boolean> {
  const same = await firstRow(
    db.fork(),
    sql<{ n: number }>`
    select count(*) as n from unnest(${datasets.map((d) => d.id)}::bigint[], ${datasets.map((d) => d.version)}::integer[])
      as was (id, version) join datasets d on d.id = was.id and d.version = was.version
    where ${visibleDataset(viewer)}`,
  );
  return same?.n === datasets.length;
}

/** Changes when anything becomes known of a run that these datasets hold, a verdict for one. */
export async function runStateOf(db: Db, ids: readonly number[]): Promise<string> {
  const state = await firstRow(
    db.fork(),
    sql<{ state: string }>`
    select concat_ws(' ', count(*), sum(r.version)) as state from runs r where r.id in (
      select fr.run_id from dataset_files df join file_runs fr on fr.file_id = df.file_id
      where df.dataset_id = any (${ids}::bigint[]))`,
  );
  return state?.state ?? '';
}

/** Whether a row df of dataset_files came in behind a moment. Of datasets only files that are in them are known. */
function addedBehind(moment: Moment): RawBuilder<boolean> {
  const behind =
    moment instanceof Date
      ? sql`e.occurred_at > ${moment}`
      : sql`(e.xid, e.id) > (${moment.xid}::text::xid8, ${moment.id}::bigint)`;
  return sql<boolean>`exists (select from events e where e.dataset_id = df.dataset_id
    and e.kind = 'DATASET_FILES_ADDED' and e.added_in = df.added_in and ${behind})`;
}

/** A condition on df: in the list in the time that is asked for. */
export function wasAdded({ since, asOf }: ListFilter): RawBuilder<unknown> {
  return allOf([since && addedBehind(since), asOf && sql`not ${addedBehind(asOf)}`]);
}

/** The first files without an event count, and how many there are; of the files that the times let in. */
export async function uncountedFiles(
  db: Db,
  ids: readonly number[],
  filter: ListFilter,
): Promise<{ count: number; first: string[] }> {
  const found = await firstRow(
    db.fork(),
    sql<{ count: number; first: string[] }>`
    select count(distinct f.id) as count, (array_agg(distinct f.lfn))[1:20] as first
    from dataset_files df join files f on f.id = df.file_id
    where df.dataset_id = any (${ids}::bigint[]) and f.event_count is null and ${wasAdded(filter)}`,
  );
  return { count: found?.count ?? 0, first: found?.first ?? [] };
}

/** The first files whose name does not end so, and how many there are. */
export async function otherwiseNamed(
  db: Db,
  ids: readonly number[],
  ending: string,
): Promise<{ count: number; first: string[] }> {
  const found = await firstRow(
    db.fork(),
    sql<{ count: number; first: string[] }>`
    select count(distinct df.lfn) as count, (array_agg(distinct df.lfn))[1:20] as first
    from dataset_files df where df.dataset_id = any (${ids}::bigint[]) and df.lfn not like ${`%${ending}`}`,
  );
  return { count: found?.count ?? 0, first: found?.first ?? [] };
}

/** Where a page begins and how long it is, and for that how many lists are looked into and how many lines of each. */
interface Stretch {
  readonly after: string;
  readonly limit: number;
  readonly lists: number;
  readonly lines: number;
}

/**
 * The next files of a union of datasets, by name, each once. Looks at the lists that begin first, up to where
 * another one begins or one of them was not read further.
 */
function nextNames(
  ids: readonly number[],
  { after, lists, lines, limit }: Stretch,
): RawBuilder<unknown> {
  if (ids.length === 1) {
    return sql`
    page as materialized (
      select dataset_id, lfn, file_id from dataset_files
      where dataset_id = ${ids[0]}::bigint and lfn > ${after} order by lfn limit ${limit})`;
  }
  return sql`
    begins as materialized (
      select d.id, x.lfn from unnest(${ids}::bigint[]) as d (id) cross join lateral (
        select lfn from dataset_files where dataset_id = d.id and lfn > ${after} order by lfn limit 1) x
      order by x.lfn, d.id limit ${lists + 1}),
    heads as materialized (
      select b.id, y.lfn, y.file_id
      from (select id from begins order by lfn, id limit ${lists}) b cross join lateral (
        select lfn, file_id from dataset_files
        where dataset_id = b.id and lfn > ${after} order by lfn limit ${lines}) y),
    walls as (
      (select lfn from begins order by lfn, id offset ${lists})
      union all select max(lfn) from heads group by id having count(*) = ${lines}),
    page as materialized (
      select distinct on (lfn) id as dataset_id, lfn, file_id
      from heads where coalesce(lfn <= (select min(lfn) from walls), true) order by lfn, id limit ${limit})`;
}

/** Which copy is named: one that its store has confirmed, if there is any, of the default store rather. */
const copies = (defaultStoreId: number | undefined) => sql`
    copies as materialized (
      select distinct on (b.file_id) b.file_id, b.store_id, b.store_key
      from page join backup_records b on b.file_id = page.file_id where b.status = 'CONFIRMED'
      order by b.file_id, b.store_id = ${defaultStoreId ?? null}::integer desc nulls last, b.id)`;

/** A condition on runs r. */
export function fits({ runs, goodRuns }: ListFilter): RawBuilder<unknown> {
  return allOf([
    runs === undefined ? undefined : sql`r.number::bigint <@ ${runs}::int8multirange`,
    goodRuns ? sql`r.verdict = 'GOOD'` : undefined,
  ]);
}

const numbers = sql`array_agg(r.number order by r.number)`;
const facts = sql`jsonb_agg(jsonb_build_object('source', r.source, 'number', r.number,
  'events', r.event_count, 'luminosity', r.luminosity, 'conditions', r.conditions) order by r.number)`;

/** What is told of the runs of all files of the page at once: one by one they would cost as much as all the rest. */
function runsOfPage({ filter, detail }: ListContent) {
  const wanted = {
    runs: detail === 'numbers' ? numbers : undefined,
    fitting: isFiltered(filter) ? sql`${numbers} filter (where ${fits(filter)})` : undefined,
    facts: detail === 'facts' ? sql`${facts} filter (where ${fits(filter)})` : undefined,
  };
  const columns = Object.entries(wanted).flatMap(([name, what]) =>
    what === undefined ? [] : [sql`${what} as ${sql.ref(name)}`],
  );
  const told = (name: keyof typeof wanted, none: string) =>
    wanted[name] === undefined ? sql`null` : sql`coalesce(r.${sql.ref(name)}, ${sql.lit(none)})`;
  return {
    told,
    table: sql`runs_of as materialized (
      select fr.file_id, ${sql.join(columns.length === 0 ? [sql`null`] : columns)}
      from page join file_runs fr on fr.file_id = page.file_id join runs r on r.id = fr.run_id
      where ${columns.length > 0} group by fr.file_id)`,
  };
}

const ofMember = (what: RawBuilder<unknown>) =>
  sql`(select ${what} from dataset_files df where df.dataset_id = page.dataset_id and df.file_id = page.file_id)`;

const isTimed = ({ since, asOf }: ListFilter) => since !== undefined || asOf !== undefined;
const isFiltered = (filter: ListFilter) => filter.runs !== undefined || filter.goodRuns;

/** What of its files a list tells. */
export interface ListContent {
  readonly filter: ListFilter;
  readonly detail: RunDetail;
  /** Its copies are named rather than others. */
  readonly defaultStoreId: number | undefined;
}

async function readPage(
  db: Db,
  names: RawBuilder<unknown>,
  content: ListContent,
): Promise<ExportRow[]> {
  const { filter, detail, defaultStoreId } = content;
  const runs = runsOfPage(content);
  return rows(
    db.fork(),
    sql<ExportRow>`
    with ${names}, ${copies(defaultStoreId)}, ${runs.table}
    select page.file_id as "fileId", page.lfn, f.size_bytes as "sizeBytes", f.event_count as "eventCount", f.adler32, f.sha256,
      c.store_id as "storeId", c.store_key as "storeKey",
      case when c.store_id is null then (
        select p.path from replicas p where p.file_id = f.id and p.status = 'AVAILABLE' order by p.id limit 1)
      end as "replicaPath",
      ${isTimed(filter) ? ofMember(sql`${wasAdded(filter)}`) : sql`true`} as "isIn",
      ${detail === 'facts' ? ofMember(sql`df.added_at`) : sql`null`} as "addedAt",
      ${runs.told('runs', '{}')} as runs,
      ${runs.told('fitting', '{}')} as "fittingRuns",
      ${runs.told('facts', '[]')} as "runFacts"
    from page join files f on f.id = page.file_id
      left join copies c on c.file_id = page.file_id left join runs_of r on r.file_id = page.file_id
    order by page.lfn`,
  );
}

/** Where a page ends; undefined = nothing is on it. */
async function endOf(
  db: Db,
  names: RawBuilder<unknown>,
): Promise<{ last: string; count: number } | undefined> {
  const end = await firstRow(
    db.fork(),
    sql<{ last: string | null; count: number }>`
    with ${names} select max(lfn) as last, count(*) as count from page`,
  );
  return end?.last == null ? undefined : { last: end.last, count: end.count };
}

/** The first page is small, so that the first line comes at once. */
const pageSize = { first: 500, later: 2000 } as const;
/** Read ahead of the one that is used: PostgreSQL is never idle, and memory stays what these take. */
const pagesAhead = 2;

/**
 * All files of a union of datasets by LFN, each once, page by page: no transaction is held between pages, memory
 * does not grow with the list, and no page costs more than what is on it. Files that do not fit are left out, so that a
 * page can be empty. Who reads looks for changes of the datasets: a page is found first and read then.
 */
export async function* exportFiles(
  db: Db,
  ids: readonly number[],
  content: ListContent,
): AsyncGenerator<ExportRow[], void, void> {
  if (ids.length === 0) return;
  const ahead: Promise<ExportRow[]>[] = [];
  let lists = 1;
  let after: string | undefined = '';
  let limit: number = pageSize.first;
  while (after !== undefined || ahead.length > 0) {
    if (after !== undefined && ahead.length <= pagesAhead) {
      const lines = lists === 1 ? limit : Math.max(16, Math.ceil((2 * limit) / lists));
      const names = nextNames(ids, { after, lists, lines, limit });
      const page = readPage(db, names, content);
      // Awaited below, unless the reader has gone.
      page.catch(() => undefined);
      ahead.push(page);
      const end = await endOf(db, names);
      after = end?.last;
      // Lists that are interleaved give few lines at a time: look into more of them.
      if (end && end.count < pageSize.first / 2) lists = Math.min(lists * 2, ids.length);
      limit = pageSize.later;
      continue;
    }
    const rowsOfPage = (await ahead.shift()) ?? [];
    yield rowsOfPage.filter(
      (row) => row.isIn && (row.fittingRuns === null || row.fittingRuns.length > 0),
    );
  }
}
