import { demand, type Viewer } from '../access/policy.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction, postgresCode } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import {
  findPlaces,
  hitsOf,
  hitsOfIncident,
  itemsOf,
  lostBefore,
  replicasOfScope,
  sitesOf,
  unknownNames,
  type Places,
  type ScopeHits,
  type UnknownNames,
} from './hits.queries.ts';
import { checkReason, checkScope, type LossScope } from './incidents.rules.ts';
import { lossTable, type LossTable } from './loss-table.queries.ts';

export interface StorageLoss extends LossScope {
  readonly reason: string;
  /** Only looks: the same table, nothing written. */
  readonly dryRun: boolean;
  /** Copies in a mass store: where they are asked for again; the store that lost them, if not given. */
  readonly backUpTo?: string | null | undefined;
}

export interface LossReport {
  /** null for a dry run, and when nothing was hit. */
  readonly incidentId: number | null;
  readonly changed: boolean;
  readonly dryRun: boolean;
  readonly table: LossTable;
  /** Copies of the scope that were lost before. */
  readonly alreadyLostCount: number;
  readonly unknown: UnknownNames;
}

/** One report at a time; the other lock is shared by all who add files to datasets (migration 0018). */
const reportLock = sql`pg_advisory_xact_lock(77341, 1)`;
const addingLock = sql`pg_advisory_xact_lock(77341, 2)`;
const previewTimeout = '60s';
const reportTimeout = '180s';
const lockTimeout = '60s';
/** From so many rows on the planner has to know of them. */
const manyItems = 20_000;

/**
 * What a loss of storage hits, and in the same transaction what follows from it: replicas or backups are
 * LOST, datasets that lost a file carry a mark of the incident. A report that hits nothing new answers with
 * the incident that was first. NOT_FOUND for places that nobody knows.
 */
export async function reportStorageLoss(
  db: Db,
  viewer: Viewer,
  loss: StorageLoss,
  idempotencyKey?: string | null,
): Promise<LossReport> {
  demand(viewer, 'reportLoss');
  const what = checkScope(loss);
  const reason = checkReason(loss.reason);
  const places = await findPlaces(db.fork(), loss);
  for (const site of viewer.sites ? await sitesOf(db.fork(), places) : []) {
    demand(viewer, 'reportLoss', { site });
  }
  const key = loss.dryRun ? null : idempotencyKey;
  const call = { principal: viewer.principal, operation: 'reportStorageLoss', key, request: loss };
  const store =
    what === 'BACKUPS' && loss.backUpTo != null ? (await getMassStore(db, loss.backUpTo)).id : null;
  return inReport({ principal: viewer.principal, reason }, db, loss.dryRun, (tx) =>
    onceForKey(tx, call, () =>
      report(tx, { ...loss, reason }, places, store ?? places.storeId ?? null),
    ),
  );
}

/** A copy that was read and found bad: one replica, or the backup of one file in one store. */
export type BadCopy =
  | { readonly replicaId: number }
  | { readonly storeId: number; readonly lfn: string };

/** It is lost like one on a crashed disk, in the transaction of who has read it; null = it was lost already. */
export async function badCopyInTransaction(
  tx: Db,
  copy: BadCopy,
  reason: string,
): Promise<number | null> {
  const loss: StorageLoss = {
    reason: checkReason(reason),
    dryRun: false,
    ...('lfn' in copy ? { lfns: [copy.lfn] } : {}),
  };
  const places: Places =
    'lfn' in copy ? { storeId: copy.storeId } : { replicaIds: [copy.replicaId] };
  const { incidentId, changed } = await report(tx, loss, places, places.storeId ?? null);
  return changed ? incidentId : null;
}

/** A replica that was read and found bad is lost like one on a crashed disk; for who has read it. */
export async function reportBadReplicas(
  db: Db,
  principal: string,
  replicaIds: readonly number[],
  reason: string,
): Promise<LossReport> {
  const loss: StorageLoss = { reason: checkReason(reason), dryRun: false };
  return inReport({ principal, reason: loss.reason }, db, false, (tx) =>
    report(tx, loss, { replicaIds }, null),
  );
}

async function inReport<T>(
  actor: { principal: string; reason: string },
  db: Db,
  dryRun: boolean,
  work: (tx: Db) => Promise<T>,
): Promise<T> {
  try {
    return await inTransaction(db, actor, async (tx) => {
      // A preview goes along the files in order: what fits the cache is fastest.
      await rows(
        tx,
        sql`select set_config('statement_timeout', ${dryRun ? previewTimeout : reportTimeout}, true),
          set_config('lock_timeout', ${lockTimeout}, true), set_config('jit', 'off', true),
          set_config('work_mem', ${dryRun ? '16MB' : '128MB'}, true)`,
      );
      return work(tx);
    });
  } catch (error) {
    const isLate = ['57014', '55P03'].includes(postgresCode(error) ?? '');
    if (!isLate) throw error;
    throw new SweepbookError(
      'UNAVAILABLE',
      'the report took too long or waited for somebody else; nothing was written: try again, or name less at once',
      {},
      { cause: error },
    );
  }
}

async function report(
  tx: Db,
  loss: StorageLoss,
  places: Places,
  backupStoreId: number | null,
): Promise<LossReport> {
  if (!loss.dryRun) {
    await rows(tx, sql`select ${reportLock}`);
    await waitForWriters(tx, places);
  }
  const until = loss.until?.toISOString() ?? (await now(tx));
  const hits = hitsOf(loss, places, until);
  const unknown = await unknownNames(tx, loss, places);
  const before = await lostBefore(tx, loss, places, until);
  const incidentId = loss.dryRun
    ? null
    : await writeIncident(tx, loss, places, backupStoreId, until, hits);
  const table = await lossTable(tx, incidentId === null ? hits : hitsOfIncident(incidentId));
  if (table.itemCount === 0) await demandSense(tx, loss, places, before.count, unknown.count);
  const known = table.itemCount === 0 ? before.incidentId : null;
  return {
    incidentId: incidentId ?? known,
    changed: incidentId !== null,
    dryRun: loss.dryRun,
    table,
    alreadyLostCount: before.count,
    unknown,
  };
}

async function now(tx: Db): Promise<string> {
  const row = await firstRow(tx, sql<{ now: string }>`select clock_timestamp()::text as now`);
  return row?.now ?? '';
}

/**
 * Who is registering a copy on the volume right now holds its row until he has committed: waited for, so that
 * what was told before the report is seen. The lock goes at once (savepoint), so that nobody waits for the report.
 */
async function waitForWriters(tx: Db, { volumeIds }: Places): Promise<void> {
  if (!volumeIds?.length) return;
  await rows(tx, sql`savepoint writers`);
  await rows(
    tx,
    sql`select id from volumes where id = any (${volumeIds}::integer[]) order by id for update`,
  );
  await rows(tx, sql`rollback to savepoint writers`);
  await rows(tx, sql`release savepoint writers`);
}

/** A beginning of paths that fits nothing at all is a slip of the pen, not an answer. */
async function demandSense(
  tx: Db,
  loss: StorageLoss,
  places: Places,
  lostCount: number,
  unknownCount: number,
): Promise<void> {
  if (loss.pathPrefix == null || places.storeId !== undefined) return;
  if (lostCount > 0 || unknownCount > 0) return;
  const any = await firstRow(
    tx,
    sql`select 1 from replicas p where ${replicasOfScope(sql`p`, { ...loss, since: null }, places, 'infinity')} limit 1`,
  );
  if (any) return;
  throw new SweepbookError(
    'NOT_FOUND',
    `no replica at ${loss.site} has a path that begins with ${loss.pathPrefix}: look at "file show"`,
    { field: 'pathPrefix', value: loss.pathPrefix },
  );
}

/** The incident with its items, its effects and its marks; null when nothing is hit. */
async function writeIncident(
  tx: Db,
  loss: StorageLoss,
  places: Places,
  backupStoreId: number | null,
  until: string,
  hits: ScopeHits,
): Promise<number | null> {
  const isBackups = places.storeId !== undefined;
  if (isBackups) await lockDatasets(tx, hits);
  const isAny = await firstRow(tx, sql`select 1 from (${hits.copies}) h limit 1`);
  if (!isAny) return null;
  const made = await firstRow(
    tx,
    sql<{ id: number }>`
    insert into incidents (what, reason, scope, since, until, backup_store_id)
    values (${isBackups ? 'BACKUPS' : 'REPLICAS'}, ${loss.reason}, ${JSON.stringify(toldScope(loss, places))}::jsonb,
      ${loss.since ?? null}, ${until}::timestamptz, ${backupStoreId}) returning id`,
  );
  if (!made) throw new Error('no incident was made');
  const itemCount = await changedRows(
    tx,
    sql`insert into incident_items (incident_id, ordinal, file_id, replica_id, backup_id, finding, is_lost, is_unbacked)
      select ${made.id}::bigint, h.* from (${itemsOf(hits)}) h`,
  );
  if (itemCount >= manyItems) await rows(tx, sql`analyze incident_items`);
  const changed = await (isBackups ? loseBackups(tx, made.id) : loseReplicas(tx, made.id));
  if (changed !== itemCount) {
    throw new Error(`incident ${made.id}: ${itemCount} copies were hit and ${changed} changed`);
  }
  await markDatasets(tx, made.id);
  // Whoever adds a file to a dataset right now is waited for, and his dataset is marked with the others.
  await rows(tx, sql`select ${addingLock}`);
  await markDatasets(tx, made.id);
  return made.id;
}

/** The scope as it stands with the incident; lists by their length and their beginning. */
function toldScope(loss: StorageLoss, places: Places): Record<string, unknown> {
  const { volume, site, pathPrefix, massStore, paths, lfns } = loss;
  const list = (names: readonly string[] | null | undefined) =>
    names == null ? undefined : { count: names.length, first: names.slice(0, 20) };
  return {
    volume,
    site,
    pathPrefix,
    massStore,
    paths: list(paths),
    lfns: list(lfns),
    replicas: places.replicaIds && { count: places.replicaIds.length },
  };
}

/** Datasets before backups and files, as everywhere, so that nobody waits in a circle. */
async function lockDatasets(tx: Db, hits: ScopeHits): Promise<void> {
  await rows(
    tx,
    sql`select 1 from datasets d where d.id in (
      select df.dataset_id from (${hits.copies}) h join dataset_files df on df.file_id = h.file_id)
      order by d.id for no key update`,
  );
}

async function loseReplicas(tx: Db, incidentId: number): Promise<number> {
  return changedRows(
    tx,
    sql`update replicas p set status = 'LOST', incident_id = ${incidentId}
      from incident_items i
      where i.incident_id = ${incidentId} and p.id = i.replica_id and p.status = 'AVAILABLE'`,
  );
}

async function loseBackups(tx: Db, incidentId: number): Promise<number> {
  return changedRows(
    tx,
    sql`update backup_records b set status = 'LOST', last_error_code = 'NOT_CONFIRMED',
        last_error = ${`lost in incident ${incidentId}`}
      from incident_items i
      where i.incident_id = ${incidentId} and b.id = i.backup_id and b.status = 'CONFIRMED'`,
  );
}

/** Marks the datasets that hold files of the incident and are not marked yet. */
async function markDatasets(tx: Db, incidentId: number): Promise<void> {
  // With their rows locked no copy of their files is confirmed any more: what was confirmed meanwhile is seen.
  // NOT IN and EXCEPT, here and below: hashed whatever the planner thinks of tables that have just been filled.
  const locked = await changedRows(
    tx,
    sql`select 1 from datasets d
      where d.id not in (select dataset_id from incident_datasets where incident_id = ${incidentId})
        and d.id in (select df.dataset_id from incident_items i join dataset_files df on df.file_id = i.file_id
          where i.incident_id = ${incidentId})
      order by d.id for no key update`,
  );
  if (locked === 0) return;
  await rows(
    tx,
    sql`update incident_items i set is_lost = false, is_unbacked = false from files f
      where i.incident_id = ${incidentId} and (i.is_lost or i.is_unbacked) and f.id = i.file_id and f.confirmed_copies > 0`,
  );
  await rows(
    tx,
    // The copies of a file stand side by side: counted at the first of them.
    sql`with per_file as (
        select file_id, is_lost, is_unbacked from (
          select *, lag(file_id) over (order by ordinal) as previous from incident_items where incident_id = ${incidentId}) i
        where file_id is distinct from previous),
      found as (
        select df.dataset_id, count(*) as hits, count(*) filter (where x.is_lost) as lost,
          count(*) filter (where x.is_unbacked and not x.is_lost) as unbacked
        from per_file x join dataset_files df on df.file_id = x.file_id group by df.dataset_id)
      insert into incident_datasets (incident_id, dataset_id, file_count, hit_count, lost_total, unbacked_total,
        lost_count, unbacked_count)
      select ${incidentId}::bigint, x.dataset_id, d.file_count, x.hits, x.lost, x.unbacked, x.lost, x.unbacked
      from found x join datasets d on d.id = x.dataset_id order by x.dataset_id
      on conflict do nothing`,
  );
  await rows(
    tx,
    sql`insert into bad_marks (dataset_id, incident_id, reason)
      select x.dataset_id, x.incident_id, format('incident %s: %s of %s files lost%s: %s', x.incident_id, x.lost_total,
        x.file_count, case when x.unbacked_total > 0
          then format(', %s without a confirmed backup', x.unbacked_total) else '' end, i.reason)
      from incident_datasets x join incidents i on i.id = x.incident_id
      where x.incident_id = ${incidentId} and x.lost_count > 0
        and x.dataset_id not in (select dataset_id from bad_marks where incident_id = ${incidentId})
      order by x.dataset_id`,
  );
}
