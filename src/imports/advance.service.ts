import { owedStores } from '../backups/backups.queries.ts';
import { requestOwed } from '../backups/owed-copies.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { enterInTransaction, type Entering } from './enter.service.ts';

export interface Advancing {
  readonly db: Db;
  readonly jobs: JobQueue;
  /** Whether this path holds a file of this size, on this host. */
  readonly isThere: (path: string, sizeBytes: number) => Promise<boolean>;
}

interface Unfinished extends Entering {
  readonly waiting: number;
  readonly failed: number;
}

const importLock = 77_351;
const longestError = 2000;

/**
 * Moves imports on: takes over what became of backups, enters what is complete, and ends what nobody works on. Called
 * again and again by every worker; what a dead one left undone stands in the tables. Returns how many steps.
 */
export async function advanceImports(means: Advancing): Promise<number> {
  const running = await rows(
    means.db.fork(),
    sql<{ id: number; requestedBy: string }>`
    select id, requested_by as "requestedBy" from imports where status = 'RUNNING' order by id limit 50`,
  );
  let moved = 0;
  for (const { id, requestedBy } of running) moved += await advanceOne(means, id, requestedBy);
  return moved;
}

async function advanceOne(means: Advancing, id: number, requestedBy: string): Promise<number> {
  const { db, jobs } = means;
  const settled = await inTransaction(db, { principal: requestedBy }, (tx) => settle(tx, jobs, id));
  if (settled.kind !== 'complete') return settled.moved;
  await forgetMissingCopies(means, id);
  try {
    await inTransaction(db, { principal: requestedBy, reason: `import ${id}` }, async (tx) => {
      const entering = await lockComplete(tx, id);
      if (entering) await enterInTransaction(tx, entering);
    });
  } catch (error) {
    if (!(error instanceof SweepbookError)) throw error;
    // What is known here has changed since it was compared: somebody must decide.
    await inTransaction(db, { principal: requestedBy, reason: error.message }, (tx) =>
      failImport(tx, id, error.code, error.message),
    );
  }
  return 1;
}

interface Settled {
  readonly kind: 'busy' | 'complete' | 'over';
  readonly moved: number;
}

/** One worker at a time: the others go on with fetching, and do not wait until a million files are entered. */
async function isMine(tx: Db, id: number): Promise<boolean> {
  const lock = await firstRow(
    tx,
    sql<{
      isMine: boolean;
    }>`select pg_try_advisory_xact_lock(${importLock}, ${id}::integer) as "isMine"`,
  );
  return lock?.isMine === true;
}

async function settle(tx: Db, jobs: JobQueue, id: number): Promise<Settled> {
  if (!(await isMine(tx, id))) return { kind: 'busy', moved: 0 };
  const row = await lockImport(tx, id);
  if (!row) return { kind: 'busy', moved: 0 };
  const moved = await followBackups(tx, jobs, row);
  const now = await lockImport(tx, id);
  if (!now || now.waiting > 0) return { kind: 'busy', moved };
  if (now.failed === 0) return { kind: 'complete', moved };
  const first = await firstRow(
    tx,
    sql<{ lfn: string; code: string; why: string }>`
    select lfn, last_error_code as code, last_error as why from import_files
    where import_id = ${id} and status = 'FAILED' order by id limit 1`,
  );
  const what = `${now.failed} of ${now.fileCount} files are not here, ${first?.lfn} for one: ${first?.why}`;
  return { kind: 'over', moved: await failImport(tx, id, first?.code ?? 'INTERNAL', what) };
}

const failImport = (tx: Db, id: number, code: string, message: string) =>
  changedRows(
    tx,
    sql`update imports set status = 'FAILED', last_error_code = ${code}, last_error = ${message.slice(0, longestError)}
      where id = ${id} and status = 'RUNNING' returning id`,
  );

async function lockImport(tx: Db, id: number): Promise<Unfinished | undefined> {
  return firstRow(
    tx,
    sql<Unfinished>`
    select i.id, i.dataset_name as "datasetName", i.source_site as "sourceSite", i.origin, i.store_id as "storeId",
      i.file_count as "fileCount", i.requested_by as "requestedBy",
      (select count(*) from import_files x where x.import_id = i.id and x.status in ('WAITING', 'FETCHING', 'BACKING_UP'))
        as waiting,
      (select count(*) from import_files x where x.import_id = i.id and x.status = 'FAILED') as failed
    from imports i where i.id = ${id} and i.status = 'RUNNING' for no key update of i`,
  );
}

/** Complete still, now that it is locked. */
async function lockComplete(tx: Db, id: number): Promise<Entering | undefined> {
  if (!(await isMine(tx, id))) return undefined;
  const row = await lockImport(tx, id);
  return row && row.waiting === 0 && row.failed === 0 ? row : undefined;
}

/** The backup could not be made of what lies on disk: it is fetched again. */
const copyIsGone = sql`b.last_error_code in ('SOURCE_UNREADABLE', 'SOURCE_CHANGED')`;
const mostFetchesAgain = 5;

async function followBackups(tx: Db, jobs: JobQueue, { id, storeId }: Entering): Promise<number> {
  const safe = await changedRows(
    tx,
    sql`update import_files x set status = 'SAFE', last_error = null, last_error_code = null from files f
      where x.import_id = ${id} and x.status = 'BACKING_UP' and f.id = x.file_id and f.missing_copies = 0 returning x.id`,
  );
  const failed = await changedRows(
    tx,
    sql`update import_files x set last_error_code = b.last_error_code, last_error = left(b.last_error, ${longestError}),
        failure_count = x.failure_count + 1, next_attempt_at = now(),
        status = case when ${copyIsGone} and x.failure_count < ${mostFetchesAgain} and cardinality(x.urls) > 0
          then 'WAITING' else 'FAILED' end
      from files f, backup_records b where x.import_id = ${id} and x.status = 'BACKING_UP' and f.id = x.file_id
        and b.file_id = x.file_id and b.status = 'FAILED' and b.store_id = any (${owedStores(storeId)}) returning x.id`,
  );
  if (failed > 0) {
    await rows(
      tx,
      sql`delete from incoming_copies c using import_files x
        where x.import_id = ${id} and x.status = 'WAITING' and c.file_id = x.file_id`,
    );
  }
  // A store has lost it, or nobody asked it: a hand in the tables, or an audit.
  const unsafe = await rows(
    tx,
    sql<{ fileId: number }>`
    update import_files x set status = 'BACKING_UP' from files f
    where x.import_id = ${id} and x.status = 'SAFE' and f.id = x.file_id and f.missing_copies > 0
    returning x.file_id as "fileId"`,
  );
  const unasked = await rows(
    tx,
    sql<{ fileId: number }>`
    select x.file_id as "fileId" from import_files x join files f on f.id = x.file_id
    where x.import_id = ${id} and x.status = 'BACKING_UP' and exists (
      select from unnest(${owedStores(storeId)}) w (store_id) where not exists (
        select from backup_records b where b.file_id = f.id and b.store_id = w.store_id
          and b.status in ('REQUESTED', 'COPYING', 'COPIED', 'CONFIRMED'))) limit 1000`,
  );
  const again = [...unsafe, ...unasked].map((row) => row.fileId);
  if (again.length > 0) await requestOwed(tx, jobs, again, storeId);
  return safe + failed + again.length;
}

const copiesAtOnce = 1000;

/**
 * A copy on disk that is gone by now must not be shown to anybody: the file is entered with its backup alone. Looked at
 * outside of any transaction; a host that does not have the folder of imports sees none of them, and leaves them alone.
 */
async function forgetMissingCopies({ db, isThere }: Advancing, id: number): Promise<void> {
  for (let after = 0; ;) {
    const copies = await rows(
      db.fork(),
      sql<{ fileId: number; path: string; sizeBytes: number }>`
      select c.file_id as "fileId", c.path, x.size_bytes as "sizeBytes" from import_files x
      join incoming_copies c on c.file_id = x.file_id
      where x.import_id = ${id} and c.file_id > ${after} order by c.file_id limit ${copiesAtOnce}`,
    );
    const last = copies.at(-1);
    if (!last) return;
    after = last.fileId;
    const looked = await Promise.all(
      copies.map(async (copy) => ({ ...copy, isHere: await isThere(copy.path, copy.sizeBytes) })),
    );
    const missing = looked.filter((copy) => !copy.isHere).map((copy) => copy.fileId);
    if (missing.length === 0) continue;
    await rows(
      db.fork(),
      sql`delete from incoming_copies where file_id = any (${missing}::bigint[])`,
    );
  }
}
