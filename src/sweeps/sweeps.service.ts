import { demand, type Viewer } from '../access/policy.ts';
import { owedStores } from '../backups/backups.queries.ts';
import { requestCopies, type OwedCopy } from '../backups/owed-copies.service.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import {
  close,
  demandReason,
  expectVersion,
  reopen,
  type DatasetState,
} from '../datasets/datasets.rules.ts';
import {
  lockDataset,
  moveDataset,
  type DatasetChange,
  type DatasetTransition,
  type LockedDataset,
} from '../datasets/datasets.service.ts';

export interface SweepRequest extends DatasetTransition {
  /** Where files are backed up whose policy names no stores; the default store if it is not given. */
  readonly store?: string | null | undefined;
}

const unchanged = (dataset: LockedDataset): DatasetChange => ({
  datasetId: dataset.id,
  changed: false,
  changedCount: 0,
});

/**
 * Takes a dataset all the way: seals it and asks for what is missing; the last confirmation marks
 * it backed up and closes it. Asked for once; asked for again it tries what has FAILED again.
 */
export async function sweepDataset(
  db: Db,
  jobs: JobQueue,
  viewer: Viewer,
  input: SweepRequest,
): Promise<DatasetChange> {
  const store = await getMassStore(db, input.store);
  await jobs.prepare(store.id);
  const actor = { principal: viewer.principal, reason: input.reason?.trim() };
  return inTransaction(db, actor, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'changeDataset', dataset.owner);
    if (dataset.status === 'CLOSED') return unchanged(dataset);
    if (dataset.sealed) return sweepAgain(tx, jobs, dataset, store.id);
    expectVersion(dataset, input.expectedVersion);
    if (dataset.fileCount === 0) {
      throw new SweepbookError(
        'DATASET_EMPTY',
        `dataset ${dataset.name} has no file: add files first`,
        {
          dataset: dataset.name,
        },
      );
    }
    if (dataset.backupWaived || dataset.status === 'BACKED_UP') {
      const decision = close(dataset);
      if (decision.kind === 'move') await moveDataset(tx, dataset, decision.to);
      return { datasetId: dataset.id, changed: true, changedCount: 1 };
    }
    await rows(tx, sql`update datasets set sealed = true where id = ${dataset.id}`);
    await rows(
      tx,
      sql`insert into sweeps (dataset_id, store_id) values (${dataset.id}, ${store.id})`,
    );
    const asked = await requestMissing(tx, jobs, dataset.id, store.id);
    await advanceInTransaction(tx, [dataset.id]);
    return { datasetId: dataset.id, changed: true, changedCount: Math.max(1, asked) };
  });
}

/** The sweep is under way: what has failed is asked for again. */
async function sweepAgain(
  tx: Db,
  jobs: JobQueue,
  dataset: LockedDataset,
  storeId: number,
): Promise<DatasetChange> {
  await rows(
    tx,
    sql`update sweeps set store_id = ${storeId}
      where dataset_id = ${dataset.id} and finished_at is null and store_id <> ${storeId}`,
  );
  const changedCount = await requestMissing(tx, jobs, dataset.id, storeId);
  const advanced = await advanceInTransaction(tx, [dataset.id]);
  return { datasetId: dataset.id, changed: changedCount + advanced > 0, changedCount };
}

/** Asks for each copy that a file owes and does not have confirmed; what is under way stays as it is. */
async function requestMissing(
  tx: Db,
  jobs: JobQueue,
  datasetId: number,
  storeId: number,
): Promise<number> {
  const missing = await rows(
    tx,
    sql<OwedCopy>`
    select f.id as "fileId", w.store_id as "storeId"
    from dataset_files df join files f on f.id = df.file_id
    cross join lateral unnest(${owedStores(storeId)}) w (store_id)
    where df.dataset_id = ${datasetId} and f.missing_copies > 0 order by w.store_id, f.id`,
  );
  return requestCopies(tx, jobs, missing);
}

interface Complete extends DatasetState {
  readonly id: number;
  readonly sweepId: number;
  readonly requestedBy: string;
}

/**
 * Marks backed up and closes those of these sweeping datasets whose files are all confirmed, on
 * behalf of who asked for the sweep. Returns how many.
 */
export async function advanceInTransaction(tx: Db, datasetIds: readonly number[]): Promise<number> {
  const complete = await rows(
    tx,
    sql<Complete>`
    select d.id, d.name, d.status, d.sealed, d.backup_waived as "backupWaived", d.file_count as "fileCount",
      d.confirmed_count as "confirmedCount", d.version, s.id as "sweepId", s.requested_by as "requestedBy"
    from datasets d join sweeps s on s.dataset_id = d.id and s.finished_at is null
    where d.id = any (${datasetIds}::bigint[]) and d.sealed and d.status = 'OPEN'
      and d.file_count > 0 and d.confirmed_count = d.file_count
    order by d.id for no key update of d`,
  );
  for (const dataset of complete) {
    await rows(
      tx,
      sql`select set_config('sweepbook.actor', ${dataset.requestedBy}, true),
        set_config('sweepbook.reason', 'sweep', true)`,
    );
    await moveDataset(tx, dataset, 'BACKED_UP');
    await moveDataset(tx, { ...dataset, status: 'BACKED_UP' }, 'CLOSED');
    await rows(
      tx,
      sql`update sweeps set finished_at = clock_timestamp(), outcome = 'CLOSED' where id = ${dataset.sweepId}`,
    );
  }
  return complete.length;
}

/** BACKED_UP → OPEN; of a dataset that is being swept, calls the sweep off. Needs a reason. */
export async function reopenDataset(
  db: Db,
  viewer: Viewer,
  input: DatasetTransition,
): Promise<DatasetChange> {
  const actor = { principal: viewer.principal, reason: input.reason?.trim() };
  return inTransaction(db, actor, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'changeDataset', dataset.owner);
    const decision = reopen(dataset, input.reason);
    if (decision.kind === 'done') return unchanged(dataset);
    demandReason(input.reason);
    expectVersion(dataset, input.expectedVersion);
    if (decision.kind === 'move') {
      await moveDataset(tx, dataset, decision.to);
    } else {
      await changedRows(tx, sql`update datasets set sealed = false where id = ${dataset.id}`);
      await rows(
        tx,
        sql`update sweeps set finished_at = clock_timestamp(), outcome = 'CANCELLED'
          where dataset_id = ${dataset.id} and finished_at is null`,
      );
    }
    return { datasetId: dataset.id, changed: true, changedCount: 1 };
  });
}

/**
 * The net under the sweeps: closes what is complete, and asks for files that nobody works on. Every
 * road moves its sweep on by itself; this finds what a fault of ours or a hand in the tables left behind.
 */
export async function advanceForgotten(db: Db, jobs: JobQueue): Promise<number> {
  const complete = await rows(
    db.fork(),
    sql<{ id: number }>`
    select d.id from sweeps s join datasets d on d.id = s.dataset_id
    where s.finished_at is null and d.sealed and d.file_count > 0 and d.confirmed_count = d.file_count limit 100`,
  );
  let moved = 0;
  for (const { id } of complete) {
    moved += await inTransaction(db, { principal: 'sweepbook' }, (tx) =>
      advanceInTransaction(tx, [id]),
    );
  }
  const forgotten = await rows(
    db.fork(),
    sql<OwedCopy>`
    select f.id as "fileId", w.store_id as "storeId"
    from sweeps s join dataset_files df on df.dataset_id = s.dataset_id join files f on f.id = df.file_id
    cross join lateral unnest(${owedStores(sql`s.store_id`)}) w (store_id)
    left join backup_records b on b.file_id = f.id and b.store_id = w.store_id
    where s.finished_at is null and f.missing_copies > 0 and (b.id is null or b.status = 'LOST') limit 1000`,
  );
  if (forgotten.length === 0) return moved;
  const asked = await inTransaction(db, { principal: 'sweepbook' }, (tx) =>
    requestCopies(tx, jobs, forgotten),
  );
  return moved + asked;
}
