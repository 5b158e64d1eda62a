import { demand, may, type Viewer } from '../access/policy.ts';
import { notPrivate, visibleDataset } from '../access/visibility.ts';
import { oneOf, textIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import {
  readPage,
  type OrderKey,
  type Page,
  type PageArguments,
  type PageQuery,
  type Walk,
} from '../database/page.ts';
import { asMoment, timeIn, type TimeConditions } from '../database/range-filter.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { lfnIs } from '../files/files.queries.ts';
import type { ConfirmLevel } from '../storage/contract.ts';
import { backupStatuses, type BackupStatus } from './backups.rules.ts';
import { isKept } from '../text.ts';

export interface BackupRow {
  readonly id: number;
  readonly fileId: number;
  readonly store: string;
  readonly status: BackupStatus;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly attempt: number;
  readonly failureCount: number;
  readonly worker: string | null;
  readonly nextAttemptAt: Date | null;
  readonly storeKey: string | null;
  readonly storedSizeBytes: number | null;
  readonly storedAdler32: string | null;
  readonly storedSha256: string | null;
  readonly evidence: unknown;
  readonly confirmLevel: ConfirmLevel | null;
  readonly awaitsTapeSince: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly copiedAt: Date | null;
  readonly confirmedAt: Date | null;
  readonly updatedAt: Date;
}

/** Over the aliases b (backup_records) and m (mass_stores). */
export const backupColumns = sql`b.id, b.file_id as "fileId", m.name as store, b.status, b.requested_by as "requestedBy",
  b.requested_at as "requestedAt", b.attempt, b.failure_count as "failureCount", b.worker,
  case when b.status = 'REQUESTED' then b.next_attempt_at end as "nextAttemptAt", b.store_key as "storeKey",
  b.stored_size_bytes as "storedSizeBytes", b.stored_adler32 as "storedAdler32", b.stored_sha256 as "storedSha256",
  b.evidence, case when b.status = 'CONFIRMED' then b.confirm_level end as "confirmLevel",
  b.awaits_tape_since as "awaitsTapeSince", b.last_error_code as "lastErrorCode", b.last_error as "lastError", b.copied_at as "copiedAt",
  b.confirmed_at as "confirmedAt", b.updated_at as "updatedAt"`;
// Left joins are left out by PostgreSQL when nothing of them is asked for.
export const backupTables = sql`backup_records b left join mass_stores m on m.id = b.store_id`;

/** Records are production's business; of a file that one sees, its confirmed copies are everybody's. */
export const visibleBackup = (viewer: Viewer): RawBuilder<unknown> =>
  may(viewer, 'readBackups')
    ? (notPrivate(viewer, sql`b.file_id`) ?? sql`true`)
    : sql`(b.status = 'CONFIRMED' and exists (
        select from dataset_files df join datasets d on d.id = df.dataset_id
        where df.file_id = b.file_id and ${visibleDataset(viewer)}))`;

export async function backupsByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<BackupRow[]> {
  return rows(
    db,
    sql<BackupRow>`select ${backupColumns} from ${backupTables}
      where b.id = any (${ids}::bigint[]) and ${visibleBackup(viewer)}`,
  );
}

export async function backupsOfFiles(
  db: Db,
  viewer: Viewer,
  fileIds: readonly number[],
): Promise<BackupRow[]> {
  return rows(
    db,
    sql<BackupRow>`select ${backupColumns} from ${backupTables}
      where b.file_id = any (${fileIds}::bigint[]) and ${visibleBackup(viewer)} order by b.id`,
  );
}

export interface BackupConditions {
  readonly status?: readonly BackupStatus[] | null | undefined;
  readonly store?: string | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly lfn?: NameConditions | null | undefined;
  readonly requestedAt?: TimeConditions | null | undefined;
  readonly updatedAt?: TimeConditions | null | undefined;
  readonly errorCode?: string | null | undefined;
}

const idLast: OrderKey = { sql: sql`b.id`, type: 'bigint' };
const orderKeys = {
  REQUESTED_AT: [{ sql: sql`b.requested_at`, type: 'timestamptz' }, idLast],
  UPDATED_AT: [{ sql: sql`b.updated_at`, type: 'timestamptz' }, idLast],
} as const satisfies Record<string, readonly OrderKey[]>;

/** Conditions on backup records b. */
export function backupConditions(viewer: Viewer, filter: BackupConditions): RawBuilder<unknown> {
  return allOf([
    oneOf(sql`b.status`, filter.status),
    filter.store == null ? undefined : sql`b.store_id = ${storeNamed(filter.store)}`,
    // An array, read once: its files give the records, whatever the planner thinks of the order.
    filter.dataset == null
      ? undefined
      : sql`b.file_id = any (array(select df.file_id from dataset_files df join datasets d on d.id = df.dataset_id
          where ${textIs(sql`d.name`, filter.dataset)} and ${visibleDataset(viewer)}))`,
    filter.lfn ? ofFilesNamed(filter.lfn) : undefined,
    timeIn(sql`b.requested_at`, filter.requestedAt),
    timeIn(sql`b.updated_at`, filter.updatedAt),
    textIs(sql`b.last_error_code`, filter.errorCode),
  ]);
}

function ofFilesNamed(filter: NameConditions): RawBuilder<unknown> {
  const such = lfnIs(sql`f.lfn`, filter) ?? sql`true`;
  return filter.eq == null && filter.in == null
    ? sql`exists (select from files f where f.id = b.file_id and ${such})`
    : sql`b.file_id = any (array(select f.id from files f where ${such}))`;
}

/**
 * Backup records in the order in which they were asked for; if the filter is on updatedAt, those that
 * changed longest ago first.
 */
export function backupsPage(viewer: Viewer, filter: BackupConditions): PageQuery {
  demand(viewer, 'readBackups');
  const order = filter.updatedAt?.gte || filter.updatedAt?.lt ? 'UPDATED_AT' : 'REQUESTED_AT';
  const { walks, rest } = walksOf(filter, order);
  const seen = notPrivate(viewer, sql`b.file_id`);
  return {
    order: `backups:${order.toLowerCase()}`,
    keys: orderKeys[order],
    select: backupColumns,
    from: backupTables,
    where: allOf([backupConditions(viewer, rest), seen]),
    walks,
    overlap: true,
    countWhere: allOf([backupConditions(viewer, filter), seen]),
  };
}

export async function listBackups(
  db: Db,
  viewer: Viewer,
  filter: BackupConditions,
  page: PageArguments,
): Promise<Page<BackupRow>> {
  return readPage<BackupRow>(db, backupsPage(viewer, filter), page);
}

/**
 * The indexes have the state before the time: a walk for each state, and the conditions that are left. What names
 * its files is found from them.
 */
function walksOf(
  filter: BackupConditions,
  order: keyof typeof orderKeys,
): { walks: Walk[]; rest: BackupConditions } {
  if ((filter.dataset ?? filter.lfn?.eq ?? filter.lfn?.in) != null) {
    return { walks: [{}], rest: filter };
  }
  const { errorCode, store } = filter;
  const { gte, lt } = (order === 'UPDATED_AT' ? filter.updatedAt : filter.requestedAt) ?? {};
  const span = {
    from: gte == null ? undefined : asMoment(gte),
    to: lt == null ? undefined : asMoment(lt),
  };
  if (errorCode != null && isKept(errorCode) && order === 'REQUESTED_AT') {
    const pins = [{ sql: sql`b.last_error_code`, is: sql`${errorCode}` }];
    const where = sql`b.last_error_code is not null`;
    return { walks: [{ pins, ...span, where }], rest: { ...filter, errorCode: null } };
  }
  const byStore = store != null && order === 'REQUESTED_AT';
  const inStore = byStore ? [{ sql: sql`b.store_id`, is: storeNamed(store) }] : [];
  const walks = [...new Set(filter.status ?? backupStatuses)].map((status) => ({
    pins: [...inStore, { sql: sql`b.status`, is: sql`${status}` }],
    ...span,
  }));
  // No state at all fits nothing. An equality beside its bound would let the planner take any index again.
  return walks.length === 0
    ? { walks: [{}], rest: filter }
    : { walks, rest: { ...filter, status: null, ...(byStore ? { store: null } : {}) } };
}

const storeNamed = (store: string) =>
  sql`(select id from mass_stores where ${textIs(sql`name`, store)})`;

export interface ConfirmedCopy {
  readonly fileId: number;
  readonly storeId: number;
  readonly storeKey: string;
}

/** Which of several confirmed copies a job opens: the one in the default store. */
export const firstCopyFirst = sql`m.is_default desc, b.id`;

/** Where confirmed copies lie: what a job opens. */
export async function confirmedCopies(
  db: Db,
  fileIds: readonly number[],
): Promise<ConfirmedCopy[]> {
  return rows(
    db,
    sql<ConfirmedCopy>`
    select distinct on (b.file_id) b.file_id as "fileId", b.store_id as "storeId", b.store_key as "storeKey"
    from ${backupTables} where b.file_id = any (${fileIds}::bigint[]) and b.status = 'CONFIRMED'
    order by b.file_id, ${firstCopyFirst}`,
  );
}

/** The stores in which the policy of a file wants a copy, by name; files that no policy binds are left out. */
export async function policyStores(
  db: Db,
  fileIds: readonly number[],
): Promise<{ fileId: number; stores: string[] }[]> {
  return rows(
    db,
    sql<{ fileId: number; stores: string[] }>`
    select f.id as "fileId", array(
      select s.name from mass_stores s where s.id = any (p.store_ids) order by s.name) as stores
    from files f join backup_policies p on p.id = f.policy_id where f.id = any (${fileIds}::bigint[])`,
  );
}

/** The stores that a file f owes copies to, as an array: those of its policy, or the one that is meant. */
export const owedStores = (storeId: number | RawBuilder<unknown>): RawBuilder<unknown> =>
  sql`coalesce((select p.store_ids from backup_policies p where p.id = f.policy_id), array[${storeId}]::integer[])`;
