import { owedStores } from '../backups/backups.queries.ts';
import { requestOwed } from '../backups/owed-copies.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { moveDataset } from '../datasets/datasets.service.ts';
import { SweepbookError } from '../errors.ts';
import { incomingBecomeReplicas } from '../files/incoming-copies.service.ts';

export interface Advancing {
  readonly db: Db;
  readonly jobs: JobQueue;
  /** Whether this path holds a file of this size, on this host. */
  readonly isThere: (path: string, sizeBytes: number) => Promise<boolean>;
}

interface Waiting {
  readonly id: number;
  readonly status: 'BACKING_UP' | 'CLOSING';
  readonly requestedBy: string;
}

/**
 * Moves publications on: takes over what became of backups, and publishes what is safe. Called again and again by every
 * worker that publishes; what a dead one left undone stands in the tables. Returns how many steps.
 */
export async function advancePublications(means: Advancing): Promise<number> {
  const waiting = await rows(
    means.db.fork(),
    sql<Waiting>`
    select id, status, requested_by as "requestedBy" from publications
    where status in ('BACKING_UP', 'CLOSING') and finished_at is null order by id limit 100`,
  );
  let moved = 0;
  for (const row of waiting) {
    moved +=
      row.status === 'BACKING_UP'
        ? await followBackups(means, row)
        : await publishOrFail(means, row);
  }
  return moved;
}

interface Locked extends Waiting {
  readonly datasetName: string;
  readonly description: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly treeName: string | null;
  readonly storeId: number;
  readonly lastError: string | null;
}

/** One worker at a time; nothing when another has it, or it is elsewhere by now. */
async function lock(tx: Db, { id, status }: Waiting): Promise<Locked | undefined> {
  return firstRow(
    tx,
    sql<Locked>`
    select id, status, requested_by as "requestedBy", dataset_name as "datasetName", description, stream, release,
      tree_name as "treeName", store_id as "storeId", last_error as "lastError"
    from publications where id = ${id} and status = ${status} for no key update skip locked`,
  );
}

interface CopyState {
  readonly fileId: number;
  readonly lfn: string;
  readonly isSafe: boolean;
  readonly failed: string | null;
  /** Its source is gone: no later attempt can mend that. */
  readonly isGone: boolean;
  readonly isUnasked: boolean;
}

async function copyStates(tx: Db, { id, storeId }: Locked): Promise<CopyState[]> {
  return rows(
    tx,
    sql<CopyState>`
    select f.id as "fileId", f.lfn, f.missing_copies = 0 as "isSafe", bad.last_error as failed,
      coalesce(bad.last_error_code in ('SOURCE_UNREADABLE', 'SOURCE_CHANGED'), false) as "isGone",
      f.missing_copies > 0 and exists (
        select from unnest(${owedStores(storeId)}) w (store_id) where not exists (
          select from backup_records b where b.file_id = f.id and b.store_id = w.store_id
            and b.status <> 'LOST')) as "isUnasked"
    from publication_composites c join files f on f.id = c.file_id
    left join lateral (
      select b.last_error, b.last_error_code from backup_records b
      where b.file_id = f.id and b.status = 'FAILED' and b.store_id = any (${owedStores(storeId)}) and f.missing_copies > 0
      limit 1) bad on true
    where c.publication_id = ${id} order by c.number`,
  );
}

const longestError = 2000;

async function followBackups({ db, jobs }: Advancing, waiting: Waiting): Promise<number> {
  return inTransaction(
    db,
    { principal: waiting.requestedBy, reason: 'publication' },
    async (tx) => {
      const row = await lock(tx, waiting);
      if (!row) return 0;
      const copies = await copyStates(tx, row);
      if (copies.every((copy) => copy.isSafe)) {
        return changedRows(
          tx,
          sql`update publications set status = 'CLOSING', last_error = null, last_error_code = null where id = ${row.id}`,
        );
      }
      const unasked = copies.filter((copy) => copy.isUnasked).map((copy) => copy.fileId);
      if (unasked.length > 0) await requestOwed(tx, jobs, unasked, row.storeId);
      const gone = copies.find((copy) => copy.isGone);
      if (gone) {
        const why = `${gone.lfn} could not be backed up (${gone.failed}): publish again`;
        return fail(tx, row.id, 'SOURCE_UNREADABLE', why);
      }
      // The store refuses it: the work that is done is kept, until somebody asks again or withdraws it.
      const failed = copies.find((copy) => copy.failed !== null);
      const why = failed ? `${failed.lfn} is not backed up: ${failed.failed}` : null;
      const words = why?.slice(0, longestError) ?? null;
      if (words === row.lastError) return unasked.length;
      return changedRows(
        tx,
        sql`update publications set last_error = ${words}, last_error_code = ${words && 'FILES_NOT_BACKED_UP'}
        where id = ${row.id}`,
      );
    },
  );
}

const fail = (tx: Db, id: number, code: string, message: string) =>
  changedRows(
    tx,
    sql`update publications set status = 'FAILED', last_error_code = ${code},
        last_error = ${message.slice(0, longestError)} where id = ${id} and finished_at is null`,
  );

async function publishOrFail(means: Advancing, waiting: Waiting): Promise<number> {
  const { db } = means;
  const actor = { principal: waiting.requestedBy, reason: `publication ${waiting.id}` };
  await forgetMissingCopies(means, waiting.id);
  try {
    return await inTransaction(db, actor, async (tx) => {
      const row = await lock(tx, waiting);
      return row ? publish(tx, row) : 0;
    });
  } catch (error) {
    if (!(error instanceof SweepbookError)) throw error;
    // What is known here has changed since: somebody must decide.
    return inTransaction(db, { ...actor, reason: error.message }, (tx) =>
      fail(tx, waiting.id, error.code, error.message),
    );
  }
}

/** The dataset and its files, closed: until this commits nobody but the owner and operators sees any of it. */
async function publish(tx: Db, row: Locked): Promise<number> {
  const copies = await copyStates(tx, row);
  if (copies.some((copy) => !copy.isSafe)) {
    return changedRows(tx, sql`update publications set status = 'BACKING_UP' where id = ${row.id}`);
  }
  const made = await firstRow(
    tx,
    sql<{ id: number; version: number }>`
    insert into datasets (name, kind, owner, stream, release, tree_name, description)
    values (${row.datasetName}, 'USER', ${row.requestedBy}, ${row.stream}, ${row.release}, ${row.treeName},
      ${row.description})
    on conflict (name) do nothing returning id, version`,
  );
  if (!made) {
    throw new SweepbookError(
      'DUPLICATE',
      `the name ${row.datasetName} has been taken meanwhile: publish under another name`,
      { dataset: row.datasetName },
    );
  }
  const ids = copies.map((copy) => copy.fileId);
  await rows(
    tx,
    sql`insert into dataset_files (dataset_id, file_id, lfn)
      select ${made.id}::bigint, id, lfn from files where id = any (${ids}::bigint[]) order by id`,
  );
  const dataset = {
    ...made,
    name: row.datasetName,
    sealed: false,
    backupWaived: false,
    fileCount: 0,
    confirmedCount: 0,
  };
  await moveDataset(tx, { ...dataset, status: 'OPEN' }, 'BACKED_UP');
  await moveDataset(tx, { ...dataset, status: 'BACKED_UP' }, 'CLOSED');
  await incomingBecomeReplicas(tx, sql`select unnest(${ids}::bigint[])`);
  return changedRows(
    tx,
    sql`update publications set status = 'PUBLISHED', dataset_id = ${made.id} where id = ${row.id}`,
  );
}

/** A copy on disk that is gone by now must not be shown to anybody: the file is published with its backup alone. */
async function forgetMissingCopies({ db, isThere }: Advancing, id: number): Promise<void> {
  const copies = await rows(
    db.fork(),
    sql<{ fileId: number; path: string; sizeBytes: number }>`
    select c.file_id as "fileId", c.path, x.size_bytes as "sizeBytes" from publication_composites x
    join incoming_copies c on c.file_id = x.file_id where x.publication_id = ${id}`,
  );
  const looked = await Promise.all(
    copies.map(async (copy) => ({ ...copy, isHere: await isThere(copy.path, copy.sizeBytes) })),
  );
  const missing = looked.filter((copy) => !copy.isHere).map((copy) => copy.fileId);
  if (missing.length === 0) return;
  await rows(
    db.fork(),
    sql`delete from incoming_copies where file_id = any (${missing}::bigint[])`,
  );
}
