import { SweepbookError } from '../errors.ts';
import type { Doubt, Expected, MassStore, PutOptions, StoreAnswer } from './contract.ts';

/** How a store is asked: taken at its word, or its bytes are read back. */
export type Asking = 'SAYS' | 'READ_BACK';

/** Asks a store for what lies there and judges the answer. */
export async function askAndJudge(
  store: MassStore,
  key: string,
  expected: Expected,
  asking: Asking,
  options: PutOptions = {},
): Promise<{ answer: StoreAnswer; doubt: Doubt }> {
  if (asking === 'READ_BACK') {
    const answer = await store.ask(key, options);
    return { answer, doubt: judge(expected, answer) };
  }
  const answer = await store.says(key, expected, options);
  // What it does not keep it cannot say; adler32 every store has that is taken at its word.
  const asked = answer.sha256 === undefined ? { ...expected, sha256: null } : expected;
  return { answer, doubt: judge(asked, answer) };
}

/**
 * Compares what the store said with what was registered. Only a parsed, positive, specific
 * answer confirms: whatever is missing from it counts as not said.
 */
export function judge(expected: Expected, answer: StoreAnswer): Doubt {
  const { evidence } = answer;
  if (!answer.isPresent) {
    return new SweepbookError('NOT_CONFIRMED', `the store does not have it (${evidence.asked})`, {
      evidence,
    });
  }
  const wanted = [
    ['size', expected.sizeBytes, answer.sizeBytes],
    ['adler32', expected.adler32, answer.adler32],
    ...(expected.sha256 === null ? [] : [['sha256', expected.sha256, answer.sha256] as const]),
  ] as const;
  for (const [what, registered, stored] of wanted) {
    if (stored === undefined) {
      return new SweepbookError(
        'NOT_CONFIRMED',
        `the store did not say the ${what} (${evidence.asked})`,
        {
          evidence,
        },
      );
    }
    if (stored !== registered) {
      return new SweepbookError(
        'CHECKSUM_MISMATCH',
        `the store holds ${what} ${stored}, registered is ${registered}`,
        { what, registered, stored, evidence },
      );
    }
  }
  return undefined;
}
