import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { countOutcomes } from '../api/inputs.ts';
import { nodeName, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { EventRow } from '../events/events.queries.ts';
import { EventType } from '../events/events.schema.ts';
import { listRunsOf, type RunRow } from '../runs/runs.queries.ts';
import { RunConnection, RunType } from '../runs/runs.schema.ts';
import {
  filesByIds,
  filesOfRun,
  findFile,
  listFiles,
  replicasOf,
  runsOfFile,
  type FileOrder as OrderName,
  type FileRow,
  type ReplicaRow,
} from './files.queries.ts';
import {
  FileConnection,
  FileFilter,
  FileOrder,
  FileResult,
  FileType,
  RecordMergeInput,
  RecordMergePayload,
  RegisterFilesInput,
  RegisterFilesPayload,
  Replica,
} from './files.schema.ts';
import { registerFiles, type FileOutcome } from './files.service.ts';
import { recordMerge } from './merges.service.ts';

/** The files of these row numbers, those that the viewer sees. */
export async function loadFiles(context: Context, ids: readonly number[]) {
  return inOrder(ids, await filesByIds(context.db.fork(), context.viewer, ids), (file) => file.id);
}

async function loadReplicas(context: Context, ids: readonly number[]): Promise<ReplicaRow[][]> {
  const found = Map.groupBy(await replicasOf(context.db.fork(), ids), (row) => row.fileId);
  return ids.map((id) => found.get(id) ?? []);
}

@Resolver(() => FileType)
export class FileResolver {
  @Query(() => FileType, {
    nullable: true,
    description: 'The file of this LFN; null = not registered, or in no dataset that you see.',
  })
  async file(
    @Ctx() { db, viewer }: Context,
    @Arg('lfn', () => String, { description: 'Logical file name.' }) lfn: string,
  ): Promise<FileRow | undefined> {
    return findFile(db.fork(), viewer, lfn);
  }

  @Query(() => FileConnection, { description: 'Files, as far as you see them.' })
  async files(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => FileFilter, { nullable: true, description: 'Which files.' })
    filter: FileFilter | null,
    @Arg('orderBy', () => FileOrder, {
      nullable: true,
      description: 'By LFN, if not given; by CREATED_AT_DESC, if the filter is on createdAt.',
    })
    orderBy: OrderName | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    const order = orderBy === null ? {} : { order: orderBy };
    return toConnection(await listFiles(db.fork(), viewer, filter ?? {}, page, order));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() file: FileRow): string {
    return writeNodeId('File', file.id);
  }

  @FieldResolver(() => RunConnection, { description: 'The runs that it holds data of.' })
  async runs(
    @Ctx() { db, viewer }: Context,
    @Root() file: FileRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<RunRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listRunsOf(db.fork(), viewer, runsOfFile(file.id), page));
  }

  @FieldResolver(() => [Replica], {
    description: 'Its copies on disk; for producers and operators, empty for others.',
  })
  async replicas(@Ctx() context: Context, @Root() file: FileRow): Promise<ReplicaRow[]> {
    return context.load(loadReplicas, file.id);
  }

  @Mutation(() => RegisterFilesPayload, {
    description:
      'Registers up to 10,000 files. One answer for each; a refused one does not hinder the others. The same ' +
      'file again is EXISTING; other content under a known LFN is refused (DUPLICATE). For producers.',
  })
  async registerFiles(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => RegisterFilesInput, { description: 'The files.' })
    input: RegisterFilesInput,
  ) {
    const results = await registerFiles(db, viewer, input.files, means.site, input.idempotencyKey);
    means.ring();
    return { results, ...countOutcomes(results) };
  }

  @Mutation(() => RecordMergePayload, {
    description:
      'Records which run files went into which merged file. NOT_FOUND, NOT_MERGED, ALREADY_MERGED, ' +
      'EVENT_COUNT_MISMATCH. For producers.',
  })
  async recordMerge(
    @Ctx() context: Context,
    @Arg('input', () => RecordMergeInput, { description: 'The output and its inputs.' })
    input: RecordMergeInput,
  ) {
    const { db, viewer, means } = context;
    const { fileId, changed } = await recordMerge(
      db,
      viewer,
      input,
      means.site,
      input.idempotencyKey,
    );
    means.ring();
    return { file: await context.load(loadFiles, fileId), changed };
  }
}

@Resolver(() => FileResult)
export class FileResultResolver {
  @FieldResolver(() => FileType, {
    nullable: true,
    description: 'The file, unless it was refused.',
  })
  async file(@Ctx() context: Context, @Root() result: FileOutcome): Promise<FileRow | undefined> {
    return result.fileId === undefined ? undefined : context.load(loadFiles, result.fileId);
  }
}

@Resolver(() => RunType)
export class RunFilesResolver {
  @FieldResolver(() => FileConnection, {
    description: 'Files with data of this run, as far as you see them.',
  })
  async files(
    @Ctx() { db, viewer }: Context,
    @Root() run: RunRow,
    @Arg('filter', () => FileFilter, { nullable: true, description: 'Which files.' })
    filter: FileFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    const asked = { of: filesOfRun(run.id), order: 'LFN' as const };
    return toConnection(await listFiles(db.fork(), viewer, filter ?? {}, page, asked));
  }
}

@Resolver(() => EventType)
export class EventFileResolver {
  @FieldResolver(() => FileType, {
    nullable: true,
    description: 'The file that it is about, if you see it.',
  })
  async file(@Ctx() context: Context, @Root() event: EventRow): Promise<FileRow | undefined> {
    return event.fileId === null ? undefined : context.load(loadFiles, event.fileId);
  }
}

/** For `node(id)`. */
export async function findFileNode(context: Context, id: number) {
  const file = await context.load(loadFiles, id);
  return file && { ...file, [nodeName]: 'File' as const };
}
