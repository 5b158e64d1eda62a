import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { recordBad, recordGood, type CheckClaim } from '../incidents/checks.service.ts';
import { reportBadReplicas } from '../incidents/report.service.ts';
import type { StoreAnswer } from '../storage/contract.ts';
import { judge } from '../storage/judge.ts';
import type { OpenStores } from '../storage/open.ts';
import { readBack } from '../storage/read-back.ts';
import { restage } from '../storage/restage.ts';

export interface Check {
  readonly db: Db;
  readonly stores: OpenStores;
  readonly claim: CheckClaim;
  readonly restageRoots: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * One attempt at a check: reads the copy and records what it is. Where nothing is and a restage was asked for,
 * the file is copied from a mass store first. Throws why nothing could be read.
 */
export async function runCheck(check: Check): Promise<'GOOD' | 'BAD'> {
  const { db, claim } = check;
  const answer = await answerOf(check);
  const doubt = judge(claim.expected, answer);
  if (!doubt) {
    await recordGood(db, claim, answer);
    return 'GOOD';
  }
  // Changed while it was read, or not said: another attempt may know.
  if (doubt.code !== 'CHECKSUM_MISMATCH') throw doubt;
  const { what, registered, stored } = doubt.facts;
  const error = new SweepbookError(
    'CHECKSUM_MISMATCH',
    `${claim.path} has ${what} ${stored}, registered is ${registered}`,
    doubt.facts,
    { cause: doubt },
  );
  if ((await recordBad(db, claim, answer, error)) === 'AVAILABLE') {
    await reportBadReplicas(
      db,
      claim.worker,
      [claim.replicaId],
      `read and found bad: ${error.message}`,
    );
  }
  return 'BAD';
}

async function answerOf(check: Check): Promise<StoreAnswer> {
  const { claim, signal } = check;
  const answer = await read(claim.path, signal);
  if (answer.isPresent) {
    const isOther = claim.isRestage && judge(claim.expected, answer) !== undefined;
    if (!isOther) return answer;
    throw new SweepbookError(
      'DUPLICATE',
      `another file is at ${claim.path}, and nothing is replaced: look at it, then move it away or recover to another place`,
      { path: claim.path, evidence: answer.evidence },
    );
  }
  if (!claim.isRestage) {
    throw new SweepbookError(
      'SOURCE_UNREADABLE',
      `${claim.path} is not there (${answer.evidence.answer}): run a worker where it lies, or tell where it is`,
      { path: claim.path, evidence: answer.evidence },
    );
  }
  return restageFrom(check);
}

async function read(path: string, signal: AbortSignal): Promise<StoreAnswer> {
  try {
    return await readBack(path, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw new SweepbookError(
      'SOURCE_UNREADABLE',
      `${path} cannot be read here (${systemCode(error) ?? messageOf(error)}): check permissions, or run a worker where it lies`,
      { path },
      { cause: error },
    );
  }
}

/** From the first store that has it; the fault of the last one is told. */
async function restageFrom({
  db,
  stores,
  claim,
  restageRoots,
  signal,
}: Check): Promise<StoreAnswer> {
  const rows = new Map((await listMassStores(db)).map((row) => [row.id, row]));
  let fault: unknown = new SweepbookError(
    'SOURCE_UNREADABLE',
    `no mass store has a confirmed copy of ${claim.lfn} any more`,
    { lfn: claim.lfn },
  );
  for (const { storeId, key } of claim.copies) {
    const row = rows.get(storeId);
    if (!row) continue;
    try {
      return await restage({
        store: stores.of(row),
        key,
        path: claim.path,
        expected: claim.expected,
        checkId: claim.checkId,
        attempt: claim.attempt,
        roots: restageRoots,
        options: { signal },
      });
    } catch (error) {
      signal.throwIfAborted();
      fault = error;
      const isOfStore =
        error instanceof SweepbookError &&
        ['SOURCE_UNREADABLE', 'SOURCE_CHANGED', 'CHECKSUM_MISMATCH', 'STORE_UNAVAILABLE'].includes(
          error.code,
        );
      if (!isOfStore) throw error;
    }
  }
  throw fault;
}
