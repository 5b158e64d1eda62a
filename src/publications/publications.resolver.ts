import { Arg, Ctx, FieldResolver, ID, Int, Query, Resolver, Root } from 'type-graphql';
import { demand } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { inOrder, type Context } from '../api/context.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { loadDatasets } from '../datasets/datasets.resolver.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import { badInput } from '../errors.ts';
import { demandPublishing } from '../storage/publish-settings.ts';
import {
  listComposites,
  listPublicationFiles,
  listPublications,
  progressOfPublications,
  publicationsByIds,
  type CompositeRow,
  type PublicationFileRow,
  type PublicationRow,
} from './publications.queries.ts';
import {
  PublicationCompositeConnection,
  PublicationConnection,
  PublicationFileConnection,
  PublicationFilter,
  PublicationProgress,
  PublicationQuota,
  PublicationType,
  QuotaKind,
} from './publications.schema.ts';
import { quotaOf, type QuotaState } from './quotas.service.ts';

export async function loadPublications(context: Context, ids: readonly number[]) {
  const { db, viewer } = context;
  return inOrder(ids, await publicationsByIds(db.fork(), viewer, ids), (row) => row.id);
}

async function loadProgress(context: Context, ids: readonly number[]) {
  return inOrder(
    ids,
    await progressOfPublications(context.db.fork(), ids),
    (row) => row.publicationId,
  );
}

/** The number of a publication, as people (7) or programs (its node id) name it. */
export function publicationIdOf(given: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  const key = readNodeId(given);
  if (key?.name === 'Publication') return key.id;
  throw badInput(
    'publication',
    given,
    'the number or the id of a publication: look at "publish list"',
  );
}

/** For `node(id)`. */
export async function findPublicationNode(context: Context, id: number) {
  const found = await context.load(loadPublications, id);
  return found && { ...found, [nodeName]: 'Publication' as const };
}

/** A publication beside how it comes along. */
export async function withProgress(
  context: Context,
  row: PublicationRow,
): Promise<PublicationProgress> {
  const progress = await context.load(loadProgress, row.id);
  const { status, fileCount, sizeBytes, lastError } = row;
  const none = {
    checked: 0,
    faulty: 0,
    merged: 0,
    compositeCount: 0,
    made: 0,
    safe: 0,
    doneBytes: 0,
  };
  return { status, fileCount, sizeBytes, lastError, ...(progress ?? none) };
}

export const quotaAnswer = ({ holder, ...state }: QuotaState): PublicationQuota => ({
  ...holder,
  ...state,
});

@Resolver(() => PublicationType)
export class PublicationResolver {
  @Query(() => PublicationType, {
    nullable: true,
    description: 'The publication of this id or number; null = none that you see.',
  })
  async publication(
    @Ctx() context: Context,
    @Arg('id', () => ID, { description: 'Its id, or its number.' }) id: string,
  ): Promise<PublicationRow | undefined> {
    return context.load(loadPublications, publicationIdOf(id));
  }

  @Query(() => PublicationConnection, {
    description: 'Publications, the last one first: your own, to operators all.',
  })
  async publications(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => PublicationFilter, { nullable: true, description: 'Which ones.' })
    filter: PublicationFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<PublicationRow>> {
    demand(viewer, 'readPublications', viewer.principal);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listPublications(db.fork(), viewer, filter ?? {}, page));
  }

  @Query(() => PublicationQuota, {
    description:
      'What may be published, and is: by you, or by a group of yours; operators may ask for any.',
  })
  async publicationQuota(
    @Ctx() { means, db, viewer }: Context,
    @Arg('kind', () => QuotaKind, { defaultValue: 'USER', description: 'Whose.' })
    kind: keyof typeof QuotaKind,
    @Arg('name', () => String, { nullable: true, description: 'Of whom; you if not given.' })
    name: string | null,
  ): Promise<PublicationQuota> {
    demand(viewer, 'readPublications', viewer.principal);
    const holder = { kind, name: name ?? viewer.principal };
    return quotaAnswer(await quotaOf(db.fork(), viewer, demandPublishing(means.publish), holder));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() row: PublicationRow): string {
    return writeNodeId('Publication', row.id);
  }

  @FieldResolver(() => Int, { description: 'Its number, as people call it.' })
  number(@Root() row: PublicationRow): number {
    return row.id;
  }

  @FieldResolver(() => PublicationProgress, { description: 'How it comes along.' })
  async progress(
    @Ctx() context: Context,
    @Root() row: PublicationRow,
  ): Promise<PublicationProgress> {
    return withProgress(context, row);
  }

  @FieldResolver(() => PublicationFileConnection, { description: 'Its files, in their order.' })
  async files(
    @Ctx() { db }: Context,
    @Root() row: PublicationRow,
    @Arg('isFaulty', () => Boolean, {
      nullable: true,
      description: 'Those that cannot be published, or the others.',
    })
    isFaulty: boolean | null | undefined,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<PublicationFileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listPublicationFiles(db.fork(), row.id, isFaulty, page));
  }

  @FieldResolver(() => PublicationCompositeConnection, { description: 'Its composite files.' })
  async composites(
    @Ctx() { db }: Context,
    @Root() row: PublicationRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<CompositeRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listComposites(db.fork(), row.id, page));
  }

  @FieldResolver(() => DatasetType, {
    nullable: true,
    description: 'What it became; null = it is not published, or is not seen any more.',
  })
  async dataset(
    @Ctx() context: Context,
    @Root() row: PublicationRow,
  ): Promise<DatasetRow | undefined> {
    return row.datasetId === null ? undefined : context.load(loadDatasets, row.datasetId);
  }
}
