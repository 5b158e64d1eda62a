import { demand, type Viewer } from '../access/policy.ts';
import { visibleDataset } from '../access/visibility.ts';
import { onceForKey } from '../database/idempotency.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { filesByLfn, mostFilesPerCall } from '../files/files.service.ts';
import {
  checkDatasetName,
  close,
  demandChangeable,
  demandReason,
  expectVersion,
  markBackedUp,
  type DatasetKind,
  type DatasetState,
  type DatasetStatus,
} from './datasets.rules.ts';
import { isKept, isLine } from '../text.ts';

export interface LockedDataset extends DatasetState {
  readonly id: number;
  readonly owner: string;
  readonly kind: DatasetKind;
  readonly badMarkCount: number;
}

export interface DatasetChange {
  readonly datasetId: number;
  readonly changed: boolean;
  /** Files added or removed, marks set or cleared; 1 for a transition. */
  readonly changedCount: number;
}

/** The dataset row, locked: every change of a dataset queues here. */
export async function lockDataset(tx: Db, viewer: Viewer, name: string): Promise<LockedDataset> {
  // Whatever the name: who shows no token is told so, and learns nothing of what is there.
  if (viewer.roles.includes('ANONYMOUS')) demand(viewer, 'changeDataset');
  const dataset = await firstRow(
    tx,
    sql<LockedDataset & { isSeen: boolean }>`
    select ${visibleDataset(viewer)} as "isSeen", d.id, d.name, d.status, d.sealed, d.owner, d.kind, d.backup_waived as "backupWaived",
      d.file_count as "fileCount", d.confirmed_count as "confirmedCount", d.version,
      d.bad_mark_count as "badMarkCount"
    from datasets d where d.name = ${name} for no key update`,
  );
  // To who may not see it, a dataset that is not closed does not exist.
  if (!dataset?.isSeen) {
    throw new SweepbookError(
      'NOT_FOUND',
      `no dataset ${name}: look at "dataset list", names are case-sensitive`,
      { dataset: name },
    );
  }
  return dataset;
}

export interface CreateDataset {
  readonly name: string;
  readonly kind: DatasetKind;
  readonly owner?: string | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly treeName?: string | null | undefined;
  readonly description?: string | null | undefined;
  readonly backupWaived: boolean;
  readonly waiverReason?: string | null | undefined;
  readonly files?: readonly string[] | null | undefined;
}

function checkCreation(viewer: Viewer, input: CreateDataset): void {
  demand(viewer, 'createDataset');
  if (input.owner != null && input.owner !== viewer.principal) demand(viewer, 'createForOthers');
  if (input.backupWaived) {
    demand(viewer, 'waiveBackup');
    demandReason(input.waiverReason);
  } else if (input.waiverReason != null) {
    throw badInput('waiverReason', input.waiverReason, 'goes with backupWaived: true');
  }
  checkDatasetName(input.name);
  for (const [field, text, longest] of [
    ['owner', input.owner, 128],
    ['stream', input.stream, 200],
    ['release', input.release, 200],
    ['treeName', input.treeName, 200],
    ['description', input.description, 10_000],
  ] as const) {
    const isGood = field === 'description' ? isKept : isLine;
    if (text != null && (text === '' || text.length > longest || !isGood(text))) {
      throw badInput(field, text, `1 to ${longest} printable characters`);
    }
  }
}

/** Creates an OPEN dataset, with its first files if they are given. DUPLICATE when the name is taken. */
export async function createDataset(
  db: Db,
  viewer: Viewer,
  input: CreateDataset,
  idempotencyKey?: string | null,
): Promise<DatasetChange> {
  checkCreation(viewer, input);
  const call = {
    principal: viewer.principal,
    operation: 'createDataset',
    key: idempotencyKey,
    request: input,
  };
  return inTransaction(db, viewer, (tx) =>
    onceForKey(tx, call, async () => {
      const made = await firstRow(
        tx,
        sql<{ id: number }>`
        insert into datasets (name, kind, owner, stream, release, tree_name, description, backup_waived, waiver_reason)
        values (${input.name}, ${input.kind}, ${input.owner ?? viewer.principal}, ${input.stream ?? null},
          ${input.release ?? null}, ${input.treeName ?? null}, ${input.description ?? null},
          ${input.backupWaived}, ${input.waiverReason?.trim() ?? null})
        on conflict (name) do nothing returning id`,
      );
      if (!made) {
        throw new SweepbookError(
          'DUPLICATE',
          `the name ${input.name} is taken: choose another one, or add files to it if it is yours`,
          { dataset: input.name },
        );
      }
      if (input.files?.length) await addFiles(tx, viewer, made.id, input.files);
      return { datasetId: made.id, changed: true, changedCount: 1 };
    }),
  );
}

async function addFiles(
  tx: Db,
  viewer: Viewer,
  datasetId: number,
  lfns: readonly string[],
): Promise<number> {
  if (lfns.length > mostFilesPerCall) {
    throw badInput('lfns', lfns.length, `at most ${mostFilesPerCall} files in one call`);
  }
  const files = await filesByLfn(tx, viewer, lfns);
  const unmerged = files.filter((file) => file.kind !== 'MERGED_FILE');
  if (unmerged.length > 0) {
    throw new SweepbookError(
      'NOT_MERGED',
      `${unmerged.length} of ${files.length} are run files, ${unmerged[0]?.lfn} for one: ` +
        'a dataset holds merged files; merge them and record the merge first',
      { count: unmerged.length, first: unmerged.slice(0, 20).map((file) => file.lfn) },
    );
  }
  return changedRows(
    tx,
    sql`insert into dataset_files (dataset_id, file_id, lfn)
      select ${datasetId}::bigint, * from unnest(${files.map((file) => file.id)}::bigint[],
        ${files.map((file) => file.lfn)}::text[])
      on conflict do nothing returning file_id`,
  );
}

export interface DatasetFilesChange {
  readonly dataset: string;
  readonly lfns: readonly string[];
  readonly expectedVersion?: number | null | undefined;
}

/** Adds merged files; those that are in already stay. All or nothing. */
export async function addFilesToDataset(
  db: Db,
  viewer: Viewer,
  input: DatasetFilesChange,
): Promise<DatasetChange> {
  return changeFiles(db, viewer, input, (tx, dataset) =>
    addFiles(tx, viewer, dataset.id, input.lfns),
  );
}

/** Removes files; those that are not in stay out. All or nothing. */
export async function removeFilesFromDataset(
  db: Db,
  viewer: Viewer,
  input: DatasetFilesChange,
): Promise<DatasetChange> {
  if (input.lfns.length > mostFilesPerCall) {
    throw badInput('lfns', input.lfns.length, `at most ${mostFilesPerCall} files in one call`);
  }
  return changeFiles(db, viewer, input, async (tx, dataset) => {
    const files = await filesByLfn(tx, viewer, input.lfns);
    return changedRows(
      tx,
      sql`delete from dataset_files where dataset_id = ${dataset.id}
        and file_id = any (${files.map((file) => file.id)}::bigint[]) returning file_id`,
    );
  });
}

async function changeFiles(
  db: Db,
  viewer: Viewer,
  input: DatasetFilesChange,
  change: (tx: Db, dataset: LockedDataset) => Promise<number>,
): Promise<DatasetChange> {
  return inTransaction(db, viewer, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'changeDataset', dataset.owner);
    expectVersion(dataset, input.expectedVersion);
    demandChangeable(dataset);
    const changedCount = input.lfns.length === 0 ? 0 : await change(tx, dataset);
    return { datasetId: dataset.id, changed: changedCount > 0, changedCount };
  });
}

export interface DatasetTransition {
  readonly dataset: string;
  readonly reason?: string | null | undefined;
  readonly expectedVersion?: number | null | undefined;
}

/** Takes the step in the transaction of the caller; the guard stands in the statement itself. */
export async function moveDataset(
  tx: Db,
  dataset: DatasetState & { id: number },
  to: DatasetStatus,
): Promise<void> {
  const moved = await changedRows(
    tx,
    sql`update datasets set status = ${to}, sealed = false
      where id = ${dataset.id} and status = ${dataset.status} returning id`,
  );
  if (moved !== 1) throw new Error(`dataset ${dataset.name} moved although it was locked`);
}

/** OPEN → BACKED_UP. */
export async function markDatasetBackedUp(
  db: Db,
  viewer: Viewer,
  input: DatasetTransition,
): Promise<DatasetChange> {
  return transition(db, viewer, input, markBackedUp);
}

/** BACKED_UP → CLOSED, or OPEN → CLOSED where the backup is waived. */
export async function closeDataset(
  db: Db,
  viewer: Viewer,
  input: DatasetTransition,
): Promise<DatasetChange> {
  return transition(db, viewer, input, close);
}

async function transition(
  db: Db,
  viewer: Viewer,
  input: DatasetTransition,
  decide: (dataset: DatasetState) => { kind: 'done' } | { kind: 'move'; to: DatasetStatus },
): Promise<DatasetChange> {
  const actor = { principal: viewer.principal, reason: input.reason?.trim() };
  return inTransaction(db, actor, async (tx) => {
    const dataset = await lockDataset(tx, viewer, input.dataset);
    demand(viewer, 'changeDataset', dataset.owner);
    const decision = await withMissingFiles(tx, dataset, decide);
    if (decision.kind === 'done') {
      return { datasetId: dataset.id, changed: false, changedCount: 0 };
    }
    expectVersion(dataset, input.expectedVersion);
    demandUnsealed(dataset);
    await moveDataset(tx, dataset, decision.to);
    return { datasetId: dataset.id, changed: true, changedCount: 1 };
  });
}

function demandUnsealed(dataset: DatasetState): void {
  if (dataset.sealed) demandChangeable(dataset);
}

/** FILES_NOT_BACKED_UP says which: the first 20 names. */
async function withMissingFiles<T>(
  tx: Db,
  dataset: LockedDataset,
  decide: (dataset: DatasetState) => T,
): Promise<T> {
  try {
    return decide(dataset);
  } catch (error) {
    if (!(error instanceof SweepbookError) || error.code !== 'FILES_NOT_BACKED_UP') throw error;
    const missing = await rows(
      tx,
      sql<{ lfn: string }>`
      select f.lfn from dataset_files df join files f on f.id = df.file_id
      where df.dataset_id = ${dataset.id} and f.missing_copies > 0 order by f.lfn limit 20`,
    );
    throw new SweepbookError(error.code, error.message, {
      ...error.facts,
      first: missing.map((file) => file.lfn),
    });
  }
}
