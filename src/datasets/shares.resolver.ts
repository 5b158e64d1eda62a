import { Arg, Ctx, FieldResolver, Mutation, Resolver, Root } from 'type-graphql';
import { may } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { changedDataset } from './datasets.mutations.ts';
import type { DatasetRow } from './datasets.queries.ts';
import { DatasetPayload, DatasetType } from './datasets.schema.ts';
import { DatasetShare, ShareDatasetInput } from './shares.schema.ts';
import { shareDataset, sharesOf, unshareDataset, type ShareRow } from './shares.service.ts';

async function loadShares(context: Context, ids: readonly number[]): Promise<ShareRow[][]> {
  const found = Map.groupBy(await sharesOf(context.db.fork(), ids), (row) => row.datasetId);
  return ids.map((id) => found.get(id) ?? []);
}

@Resolver(() => DatasetType)
export class DatasetSharesResolver {
  @FieldResolver(() => [DatasetShare], {
    description: 'Who sees it before it is published; to its owner and operators, empty to others.',
  })
  async sharedWith(@Ctx() context: Context, @Root() dataset: DatasetRow): Promise<DatasetShare[]> {
    const isTold = may(context.viewer, 'shareDataset', dataset.owner);
    return isTold ? context.load(loadShares, dataset.id) : [];
  }

  @Mutation(() => DatasetPayload, {
    description:
      'Shows a dataset to users and groups before it is published. NOT_FOUND, ILLEGAL_TRANSITION (it is published), LIMIT_REACHED. For its owner and operators.',
  })
  async shareDataset(
    @Ctx() context: Context,
    @Arg('input', () => ShareDatasetInput, { description: 'The dataset, and with whom.' })
    input: ShareDatasetInput,
  ) {
    return changedDataset(context, await shareDataset(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description: 'Ends that, at once. NOT_FOUND. For its owner and operators.',
  })
  async unshareDataset(
    @Ctx() context: Context,
    @Arg('input', () => ShareDatasetInput, { description: 'The dataset, and with whom no more.' })
    input: ShareDatasetInput,
  ) {
    return changedDataset(context, await unshareDataset(context.db, context.viewer, input));
  }
}
