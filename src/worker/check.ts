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

const leastDeadlineMs = 600_000;
/** Slower than a tape drive that shows its age: such a copy hangs. */
const leastBytesPerMs = 2000;

/** How long one attempt may take; a disk or a store that hangs must not hold a place for good. */
export const deadlineMs = (sizeBytes: number): number =>
  Math.ceil(leastDeadlineMs + sizeBytes / leastBytesPerMs);

/**
 * The work, or the end of its time: a read that hangs in the kernel is left behind. What it might still write has
 * a name of this attempt, and gets no other.
 */
export async function inTime<T>(
  ms: number,
  abort: AbortController,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { signal } = abort;
  const timer = setTimeout(
    () =>
      abort.abort(
        new SweepbookError(
          'UNAVAILABLE',
          `not done after ${Math.round(ms / 1000)} s: the disk or the store hangs`,
        ),
      ),
    ms,
  );
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    if (signal.aborted) reject(signal.reason as Error);
  });
  try {
    return await Promise.race([work(signal), aborted]);
  } finally {
    clearTimeout(timer);
  }
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

/** From the store whose place the claim holds; the next attempt asks another one, if another has the file. */
async function restageFrom({
  db,
  stores,
  claim,
  restageRoots,
  signal,
}: Check): Promise<StoreAnswer> {
  const { copy, lfn, path, expected, checkId, attempt } = claim;
  const row = copy && (await listMassStores(db)).find((store) => store.id === copy.storeId);
  if (!copy || !row) {
    throw new SweepbookError(
      'SOURCE_UNREADABLE',
      `no mass store has a confirmed copy of ${lfn} any more`,
      { lfn },
    );
  }
  return restage({
    store: stores.of(row),
    key: copy.key,
    path,
    expected,
    mark: `c${checkId}`,
    attempt,
    roots: restageRoots,
    options: { signal },
  });
}
