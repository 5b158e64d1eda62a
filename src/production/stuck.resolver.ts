import { Arg, Ctx, FieldResolver, Int, Query, Resolver, Root } from 'type-graphql';
import { demand } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import type { Context } from '../api/context.ts';
import { MassStore } from '../backups/stores.schema.ts';
import { listMassStores, type MassStoreRow } from '../backups/mass-stores.service.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { loadDatasets } from '../datasets/datasets.resolver.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import {
  badDatasets,
  failedBackups,
  oldSweeps,
  troubleOfSweeps,
  unfinishedDatasets,
  waitingBackups,
  type BadGroupRow,
} from './stuck.queries.ts';
import {
  adviceOnDataset,
  adviceOnFailure,
  adviceOnSweep,
  adviceOnWaiting,
  datasetTrouble,
  momentBefore,
  stuckAfterSeconds,
  sweepTrouble,
} from './stuck.rules.ts';
import {
  BadDatasets,
  FailedBackups,
  Stuck,
  StuckDataset,
  StuckDatasetConnection,
  StuckSweep,
  StuckSweepConnection,
  WaitingBackups,
} from './stuck.schema.ts';

const olderThan = (seconds: number, since: string) => ({
  nullable: true,
  defaultValue: seconds,
  description: `Only those whose ${since} is longer ago, in seconds.`,
});
const groupsFirst = { nullable: true, defaultValue: 50, description: 'Groups, at most 200.' };

const noTrouble = { failed: 0, copying: 0, lastError: null };

/** The stores that this server cannot use right now. */
async function downStores(context: Context): Promise<MassStoreRow[]> {
  const stores = await listMassStores(context.db);
  const states = await Promise.all(stores.map((row) => context.means.stores.of(row).probe()));
  return stores.filter((_, at) => states[at]?.isUp !== true);
}

@Resolver(() => Stuck)
export class StuckResolver {
  @Query(() => Stuck, {
    description: 'What is stuck, and why. For producers and operators.',
  })
  stuck(@Ctx() { viewer }: Context): Stuck {
    demand(viewer, 'readStuck');
    return { asOf: new Date() };
  }

  @FieldResolver(() => [MassStore], { description: 'Mass stores that the server cannot use now.' })
  async storesDown(@Ctx() context: Context): Promise<MassStoreRow[]> {
    return downStores(context);
  }

  @FieldResolver(() => StuckSweepConnection, {
    description: 'Sweeps that have been under way for long, the oldest first.',
  })
  async sweeps(
    @Ctx() context: Context,
    @Root() { asOf }: Stuck,
    @Arg('olderThanSeconds', () => Int, olderThan(stuckAfterSeconds.sweeps, 'request'))
    seconds: number | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<StuckSweep>> {
    const before = momentBefore(asOf, seconds ?? stuckAfterSeconds.sweeps);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const found = await oldSweeps(context.db.fork(), before, page);
    const ids = found.edges.map(({ node }) => node.datasetId);
    const troubles = new Map(
      (ids.length === 0 ? [] : await troubleOfSweeps(context.db.fork(), ids)).map((row) => [
        row.datasetId,
        row,
      ]),
    );
    const down = new Set((await downStores(context)).map((row) => row.id));
    const edges = found.edges.map(({ cursor, node }) => {
      const { failed, copying, lastError } = troubles.get(node.datasetId) ?? noTrouble;
      const waiting = Math.max(0, node.total - node.confirmed - failed - copying);
      const trouble = sweepTrouble({
        ...node,
        failed,
        copying,
        storeIsUp: !down.has(node.storeId),
      });
      const advice = adviceOnSweep[trouble];
      return { cursor, node: { ...node, failed, copying, waiting, lastError, trouble, advice } };
    });
    return toConnection({ ...found, edges });
  }

  @FieldResolver(() => [FailedBackups], {
    description: 'Backups that were given up or found gone, by store and error, the most first.',
  })
  async failedBackups(
    @Ctx() { db, viewer }: Context,
    @Arg('first', () => Int, groupsFirst) first: number | null,
  ): Promise<FailedBackups[]> {
    const found = await failedBackups(db.fork(), viewer, checkedFirst(first, pageLimits.others));
    return found.map((row) => ({ ...row, advice: adviceOnFailure(row.status, row.errorCode) }));
  }

  @FieldResolver(() => [WaitingBackups], {
    description:
      'Backups that are neither confirmed nor given up, by store and reason, the most first.',
  })
  async waitingBackups(
    @Ctx() context: Context,
    @Root() { asOf }: Stuck,
    @Arg('olderThanSeconds', () => Int, olderThan(stuckAfterSeconds.backups, 'request'))
    seconds: number | null,
    @Arg('first', () => Int, groupsFirst) first: number | null,
  ): Promise<WaitingBackups[]> {
    const before = momentBefore(asOf, seconds ?? stuckAfterSeconds.backups);
    const most = checkedFirst(first, pageLimits.others);
    const down = (await downStores(context)).map((row) => row.id);
    const found = await waitingBackups(context.db.fork(), context.viewer, before, down, most);
    return found.map((row) => ({ ...row, advice: adviceOnWaiting[row.reason] }));
  }

  @FieldResolver(() => StuckDatasetConnection, {
    description:
      'Datasets that are OPEN or BACKED_UP for long and that no sweep takes further, the oldest first.',
  })
  async datasets(
    @Ctx() { db }: Context,
    @Root() { asOf }: Stuck,
    @Arg('olderThanSeconds', () => Int, olderThan(stuckAfterSeconds.datasets, 'creation'))
    seconds: number | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<StuckDataset>> {
    const before = momentBefore(asOf, seconds ?? stuckAfterSeconds.datasets);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const found = await unfinishedDatasets(db.fork(), before, page);
    const edges = found.edges.map(({ cursor, node }) => {
      const trouble = datasetTrouble(node);
      return { cursor, node: { ...node, trouble, advice: adviceOnDataset[trouble] } };
    });
    return toConnection({ ...found, edges });
  }

  @FieldResolver(() => [BadDatasets], {
    description: 'Datasets that are marked bad, by reason, the most first.',
  })
  async badDatasets(
    @Ctx() { db }: Context,
    @Arg('first', () => Int, groupsFirst) first: number | null,
  ): Promise<BadGroupRow[]> {
    return badDatasets(db.fork(), checkedFirst(first, pageLimits.others));
  }
}

interface OfDataset {
  readonly datasetId: number;
}

@Resolver(() => StuckSweep)
export class StuckSweepResolver {
  @FieldResolver(() => DatasetType, { description: 'What is swept.' })
  async dataset(@Ctx() context: Context, @Root() row: OfDataset): Promise<DatasetRow | undefined> {
    return context.load(loadDatasets, row.datasetId);
  }
}

@Resolver(() => StuckDataset)
export class StuckDatasetResolver {
  @FieldResolver(() => DatasetType, { description: 'The dataset.' })
  async dataset(@Ctx() context: Context, @Root() row: OfDataset): Promise<DatasetRow | undefined> {
    return context.load(loadDatasets, row.datasetId);
  }
}
