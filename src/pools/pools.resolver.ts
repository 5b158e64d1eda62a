import { Arg, Ctx, FieldResolver, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { SafeInt } from '../api/scalars.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import type { FileRow } from '../files/files.queries.ts';
import { FileType } from '../files/files.schema.ts';
import { openAccessUrls } from './access-urls.ts';
import {
  localitiesOf,
  onlineCopies,
  onlineShareOf,
  type OnlineShareRow,
} from './locality.queries.ts';
import {
  accessProtocols,
  type AccessProtocol as Protocol,
  type Locality as LocalityName,
} from './pools.rules.ts';
import { AccessProtocol, AccessUrl, Locality, OnlineShare, Pool } from './pools.schema.ts';
import { listPools, type PoolRow } from './pools.service.ts';
import { contentOfPools } from './stages.queries.ts';

const upper = (protocol: Protocol) => protocol.toUpperCase() as Uppercase<Protocol>;

async function loadContents(context: Context, ids: readonly number[]) {
  return inOrder(ids, await contentOfPools(context.db.fork(), ids), (row) => row.poolId);
}

async function loadLocalities(context: Context, ids: readonly number[]): Promise<LocalityName[]> {
  const found = await localitiesOf(context.db.fork(), ids);
  return ids.map((id) => found.get(id) ?? 'NONE');
}

async function loadAccessUrls(
  { db, means }: Context,
  ids: readonly number[],
): Promise<AccessUrl[][]> {
  const urlsOf = await openAccessUrls(db, means.stores);
  const byFile = Map.groupBy(await onlineCopies(db.fork(), ids), (copy) => copy.fileId);
  return ids.map((id) =>
    (byFile.get(id) ?? [])
      .flatMap(urlsOf)
      .map((row) => ({ ...row, protocol: row.protocol && upper(row.protocol) })),
  );
}

@Resolver(() => Pool)
export class PoolResolver {
  @Query(() => [Pool], { description: 'The pools, by name.' })
  async pools(@Ctx() { db }: Context): Promise<PoolRow[]> {
    return listPools(db.fork());
  }

  @FieldResolver(() => [AccessProtocol], { description: 'How jobs can open what lies in it.' })
  protocols(@Root() pool: PoolRow): Uppercase<Protocol>[] {
    return accessProtocols.filter((name) => pool.urls[name] !== undefined).map(upper);
  }

  @FieldResolver(() => SafeInt, { description: 'Files that are there.' })
  async onlineCount(@Ctx() context: Context, @Root() pool: PoolRow): Promise<number> {
    return (await context.load(loadContents, pool.id))?.onlineCount ?? 0;
  }

  @FieldResolver(() => SafeInt, { description: 'Bytes that are there, and that pins hold.' })
  async pinnedBytes(@Ctx() context: Context, @Root() pool: PoolRow): Promise<number> {
    return (await context.load(loadContents, pool.id))?.pinnedBytes ?? 0;
  }
}

@Resolver(() => FileType)
export class FileLocalityResolver {
  @FieldResolver(() => Locality, { description: 'Whether a job can open it now.' })
  async locality(@Ctx() context: Context, @Root() file: FileRow): Promise<LocalityName> {
    return context.load(loadLocalities, file.id);
  }

  @FieldResolver(() => [AccessUrl], {
    description:
      'What a job can open now: its copies in pools, then those in mass stores without tape. Empty = stage it first.',
  })
  async accessUrls(
    @Ctx() context: Context,
    @Root() file: FileRow,
    @Arg('protocol', () => AccessProtocol, { nullable: true, description: 'By this one only.' })
    protocol: Uppercase<Protocol> | null | undefined,
  ): Promise<AccessUrl[]> {
    const urls = await context.load(loadAccessUrls, file.id);
    return protocol == null ? urls : urls.filter((row) => row.protocol === protocol);
  }
}

@Resolver(() => DatasetType)
export class DatasetLocalityResolver {
  @FieldResolver(() => OnlineShare, {
    description: 'How much of it jobs can open without waiting; counted when asked for.',
  })
  async onlineShare(
    @Ctx() context: Context,
    @Root() dataset: DatasetRow,
  ): Promise<OnlineShareRow & { share: number }> {
    const row = await onlineShareOf(context.db.fork(), dataset.id);
    const share = row.sizeBytes === 0 ? 1 : row.onlineBytes / row.sizeBytes;
    return { ...row, share };
  }
}
