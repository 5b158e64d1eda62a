import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { isGroupOf } from './groups.queries.ts';
import { demand, may, type Viewer } from './policy.ts';
import { isLine } from '../text.ts';

export interface GroupRow {
  readonly name: string;
  readonly description: string | null;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly memberCount: number;
}

export interface ChangeGroup {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly add?: readonly string[] | null | undefined;
  readonly remove?: readonly string[] | null | undefined;
}

const mostInCall = 1000;

function checkNames(field: string, names: readonly string[]): void {
  if (names.length > mostInCall) throw badInput(field, names.length, `at most ${mostInCall}`);
  const odd = names.find((name) => name === '' || name.length > 128 || !isLine(name));
  if (odd !== undefined) throw badInput(field, odd, '1 to 128 printable characters');
}

/** Makes a group if there is none of this name, puts users into it and takes some out. */
export async function changeGroup(
  db: Db,
  viewer: Viewer,
  { name, description, add, remove }: ChangeGroup,
): Promise<{ changed: boolean }> {
  demand(viewer, 'manageGroups');
  if (!/^[A-Za-z0-9/][A-Za-z0-9._/-]{0,127}$/.test(name)) {
    throw badInput('name', name, 'letters, digits, "/", ".", "_" and "-", at most 128');
  }
  checkNames('add', add ?? []);
  checkNames('remove', remove ?? []);
  if (description != null && (description.length > 1000 || description.includes('\0'))) {
    throw badInput('description', description, 'at most 1000 characters');
  }
  return inTransaction(db, viewer, async (tx) => {
    const made = await changedRows(
      tx,
      sql`insert into groups (name, description) values (${name}, ${description ?? null})
        on conflict (name) do nothing returning name`,
    );
    const told = await changedRows(
      tx,
      sql`update groups set description = ${description ?? null}
        where name = ${name} and ${description ?? null}::text is not null
          and description is distinct from ${description ?? null} returning name`,
    );
    const added = await changedRows(
      tx,
      sql`insert into group_members (group_name, principal)
        select ${name}, unnest(${add ?? []}::text[]) on conflict do nothing returning principal`,
    );
    const removed = await changedRows(
      tx,
      sql`delete from group_members where group_name = ${name}
        and principal = any (${remove ?? []}::text[]) returning principal`,
    );
    return { changed: made + told + added + removed > 0 };
  });
}

/** Ends a group: what was shared with it is not seen by its members any more. NOT_FOUND. */
export async function removeGroup(db: Db, viewer: Viewer, name: string): Promise<void> {
  demand(viewer, 'manageGroups');
  await inTransaction(db, viewer, async (tx) => {
    const gone = await changedRows(tx, sql`delete from groups where name = ${name} returning name`);
    if (gone === 0) throw new SweepbookError('NOT_FOUND', `no group ${name}`, { group: name });
  });
}

const columns = sql`g.name, g.description, g.created_by as "createdBy", g.created_at as "createdAt",
  (select count(*) from group_members gm where gm.group_name = g.name) as "memberCount"`;

/** Groups by name: a user sees those that he is in, operators all. */
const visibleGroup = (viewer: Viewer) =>
  may(viewer, 'manageGroups') ? sql`true` : isGroupOf(viewer, sql`g.name`);

export async function listGroups(
  db: Db,
  viewer: Viewer,
  page: PageArguments,
): Promise<Page<GroupRow>> {
  return readPage<GroupRow>(
    db,
    {
      order: 'groups:name',
      keys: [{ sql: sql`g.name`, type: 'text' }],
      select: columns,
      from: sql`groups g`,
      where: visibleGroup(viewer),
    },
    page,
  );
}

export async function findGroup(
  db: Db,
  viewer: Viewer,
  name: string,
): Promise<GroupRow | undefined> {
  return firstRow(
    db,
    sql<GroupRow>`select ${columns} from groups g where g.name = ${name} and ${visibleGroup(viewer)}`,
  );
}

/** Who is in a group; the caller has looked whether it may be seen. */
export async function membersOf(db: Db, names: readonly string[]) {
  return rows(
    db,
    sql<{
      group: string;
      principal: string;
    }>`select group_name as "group", principal from group_members
      where group_name = any (${names}::text[]) order by group_name, principal limit 10000`,
  );
}
