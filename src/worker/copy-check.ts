import { messageOf, SweepbookError } from '../errors.ts';
import type { MassStore, PutOptions, StoreAnswer } from '../storage/contract.ts';
import { askDisk, findWitness } from '../storage/disk-copy.ts';
import { judge } from '../storage/judge.ts';
import type { OpenStores } from '../storage/open.ts';
import type { CheckClaim, Finding } from '../suspicions/checks.service.ts';
import { isSameAnswer } from '../suspicions/suspicions.rules.ts';

export type CopyAt = Pick<CheckClaim, 'at' | 'expected' | 'lfn' | 'host' | 'place'>;

interface Reading {
  ask(): Promise<StoreAnswer>;
  /** Why "nothing there" is to be believed; undefined = it is not. */
  whyAbsenceCounts(): Promise<string | undefined>;
}

/**
 * Reads a copy in full and says what it is: GOOD by size and checksums; BAD when it was read twice with
 * the same wrong answer, or is not there where it must be; otherwise neither. Throws only when aborted.
 */
export async function readCopy(
  claim: CopyAt,
  stores: Pick<OpenStores, 'of'>,
  options: PutOptions,
): Promise<Finding> {
  const { at, expected, lfn } = claim;
  const { host, place } = claim;
  const reading =
    at.kind === 'disk' ? onDisk(claim, at, options) : inStore(stores.of(at.store), at.key, options);
  try {
    const answer = await reading.ask();
    const { evidence } = answer;
    const doubt = judge(expected, answer);
    if (!doubt) {
      const says = `read in full at ${place}: ${expected.sizeBytes} bytes, adler32 ${expected.adler32}`;
      return { kind: 'GOOD', says, evidence };
    }
    if (!answer.isPresent) {
      const why = await reading.whyAbsenceCounts();
      return why === undefined
        ? {
            kind: 'BLIND',
            says: `${lfn} is not at ${place}, seen from ${host}; nothing shows that its volume is mounted there`,
          }
        : { kind: 'BAD', says: `${place}: ${doubt.message}; ${why}`, evidence };
    }
    if (doubt.code !== 'CHECKSUM_MISMATCH') return { kind: 'BLIND', says: doubt.message };
    // What condemns a copy is read twice: memory and networks err, too.
    if (!isSameAnswer(answer, await reading.ask())) {
      return { kind: 'BLIND', says: `${place}: two readings gave two answers` };
    }
    const says = `${place}, read twice: ${doubt.message}`;
    return { kind: 'BAD', says, evidence };
  } catch (error) {
    options.signal?.throwIfAborted();
    return {
      kind: 'BLIND',
      says: error instanceof SweepbookError ? error.message : messageOf(error),
    };
  }
}

function onDisk(
  { expected }: CopyAt,
  { path, witnesses }: Extract<CheckClaim['at'], { kind: 'disk' }>,
  options: PutOptions,
): Reading {
  return {
    ask: () => askDisk(path, expected.sizeBytes, options),
    async whyAbsenceCounts() {
      const witness = await findWitness(witnesses);
      return witness && `its volume is mounted there: ${witness.path} is in its place`;
    },
  };
}

function inStore(store: MassStore, key: string, options: PutOptions): Reading {
  return {
    ask: () => store.ask(key, options),
    async whyAbsenceCounts() {
      const { isUp, detail } = await store.probe();
      return isUp ? `the store is up (${detail})` : undefined;
    },
  };
}
