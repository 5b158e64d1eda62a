import type { Db } from '../database/orm.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import type { Viewer } from './policy.ts';

/**
 * Groups of a viewer: those that operators have put him into, and those that his token vouches for, if it does. The one
 * place that says who is in which group.
 */
export const groupsOfToken = (viewer: Viewer): readonly string[] => viewer.groups ?? [];

/** As SQL: whether a column holds the name of one of his groups. */
export const isGroupOf = (viewer: Viewer, name: RawBuilder<unknown>): RawBuilder<boolean> =>
  sql<boolean>`(${name} in (select gm.group_name from group_members gm where gm.principal = ${viewer.principal})
    or ${name} = any (${groupsOfToken(viewer)}::text[]))`;

/** Whether a viewer is in a group. */
export async function isInGroup(db: Db, viewer: Viewer, group: string): Promise<boolean> {
  const found = await firstRow(
    db,
    sql<{ isIn: boolean }>`select ${isGroupOf(viewer, sql`${group}::text`)} as "isIn"`,
  );
  return found?.isIn === true;
}
