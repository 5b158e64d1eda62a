import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { demand } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { inOrder, type Context } from '../api/context.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { badInput } from '../errors.ts';
import type { PoolCopyStatus as StatusName } from './pools.rules.ts';
import { releaseStage, stageFiles, type StageChange } from './stage.service.ts';
import {
  listStagedFiles,
  listStages,
  progressOfStages,
  stagesByIds,
  type StagedFileRow,
  type StageProgressRow,
  type StageRow,
} from './stages.queries.ts';
import {
  PoolCopyStatus,
  ReleaseStageInput,
  StagedFileConnection,
  StageFilesInput,
  StagePayload,
  StageProgress,
  StageRequestConnection,
  StageRequestFilter,
  StageRequestType,
  type StageStateName,
} from './stages.schema.ts';

export async function loadStages(context: Context, ids: readonly number[]) {
  return inOrder(ids, await stagesByIds(context.db.fork(), context.viewer, ids), (row) => row.id);
}

async function loadProgress(context: Context, ids: readonly number[]) {
  return inOrder(ids, await progressOfStages(context.db.fork(), ids), (row) => row.requestId);
}

/** The number of a stage request, as people (7) or programs (its node id) name it. */
export function stageIdOf(given: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  const key = readNodeId(given);
  if (key?.name === 'StageRequest') return key.id;
  throw badInput('request', given, 'the number or the id of a stage request: look at "stage list"');
}

/** For `node(id)`. */
export async function findStageNode(context: Context, id: number) {
  const found = await context.load(loadStages, id);
  return found && { ...found, [nodeName]: 'StageRequest' as const };
}

function stateOf(row: StageRow, progress: StageProgressRow): StageStateName {
  if (row.releasedAt !== null) return 'RELEASED';
  if (progress.waiting + progress.recalling + progress.copying > 0) return 'RUNNING';
  if (progress.failed > 0) return 'FAILED';
  return progress.gone > 0 ? 'GONE' : 'ONLINE';
}

/** How a request comes along. */
export async function withProgress(context: Context, row: StageRow): Promise<StageProgress> {
  const found = await context.load(loadProgress, row.id);
  if (!found) throw new Error(`no progress of stage request ${row.id}`);
  const { fileCount, sizeBytes } = row;
  return { ...found, fileCount, sizeBytes, state: stateOf(row, found) };
}

@Resolver(() => StageRequestType)
export class StageResolver {
  @Query(() => StageRequestType, {
    nullable: true,
    description: 'The stage request of this id or number; null = none that you see.',
  })
  async stageRequest(
    @Ctx() context: Context,
    @Arg('id', () => ID, { description: 'Its id, or its number.' }) id: string,
  ): Promise<StageRow | undefined> {
    return context.load(loadStages, stageIdOf(id));
  }

  @Query(() => StageRequestConnection, {
    description: 'Stage requests, the last one first: your own, to operators all.',
  })
  async stageRequests(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => StageRequestFilter, { nullable: true, description: 'Which requests.' })
    filter: StageRequestFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<StageRow>> {
    demand(viewer, 'handleStage', viewer.principal);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listStages(db.fork(), viewer, filter ?? {}, page));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() row: StageRow): string {
    return writeNodeId('StageRequest', row.id);
  }

  @FieldResolver(() => Int, { description: 'Its number, as people call it.' })
  number(@Root() row: StageRow): number {
    return row.id;
  }

  @FieldResolver(() => StageProgress, { description: 'How its files come along.' })
  async progress(@Ctx() context: Context, @Root() row: StageRow): Promise<StageProgress> {
    return withProgress(context, row);
  }

  @FieldResolver(() => StagedFileConnection, {
    description: 'Its files by LFN, as far as you see them now.',
  })
  async files(
    @Ctx() { db, viewer }: Context,
    @Root() row: StageRow,
    @Arg('status', () => [PoolCopyStatus], { nullable: true, description: 'One of these.' })
    status: StatusName[] | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<StagedFileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listStagedFiles(db.fork(), viewer, row.id, status, page));
  }
}

async function answer(context: Context, { requestId, changed }: StageChange) {
  if (changed) context.means.ring();
  return { request: await context.load(loadStages, requestId), changed };
}

@Resolver()
export class StageMutations {
  @Mutation(() => StagePayload, {
    description:
      'Asks for files to lie in a pool, pinned for a time from when they are there. What is there is not copied again; ' +
      'the same files again are the same request, with longer pins. NOT_FOUND, FORBIDDEN (the pool), ' +
      'FILES_NOT_BACKED_UP, POOL_FULL, LIMIT_REACHED. For whoever has a token.',
  })
  async stageFiles(
    @Ctx() context: Context,
    @Arg('input', () => StageFilesInput, { description: 'Which files, where, for how long.' })
    input: StageFilesInput,
  ) {
    return answer(context, await stageFiles(context.db, context.viewer, input));
  }

  @Mutation(() => StagePayload, {
    description:
      'Takes the pins of a stage request off. What nobody else pins goes when the room is needed; what is not there ' +
      'yet is not brought. NOT_FOUND. For who asked, and operators.',
  })
  async releaseStage(
    @Ctx() context: Context,
    @Arg('input', () => ReleaseStageInput, { description: 'Which request, or files of it.' })
    { request, lfns }: ReleaseStageInput,
  ) {
    const { db, viewer } = context;
    return answer(context, await releaseStage(db, viewer, stageIdOf(request), lfns ?? null));
  }
}
