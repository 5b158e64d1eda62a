import { Arg, Ctx, Query, Resolver } from 'type-graphql';
import type { Context } from '../api/context.ts';
import type { RunSource as SourceName } from '../runs/runs.rules.ts';
import { RunSource } from '../runs/runs.schema.ts';
import { goodRuns } from './good-runs.queries.ts';
import { GoodRuns } from './good-runs.schema.ts';

@Resolver()
export class GoodRunsResolver {
  @Query(() => GoodRuns, {
    nullable: true,
    description:
      'The list of good runs, at most 100,000; with dataset those whose data it holds. null = there is no such ' +
      'dataset that you see. DATASET_BAD, BAD_USER_INPUT (more runs than that).',
  })
  async goodRuns(
    @Ctx() { db, viewer }: Context,
    @Arg('source', () => RunSource, {
      nullable: true,
      defaultValue: 'DATA',
      description: 'Detector or simulation.',
    })
    source: SourceName | null,
    @Arg('numbers', () => String, {
      nullable: true,
      description: 'Only these numbers and ranges: "36172-39320,40001".',
    })
    numbers: string | null,
    @Arg('dataset', () => String, {
      nullable: true,
      description: 'Only runs that the dataset of this name holds data of.',
    })
    dataset: string | null,
  ): Promise<GoodRuns | undefined> {
    const asked = { source: source ?? 'DATA', numbers, dataset };
    const found = await goodRuns(db.fork(), viewer, asked);
    return found && { ...found, count: found.numbers.length };
  }
}
