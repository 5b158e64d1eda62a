import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { demand } from '../access/policy.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { inOrder, type Context } from '../api/context.ts';
import { nodeName, readNodeId, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { DatasetRow } from '../datasets/datasets.queries.ts';
import { loadDatasets } from '../datasets/datasets.resolver.ts';
import { DatasetType } from '../datasets/datasets.schema.ts';
import { badInput } from '../errors.ts';
import { importDataset } from './import-dataset.service.ts';
import {
  importsByIds,
  listImportFiles,
  listImports,
  originRows,
  progressOfImports,
  type ImportFileRow,
  type ImportRow,
} from './imports.queries.ts';
import type { ImportFileStatus as FileStatusName } from './imports.rules.ts';
import {
  CancelImportInput,
  DatasetOrigin,
  ImportConnection,
  ImportDatasetInput,
  ImportDatasetPayload,
  ImportFileConnection,
  ImportFileStatus,
  ImportFilter,
  ImportPayload,
  ImportProgress,
  ImportType,
} from './imports.schema.ts';
import { cancelImport, retryImport, type ImportChange } from './imports.service.ts';

export async function loadImports(context: Context, ids: readonly number[]) {
  return inOrder(ids, await importsByIds(context.db.fork(), context.viewer, ids), (row) => row.id);
}

async function loadProgress(context: Context, ids: readonly number[]) {
  return inOrder(ids, await progressOfImports(context.db.fork(), ids), (row) => row.importId);
}

async function loadOrigins(context: Context, ids: readonly number[]) {
  return inOrder(ids, await originRows(context.db.fork(), ids), (row) => row.datasetId);
}

/** The number of an import, as people (7) or programs (its node id) name it. */
export function importIdOf(given: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  const key = readNodeId(given);
  if (key?.name === 'Import') return key.id;
  throw badInput('import', given, 'the number or the id of an import: look at "import list"');
}

/** For `node(id)`. */
export async function findImportNode(context: Context, id: number) {
  const found = await context.load(loadImports, id);
  return found && { ...found, [nodeName]: 'Import' as const };
}

/** An import beside how its files come along. */
export async function withProgress(context: Context, row: ImportRow): Promise<ImportProgress> {
  const progress = await context.load(loadProgress, row.id);
  const { status, fileCount, sizeBytes } = row;
  const none = {
    waiting: 0,
    fetching: 0,
    backingUp: 0,
    safe: 0,
    failed: 0,
    fetchedBytes: 0,
    lastError: null,
  };
  return { status, fileCount, sizeBytes, ...(progress ?? none) };
}

async function answer(context: Context, { importId, changed }: ImportChange) {
  if (changed) context.means.ring();
  return { import: await context.load(loadImports, importId), changed };
}

@Resolver(() => ImportType)
export class ImportResolver {
  @Query(() => ImportType, {
    nullable: true,
    description: 'The import of this id or number; null = none that you see.',
  })
  async import(
    @Ctx() context: Context,
    @Arg('id', () => ID, { description: 'Its id, or its number.' }) id: string,
  ): Promise<ImportRow | undefined> {
    return context.load(loadImports, importIdOf(id));
  }

  @Query(() => ImportConnection, {
    description: 'Imports, the last one first; to an importer his own.',
  })
  async imports(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => ImportFilter, { nullable: true, description: 'Which imports.' })
    filter: ImportFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<ImportRow>> {
    demand(viewer, 'readImports', viewer.principal);
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listImports(db.fork(), viewer, filter ?? {}, page));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() row: ImportRow): string {
    return writeNodeId('Import', row.id);
  }

  @FieldResolver(() => Int, { description: 'Its number, as people call it.' })
  number(@Root() row: ImportRow): number {
    return row.id;
  }

  @FieldResolver(() => ImportProgress, { description: 'How its files come along.' })
  async progress(@Ctx() context: Context, @Root() row: ImportRow): Promise<ImportProgress> {
    return withProgress(context, row);
  }

  @FieldResolver(() => ImportFileConnection, { description: 'Its files, by LFN.' })
  async files(
    @Ctx() { db }: Context,
    @Root() row: ImportRow,
    @Arg('status', () => [ImportFileStatus], { nullable: true, description: 'One of these.' })
    status: FileStatusName[] | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<ImportFileRow>> {
    const page = { first: checkedFirst(first, pageLimits.files), after };
    return toConnection(await listImportFiles(db.fork(), row.id, status, page));
  }

  @FieldResolver(() => DatasetType, {
    nullable: true,
    description: 'What it became; null = it is not entered, or you do not see it.',
  })
  async dataset(@Ctx() context: Context, @Root() row: ImportRow): Promise<DatasetRow | undefined> {
    return row.datasetId === null ? undefined : context.load(loadDatasets, row.datasetId);
  }
}

@Resolver(() => DatasetType)
export class DatasetOriginResolver {
  @FieldResolver(() => DatasetOrigin, {
    nullable: true,
    description: 'Where it was imported from; null = it was made here.',
  })
  async origin(
    @Ctx() context: Context,
    @Root() dataset: DatasetRow,
  ): Promise<DatasetOrigin | null> {
    const row = await context.load(loadOrigins, dataset.id);
    if (!row) return null;
    const { site, exportedAt, dataset: there } = row.origin;
    return {
      site,
      dataset: there.name,
      id: there.id,
      kind: there.kind,
      owner: there.owner,
      closedAt: new Date(there.closedAt),
      exportedAt: new Date(exportedAt),
      enteredAt: row.enteredAt,
      importedBy: row.requestedBy,
      sites: [...there.origins.map((origin) => origin.site), site],
      manifestSha256: row.manifestSha256,
      signedBy: row.signedBy,
    };
  }
}

@Resolver()
export class ImportMutations {
  @Mutation(() => ImportDatasetPayload, {
    description:
      'Imports a dataset from the server of another site: asks it for the manifest, checks that, fetches and verifies ' +
      'the files in the background, backs them up and enters the dataset, closed. Asked again it is no second import. ' +
      'A manifest by hand goes to POST /imports. NOT_FOUND, SOURCE_NOT_ALLOWED (the site, an address, the signature), DUPLICATE ' +
      '(what contradicts, with the line), CHECKSUM_MISMATCH, UNAVAILABLE. For importers.',
  })
  async importDataset(
    @Ctx() context: Context,
    @Arg('input', () => ImportDatasetInput, { description: 'From where, and what.' })
    { name, store, ...input }: ImportDatasetInput,
  ) {
    const { means, viewer } = context;
    const received = await importDataset(means, viewer, {
      ...input,
      name: name ?? undefined,
      store: store ?? undefined,
    });
    if (received.changed) means.ring();
    const { files, runs } = received;
    return {
      ...received,
      import: received.import === null ? null : await context.load(loadImports, received.import),
      newFileCount: files.newCount,
      newBytes: files.newBytes,
      hereFileCount: files.hereCount,
      newRunCount: runs.newCount,
      hereRunCount: runs.hereCount,
      filledRunCount: runs.filledCount,
      otherVerdictCount: runs.otherVerdictCount,
    };
  }

  @Mutation(() => ImportPayload, {
    description:
      'Calls an import off: nothing of it is entered, and what it alone brought is removed from disk and from the ' +
      'mass stores. NOT_FOUND, ILLEGAL_TRANSITION (entered). For importers (their own) and operators.',
  })
  async cancelImport(
    @Ctx() context: Context,
    @Arg('input', () => CancelImportInput, { description: 'Which one, and why.' })
    input: CancelImportInput,
  ) {
    const { db, viewer } = context;
    return answer(context, await cancelImport(db, viewer, importIdOf(input.import), input.reason));
  }

  @Mutation(() => ImportPayload, {
    description:
      'Tries again what FAILED, and at once what waits for its next attempt. NOT_FOUND, ILLEGAL_TRANSITION (entered, ' +
      'cancelled). For importers (their own) and operators.',
  })
  async retryImport(
    @Ctx() context: Context,
    @Arg('import', () => ID, { description: 'Its number or id.' }) id: string,
  ) {
    const { db, viewer } = context;
    return answer(context, await retryImport(db, viewer, importIdOf(id)));
  }
}
