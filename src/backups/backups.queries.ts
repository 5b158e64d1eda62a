import { demand, may, type Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { BackupStatus } from './backups.rules.ts';

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
  b.evidence, b.last_error_code as "lastErrorCode", b.last_error as "lastError", b.copied_at as "copiedAt",
  b.confirmed_at as "confirmedAt", b.updated_at as "updatedAt"`;
// Left joins are left out by PostgreSQL when nothing of them is asked for.
export const backupTables = sql`backup_records b left join mass_stores m on m.id = b.store_id`;

/** Records are production's business; of a file that one sees, its confirmed copies are everybody's. */
export const visibleBackup = (viewer: Viewer): RawBuilder<unknown> =>
  may(viewer, 'readBackups')
    ? sql`true`
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
}

/** Backup records in the order in which they were asked for. */
export async function listBackups(
  db: Db,
  viewer: Viewer,
  filter: BackupConditions,
  page: PageArguments,
): Promise<Page<BackupRow>> {
  demand(viewer, 'readBackups');
  const lfn = nameIs(sql`f.lfn`, filter.lfn);
  return readPage<BackupRow>(
    db,
    {
      order: 'backups:id',
      keys: [{ sql: sql`b.id`, type: 'bigint' }],
      select: backupColumns,
      from: backupTables,
      where: allOf([
        filter.status ? sql`b.status = any (${filter.status}::text[])` : undefined,
        filter.store ? sql`m.name = ${filter.store}` : undefined,
        filter.dataset
          ? sql`exists (select from dataset_files df join datasets d on d.id = df.dataset_id
              where df.file_id = b.file_id and d.name = ${filter.dataset})`
          : undefined,
        lfn && sql`exists (select from files f where f.id = b.file_id and ${lfn})`,
      ]),
    },
    page,
  );
}

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
