import {
  giveUpCopies,
  holdFiles,
  isBeingCopied,
  type UnwantedCopy,
} from '../backups/unwanted-copies.service.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';

/** Composite files c of publication p of which one of these stores may come to have a copy still. */
const isUnsettled = (stores: readonly number[]) => sql`exists (
  select from publication_composites c where c.publication_id = p.id and p.status <> 'PUBLISHED'
    and ${isBeingCopied(sql`c.file_id`, stores)})`;

/**
 * Publications that are over, and that nobody has tidied, those first of which all is settled. Whoever still writes
 * there has time to stop.
 */
export async function untidied(
  db: Db,
  stores: readonly number[],
  most: number,
): Promise<{ id: number }[]> {
  return rows(
    db.fork(),
    sql<{ id: number }>`
    select p.id from publications p where p.finished_at is not null and p.cleaned_at is null
      and (p.lease_until is null or p.lease_until < clock_timestamp())
    order by ${isUnsettled(stores)}, p.id limit ${most}`,
  );
}

/** What becomes of what a publication has left. */
export interface Leftovers {
  /** What stays on disk: the composite files of what is published, and what is a registered copy by now. */
  readonly kept: readonly string[];
  /** What goes from mass stores. */
  readonly copies: readonly UnwantedCopy[];
  /** Whether no store can come to have a further copy. */
  readonly isSettled: boolean;
}

/**
 * Takes what one that is not published has left out of the books before its bytes go: no backup is made of its files,
 * and once it is settled which stores have copies, those that nobody else wants are given up.
 */
export async function giveUpLeftovers(
  db: Db,
  id: number,
  stores: readonly number[],
): Promise<Leftovers> {
  const why = `publication ${id} was given up: what it left is removed`;
  return inTransaction(db, { principal: 'sweepbook', reason: why }, async (tx) => {
    const files = sql`(select c.file_id, c.made_at as since from publication_composites c
      join publications p on p.id = c.publication_id
      where p.id = ${id} and p.status in ('FAILED', 'WITHDRAWN') and c.file_id is not null)`;
    await holdFiles(tx, files);
    await rows(
      tx,
      sql`update backup_records b set status = 'FAILED', last_error_code = 'SOURCE_UNREADABLE', last_error = ${why}
        from ${files} t where b.file_id = t.file_id and b.status = 'REQUESTED'`,
    );
    await rows(tx, sql`delete from incoming_copies i using ${files} t where i.file_id = t.file_id`);
    const row = await firstRow(
      tx,
      sql<{ isSettled: boolean; kept: string[] }>`
      select not ${isUnsettled(stores)} as "isSettled", array(
        select c.path from publication_composites c where c.publication_id = p.id and c.path is not null
          and (p.status = 'PUBLISHED' or exists (select from replicas r
            where r.file_id = c.file_id and r.path = c.path and r.status <> 'LOST'))) as kept
      from publications p where p.id = ${id}`,
    );
    if (!row) throw new Error(`publication ${id} is not there`);
    return { ...row, copies: row.isSettled ? await giveUpCopies(tx, { files, stores, why }) : [] };
  });
}

export async function recordCleaned(db: Db, id: number): Promise<void> {
  await rows(
    db.fork(),
    sql`update publications set cleaned_at = clock_timestamp() where id = ${id} and finished_at is not null`,
  );
}
