import type { Viewer } from '../access/policy.ts';
import { notPrivate } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import { findingOfRank, isLost, isRecoverable, isSafe, type Hits } from './hits.queries.ts';
import type { Finding } from './incidents.rules.ts';

/** A copy that was hit. */
export interface LossItem {
  readonly finding: Finding;
  readonly lfn: string;
  readonly sizeBytes: number;
  /** Volume, or mass store. */
  readonly place: string;
  /** Path, or key in the store. */
  readonly path: string;
}

export interface LossDataset {
  readonly name: string;
  readonly owner: string;
  readonly status: string;
  readonly backupWaived: boolean;
  readonly fileCount: number;
  readonly hitCount: number;
  readonly lostCount: number;
  readonly unbackedCount: number;
  /** Users do not see it for this. */
  readonly isMarked: boolean;
}

/** A list of datasets of which some are hit. */
export interface LossContainer {
  readonly name: string;
  readonly owner: string;
  readonly datasetCount: number;
  readonly markedCount: number;
  /** Lost files in its datasets. */
  readonly lostCount: number;
}

export interface LossOwner {
  readonly owner: string;
  readonly datasetCount: number;
  readonly markedCount: number;
  readonly lostCount: number;
}

export interface LossDerived {
  readonly lfn: string;
  /** 1 = made of a lost file; 2 = made of such; … */
  readonly generation: number;
  /** Of the files that it was made of itself. */
  readonly lostInputCount: number;
  readonly inputCount: number;
  /** Nothing holds it either. */
  readonly isLost: boolean;
  /** Names of datasets that hold it, at most 20. */
  readonly datasets: readonly string[];
}

export interface LossDerivedDataset {
  readonly name: string;
  readonly owner: string;
  readonly fileCount: number;
  /** Its files that were made from lost ones. */
  readonly derivedCount: number;
  /** For files of its own. */
  readonly isMarked: boolean;
}

/** What a loss hits: the table that preview and report both print. */
export interface LossTable {
  readonly itemCount: number;
  readonly safeCount: number;
  readonly recoverableCount: number;
  readonly lostCount: number;
  readonly fileCount: number;
  readonly lostFileCount: number;
  /** Bytes of files that nothing holds. */
  readonly lostBytes: number;
  readonly runCount: number;
  /** Runs with data in a lost file, "SOURCE number", at most `mostListed.runs`. */
  readonly lostRuns: readonly { readonly source: string; readonly number: number }[];
  readonly lostRunCount: number;
  readonly datasetCount: number;
  readonly markedDatasetCount: number;
  readonly containerCount: number;
  readonly ownerCount: number;
  readonly derivedCount: number;
  readonly derivedDatasetCount: number;
  readonly items: readonly LossItem[];
  readonly datasets: readonly LossDataset[];
  readonly containers: readonly LossContainer[];
  readonly owners: readonly LossOwner[];
  readonly derived: readonly LossDerived[];
  readonly derivedDatasets: readonly LossDerivedDataset[];
}

export const mostListed = {
  items: 1000,
  datasets: 200,
  containers: 200,
  owners: 200,
  derived: 100,
  runs: 10_000,
} as const;

/** Whether a file may be told of. */
type IsSeen = (fileId: RawBuilder<unknown>) => RawBuilder<unknown>;

/** Datasets and runs that hold files that were hit; over files x of `Hits`. */
const touched = sql`
  marked as materialized (
    select df.dataset_id, count(*) as hits, count(*) filter (where ${isLost(sql`x`)}) as lost,
      count(*) filter (where x.is_backup and ${isRecoverable(sql`x`)}) as unbacked,
      bool_or(${isLost(sql`x`)}) as is_marked
    from per_file x join dataset_files df on df.file_id = x.file_id group by df.dataset_id),
  run_hits as materialized (
    select r.run_id, bool_or(r.is_lost) as is_lost from (
      select fr.run_id, ${isLost(sql`x`)} as is_lost from per_file x join file_runs fr on fr.file_id = x.file_id
      union all
      select x.run_id, ${isLost(sql`x`)} from per_file x where x.run_id is not null) r
    group by r.run_id)`;

/** Last copies first. */
const items = (copies: RawBuilder<unknown>) => sql`
  select ${findingOfRank(sql`t.rank`)} as finding, f.lfn, f.size_bytes as "sizeBytes",
    coalesce(v.name, m.name) as place, coalesce(p.path, b.store_key) as path
  from (select x.rank, h.* from (
      select file_id, rank from per_file order by rank, file_id limit ${sql.lit(mostListed.items)}) x
    join (${copies}) h on h.file_id = x.file_id
    order by x.rank, h.file_id, h.replica_id, h.backup_id limit ${sql.lit(mostListed.items)}) t
  join files f on f.id = t.file_id
  left join replicas p on p.id = t.replica_id left join volumes v on v.id = p.volume_id
  left join backup_records b on b.id = t.backup_id left join mass_stores m on m.id = b.store_id
  order by t.rank, t.file_id, t.replica_id, t.backup_id`;

const datasets = sql`
  select d.name, d.owner, d.status, d.backup_waived as "backupWaived", d.file_count as "fileCount",
    x.hits as "hitCount", x.lost as "lostCount", x.unbacked as "unbackedCount", x.is_marked as "isMarked"
  from marked x join datasets d on d.id = x.dataset_id
  order by x.is_marked desc, x.lost desc, d.name limit ${sql.lit(mostListed.datasets)}`;

const owners = sql`
  select d.owner, count(*) as "datasetCount", count(*) filter (where x.is_marked) as "markedCount",
    sum(x.lost) as "lostCount"
  from marked x join datasets d on d.id = x.dataset_id group by d.owner
  order by 3 desc, 2 desc, 1 limit ${sql.lit(mostListed.owners)}`;

const containers = sql`
  select c.name, c.owner, x.hits as "datasetCount", x.marked as "markedCount", x.lost as "lostCount"
  from held_in x join containers c on c.id = x.container_id
  order by x.marked desc, x.lost desc, c.name limit ${sql.lit(mostListed.containers)}`;

/** From what a file was made, and what was made of it: inputs of merges, and parents. */
const origins = (isSeen: IsSeen) => sql`
  origins as not materialized (
    select o.* from (
      select input_file_id as origin_id, output_file_id as file_id
      from merge_inputs mi join merges m on m.id = mi.merge_id
      union all select parent_id, file_id from file_parents) o
    where ${isSeen(sql`o.origin_id`)} and ${isSeen(sql`o.file_id`)})`;

/** Files made from lost files, and from those, so many generations on; each at its nearest. */
const mostGenerations = 20;
const made = sql`
  walk (file_id, generation) as (
    select o.file_id, 1 from per_file x join origins o on o.origin_id = x.file_id where ${isLost(sql`x`)}
    union
    select o.file_id, w.generation + 1 from walk w join origins o on o.origin_id = w.file_id
    where w.generation < ${sql.lit(mostGenerations)}),
  made as materialized (
    select file_id, min(generation) as generation from walk group by file_id),
  made_datasets as materialized (
    select df.dataset_id, count(*) as files from made t join dataset_files df on df.file_id = t.file_id
    group by df.dataset_id)`;

const derived = sql`
  select f.lfn, t.generation, o.lost as "lostInputCount", o.n as "inputCount",
    coalesce((select ${isLost(sql`x`)} from per_file x where x.file_id = f.id), false) as "isLost",
    array(select d.name from dataset_files df join datasets d on d.id = df.dataset_id
      where df.file_id = f.id order by d.name limit 20) as datasets
  from (select t.*, f.lfn from made t join files f on f.id = t.file_id
    order by t.generation, f.lfn limit ${sql.lit(mostListed.derived)}) t
  join files f on f.id = t.file_id
  cross join lateral (
    select count(*) as n, count(*) filter (where exists (
      select from per_file x where x.file_id = o.origin_id and ${isLost(sql`x`)})) as lost
    from origins o where o.file_id = f.id) o
  order by t.generation, f.lfn`;

const derivedDatasets = sql`
  select d.name, d.owner, d.file_count as "fileCount", t.files as "derivedCount",
    coalesce((select x.is_marked from marked x where x.dataset_id = d.id), false) as "isMarked"
  from made_datasets t join datasets d on d.id = t.dataset_id
  order by t.files desc, d.name limit ${sql.lit(mostListed.derived)}`;

const listOf = (select: RawBuilder<unknown>) =>
  sql`coalesce((select json_agg(row_to_json(l)) from (${select}) l), '[]')`;

const copiesOf = (is: RawBuilder<unknown>) => sql`coalesce(sum(x.copies) filter (where ${is}), 0)`;

/**
 * The table of these hits, in one statement: one moment, however large. Files that are private to others are not in it;
 * no viewer = the books themselves.
 */
export async function lossTable(
  db: Db,
  { copies, files }: Hits,
  viewer?: Viewer,
): Promise<LossTable> {
  const isSeen: IsSeen = (fileId) => (viewer && notPrivate(viewer, fileId)) ?? sql`true`;
  const row = await firstRow(
    db,
    sql<{ table: LossTable }>`
    with recursive per_file as materialized (
      select x.* from (${files}) x where ${isSeen(sql`x.file_id`)} order by x.file_id), ${touched},
    held_in as materialized (
      select cd.container_id, count(*) as hits, count(*) filter (where x.is_marked) as marked, sum(x.lost) as lost
      from marked x join container_datasets cd on cd.dataset_id = x.dataset_id group by cd.container_id),
    ${origins(isSeen)}, ${made}
    select (c.counts::jsonb || jsonb_build_object(
      'runCount', (select count(*) from run_hits),
      'lostRunCount', (select count(*) from run_hits where is_lost),
      'lostRuns', ${listOf(sql`select r.source, r.number from run_hits x join runs r on r.id = x.run_id
        where x.is_lost order by r.source, r.number limit ${sql.lit(mostListed.runs)}`)},
      'datasetCount', (select count(*) from marked),
      'markedDatasetCount', (select count(*) from marked where is_marked),
      'ownerCount', (select count(distinct d.owner) from marked x join datasets d on d.id = x.dataset_id),
      'containerCount', (select count(*) from held_in),
      'derivedCount', (select count(*) from made),
      'derivedDatasetCount', (select count(*) from made_datasets),
      'items', ${listOf(items(copies))}, 'datasets', ${listOf(datasets)}, 'owners', ${listOf(owners)},
      'containers', ${listOf(containers)}, 'derived', ${listOf(derived)},
      'derivedDatasets', ${listOf(derivedDatasets)})) as table
    from (select json_build_object('itemCount', coalesce(sum(x.copies), 0), 'safeCount', ${copiesOf(isSafe(sql`x`))},
        'recoverableCount', ${copiesOf(isRecoverable(sql`x`))}, 'lostCount', ${copiesOf(isLost(sql`x`))},
        'fileCount', count(*), 'lostFileCount', count(*) filter (where ${isLost(sql`x`)}),
        'lostBytes', coalesce(sum(x.size_bytes) filter (where ${isLost(sql`x`)}), 0)) as counts from per_file x) c`,
  );
  if (!row) throw new Error('the table of a loss has no row');
  return row.table;
}
