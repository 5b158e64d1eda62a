import { failAttempt } from '../backups/attempts.service.ts';
import { takeAwaitingTape, type AwaitingTape } from '../backups/tape.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import type { MassStore, ResidencyAnswer } from '../storage/contract.ts';
import { confirmBackup } from '../sweeps/confirmations.service.ts';
import type { WorkerLog } from './log.ts';

export interface TapeLook {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly log: WorkerLog;
  readonly worker: string;
  readonly retryBaseMs: number;
  readonly storeId: number;
  readonly store: MassStore;
}

/**
 * Asks a store, in one question, which of the copies that wait for tape are there: those are confirmed. What the
 * store calls lost, or will not archive, has failed; whatever else it says, or does not say, is asked again later.
 * Returns how many records took a step.
 */
export async function lookAtTape(look: TapeLook): Promise<number> {
  const due = await takeAwaitingTape(look.db, look.storeId, look.worker);
  if (due.length === 0) return 0;
  const said = await look.store.residencyOf(due.map((item) => item.storeKey));
  let moved = 0;
  for (const item of due) {
    const answer = said.get(item.storeKey);
    if (!answer) continue;
    try {
      if (await settle(look, item, answer)) moved++;
    } catch (error) {
      // It is looked at again: nothing is lost but time.
      const facts = { lfn: item.claim.lfn, store: look.store.name, error: messageOf(error) };
      look.log.warn(facts, 'tape: could not be recorded');
    }
  }
  return moved;
}

async function settle(
  { db, jobs, log, retryBaseMs, store }: TapeLook,
  { claim, storeKey, copied }: AwaitingTape,
  { residency, refusal, evidence }: ResidencyAnswer,
): Promise<boolean> {
  const facts = { lfn: claim.lfn, store: store.name, residency };
  const both = {
    ...evidence,
    asked: `${evidence.asked}; before: ${copied.evidence.asked}`,
    answer: `${evidence.answer.slice(0, 4000)}\nbefore (${copied.evidence.askedAt}): ${copied.evidence.answer.slice(0, 4000)}`,
  };
  if (refusal === undefined && (residency === 'TAPE' || residency === 'DISK_AND_TAPE')) {
    await confirmBackup(db, claim, storeKey, { ...copied, evidence: both }, 'ARCHIVED');
    log.info(facts, 'backup: confirmed on tape');
    return true;
  }
  if (refusal === undefined && residency !== 'LOST') return false;
  const fault = new SweepbookError(
    'NOT_CONFIRMED',
    residency === 'LOST'
      ? `store ${store.name} has lost it before it came to tape`
      : `store ${store.name} does not bring it to tape: ${refusal}`,
    { evidence: both },
  );
  const failure = { code: fault.code, message: fault.message, evidence: both };
  const next = await failAttempt(db, jobs, claim, failure, retryBaseMs);
  log.warn({ ...facts, reason: fault.message, next }, 'backup: failed on its way to tape');
  return true;
}
