import { basename, resolve } from 'node:path';
import { isInGroup } from '../access/groups.queries.ts';
import { demand, may, type Viewer } from '../access/policy.ts';
import { getMassStore } from '../backups/mass-stores.service.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction, postgresCode } from '../database/transaction.ts';
import { checkDatasetName } from '../datasets/datasets.rules.ts';
import { badInput, SweepbookError } from '../errors.ts';
import {
  demandPublishing,
  liesBelow,
  rootsOf,
  type PublishSettings,
} from '../storage/publish-settings.ts';
import { demandQuota } from './quotas.service.ts';
import { isKept, isLine } from '../text.ts';

export interface PublicationInput {
  readonly path: string;
  readonly name?: string | null | undefined;
  readonly sizeBytes?: number | null | undefined;
  readonly eventCount?: number | null | undefined;
}

export interface RequestPublication {
  readonly name: string;
  readonly description: string;
  readonly files: readonly PublicationInput[];
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly treeName?: string | null | undefined;
  readonly group?: string | null | undefined;
  readonly store?: string | null | undefined;
  readonly compositeBytes?: number | null | undefined;
}

export interface PublicationChange {
  readonly publicationId: number;
  readonly changed: boolean;
}

interface Named {
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
}

export const mostFilesPerPublication = 10_000;
const longestName = 4096;
const leastComposite = 1000;

/** The files as they will be called: below the folders that the user may publish from, each once. */
function nameFiles(roots: readonly string[], files: readonly PublicationInput[]): Named[] {
  if (files.length === 0 || files.length > mostFilesPerPublication) {
    throw badInput('files', files.length, `1 to ${mostFilesPerPublication} files in one request`);
  }
  const byName = new Map<string, string>();
  const byPath = new Set<string>();
  return files.map(({ path, name, sizeBytes, eventCount }) => {
    if (!path.startsWith('/') || path.includes('\0') || !path.isWellFormed()) {
      throw badInput('path', path, 'must be an absolute path');
    }
    if (Buffer.byteLength(path) > longestName) throw badInput('path', path, 'at most 4096 bytes');
    const whole = resolve(path);
    if (!liesBelow(roots, whole)) {
      throw new SweepbookError(
        'SOURCE_NOT_ALLOWED',
        `${path}: what may be published lies below ${roots.join(', ') || 'no folder that is yours'}`,
        { path, roots },
      );
    }
    const called = name ?? basename(whole);
    checkMemberName(called);
    const other = byName.get(called);
    if (other !== undefined || byPath.has(whole)) {
      throw new SweepbookError(
        'DUPLICATE',
        other === undefined || other === whole
          ? `${path} stands twice in the request`
          : `${path} and ${other} would both be called ${called}: rename one, or name their folder`,
        { path, name: called },
      );
    }
    byName.set(called, whole);
    byPath.add(whole);
    for (const [field, count] of Object.entries({ sizeBytes, eventCount })) {
      if (count != null && (!Number.isSafeInteger(count) || count < 0)) {
        throw badInput(field, count, 'a count from 0 to 2^53−1');
      }
    }
    return { path: whole, name: called, sizeBytes: sizeBytes ?? 0, eventCount: eventCount ?? null };
  });
}

/** What an archive can hold without leading anywhere when it is unpacked; otherwise any name is good. */
function checkMemberName(name: string): void {
  const parts = name.split('/');
  const isGood =
    name.isWellFormed() &&
    !name.includes('\0') &&
    Buffer.byteLength(name) <= longestName &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (!isGood) throw badInput('name', name, 'a relative path without "." and "..", in UTF-8');
}

function checkRequest(input: RequestPublication): void {
  checkDatasetName(input.name);
  for (const [field, text, longest] of [
    ['description', input.description, 10_000],
    ['stream', input.stream, 200],
    ['release', input.release, 200],
    ['treeName', input.treeName, 200],
    ['group', input.group, 128],
  ] as const) {
    const isGood = field === 'description' ? isKept : isLine;
    if (text != null && (text.trim() === '' || text.length > longest || !isGood(text))) {
      throw badInput(field, text, `1 to ${longest} printable characters`);
    }
  }
  const { compositeBytes } = input;
  if (
    compositeBytes != null &&
    !(Number.isSafeInteger(compositeBytes) && compositeBytes >= leastComposite)
  ) {
    throw badInput('compositeBytes', compositeBytes, `at least ${leastComposite} bytes`);
  }
}

/**
 * Takes a wish to publish files: they are checked, merged, backed up and published by workers. The same request again,
 * while it is under way, is no second one. SOURCE_NOT_ALLOWED, DUPLICATE, QUOTA_EXCEEDED, BAD_USER_INPUT.
 */
export async function requestPublication(
  means: {
    readonly db: Db;
    readonly jobs: JobQueue;
    readonly publish: PublishSettings | undefined;
  },
  viewer: Viewer,
  input: RequestPublication,
  idempotencyKey?: string | null,
): Promise<PublicationChange> {
  demand(viewer, 'publish');
  const settings = demandPublishing(means.publish);
  checkRequest(input);
  const files = nameFiles(rootsOf(settings, viewer.principal), input.files);
  const store = await getMassStore(means.db, input.store);
  await means.jobs.prepare(store.id);
  const call = {
    principal: viewer.principal,
    operation: 'requestPublication',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(means.db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const running = await sameUnderWay(tx, viewer, input.name, files);
      if (running !== undefined) return { publicationId: running, changed: false };
      const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
      if (input.group != null) await demandMember(tx, viewer, input.group);
      await demandQuota(
        tx,
        settings,
        input.group == null
          ? { kind: 'USER', name: viewer.principal }
          : { kind: 'GROUP', name: input.group },
        { files: files.length, bytes },
      );
      const id = await write(tx, input, files, { bytes, settings, storeId: store.id });
      if (settings.approval && !may(viewer, 'managePublishing')) {
        await rows(tx, sql`update publications set status = 'AWAITING_APPROVAL' where id = ${id}`);
      }
      return { publicationId: id, changed: true };
    }),
  );
}

async function demandMember(tx: Db, viewer: Viewer, group: string): Promise<void> {
  if (await isInGroup(tx, viewer, group)) return;
  throw new SweepbookError('FORBIDDEN', `${viewer.principal} is not in a group ${group}`, {
    group,
  });
}

const taken = (name: string) =>
  new SweepbookError('DUPLICATE', `the name ${name} is taken: choose another one`, {
    dataset: name,
  });

/** The running publication of this name, if it is the viewer's and of the same files. */
async function sameUnderWay(
  tx: Db,
  viewer: Viewer,
  name: string,
  files: readonly Named[],
): Promise<number | undefined> {
  const row = await firstRow(
    tx,
    sql<{ id: number; isSame: boolean }>`
    select p.id, p.requested_by = ${viewer.principal} and p.file_count = ${files.length} and not exists (
        select from publication_files f where f.publication_id = p.id and not exists (
          select from unnest(${files.map((file) => file.path)}::text[], ${files.map((file) => file.name)}::text[])
            as t (path, name) where t.path = f.path and t.name = f.name)) as "isSame"
    from publications p where p.dataset_name = ${name} and p.finished_at is null for no key update`,
  );
  if (row?.isSame) return row.id;
  if (row || (await firstRow(tx, sql`select 1 from datasets where name = ${name}`)))
    throw taken(name);
  return undefined;
}

async function write(
  tx: Db,
  input: RequestPublication,
  files: readonly Named[],
  { bytes, settings, storeId }: { bytes: number; settings: PublishSettings; storeId: number },
): Promise<number> {
  const made = await firstRow(
    tx,
    sql<{ id: number }>`
    insert into publications (dataset_name, charged_group, description, stream, release, tree_name, store_id,
      merge_tool, wanted_bytes, file_count, size_bytes)
    values (${input.name}, ${input.group ?? null}, ${input.description}, ${input.stream ?? null},
      ${input.release ?? null}, ${input.treeName ?? null}, ${storeId}, ${settings.merge ? 'COMMAND' : 'TAR'},
      ${input.compositeBytes ?? settings.compositeBytes}, ${files.length}, ${bytes}) returning id`,
  ).catch((error: unknown) => {
    throw postgresCode(error) === '23505' ? taken(input.name) : error;
  });
  const id = made?.id ?? 0;
  // In the order of their names: it is that of the members, and of the composites.
  const sorted = files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  await rows(
    tx,
    sql`insert into publication_files (publication_id, path, name, told_events)
      select ${id}::bigint, t.* from unnest(${sorted.map((file) => file.path)}::text[],
        ${sorted.map((file) => file.name)}::text[], ${sorted.map((file) => file.eventCount)}::bigint[]) as t`,
  );
  return id;
}
