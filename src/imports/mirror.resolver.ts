import { Ctx, Field, FieldResolver, ObjectType, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { ContainerRow } from '../containers/containers.queries.ts';
import { ContainerType } from '../containers/containers.schema.ts';
import { mirrorRows, type MirrorRow } from './mirror.queries.ts';

@ObjectType({
  description:
    'The container of another site that a container mirrors. It lists those of its members that are here, and no others.',
})
export class ContainerOrigin {
  @Field(() => String, { description: 'The site.' })
  site!: string;

  @Field(() => String, { description: 'Its name there.' })
  container!: string;

  @Field(() => Boolean, {
    description:
      'A standing rule keeps it up to date, and nobody changes it by hand. false = the rule has ended, and it is its owner’s.',
  })
  isFollowed!: boolean;

  @Field(() => DateTime, { description: 'When its site was heard of last.' })
  heardAt!: Date;

  @Field(() => SafeInt, {
    description: 'Members that are here, those that are bad now among them.',
  })
  hereCount!: number;

  @Field(() => SafeInt, {
    nullable: true,
    description:
      'Members that it has there, as far as it was heard: hereCount and those that are still to come, or could not. ' +
      'null = it is not followed any more.',
  })
  memberCount!: number | null;
}

async function loadMirrors(context: Context, ids: readonly number[]) {
  return inOrder(ids, await mirrorRows(context.db.fork(), ids), (row) => row.containerId);
}

@Resolver(() => ContainerType)
export class ContainerOriginResolver {
  @FieldResolver(() => ContainerOrigin, {
    nullable: true,
    description: 'What it mirrors; null = it was made here.',
  })
  async origin(
    @Ctx() context: Context,
    @Root() container: ContainerRow,
  ): Promise<MirrorRow | undefined> {
    return context.load(loadMirrors, container.id);
  }
}
