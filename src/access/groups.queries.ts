import type { Db } from '../database/orm.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import type { Viewer } from './policy.ts';

/**
 * Groups of a viewer: those that operators have put him into, and those that his token vouches for, if it does. The one
 * place that says who is in which group.
 */
export const groupsOfToken = (viewer: Viewer): readonly string[] => viewer.groups ?? [];

/** As SQL: whether a column holds the name of one of his groups. Without groups of a token it names him alone, and its plan can be kept. */
export function isGroupOf(viewer: Viewer, name: RawBuilder<unknown>): RawBuilder<boolean> {
  const isMember = sql<boolean>`${name} in (select gm.group_name from group_members gm where gm.principal = ${viewer.principal})`;
  const ofToken = groupsOfToken(viewer);
  return ofToken.length === 0
    ? isMember
    : sql<boolean>`(${isMember} or ${name} = any (${ofToken}::text[]))`;
}

/** Whether a viewer is in a group. */
export async function isInGroup(db: Db, viewer: Viewer, group: string): Promise<boolean> {
  const found = await firstRow(
    db,
    sql<{ isIn: boolean }>`select ${isGroupOf(viewer, sql`${group}::text`)} as "isIn"`,
  );
  return found?.isIn === true;
}
