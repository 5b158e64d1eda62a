import { Arg, Ctx, FieldResolver, Mutation, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { loadBackups } from '../backups/backups.resolver.ts';
import { changedDataset } from '../datasets/datasets.mutations.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import {
  DatasetPayload,
  DatasetTransitionInput,
  DatasetType,
} from '../datasets/datasets.schema.ts';
import { recordBackup } from './confirmations.service.ts';
import { sweepsOf, type SweepRow } from './sweeps.queries.ts';
import { RecordBackupInput, RecordBackupPayload, SweepProgress } from './sweeps.schema.ts';
import { reopenDataset, sweepDataset } from './sweeps.service.ts';

async function loadSweeps(context: Context, ids: readonly number[]) {
  return inOrder(ids, await sweepsOf(context.db.fork(), ids), (row) => row.datasetId);
}

@Resolver(() => DatasetType)
export class SweepResolver {
  @FieldResolver(() => SweepProgress, {
    nullable: true,
    description: 'Its last sweep; null = it was never swept.',
  })
  async sweep(@Ctx() context: Context, @Root() dataset: DatasetRow): Promise<SweepRow | undefined> {
    return context.load(loadSweeps, dataset.id);
  }

  @Mutation(() => DatasetPayload, {
    description:
      'All the way, in the background: seals the dataset, backs up what is missing, marks it backed up, closes it. ' +
      'Asked for once, it ends by itself; asked again, what FAILED is tried again. DATASET_EMPTY.',
  })
  async sweepDataset(
    @Ctx() context: Context,
    @Arg('input', () => DatasetTransitionInput, {
      description: 'The dataset, and where to back up.',
    })
    input: DatasetTransitionInput,
  ) {
    const { db, viewer, means } = context;
    return changedDataset(context, await sweepDataset(db, means.jobs, viewer, input));
  }

  @Mutation(() => DatasetPayload, {
    description:
      'BACKED_UP → OPEN; calls off a sweep that is under way. Needs a reason. ILLEGAL_TRANSITION (CLOSED).',
  })
  async reopenDataset(
    @Ctx() context: Context,
    @Arg('input', () => DatasetTransitionInput, { description: 'The dataset and the reason.' })
    input: DatasetTransitionInput,
  ) {
    return changedDataset(context, await reopenDataset(context.db, context.viewer, input));
  }

  @Mutation(() => RecordBackupPayload, {
    description:
      'Tells of a copy that was made elsewhere. The store is asked before it is believed. CHECKSUM_MISMATCH, ' +
      'NOT_CONFIRMED, NOT_FOUND, DUPLICATE, STORE_UNAVAILABLE. For producers.',
  })
  async recordBackup(
    @Ctx() context: Context,
    @Arg('input', () => RecordBackupInput, { description: 'File and place.' })
    input: RecordBackupInput,
  ) {
    const { means, viewer } = context;
    const { backupId, changed } = await recordBackup(means, viewer, input);
    means.ring();
    return { record: await context.load(loadBackups, backupId), changed };
  }
}
