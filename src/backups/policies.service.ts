import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import type { FileKind } from '../files/files.rules.ts';
import type { PolicyOfFile } from '../storage/store-file.ts';

/** A policy as it stands in the tables: files that fit owe a confirmed copy in each of its stores. */
export interface BackupPolicyRow {
  readonly id: number;
  readonly kind: FileKind | null;
  readonly minBytes: number | null;
  readonly maxBytes: number | null;
  readonly stores: readonly string[];
}

/**
 * Puts the policies of the store file into use, in their order, and all others out of it. Only files that come in
 * from now on are bound by them. Returns whether anything changed.
 */
export async function takeOverPolicies(db: Db, wanted: readonly PolicyOfFile[]): Promise<boolean> {
  const before = JSON.stringify(await policiesInUse(db));
  await inTransaction(db, { principal: 'store file' }, async (tx) => {
    await tx.execute('lock table backup_policies in share row exclusive mode');
    await rows(tx, sql`update backup_policies set position = null where position is not null`);
    for (const [index, { kind, minBytes, maxBytes, stores }] of wanted.entries()) {
      const ids = sql`(select array_agg(id order by id) from mass_stores where name = any (${stores}::text[]))`;
      const position = index + 1;
      const known = await changedRows(
        tx,
        sql`update backup_policies set position = ${position} where id = (
          select id from backup_policies where position is null and kind is not distinct from ${kind ?? null}
            and min_bytes is not distinct from ${minBytes ?? null}::bigint
            and max_bytes is not distinct from ${maxBytes ?? null}::bigint and store_ids = ${ids}
          order by id limit 1) returning id`,
      );
      if (known > 0) continue;
      await firstRow(
        tx,
        sql`insert into backup_policies (position, kind, min_bytes, max_bytes, store_ids)
          values (${position}, ${kind ?? null}, ${minBytes ?? null}, ${maxBytes ?? null}, ${ids}) returning id`,
      );
    }
  });
  return JSON.stringify(await policiesInUse(db)) !== before;
}

/** The policies that new files come under; the first that fits counts. */
async function policiesInUse(db: Db): Promise<BackupPolicyRow[]> {
  return rows(
    db.fork(),
    sql<BackupPolicyRow>`
    select p.id, p.kind, p.min_bytes as "minBytes", p.max_bytes as "maxBytes",
      array(select s.name from mass_stores s where s.id = any (p.store_ids) order by s.name) as stores
    from backup_policies p where p.position is not null order by p.position`,
  );
}

export async function listPolicies(db: Db, viewer: Viewer): Promise<BackupPolicyRow[]> {
  demand(viewer, 'readBackups');
  return policiesInUse(db);
}
