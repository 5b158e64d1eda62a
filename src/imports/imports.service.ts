import { demand, may, type Viewer } from '../access/policy.ts';
import {
  giveUpCopies,
  holdFiles,
  isBeingCopied,
  type UnwantedCopy,
} from '../backups/unwanted-copies.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { retryInTransaction } from './accept.service.ts';
import { step, type ImportStatus } from './imports.rules.ts';

export interface ImportChange {
  readonly importId: number;
  readonly changed: boolean;
}

interface Locked {
  readonly id: number;
  readonly status: ImportStatus;
  readonly requestedBy: string;
}

async function lockImport(tx: Db, viewer: Viewer, id: number): Promise<Locked> {
  demand(viewer, 'handleImport', viewer.principal);
  const found = await firstRow(
    tx,
    sql<Locked>`select id, status, requested_by as "requestedBy" from imports where id = ${id} for no key update`,
  );
  const actions = ['handleImport', 'readImports'] as const;
  // Whose he may not see is not there for him.
  if (!found || !actions.some((action) => may(viewer, action, found.requestedBy))) {
    throw new SweepbookError('NOT_FOUND', `no import ${id}: look at "import list"`, { import: id });
  }
  demand(viewer, 'handleImport', found.requestedBy);
  return found;
}

/**
 * Calls an import off: nothing of it is entered, and workers remove what it alone brought, from disk and from the mass
 * stores that can still be asked. ILLEGAL_TRANSITION once it is entered.
 */
export async function cancelImport(
  db: Db,
  viewer: Viewer,
  id: number,
  reason: string | null | undefined,
): Promise<ImportChange> {
  const actor = { principal: viewer.principal, reason: reason?.trim() };
  return inTransaction(db, actor, async (tx) => {
    const { status } = await lockImport(tx, viewer, id);
    if (step(id, status, 'CANCELLED') === 'done') return { importId: id, changed: false };
    await rows(tx, sql`update imports set status = 'CANCELLED' where id = ${id}`);
    // Nobody is to look for copies that are being removed.
    await rows(
      tx,
      sql`update backup_records b set status = 'FAILED', last_error_code = 'SOURCE_UNREADABLE',
          last_error = ${`import ${id} was cancelled`}
        from import_files x join incoming_copies c on c.file_id = x.file_id
        where x.import_id = ${id} and x.is_brought and b.file_id = x.file_id and b.status = 'REQUESTED'`,
    );
    return { importId: id, changed: true };
  });
}

/** Tries again what FAILED, and at once what waits for its next attempt. ILLEGAL_TRANSITION when it is over. */
export async function retryImport(db: Db, viewer: Viewer, id: number): Promise<ImportChange> {
  return inTransaction(db, viewer, async (tx) => {
    const { status } = await lockImport(tx, viewer, id);
    step(id, status, 'RUNNING');
    return { importId: id, changed: await retryInTransaction(tx, id) };
  });
}

/** A file that a cancelled import has brought. */
export interface BroughtFile {
  readonly id: number;
  readonly importId: number;
  readonly path: string;
}

/**
 * What is to be removed, since it was brought by a cancelled import; not before it is settled whether these stores
 * have confirmed a copy of it.
 */
export async function broughtByCancelled(
  db: Db,
  stores: readonly number[],
  most: number,
): Promise<BroughtFile[]> {
  return rows(
    db.fork(),
    sql<BroughtFile>`
    select x.id, x.import_id as "importId", x.path from import_files x join imports i on i.id = x.import_id
    where x.is_brought and i.status = 'CANCELLED'
      -- Whoever fetches it still may be giving it its name right now.
      and not (x.status = 'FETCHING' and x.lease_until > clock_timestamp())
      and not ${isBeingCopied(sql`x.file_id`, stores)}
    order by x.id limit ${most}`,
  );
}

export interface GivenUp {
  /** The copy on disk counts by now, and stays. */
  readonly isKept: boolean;
  readonly copies: readonly UnwantedCopy[];
}

/**
 * Takes a brought file out of the books before its bytes go: no backup is made of it any more, nobody enters it, and
 * copies that were confirmed since it came are given up.
 */
export async function giveUpBrought(
  db: Db,
  { id, importId, path }: BroughtFile,
  stores: readonly number[],
): Promise<GivenUp> {
  const why = `import ${importId} was cancelled: what it brought is removed`;
  return inTransaction(db, { principal: 'sweepbook', reason: why }, async (tx) => {
    const files = sql`(select file_id, fetched_at as since from import_files where id = ${id})`;
    await holdFiles(tx, files);
    const held = await firstRow(
      tx,
      sql`select 1 from import_files where id = ${id} and is_brought for update`,
    );
    // Another worker has done it all.
    if (!held) return { isKept: true, copies: [] };
    await rows(
      tx,
      sql`delete from incoming_copies c using import_files x
        where x.id = ${id} and c.file_id = x.file_id and c.path = x.path`,
    );
    const kept = await firstRow(
      tx,
      sql`select 1 from import_files x join replicas p on p.file_id = x.file_id
        where x.id = ${id} and p.path = ${path} and p.status <> 'LOST'`,
    );
    const copies = await giveUpCopies(tx, { files, stores, why });
    return { isKept: kept !== undefined, copies };
  });
}

/** The bytes are gone, or stay for good. */
export async function forgetBrought(db: Db, ids: readonly number[]): Promise<number> {
  return changedRows(
    db.fork(),
    sql`update import_files set is_brought = false, path = null, fetched_bytes = 0
      where id = any (${ids}::bigint[]) returning id`,
  );
}

/** Which of these files nobody will fetch any more: their parts can go. */
export async function overFiles(db: Db, ids: readonly number[]): Promise<number[]> {
  const open = await rows(
    db.fork(),
    sql<{ id: number }>`
    select x.id from import_files x join imports i on i.id = x.import_id
    where x.id = any (${ids}::bigint[]) and i.status in ('RUNNING', 'FAILED')
      and x.status in ('WAITING', 'FETCHING', 'FAILED')`,
  );
  const wanted = new Set(open.map((row) => row.id));
  return ids.filter((id) => !wanted.has(id));
}
