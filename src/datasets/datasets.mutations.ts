import { Arg, Ctx, Mutation, Resolver } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { clearDatasetBad, markDatasetBad } from './bad-marks.service.ts';
import { loadDatasets } from './datasets.resolver.ts';
import {
  BadMarkInput,
  CreateDatasetInput,
  CreateDatasetPayload,
  DatasetFilesInput,
  DatasetPayload,
  DatasetTransitionInput,
} from './datasets.schema.ts';
import {
  addFilesToDataset,
  closeDataset,
  createDataset,
  markDatasetBackedUp,
  removeFilesFromDataset,
  type DatasetChange,
} from './datasets.service.ts';

/** The answer to a change of a dataset: as it is after the commit. */
export async function changedDataset(context: Context, change: DatasetChange) {
  context.means.ring();
  const { changed, changedCount } = change;
  return { dataset: await context.load(loadDatasets, change.datasetId), changed, changedCount };
}

@Resolver()
export class DatasetMutations {
  @Mutation(() => CreateDatasetPayload, {
    description:
      'Creates an OPEN dataset, with its first files if given. DUPLICATE (name taken), NOT_FOUND, NOT_MERGED, ' +
      'FORBIDDEN (waiving a backup is for admins).',
  })
  async createDataset(
    @Ctx() context: Context,
    @Arg('input', () => CreateDatasetInput, { description: 'The dataset.' })
    input: CreateDatasetInput,
  ) {
    const { idempotencyKey, ...wanted } = input;
    return changedDataset(
      context,
      await createDataset(context.db, context.viewer, wanted, idempotencyKey),
    );
  }

  @Mutation(() => DatasetPayload, {
    description:
      'Adds merged files; all or none. ILLEGAL_TRANSITION (not OPEN), DATASET_SEALED, NOT_MERGED, NOT_FOUND.',
  })
  async addFilesToDataset(
    @Ctx() context: Context,
    @Arg('input', () => DatasetFilesInput, { description: 'Dataset and files.' })
    input: DatasetFilesInput,
  ) {
    return changedDataset(context, await addFilesToDataset(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description:
      'Removes files; all or none. ILLEGAL_TRANSITION (not OPEN), DATASET_SEALED, NOT_FOUND.',
  })
  async removeFilesFromDataset(
    @Ctx() context: Context,
    @Arg('input', () => DatasetFilesInput, { description: 'Dataset and files.' })
    input: DatasetFilesInput,
  ) {
    return changedDataset(context, await removeFilesFromDataset(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description:
      'OPEN → BACKED_UP, when every file has a confirmed backup. FILES_NOT_BACKED_UP (says which), ' +
      'DATASET_EMPTY, DATASET_SEALED.',
  })
  async markDatasetBackedUp(
    @Ctx() context: Context,
    @Arg('input', () => DatasetTransitionInput, { description: 'The dataset.' })
    input: DatasetTransitionInput,
  ) {
    return changedDataset(context, await markDatasetBackedUp(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description:
      'BACKED_UP → CLOSED: published, visible to all, immutable. From OPEN only where the backup is waived. ' +
      'ILLEGAL_TRANSITION, DATASET_EMPTY, DATASET_SEALED.',
  })
  async closeDataset(
    @Ctx() context: Context,
    @Arg('input', () => DatasetTransitionInput, { description: 'The dataset.' })
    input: DatasetTransitionInput,
  ) {
    return changedDataset(context, await closeDataset(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description: "Takes a dataset out of users' sight, with the reason. For operators.",
  })
  async markDatasetBad(
    @Ctx() context: Context,
    @Arg('input', () => BadMarkInput, { description: 'Dataset and reason.' }) input: BadMarkInput,
  ) {
    return changedDataset(context, await markDatasetBad(context.db, context.viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description:
      'Takes the bad marks off, with the reason. FILES_NOT_BACKED_UP while a file has no confirmed backup. For admins.',
  })
  async clearDatasetBad(
    @Ctx() context: Context,
    @Arg('input', () => BadMarkInput, { description: 'Dataset and reason.' }) input: BadMarkInput,
  ) {
    return changedDataset(context, await clearDatasetBad(context.db, context.viewer, input));
  }
}
