import { demand, type Viewer } from '../access/policy.ts';
import {
  claimBackup,
  confirmedInTransaction,
  failAttempt,
  recordCopied,
  renewLeases,
  type Claim,
} from '../backups/attempts.service.ts';
import { askingOf, levelOf } from '../backups/backups.rules.ts';
import { requestInTransaction, storeOfCopy } from '../backups/backups.service.ts';
import { awaitTape } from '../backups/tape.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction, postgresCode } from '../database/transaction.ts';
import { badInput, messageOf, SweepbookError } from '../errors.ts';
import { filesByLfn } from '../files/files.service.ts';
import type { ConfirmLevel, Evidence, MassStore, StoreAnswer } from '../storage/contract.ts';
import { askAndJudge, type Asking } from '../storage/judge.ts';
import type { OpenStores } from '../storage/open.ts';
import { advanceInTransaction } from './sweeps.service.ts';
import { isTemporary, uploadKey } from '../storage/incoming.ts';

/**
 * Records a confirmation, and moves on the sweeps that waited for it: one transaction, whichever
 * road the copy took. The answer must have been judged; the database compares it again.
 */
export async function confirmBackup(
  db: Db,
  claim: Claim,
  storeKey: string,
  answer: StoreAnswer,
  level: ConfirmLevel,
): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    // Datasets before files, as everywhere, so that nobody waits in a circle.
    await rows(
      tx,
      sql`select d.id from datasets d where d.id in (
        select dataset_id from dataset_files where file_id = ${claim.fileId}) order by d.id for no key update`,
    );
    await confirmedInTransaction(tx, claim, storeKey, answer, level).catch((error: unknown) => {
      throw postgresCode(error) === '23505' ? keyTaken(claim, storeKey) : error;
    });
    const holding = await rows(
      tx,
      sql<{
        id: number;
      }>`select dataset_id as id from dataset_files where file_id = ${claim.fileId}`,
    );
    await advanceInTransaction(
      tx,
      holding.map((row) => row.id),
    );
  });
}

/** The copy is right where it is: confirmed, or left to wait until its store says that tape has it. */
export async function settleCopy(
  db: Db,
  claim: Claim,
  storeKey: string,
  answer: StoreAnswer,
  asking: Asking,
): Promise<'CONFIRMED' | 'AWAITS_TAPE'> {
  if (claim.policy.confirmLevel !== 'ARCHIVED') {
    await confirmBackup(db, claim, storeKey, answer, levelOf(asking));
    return 'CONFIRMED';
  }
  await awaitTape(db, claim, storeKey, answer);
  return 'AWAITS_TAPE';
}

function keyTaken(claim: Claim, storeKey: string): SweepbookError {
  return new SweepbookError(
    'DUPLICATE',
    `${claim.lfn}: ${storeKey} is the backup of another file already; a stored file counts once`,
    { lfn: claim.lfn, storeKey },
  );
}

export interface RecordBackup {
  readonly lfn: string;
  readonly store?: string | null | undefined;
  /** Where the producer put it, as a path or as the key in the store. */
  readonly path: string;
}

export interface Confirming {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
}

/**
 * A copy that was made elsewhere: the store is asked before it is believed. CHECKSUM_MISMATCH or
 * NOT_CONFIRMED leave the record FAILED with the evidence; told again when confirmed is no change.
 */
export async function recordBackup(
  means: Confirming,
  viewer: Viewer,
  input: RecordBackup,
): Promise<{ backupId: number; changed: boolean }> {
  demand(viewer, 'backUp');
  const row = await storeOfCopy(means.db, viewer, input.lfn, input.store);
  const store = means.stores.of(row);
  const record = await ensureRecord(means, viewer, input.lfn, row.id);
  if (record.status === 'CONFIRMED' || record.awaitsTape) {
    return { backupId: record.id, changed: false };
  }
  const key = await keyOfCopy(store, record.id, input);
  const answer = await claimBackup(means.db, record.id, viewer.principal, means.leaseSeconds, true);
  if (answer.kind !== 'claimed') {
    if (answer.kind === 'nothing to do') return recordBackup(means, viewer, input);
    throw new SweepbookError(
      'UNAVAILABLE',
      `${input.lfn} is being copied by somebody else right now: wait for it, or report again later`,
      { lfn: input.lfn, at: answer.at },
    );
  }
  await confirmCopy(means, store, answer.claim, key);
  return { backupId: record.id, changed: true };
}

async function ensureRecord(
  { db, jobs }: Confirming,
  viewer: Viewer,
  lfn: string,
  storeId: number,
): Promise<{ id: number; status: string; awaitsTape: boolean }> {
  await jobs.prepare(storeId);
  return inTransaction(db, viewer, async (tx) => {
    const [file] = await filesByLfn(tx, viewer, [lfn]);
    // A worker has no business with it unless the producer falls silent.
    const startAt = new Date(Date.now() + 3_600_000);
    await requestInTransaction(tx, jobs, [file?.id ?? 0], storeId, startAt);
    const record = await firstRow(
      tx,
      sql<{ id: number; status: string; awaitsTape: boolean }>`
      select id, status, awaits_tape_since is not null as "awaitsTape" from backup_records where file_id = ${file?.id ?? 0} and store_id = ${storeId}`,
    );
    if (!record) throw new Error(`no backup record of ${lfn}`);
    return record;
  });
}

async function keyOfCopy(store: MassStore, backupId: number, input: RecordBackup): Promise<string> {
  const upload = uploadKey(backupId);
  const isUpload = input.path === upload || input.path === store.placeOf(upload);
  const final = store.finalKey(input.lfn);
  // Reported before, published, and the server died before it could say so.
  if (
    isUpload &&
    (await store.sizeOf(upload)) === undefined &&
    (await store.sizeOf(final)) !== undefined
  ) {
    return final;
  }
  const key = await store.keyOf(input.path);
  if (isTemporary(key) && key !== upload) {
    throw badInput('path', input.path, `the copy of ${input.lfn} goes to ${store.placeOf(upload)}`);
  }
  return key;
}

/** Asks, judges, publishes, records; the lease is kept up meanwhile. */
async function confirmCopy(
  means: Confirming,
  store: MassStore,
  claim: Claim,
  key: string,
): Promise<void> {
  const { db, jobs, leaseSeconds, retryBaseMs } = means;
  const renewal = setInterval(
    () => void renewLeases(db, [claim], leaseSeconds).catch(() => undefined),
    (leaseSeconds * 1000) / 3,
  );
  try {
    const asking = askingOf(claim.policy);
    const ask = async (where: string) => {
      const { answer, doubt } = await askAndJudge(store, where, claim.expected, asking);
      if (doubt) throw doubt;
      return answer;
    };
    let answer = await ask(key);
    const finalKey = isTemporary(key) ? store.finalKey(claim.lfn) : key;
    if (finalKey !== key) {
      await store.publish(key, finalKey);
      if (store.features.publishCopies) answer = await ask(finalKey);
    }
    await recordCopied(db, claim, finalKey, leaseSeconds);
    await settleCopy(db, claim, finalKey, answer, asking);
  } catch (error) {
    const refusal =
      error instanceof SweepbookError ? error : new SweepbookError('INTERNAL', messageOf(error));
    if (refusal.code !== 'LEASE_LOST') {
      await failAttempt(
        db,
        jobs,
        claim,
        {
          code: refusal.code,
          message: refusal.message,
          evidence: refusal.facts['evidence'] as Evidence | undefined,
          isFinal: ['CHECKSUM_MISMATCH', 'NOT_CONFIRMED', 'DUPLICATE'].includes(refusal.code),
        },
        retryBaseMs,
      );
    }
    throw error;
  } finally {
    clearInterval(renewal);
  }
}
