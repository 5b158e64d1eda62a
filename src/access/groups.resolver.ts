import { Arg, Ctx, FieldResolver, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { ChangeGroupInput, Group, GroupConnection, GroupPayload } from './groups.schema.ts';
import {
  changeGroup,
  findGroup,
  listGroups,
  membersOf,
  removeGroup,
  type GroupRow,
} from './groups.service.ts';
import { demand } from './policy.ts';

async function loadMembers(context: Context, names: readonly string[]): Promise<string[][]> {
  const found = Map.groupBy(await membersOf(context.db.fork(), names), (row) => row.group);
  return names.map((name) => (found.get(name) ?? []).map((row) => row.principal));
}

@Resolver(() => Group)
export class GroupResolver {
  @Query(() => GroupConnection, {
    description: 'Groups by name: those that you are in, to operators all.',
  })
  async groups(
    @Ctx() { db, viewer }: Context,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<GroupRow>> {
    demand(viewer, 'readPublications', viewer.principal);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listGroups(db.fork(), viewer, page));
  }

  @FieldResolver(() => [String], { description: 'The first 10,000 users that are in it.' })
  async members(@Ctx() context: Context, @Root() group: GroupRow): Promise<string[]> {
    return context.load(loadMembers, group.name);
  }

  @Mutation(() => GroupPayload, {
    description:
      'Makes a group if there is none of this name, puts users in and takes some out. BAD_USER_INPUT. For operators.',
  })
  async changeGroup(
    @Ctx() { db, viewer }: Context,
    @Arg('input', () => ChangeGroupInput, { description: 'Which one, who comes and goes.' })
    input: ChangeGroupInput,
  ) {
    const { changed } = await changeGroup(db, viewer, input);
    return { group: await findGroup(db.fork(), viewer, input.name), changed };
  }

  @Mutation(() => Boolean, {
    description:
      'Ends a group: what was shared with it is not seen by its members any more. NOT_FOUND. For operators.',
  })
  async removeGroup(
    @Ctx() { db, viewer }: Context,
    @Arg('name', () => String, { description: 'Its name.' }) name: string,
  ): Promise<boolean> {
    await removeGroup(db, viewer, name);
    return true;
  }
}
