import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { demand } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { badInput } from '../errors.ts';
import {
  findRule,
  listFollowed,
  listRules,
  type FollowedRow,
  type RuleRow,
} from './follow.queries.ts';
import {
  CreateFollowRuleInput,
  FollowedDataset,
  FollowedDatasetConnection,
  FollowRule,
  FollowRuleConnection,
  FollowRulePayload,
} from './follow.schema.ts';
import { createRule, deleteRule, lookNow } from './follow.service.ts';
import type { ImportRow } from './imports.queries.ts';
import { loadImports } from './imports.resolver.ts';
import { ImportType } from './imports.schema.ts';

function ruleIdOf(given: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  throw badInput('id', given, 'the number of a rule: look at "import rules"');
}

const idArgument = { description: 'Its number.' };

@Resolver(() => FollowRule)
export class FollowRuleResolver {
  @Query(() => FollowRule, {
    nullable: true,
    description: 'The rule of this number; null = none that you see.',
  })
  async followRule(
    @Ctx() { db, viewer }: Context,
    @Arg('id', () => ID, idArgument) id: string,
  ): Promise<RuleRow | undefined> {
    return findRule(db.fork(), viewer, ruleIdOf(id));
  }

  @Query(() => FollowRuleConnection, {
    description: 'Standing rules, oldest first; to an importer his own.',
  })
  async followRules(
    @Ctx() { db, viewer }: Context,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<RuleRow>> {
    demand(viewer, 'readImports', viewer.principal);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listRules(db.fork(), viewer, page));
  }

  @FieldResolver(() => FollowedDatasetConnection, { description: 'What it has found, by name.' })
  async datasets(
    @Ctx() { db }: Context,
    @Root() rule: RuleRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FollowedRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listFollowed(db.fork(), rule.id, page));
  }

  @Mutation(() => FollowRulePayload, {
    description:
      'Imports whatever matches from another site, now and from now on, and marks bad here what is called bad there. ' +
      'SOURCE_NOT_ALLOWED, BAD_USER_INPUT (no server is named), DUPLICATE (name of the container), LIMIT_REACHED (100). ' +
      'For importers.',
  })
  async createFollowRule(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => CreateFollowRuleInput, { description: 'From where, and what.' })
    { site, filter, store, mirror }: CreateFollowRuleInput,
  ) {
    const { name, kind, stream, release, container } = filter ?? {};
    const id = await createRule(db, means.imports, viewer, {
      site,
      store,
      mirror,
      filter: { name, kind, stream, release, container },
    });
    means.ring();
    return { rule: await findRule(db.fork(), viewer, id), changed: true };
  }

  @Mutation(() => FollowRulePayload, {
    description:
      'Looks at once, and tries again what could not be begun. NOT_FOUND. For importers (their own) and operators.',
  })
  async lookNow(
    @Ctx() { db, viewer, means }: Context,
    @Arg('id', () => ID, idArgument) id: string,
  ) {
    const changed = await lookNow(db, viewer, ruleIdOf(id));
    means.ring();
    return { rule: await findRule(db.fork(), viewer, ruleIdOf(id)), changed };
  }

  @Mutation(() => FollowRulePayload, {
    description:
      'Ends a rule; imports that it began go on, marks that it set stay, and so does its container. NOT_FOUND. For importers (their own) and ' +
      'operators.',
  })
  async deleteFollowRule(
    @Ctx() { db, viewer }: Context,
    @Arg('id', () => ID, idArgument) id: string,
  ) {
    await deleteRule(db, viewer, ruleIdOf(id));
    return { rule: null, changed: true };
  }
}

@Resolver(() => FollowedDataset)
export class FollowedDatasetResolver {
  @FieldResolver(() => ImportType, {
    nullable: true,
    description: 'Its import; null = none was begun.',
  })
  async import(@Ctx() context: Context, @Root() row: FollowedRow): Promise<ImportRow | undefined> {
    return row.importId === null ? undefined : context.load(loadImports, row.importId);
  }
}
