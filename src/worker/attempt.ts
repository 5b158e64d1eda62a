import { tmpdir } from 'node:os';
import { recordCopied, type Claim } from '../backups/attempts.service.ts';
import { askingOf } from '../backups/backups.rules.ts';
import type { Db } from '../database/orm.ts';
import { SweepbookError } from '../errors.ts';
import { hashFile } from '../storage/bytes.ts';
import type { MassStore, StoreAnswer } from '../storage/contract.ts';
import { changed } from '../storage/copy-file.ts';
import { askAndJudge } from '../storage/judge.ts';
import { inScratch } from '../storage/scratch.ts';
import { settleCopy } from '../sweeps/confirmations.service.ts';
import { temporaryKey, uploadKey } from '../storage/incoming.ts';

export interface Attempt {
  readonly db: Db;
  readonly store: MassStore;
  readonly claim: Claim;
  /** Where the file lies on disk, the latest first. */
  readonly sources: readonly string[];
  /** Confirmed copies in other stores. */
  readonly copies: readonly { readonly store: MassStore; readonly key: string }[];
  readonly leaseSeconds: number;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}

/**
 * One attempt at a backup: copy under a temporary name, ask the store, compare, publish, record.
 * What an earlier attempt brought that far is taken over. Throws why it failed; leaves no temporary file.
 */
export async function runAttempt(attempt: Attempt): Promise<void> {
  const { store, claim } = attempt;
  await clearEarlier(attempt);
  const finalKey = await finalKeyOf(attempt);
  if ((await store.sizeOf(finalKey)) !== undefined) return adopt(attempt, finalKey);
  const upload = uploadKey(claim.backupId);
  if ((await store.sizeOf(upload)) === claim.expected.sizeBytes) {
    const { answer, doubt } = await ask(attempt, upload);
    if (!doubt) return finish(attempt, upload, finalKey, answer);
  }
  const key = temporaryKey(claim.backupId, claim.attempt);
  try {
    const source = await putFromAny(attempt, key);
    await recordCopied(attempt.db, claim, key, attempt.leaseSeconds);
    const { answer, doubt } = await ask(attempt, key);
    if (doubt) throw await whoseFault(attempt, source, doubt);
    await finish(attempt, key, finalKey, answer, true);
  } finally {
    await store.removeTemporary(key).catch(() => undefined);
  }
}

/**
 * The name it gets. Where a copy of it was found bad under its usual name, and still lies there, it gets another one:
 * nothing is replaced.
 */
async function finalKeyOf(attempt: Attempt): Promise<string> {
  const { store, claim } = attempt;
  const usual = store.finalKey(claim.lfn);
  if (!claim.lostKeys.includes(usual) || (await store.sizeOf(usual)) === undefined) return usual;
  // It is right after all: the store was not itself when it was looked at.
  if (!(await ask(attempt, usual)).doubt) return usual;
  return `${usual}.again-${claim.backupId}-${claim.lostKeys.length}`;
}

/** Attempts whose files are looked for; older ones are found by the hourly look at the store. */
const mostEarlier = 20;

/** What dead attempts of this file left: whoever wrote it has lost his lease. */
async function clearEarlier({ store, claim }: Attempt): Promise<void> {
  for (let earlier = Math.max(1, claim.attempt - mostEarlier); earlier < claim.attempt; earlier++) {
    await store.removeTemporary(temporaryKey(claim.backupId, earlier));
  }
}

/** Something has the final name: our own work of an attempt that died, or somebody else's file. */
async function adopt(attempt: Attempt, key: string): Promise<void> {
  const { db, store, claim, leaseSeconds } = attempt;
  const { answer, doubt } = await ask(attempt, key);
  if (doubt?.code === 'CHECKSUM_MISMATCH') {
    throw new SweepbookError(
      'DUPLICATE',
      `store ${store.name} has another file at ${key} (${doubt.message}); nothing is replaced: ` +
        'look at it, then move it away or choose another LFN',
      doubt.facts,
    );
  }
  if (doubt) throw doubt;
  await recordCopied(db, claim, key, leaseSeconds);
  await settleCopy(db, claim, key, answer, askingOf(claim.policy));
}

async function finish(
  attempt: Attempt,
  key: string,
  finalKey: string,
  copied: StoreAnswer,
  isCopied = false,
): Promise<void> {
  const { db, store, claim, leaseSeconds, signal } = attempt;
  signal.throwIfAborted();
  await store.publish(key, finalKey);
  let answer = copied;
  if (store.features.publishCopies) {
    const published = await ask(attempt, finalKey);
    if (published.doubt) throw published.doubt;
    ({ answer } = published);
  }
  if (!isCopied) await recordCopied(db, claim, finalKey, leaseSeconds);
  await settleCopy(db, claim, finalKey, answer, askingOf(claim.policy));
}

function ask({ store, claim, signal }: Attempt, key: string) {
  return askAndJudge(store, key, claim.expected, askingOf(claim.policy), { signal });
}

/** Copies from the first source that can be read; the fault of the last one is told. */
async function putFromAny(attempt: Attempt, key: string): Promise<string> {
  const { store, claim, signal, onProgress } = attempt;
  // A folder of this host needs no second copy.
  const near = attempt.copies.filter((copy) => copy.store.kind === 'directory');
  const sources = [...attempt.sources, ...near.map((copy) => copy.store.placeOf(copy.key))];
  let fault: unknown = new SweepbookError(
    'SOURCE_UNREADABLE',
    `no copy of ${claim.lfn} on disk is known: register it with its path, or copy it yourself (--direct)`,
    { lfn: claim.lfn },
  );
  for (const source of sources) {
    try {
      await store.put(source, key, claim.expected, { signal, onProgress });
      return source;
    } catch (error) {
      signal.throwIfAborted();
      const isOfSource =
        error instanceof SweepbookError &&
        ['SOURCE_UNREADABLE', 'SOURCE_CHANGED'].includes(error.code);
      if (!isOfSource) throw error;
      fault = error;
    }
  }
  for (const copy of attempt.copies.filter((one) => !near.includes(one))) {
    try {
      return await putFromStore(attempt, copy, key);
    } catch (error) {
      signal.throwIfAborted();
      fault = error;
    }
  }
  throw fault;
}

/** By way of a file of this host, which is not trusted more than any other source. */
async function putFromStore(
  { store, claim, signal, onProgress }: Attempt,
  from: Attempt['copies'][number],
  key: string,
): Promise<string> {
  const place = { name: from.store.name, scratch: tmpdir() };
  return inScratch(place, claim.expected.sizeBytes, async (local) => {
    await from.store.fetch(from.key, local, claim.expected, { signal });
    await store.put(local, key, claim.expected, { signal, onProgress });
    return local;
  });
}

/** The store holds something else than was registered: is the source another file by now, or did the store err? */
async function whoseFault(
  { claim, signal }: Attempt,
  source: string,
  doubt: SweepbookError,
): Promise<SweepbookError> {
  if (doubt.code !== 'CHECKSUM_MISMATCH') return doubt;
  const sums = await hashFile(source, { signal }).catch(() => undefined);
  signal.throwIfAborted();
  const { adler32, sha256 } = claim.expected;
  if (sums && (sums.adler32 !== adler32 || (sha256 !== null && sums.sha256 !== sha256))) {
    return changed(source, `its adler32 is ${sums.adler32}, registered is ${adler32}`);
  }
  // Worth another attempt: what was sent is right.
  return new SweepbookError(
    'NOT_CONFIRMED',
    `the store took other bytes than were sent: ${doubt.message}`,
    doubt.facts,
  );
}
