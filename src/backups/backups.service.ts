import { demand, type Viewer } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { rows, sql, type RawBuilder } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput } from '../errors.ts';
import { mostFilesPerCall } from '../files/files.service.ts';
import type { ItemRefusal } from '../runs/runs.service.ts';
import { request, type BackupStatus } from './backups.rules.ts';
import { owedStores } from './backups.queries.ts';
import { getMassStore, listMassStores, type MassStoreRow } from './mass-stores.service.ts';

export interface RequestBackup {
  readonly lfns: readonly string[];
  /** Not given: all that the policy of a file names; of a file without one, the default store. */
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
  /** Of the record that is told: the store that is named, or the first that the file owes a copy in. */
  readonly storeId?: number;
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
  const wantedStores =
    input.store == null ? owedStores(store.id) : sql`array[${store.id}]::integer[]`;
  for (const row of await listMassStores(db)) await jobs.prepare(row.id);
  const call = {
    principal: viewer.principal,
    operation: 'requestBackup',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const known = await recordsOf(tx, viewer, input.lfns, wantedStores);
      const asked = new Set<KnownRecord>();
      const judged = input.lfns.map((lfn, index): BackupRequestOutcome => {
        const records = known.get(lfn);
        if (!records) {
          const message = `${lfn} is not registered: register it first`;
          return { index, lfn, outcome: 'REFUSED', error: { code: 'NOT_FOUND', message } };
        }
        const missing = records.filter(
          ({ status }) => request(status ?? undefined) === 'REGISTERED',
        );
        for (const record of missing) asked.add(record);
        return { index, lfn, outcome: missing.length > 0 ? 'REGISTERED' : 'EXISTING' };
      });
      const startAt = input.direct ? new Date(Date.now() + directGraceMs) : undefined;
      for (const [storeId, records] of Map.groupBy(asked, (record) => record.storeId)) {
        const ids = records.map((record) => record.fileId);
        await requestInTransaction(tx, jobs, [...new Set(ids)], storeId, startAt);
      }
      if (!input.direct) await startWaiting(tx, jobs, [...known.values()].flat());
      const after = await recordsOf(tx, viewer, input.lfns, wantedStores);
      return judged.map((item) => {
        const [told] = after.get(item.lfn) ?? [];
        if (told?.backupId == null) return item;
        return { ...item, backupId: told.backupId, storeId: told.storeId };
      });
    }),
  );
}

interface KnownRecord {
  readonly lfn: string;
  readonly fileId: number;
  readonly storeId: number;
  readonly backupId: number | null;
  readonly status: BackupStatus | null;
}

/** By LFN, for each of the stores; the default one first, if it is among them. */
async function recordsOf(
  tx: Db,
  viewer: Viewer,
  lfns: readonly string[],
  wantedStores: RawBuilder<unknown>,
): Promise<Map<string, KnownRecord[]>> {
  const found = await rows(
    tx,
    sql<KnownRecord>`
    select f.lfn, f.id as "fileId", s.id as "storeId", b.id as "backupId", b.status
    from files f join mass_stores s on s.id = any (${wantedStores})
    left join backup_records b on b.file_id = f.id and b.store_id = s.id
    where f.lfn = any (${lfns.map((lfn) => lfn.replaceAll('\0', ''))}::text[]) and ${visibleFile(viewer)} order by f.id, ${firstOwed}`,
  );
  return Map.groupBy(found, (row) => row.lfn);
}

/** Of several stores s that a file owes copies in: where who copies it himself puts it. */
const firstOwed = sql`s.is_default desc, s.id`;

/** The store that a copy is meant for which somebody made himself: the one he names, or as requestBackup told him. */
export async function storeOfCopy(
  db: Db,
  viewer: Viewer,
  lfn: string,
  name: string | null | undefined,
): Promise<MassStoreRow> {
  const store = await getMassStore(db, name);
  if (name != null) return store;
  const [first] = await rows(
    db.fork(),
    sql<{ name: string }>`
    select s.name from files f join mass_stores s on s.id = any (${owedStores(store.id)})
    where f.lfn = ${lfn.replaceAll('\0', '')} and ${visibleFile(viewer)} order by ${firstOwed} limit 1`,
  );
  return first ? getMassStore(db, first.name) : store;
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
async function startWaiting(tx: Db, jobs: JobQueue, known: readonly KnownRecord[]): Promise<void> {
  const waiting = known.filter((row) => row.status === 'REQUESTED');
  if (waiting.length === 0) return;
  const moved = await rows(
    tx,
    sql<{ id: number; storeId: number }>`
    update backup_records set next_attempt_at = clock_timestamp()
    where id = any (${waiting.map((row) => row.backupId)}::bigint[]) and status = 'REQUESTED'
      and next_attempt_at > clock_timestamp() returning id, store_id as "storeId"`,
  );
  for (const [storeId, records] of Map.groupBy(moved, (row) => row.storeId)) {
    await jobs.enqueue(
      tx,
      storeId,
      records.map((row) => row.id),
    );
  }
}
