import { demand, type Viewer } from '../access/policy.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput } from '../errors.ts';
import { mostFilesPerCall } from '../files/files.service.ts';
import type { ItemRefusal } from '../runs/runs.service.ts';
import { request, type BackupStatus } from './backups.rules.ts';
import { getMassStore } from './mass-stores.service.ts';

export interface RequestBackup {
  readonly lfns: readonly string[];
  readonly store?: string | null | undefined;
  /** The caller copies the file itself and then reports it with recordBackup. */
  readonly direct: boolean;
}

export interface BackupRequestOutcome {
  readonly index: number;
  readonly lfn: string;
  readonly outcome: 'REGISTERED' | 'EXISTING' | 'REFUSED';
  readonly error?: ItemRefusal;
  readonly backupId?: number;
}

/** How long the caller of a direct backup has before a worker tries in its place. */
const directGraceMs = 3_600_000;

/** Asks for a confirmed copy of each file; what is asked for or confirmed already stays as it is. */
export async function requestBackup(
  db: Db,
  jobs: JobQueue,
  viewer: Viewer,
  input: RequestBackup,
  idempotencyKey?: string | null,
): Promise<BackupRequestOutcome[]> {
  demand(viewer, 'backUp');
  if (input.lfns.length > mostFilesPerCall) {
    throw badInput('lfns', input.lfns.length, `at most ${mostFilesPerCall} files in one call`);
  }
  const store = await getMassStore(db, input.store);
  await jobs.prepare(store.id);
  const call = {
    principal: viewer.principal,
    operation: 'requestBackup',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const known = await recordsOf(tx, input.lfns, store.id);
      const wanted = new Set<number>();
      const judged = input.lfns.map((lfn, index): BackupRequestOutcome => {
        const file = known.get(lfn);
        if (!file) {
          const message = `${lfn} is not registered: register it first`;
          return { index, lfn, outcome: 'REFUSED', error: { code: 'NOT_FOUND', message } };
        }
        const outcome = request(file.status ?? undefined);
        if (outcome === 'REGISTERED') wanted.add(file.fileId);
        return { index, lfn, outcome };
      });
      const startAt = input.direct ? new Date(Date.now() + directGraceMs) : undefined;
      await requestInTransaction(tx, jobs, [...wanted], store.id, startAt);
      if (!input.direct) await startWaiting(tx, jobs, known, store.id);
      const after = await recordsOf(tx, input.lfns, store.id);
      return judged.map((item) => {
        const backupId = after.get(item.lfn)?.backupId;
        return backupId == null ? item : { ...item, backupId };
      });
    }),
  );
}

interface KnownRecord {
  readonly lfn: string;
  readonly fileId: number;
  readonly backupId: number | null;
  readonly status: BackupStatus | null;
}

async function recordsOf(
  tx: Db,
  lfns: readonly string[],
  storeId: number,
): Promise<Map<string, KnownRecord>> {
  const found = await rows(
    tx,
    sql<KnownRecord>`
    select f.lfn, f.id as "fileId", b.id as "backupId", b.status
    from files f left join backup_records b on b.file_id = f.id and b.store_id = ${storeId}
    where f.lfn = any (${lfns.map((lfn) => lfn.replaceAll('\0', ''))}::text[]) order by f.id`,
  );
  return new Map(found.map((row) => [row.lfn, row]));
}

/** New records, and FAILED or LOST ones asked for again, each with its job. Returns how many. */
export async function requestInTransaction(
  tx: Db,
  jobs: JobQueue,
  fileIds: readonly number[],
  storeId: number,
  startAt?: Date,
): Promise<number> {
  if (fileIds.length === 0) return 0;
  const made = await rows(
    tx,
    sql<{ id: number }>`
    insert into backup_records (file_id, store_id, next_attempt_at)
    select f.id, ${storeId}::integer, coalesce(${startAt ?? null}::timestamptz, clock_timestamp())
    from files f where f.id = any (${fileIds}::bigint[]) order by f.id
    on conflict (file_id, store_id) do update
      set status = 'REQUESTED', failure_count = 0, last_error = null, last_error_code = null,
        requested_by = current_actor(), requested_at = clock_timestamp(), next_attempt_at = excluded.next_attempt_at,
        worker = null, lease_until = null
      where backup_records.status in ('FAILED', 'LOST')
    returning id`,
  );
  await jobs.enqueue(
    tx,
    storeId,
    made.map((row) => row.id),
    startAt,
  );
  return made.length;
}

/** What waits for its next attempt is tried now: somebody asked. */
async function startWaiting(
  tx: Db,
  jobs: JobQueue,
  known: ReadonlyMap<string, KnownRecord>,
  storeId: number,
): Promise<void> {
  const waiting = [...known.values()].filter((row) => row.status === 'REQUESTED');
  if (waiting.length === 0) return;
  const moved = await rows(
    tx,
    sql<{ id: number }>`
    update backup_records set next_attempt_at = clock_timestamp()
    where id = any (${waiting.map((row) => row.backupId)}::bigint[]) and status = 'REQUESTED'
      and next_attempt_at > clock_timestamp() returning id`,
  );
  await jobs.enqueue(
    tx,
    storeId,
    moved.map((row) => row.id),
  );
}
