import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { counted } from './table.ts';

interface GroupRow {
  readonly name: string;
  readonly description: string | null;
  readonly memberCount: number;
  readonly members: readonly string[];
}

const fields = 'name description memberCount members createdBy createdAt';

export function addGroupCommands(program: Command): void {
  const noun = addNoun(
    program,
    'group',
    'groups of users: to share with, and with a quota together',
  );
  runs<ListOptions>(addListOptions(addVerb(noun, 'list', 'groups and who is in them')), listGroups);
  const add = addVerb(noun, 'add <name> [users...]', 'put users in; the group is made if need be');
  runs<{ description?: string }, [string, string[]]>(
    add.option('--description <text>', 'what it is'),
    async (context, { description }, name, users) =>
      change(context, { name, description, add: users }),
  );
  runs<object, [string, string[]]>(
    addVerb(noun, 'remove <name> <users...>', 'take users out'),
    async (context, _options, name, users) => change(context, { name, remove: users }),
  );
  runs<object, [string]>(
    addVerb(noun, 'delete <name>', 'end a group: what is shared with it is not seen any more'),
    deleteGroup,
  );
}

const listQuery = `query Groups($first: Int, $after: String) {
  groups(first: $first, after: $after) { nodes { ${fields} } ${pageFields} }
}`;

async function listGroups({ client, output }: Context, options: ListOptions): Promise<void> {
  const found = paged<{ groups: Connection<GroupRow> }, GroupRow>(
    client,
    listQuery,
    {},
    (data) => data.groups,
    options,
  );
  await output.list(found, [
    { title: 'GROUP', value: (row) => row.name },
    { title: 'USERS', value: (row) => row.members.join(', ') },
    { title: 'WHAT', value: (row) => row.description },
  ]);
}

const changeQuery = `mutation ChangeGroup($input: ChangeGroupInput!) {
  changeGroup(input: $input) { changed group { ${fields} } }
}`;

async function change(
  { client, output }: Context,
  input: { name: string; description?: string | undefined; add?: string[]; remove?: string[] },
): Promise<void> {
  const { changeGroup: done } = await client.call<{
    changeGroup: { changed: boolean; group: GroupRow };
  }>(changeQuery, { input });
  await output.result(done, `group ${input.name} has ${counted(done.group.memberCount, 'user')}`);
}

async function deleteGroup(
  { client, output }: Context,
  _options: object,
  name: string,
): Promise<void> {
  const done = await client.call<object>(
    `mutation RemoveGroup($name: String!) { removeGroup(name: $name) }`,
    { name },
  );
  await output.result(done, `group ${name} is gone`);
}
