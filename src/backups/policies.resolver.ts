import { Ctx, Field, Int, ObjectType, Query, Resolver } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { SafeInt } from '../api/scalars.ts';
import type { FileKind as KindName } from '../files/files.rules.ts';
import { FileKind } from '../files/files.schema.ts';
import { listPolicies, type BackupPolicyRow } from './policies.service.ts';

@ObjectType({
  description:
    'Files that fit owe a confirmed copy in each of these stores. What a file owes is fixed when it is registered.',
})
export class BackupPolicy {
  @Field(() => Int, { description: 'Its number.' })
  id!: number;

  @Field(() => FileKind, { nullable: true, description: 'Files of this kind; null = of any.' })
  kind?: KindName | null;

  @Field(() => SafeInt, { nullable: true, description: 'Files of at least so many bytes.' })
  minBytes?: number | null;

  @Field(() => SafeInt, { nullable: true, description: 'Files of at most so many bytes.' })
  maxBytes?: number | null;

  @Field(() => [String], { description: 'Names of stores.' })
  stores!: readonly string[];
}

@Resolver()
export class BackupPoliciesResolver {
  @Query(() => [BackupPolicy], {
    description:
      'The backup policies in use; the first that fits a new file counts. Without one, one copy in any store is ' +
      'enough. For producers and operators. FORBIDDEN.',
  })
  async backupPolicies(@Ctx() { db, viewer }: Context): Promise<BackupPolicyRow[]> {
    return listPolicies(db, viewer);
  }
}
