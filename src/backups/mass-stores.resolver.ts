import { Arg, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { SafeInt } from '../api/scalars.ts';
import type { StoreState } from '../storage/contract.ts';
import { checkMassStore, lastTests } from './store-tests.service.ts';
import { MassStore, StoreRetry, StoreTest } from './stores.schema.ts';
import {
  copiesInStores,
  listMassStores,
  type CopiesInStore,
  type MassStoreRow,
} from './mass-stores.service.ts';

async function probeStores(context: Context, rows: readonly MassStoreRow[]): Promise<StoreState[]> {
  return Promise.all(rows.map((row) => context.means.stores.of(row).probe()));
}

async function loadTests(
  { db }: Context,
  stores: readonly MassStoreRow[],
): Promise<(StoreTest | undefined)[]> {
  const tests = new Map(
    (
      await lastTests(
        db,
        stores.map((row) => row.id),
      )
    ).map((test) => [test.storeId, test]),
  );
  return stores.map((row) => tests.get(row.id));
}

async function loadCopies(
  { db }: Context,
  stores: readonly MassStoreRow[],
): Promise<CopiesInStore[]> {
  const found = await copiesInStores(
    db,
    stores.map((row) => row.id),
  );
  return stores.map((row) => found.get(row.id) ?? { confirmed: 0, waiting: 0 });
}

@Resolver(() => MassStore)
export class MassStoreResolver {
  @Query(() => [MassStore], { description: 'The mass stores, by name.' })
  async massStores(@Ctx() { db }: Context): Promise<MassStoreRow[]> {
    return listMassStores(db);
  }

  @FieldResolver(() => String, { description: 'The site it belongs to.' })
  site(@Root() row: MassStoreRow): string {
    return row.site.name;
  }

  @FieldResolver(() => String, {
    nullable: true,
    description: 'Where it lies; for producers and operators.',
  })
  root(@Root() row: MassStoreRow): string | undefined {
    return row.root;
  }

  @FieldResolver(() => Boolean, { description: 'The server can use it right now.' })
  async isUp(@Ctx() context: Context, @Root() row: MassStoreRow): Promise<boolean> {
    return (await context.load(probeStores, row)).isUp;
  }

  @FieldResolver(() => String, {
    nullable: true,
    description: 'State in words; for producers and operators.',
  })
  async detail(@Ctx() context: Context, @Root() row: MassStoreRow): Promise<string | undefined> {
    return (await context.load(probeStores, row)).detail;
  }

  @FieldResolver(() => SafeInt, { nullable: true, description: 'Bytes free, if the store tells.' })
  async freeBytes(@Ctx() context: Context, @Root() row: MassStoreRow): Promise<number | undefined> {
    return (await context.load(probeStores, row)).freeBytes;
  }

  @FieldResolver(() => StoreRetry, { description: 'When a copy that failed is tried again.' })
  retry(@Ctx() { means }: Context, @Root() row: MassStoreRow): StoreRetry {
    return {
      firstSeconds: (row.retryFirstMs ?? means.retryBaseMs) / 1000,
      factor: row.retryFactor,
      longestSeconds: row.retryLongestMs / 1000,
      tapeHours: row.tapeHours,
    };
  }

  @FieldResolver(() => SafeInt, {
    nullable: true,
    description: 'Confirmed copies in it; for producers and operators.',
  })
  async copyCount(@Ctx() context: Context, @Root() row: MassStoreRow): Promise<number | undefined> {
    return (await context.load(loadCopies, row)).confirmed;
  }

  @FieldResolver(() => SafeInt, {
    nullable: true,
    description: 'Copies that it was asked for and has not confirmed; for producers and operators.',
  })
  async waitingCount(
    @Ctx() context: Context,
    @Root() row: MassStoreRow,
  ): Promise<number | undefined> {
    return (await context.load(loadCopies, row)).waiting;
  }

  @FieldResolver(() => StoreTest, {
    nullable: true,
    description: 'The last self-test; for producers and operators.',
  })
  async lastTest(
    @Ctx() context: Context,
    @Root() row: MassStoreRow,
  ): Promise<StoreTest | undefined> {
    return context.load(loadTests, row);
  }

  @Mutation(() => MassStore, {
    description:
      'Tests a mass store with canaries, from the host of this server: right, with a wrong checksum, overwritten, ' +
      'deleted. Takes up to minutes on tape systems. For operators. NOT_FOUND.',
  })
  async checkMassStore(
    @Ctx() { db, means, viewer }: Context,
    @Arg('name', () => String, { nullable: true, description: 'The default one, if not given.' })
    name: string | null,
  ): Promise<MassStoreRow> {
    return checkMassStore(db, means.stores, viewer, name);
  }

  @FieldResolver(() => String, {
    nullable: true,
    description: 'What stands before a key in the URLs that jobs get.',
  })
  accessUrlPrefix(@Root() row: MassStoreRow): string | null | undefined {
    return row.urlPrefix;
  }
}
