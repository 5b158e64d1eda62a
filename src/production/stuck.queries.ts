import type { Viewer } from '../access/policy.ts';
import { notPrivate } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql } from '../database/sql.ts';
import type { BackupWaitReason } from './stuck.rules.ts';

/**
 * What does not go on. Each list is read from an index of what is unfinished, so that it costs as much as
 * there is trouble, however much is well; of more than this many records the oldest are looked at.
 */
export const mostLookedAt = 100_000;

export interface StuckSweepRow {
  readonly datasetId: number;
  readonly storeId: number;
  readonly store: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly total: number;
  readonly confirmed: number;
}

/** Sweeps that are under way since before a moment, the oldest first (index sweeps_running). */
export async function oldSweeps(
  db: Db,
  before: Date,
  page: PageArguments,
): Promise<Page<StuckSweepRow>> {
  return readPage<StuckSweepRow>(
    db,
    {
      order: 'stuck:sweeps',
      keys: [
        { sql: sql`s.requested_at`, type: 'timestamptz' },
        { sql: sql`s.id`, type: 'bigint' },
      ],
      select: sql`s.dataset_id as "datasetId", s.store_id as "storeId", m.name as store,
        s.requested_by as "requestedBy", s.requested_at as "requestedAt", d.file_count as total,
        d.confirmed_count as confirmed`,
      from: sql`sweeps s join datasets d on d.id = s.dataset_id join mass_stores m on m.id = s.store_id`,
      where: sql`s.finished_at is null and s.requested_at < ${before}`,
    },
    page,
  );
}

export interface SweepTroubleRow {
  readonly datasetId: number;
  readonly failed: number;
  readonly copying: number;
  readonly lastError: string | null;
}

/** What is wrong in the running sweeps of these datasets: from the few records that fail or are in hand. */
export async function troubleOfSweeps(
  db: Db,
  datasetIds: readonly number[],
): Promise<SweepTroubleRow[]> {
  return rows(
    db,
    sql<SweepTroubleRow>`
    with troubled as (
      select id, file_id, store_id, status, last_error, updated_at from backup_records
      where status in ('FAILED', 'LOST')
      union
      select id, file_id, store_id, status, last_error, updated_at from backup_records
      where status in ('REQUESTED', 'COPYING', 'COPIED') and failure_count > 0
      union
      select id, file_id, store_id, status, last_error, updated_at from backup_records
      where status in ('COPYING', 'COPIED'))
    select s.dataset_id as "datasetId", count(*) filter (where b.status = 'FAILED') as failed,
      count(*) filter (where b.status in ('COPYING', 'COPIED')) as copying,
      (array_agg(b.last_error order by b.updated_at desc) filter (where b.last_error is not null))[1] as "lastError"
    from troubled b join dataset_files df on df.file_id = b.file_id
    join files f on f.id = b.file_id left join backup_policies p on p.id = f.policy_id
    join sweeps s on s.dataset_id = df.dataset_id and s.finished_at is null
      and b.store_id = any (coalesce(p.store_ids, array[s.store_id]))
    where s.dataset_id = any (${datasetIds}::bigint[]) group by s.dataset_id`,
  );
}

/** Backup records of one kind of trouble. */
interface BackupGroup {
  readonly store: string;
  readonly count: number;
  readonly sizeBytes: number;
  readonly oldestAt: Date;
  readonly exampleLfn: string;
  readonly lastError: string | null;
}

export interface FailedGroupRow extends BackupGroup {
  readonly status: 'FAILED' | 'LOST';
  readonly errorCode: string | null;
}

/** Over the groups g: each is shown by its first record. */
const groupColumns = sql`m.name as store, g.n as count, g.bytes as "sizeBytes", g.oldest_at as "oldestAt",
  f.lfn as "exampleLfn", b.last_error as "lastError"`;
const groupTables = sql`g join mass_stores m on m.id = g.store_id
  join backup_records b on b.id = g.example join files f on f.id = b.file_id`;

/** Not of what others are about to publish. */
const seenBackup = (viewer: Viewer) => notPrivate(viewer, sql`backup_records.file_id`);
/** Of what is not published any more, or was brought by an import that was cancelled, nobody misses a copy. */
const notGivenUp = sql`not exists (select from publication_composites gc join publications gp on gp.id = gc.publication_id
  where gc.file_id = backup_records.file_id and gp.status in ('FAILED', 'WITHDRAWN'))
  and not exists (select from import_files gx join imports gi on gi.id = gx.import_id
  where gx.file_id = backup_records.file_id and gx.fetched_at is not null and gi.status = 'CANCELLED'
    and not exists (select from dataset_files gd where gd.file_id = gx.file_id)
    and not exists (select from import_files go join imports gj on gj.id = go.import_id
      where go.file_id = gx.file_id and gj.status in ('RUNNING', 'FAILED')))`;

/** Backups that were given up, or found gone, by store and error code, the largest group first (backup_records_given_up). */
export async function failedBackups(
  db: Db,
  viewer: Viewer,
  most: number,
): Promise<FailedGroupRow[]> {
  return rows(
    db,
    sql<FailedGroupRow>`
    with x as materialized (
      select id, file_id, store_id, status, last_error_code, updated_at
      from backup_records where status in ('FAILED', 'LOST') and ${allOf([seenBackup(viewer), notGivenUp])}
      order by updated_at, id limit ${mostLookedAt}
    ), g as (
      select x.store_id, x.status, x.last_error_code, count(*) as n, sum(f.size_bytes) as bytes,
        min(x.updated_at) as oldest_at, min(x.id) as example
      from x join files f on f.id = x.file_id group by x.store_id, x.status, x.last_error_code)
    select g.status, g.last_error_code as "errorCode", ${groupColumns}
    from ${groupTables} order by g.n desc, m.name, g.last_error_code limit ${most}`,
  );
}

export interface WaitingGroupRow extends BackupGroup {
  readonly reason: BackupWaitReason;
  readonly nextAttemptAt: Date | null;
}

/**
 * Backups that were asked for before a moment and are not confirmed, by store and by what they wait for
 * (backup_records_waiting). `down`: the stores that cannot be used now.
 */
export async function waitingBackups(
  db: Db,
  viewer: Viewer,
  before: Date,
  down: readonly number[],
  most: number,
): Promise<WaitingGroupRow[]> {
  return rows(
    db,
    sql<WaitingGroupRow>`
    with busy as (
      select m.id from mass_stores m where m.concurrency <= (
        select count(*) from backup_records b
        where b.store_id = m.id and b.status in ('COPYING', 'COPIED') and b.lease_until > clock_timestamp())
    ), x as materialized (
      select id, file_id, store_id, requested_at,
        case when status = 'REQUESTED' and next_attempt_at > clock_timestamp() then next_attempt_at end as next_attempt_at,
        case
          when status <> 'REQUESTED' and lease_until > clock_timestamp() then 'COPYING'
          when store_id = any (${down}::integer[]) then 'STORE_DOWN'
          when awaits_tape_since < clock_timestamp() - make_interval(hours => (
            select tape_hours from mass_stores s where s.id = store_id)) then 'TAPE_LATE'
          when awaits_tape_since is not null then 'AWAITS_TAPE'
          when status <> 'REQUESTED' then 'WORKER_SILENT'
          when last_error_code = 'SOURCE_UNREADABLE' then 'SOURCE_UNREADABLE'
          when next_attempt_at > clock_timestamp() and failure_count = 0 then 'LEFT_TO_PRODUCER'
          when next_attempt_at > clock_timestamp() then 'NEXT_ATTEMPT'
          when store_id in (select id from busy) then 'STORE_BUSY'
          else 'NO_WORKER'
        end as reason
      from backup_records
      where status in ('REQUESTED', 'COPYING', 'COPIED') and requested_at < ${before}
        and ${allOf([seenBackup(viewer)])}
      order by requested_at, id limit ${mostLookedAt}
    ), g as (
      select x.store_id, x.reason, count(*) as n, sum(f.size_bytes) as bytes, min(x.requested_at) as oldest_at,
        min(x.next_attempt_at) as next_attempt_at, min(x.id) as example
      from x join files f on f.id = x.file_id group by x.store_id, x.reason)
    select g.reason, g.next_attempt_at as "nextAttemptAt", ${groupColumns}
    from ${groupTables} order by g.n desc, m.name, g.reason limit ${most}`,
  );
}

export interface StuckDatasetRow {
  readonly datasetId: number;
  readonly status: string;
  readonly backupWaived: boolean;
  readonly fileCount: number;
  readonly confirmedCount: number;
}

/** Datasets that are not closed, made before a moment, and that no sweep takes further (datasets_unfinished). */
export async function unfinishedDatasets(
  db: Db,
  before: Date,
  page: PageArguments,
): Promise<Page<StuckDatasetRow>> {
  return readPage<StuckDatasetRow>(
    db,
    {
      order: 'stuck:datasets',
      keys: [
        { sql: sql`d.created_at`, type: 'timestamptz' },
        { sql: sql`d.id`, type: 'bigint' },
      ],
      select: sql`d.id as "datasetId", d.status, d.backup_waived as "backupWaived", d.file_count as "fileCount",
        d.confirmed_count as "confirmedCount"`,
      from: sql`datasets d`,
      where: allOf([
        sql`d.status <> 'CLOSED' and d.created_at < ${before}`,
        // A bad one is told as bad, a swept one as a sweep.
        sql`not d.sealed and d.bad_mark_count = 0`,
      ]),
    },
    page,
  );
}

export interface BadGroupRow {
  readonly reason: string;
  readonly incidentNumber: number | null;
  readonly datasetCount: number;
  readonly publishedCount: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly oldestAt: Date;
  readonly markedBy: string;
  readonly exampleDataset: string;
}

/**
 * Standing bad marks by their incident, else by their reason, the largest group first (bad_marks_by_time). The marks
 * of an incident each tell what that dataset lost: what they have in common is the reason of the incident.
 */
export async function badDatasets(db: Db, most: number): Promise<BadGroupRow[]> {
  return rows(
    db,
    sql<BadGroupRow>`
    select coalesce(i.reason, x.reason) as reason, x.incident_id as "incidentNumber", count(*) as "datasetCount", count(*) filter (where d.status = 'CLOSED') as "publishedCount",
      sum(d.file_count) as "fileCount", sum(d.size_bytes) as "sizeBytes", min(x.marked_at) as "oldestAt",
      (array_agg(x.marked_by order by x.marked_at, x.id))[1] as "markedBy",
      (array_agg(d.name order by x.marked_at, x.id))[1] as "exampleDataset"
    from (select id, dataset_id, incident_id, case when incident_id is null then reason end as reason, marked_by, marked_at
          from bad_marks where cleared_at is null order by marked_at, id limit ${mostLookedAt}) x
    join datasets d on d.id = x.dataset_id left join incidents i on i.id = x.incident_id
    group by x.incident_id, i.reason, x.reason
    order by count(*) desc, coalesce(i.reason, x.reason), x.incident_id limit ${most}`,
  );
}
