import { sql, type RawBuilder } from 'kysely';
import type { Db } from './orm.ts';

export { sql, type RawBuilder };

/** Runs a statement, in the transaction of `db` if it is in one. Values are always parameters. */
export async function rows<T>(db: Db, query: RawBuilder<T>): Promise<T[]> {
  return (await query.execute(db.getKysely())).rows;
}

/** The first row, if there is one. */
export async function firstRow<T>(db: Db, query: RawBuilder<T>): Promise<T | undefined> {
  return (await rows(db, query))[0];
}

/** How many rows a change touched: change and guard stand in one statement, and this is its answer. */
export async function changedRows(db: Db, query: RawBuilder<unknown>): Promise<number> {
  const result = await query.execute(db.getKysely());
  return Number(result.numAffectedRows ?? result.rows.length);
}

/** The conditions that are there, joined by AND; none = true. */
export function allOf(
  conditions: readonly (RawBuilder<unknown> | undefined)[],
): RawBuilder<unknown> {
  const present = conditions.filter((condition) => condition !== undefined);
  return present.length === 0 ? sql`true` : sql`(${sql.join(present, sql` and `)})`;
}
