import { Arg, Ctx, FieldResolver, ID, Int, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { nodeName, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import { eventConditions, listEvents, type EventRow } from '../events/events.queries.ts';
import { EventConnection, EventType } from '../events/events.schema.ts';
import { listFilesOfDataset, type FileRow } from '../files/files.queries.ts';
import { FileConnection, FileFilter, FileType } from '../files/files.schema.ts';
import {
  badMarksOf,
  datasetsByIds,
  datasetsOfFile,
  findDataset,
  listDatasets,
  type BadMarkRow,
  type DatasetOrder as OrderName,
  type DatasetRow,
} from './datasets.queries.ts';
import {
  BadMark,
  DatasetConnection,
  DatasetFilter,
  DatasetOrder,
  DatasetType,
  RunRange,
} from './datasets.schema.ts';

export async function loadDatasets(context: Context, ids: readonly number[]) {
  return inOrder(ids, await datasetsByIds(context.db.fork(), context.viewer, ids), (row) => row.id);
}

export async function loadBadMarks(context: Context, ids: readonly number[]) {
  return inOrder(ids, await badMarksOf(context.db.fork(), ids), (row) => row.datasetId);
}

@Resolver(() => DatasetType)
export class DatasetResolver {
  @Query(() => DatasetType, {
    nullable: true,
    description:
      'The dataset of this name; null = there is none that you see. DATASET_BAD with the reason, for a ' +
      'published one that has been marked bad.',
  })
  async dataset(
    @Ctx() { db, viewer }: Context,
    @Arg('name', () => String, { description: 'Its name.' }) name: string,
  ): Promise<DatasetRow | undefined> {
    return findDataset(db.fork(), viewer, name);
  }

  @Query(() => DatasetConnection, {
    description: 'Datasets; without status and isBad, those that are available.',
  })
  async datasets(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => DatasetFilter, { nullable: true, description: 'Which datasets.' })
    filter: DatasetFilter | null,
    @Arg('orderBy', () => DatasetOrder, { nullable: true, description: 'By name, if not given.' })
    orderBy: OrderName | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<DatasetRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(
      await listDatasets(db.fork(), viewer, filter ?? {}, orderBy ?? 'NAME', page),
    );
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() dataset: DatasetRow): string {
    return writeNodeId('Dataset', dataset.id);
  }

  @FieldResolver(() => BadMark, {
    nullable: true,
    description: 'Why users do not see it; none = it is not bad.',
  })
  async badMark(
    @Ctx() context: Context,
    @Root() dataset: DatasetRow,
  ): Promise<BadMarkRow | undefined> {
    return dataset.isBad ? context.load(loadBadMarks, dataset.id) : undefined;
  }

  @FieldResolver(() => RunRange, { nullable: true, description: 'First and last of its runs.' })
  runRange(@Root() { firstRun, lastRun }: DatasetRow): RunRange | null {
    return firstRun === null || lastRun === null ? null : { first: firstRun, last: lastRun };
  }

  @FieldResolver(() => FileConnection, { description: 'Its files, by LFN.' })
  async files(
    @Ctx() { db, viewer }: Context,
    @Root() dataset: DatasetRow,
    @Arg('filter', () => FileFilter, { nullable: true, description: 'Which files.' })
    filter: FileFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<FileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listFilesOfDataset(db.fork(), viewer, dataset, filter ?? {}, page));
  }

  @FieldResolver(() => EventConnection, {
    description: 'All that ever happened to it, oldest first.',
  })
  async history(
    @Ctx() { db, viewer, means }: Context,
    @Root() dataset: DatasetRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<EventRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const where = eventConditions(viewer, { datasetId: dataset.id });
    return toConnection(await listEvents(db.fork(), means.epoch, where, page));
  }
}

@Resolver(() => FileType)
export class FileDatasetsResolver {
  @FieldResolver(() => DatasetConnection, {
    description: 'The datasets that hold it, as far as you see them.',
  })
  async datasets(
    @Ctx() { db, viewer }: Context,
    @Root() file: FileRow,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<DatasetRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    const of = datasetsOfFile(file.id);
    return toConnection(await listDatasets(db.fork(), viewer, 'all', 'NAME', page, of));
  }
}

@Resolver(() => EventType)
export class EventDatasetResolver {
  @FieldResolver(() => DatasetType, {
    nullable: true,
    description: 'The dataset that it is about, if you see it.',
  })
  async dataset(@Ctx() context: Context, @Root() event: EventRow): Promise<DatasetRow | undefined> {
    return event.datasetId === null ? undefined : context.load(loadDatasets, event.datasetId);
  }
}

/** For `node(id)`. */
export async function findDatasetNode(context: Context, id: number) {
  const dataset = await context.load(loadDatasets, id);
  return dataset && { ...dataset, [nodeName]: 'Dataset' as const };
}
