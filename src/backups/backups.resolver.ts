import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { afterOptions, firstOptions, toConnection, type Connection } from '../api/connection.ts';
import { countOutcomes } from '../api/inputs.ts';
import { nodeName, writeNodeId } from '../api/node.ts';
import { checkedFirst, pageLimits } from '../database/page.ts';
import type { FileRow } from '../files/files.queries.ts';
import { loadFiles } from '../files/files.resolver.ts';
import { FileType } from '../files/files.schema.ts';
import {
  backupsByIds,
  backupsOfFiles,
  confirmedCopies,
  listBackups,
  policyStores,
  type BackupRow,
} from './backups.queries.ts';
import {
  BackupRecordConnection,
  BackupRecordFilter,
  BackupRecordType,
  BackupRequestResult,
  RequestBackupInput,
  RequestBackupPayload,
  UploadTarget,
} from './backups.schema.ts';
import { requestBackup, type BackupRequestOutcome } from './backups.service.ts';
import { listMassStores, type MassStoreRow } from './mass-stores.service.ts';
import { uploadKey } from '../storage/incoming.ts';

export async function loadBackups(context: Context, ids: readonly number[]) {
  return inOrder(ids, await backupsByIds(context.db.fork(), context.viewer, ids), (row) => row.id);
}

async function loadBackupsOfFiles(
  context: Context,
  ids: readonly number[],
): Promise<BackupRow[][]> {
  const found = await backupsOfFiles(context.db.fork(), context.viewer, ids);
  const byFile = Map.groupBy(found, (row) => row.fileId);
  return ids.map((id) => byFile.get(id) ?? []);
}

async function loadPolicyStores(context: Context, ids: readonly number[]): Promise<string[][]> {
  const found = await policyStores(context.db.fork(), ids);
  const byFile = new Map(found.map((row) => [row.fileId, row.stores]));
  return ids.map((id) => byFile.get(id) ?? []);
}

async function loadAccessUrls(context: Context, ids: readonly number[]) {
  const copies = await confirmedCopies(context.db.fork(), ids);
  const stores = new Map((await listMassStores(context.db)).map((row) => [row.id, row]));
  const byFile = new Map(copies.map((copy) => [copy.fileId, copy]));
  return ids.map((id) => {
    const copy = byFile.get(id);
    const row = copy && stores.get(copy.storeId);
    return row && context.means.stores.of(row).accessUrl(copy.storeKey);
  });
}

@Resolver(() => BackupRecordType)
export class BackupResolver {
  @Query(() => BackupRecordConnection, {
    description:
      'Backup records in the order in which they were asked for; with a filter on updatedAt, those that changed ' +
      'longest ago first. For producers and operators.',
  })
  async backupRecords(
    @Ctx() { db, viewer }: Context,
    @Arg('filter', () => BackupRecordFilter, { nullable: true, description: 'Which records.' })
    filter: BackupRecordFilter | null,
    @Arg('first', () => Int, firstOptions) first: number | null,
    @Arg('after', () => String, afterOptions) after: string | null,
  ): Promise<Connection<BackupRow>> {
    const page = { first: checkedFirst(first, pageLimits.others), after };
    return toConnection(await listBackups(db.fork(), viewer, filter ?? {}, page));
  }

  @FieldResolver(() => ID, { description: 'Opaque; the same for good.' })
  id(@Root() record: BackupRow): string {
    return writeNodeId('BackupRecord', record.id);
  }

  @FieldResolver(() => FileType, { nullable: true, description: 'The file, if you see it.' })
  async file(@Ctx() context: Context, @Root() record: BackupRow): Promise<FileRow | undefined> {
    return context.load(loadFiles, record.fileId);
  }

  @Mutation(() => RequestBackupPayload, {
    description:
      'Asks for a confirmed copy of each file; what FAILED is tried again. One answer for each. NOT_FOUND for an ' +
      'unknown file or store. For producers.',
  })
  async requestBackup(
    @Ctx() { db, viewer, means }: Context,
    @Arg('input', () => RequestBackupInput, { description: 'The files.' })
    input: RequestBackupInput,
  ) {
    const { lfns, store, direct, idempotencyKey } = input;
    const request = { lfns, store, direct };
    const results = await requestBackup(db, means.jobs, viewer, request, idempotencyKey);
    means.ring();
    const { registeredCount, existingCount, refusedCount } = countOutcomes(results);
    const stores = new Map((await listMassStores(db)).map((row) => [row.id, row]));
    const withTarget = results.map((item) => ({
      ...item,
      target: direct && item.storeId !== undefined ? stores.get(item.storeId) : undefined,
    }));
    return { results: withTarget, requestedCount: registeredCount, existingCount, refusedCount };
  }
}

@Resolver(() => BackupRequestResult)
export class BackupRequestResultResolver {
  @FieldResolver(() => BackupRecordType, {
    nullable: true,
    description: 'The record, unless it was refused.',
  })
  async record(
    @Ctx() context: Context,
    @Root() result: BackupRequestOutcome,
  ): Promise<BackupRow | undefined> {
    return result.backupId === undefined ? undefined : context.load(loadBackups, result.backupId);
  }

  @FieldResolver(() => UploadTarget, {
    nullable: true,
    description: 'Where to copy it, when direct was asked for.',
  })
  upload(
    @Ctx() { means }: Context,
    @Root() result: BackupRequestOutcome & { target?: MassStoreRow },
  ): UploadTarget | undefined {
    if (!result.target || result.backupId === undefined) return undefined;
    const store = means.stores.of(result.target);
    return { store: store.name, path: store.placeOf(uploadKey(result.backupId)) };
  }
}

@Resolver(() => FileType)
export class FileBackupsResolver {
  @FieldResolver(() => [BackupRecordType], {
    description: 'Its backup records; confirmed ones only, for who is no producer or operator.',
  })
  async backups(@Ctx() context: Context, @Root() file: FileRow): Promise<BackupRow[]> {
    return context.load(loadBackupsOfFiles, file.id);
  }

  @FieldResolver(() => [String], {
    description:
      'The mass stores in which its backup policy wants a confirmed copy, by name; empty: no policy binds it, and ' +
      'one copy in any of them is enough. For who may read backups; empty for others.',
  })
  async owedStores(@Ctx() context: Context, @Root() file: FileRow): Promise<string[]> {
    return context.load(loadPolicyStores, file.id);
  }

  @FieldResolver(() => String, {
    nullable: true,
    description: 'What a job opens: the confirmed copy.',
  })
  async accessUrl(@Ctx() context: Context, @Root() file: FileRow): Promise<string | undefined> {
    return file.isBackedUp ? context.load(loadAccessUrls, file.id) : undefined;
  }
}

/** For `node(id)`. */
export async function findBackupNode(context: Context, id: number) {
  const record = await context.load(loadBackups, id);
  return record && { ...record, [nodeName]: 'BackupRecord' as const };
}
