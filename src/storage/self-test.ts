import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import { hashFile } from './bytes.ts';
import {
  keptEvidence,
  type Evidence,
  type Expected,
  type MassStore,
  type PutOptions,
} from './contract.ts';
import { askAndJudge, type Asking } from './judge.ts';
import { temporaryKey } from './incoming.ts';

/** One question of the self-test, and whether the answer was the right one. */
export interface Finding {
  readonly step: string;
  /** As asked: the store's word, or its bytes read back. */
  readonly asking: Asking;
  readonly expected: 'confirmed' | 'not confirmed';
  readonly got: 'confirmed' | 'not confirmed';
  /** Why not, in words. */
  readonly reason?: string;
  readonly evidence?: Evidence;
}

export interface SelfTest {
  readonly host: string;
  /** Each answer was the right one. */
  readonly passed: boolean;
  /** False: the store could not be reached, so that nothing is known. */
  readonly isConclusive: boolean;
  readonly findings: readonly Finding[];
  /** Why it is not conclusive. */
  readonly trouble?: string;
}

/** Canaries have the number of no record; the hourly look at left-overs removes what a dead test leaves. */
const canary = 0;
const canaryBytes = 256 * 1024;

/**
 * Puts a canary into a store and asks for it as a backup would be asked for: right, with a wrong checksum,
 * overwritten by something shorter, and deleted. A store that confirms one of the last three is not believed.
 */
export async function selfTest(
  store: MassStore,
  attempt: number,
  options: PutOptions = {},
): Promise<SelfTest> {
  const folder = await mkdtemp(join(tmpdir(), 'sweepbook-canary-'));
  const key = temporaryKey(canary, attempt);
  const findings: Finding[] = [];
  const askings: readonly Asking[] =
    store.features.says.length > 0 ? ['SAYS', 'READ_BACK'] : ['READ_BACK'];
  const ask = async (step: string, what: Expected, expected: Finding['expected']) => {
    for (const asking of askings) {
      findings.push(await oneFinding(store, { step, key, what, expected, asking, options }));
    }
  };
  try {
    const right = await makeCanary(join(folder, 'right'), canaryBytes);
    const other = await makeCanary(join(folder, 'other'), canaryBytes);
    const shorter = await makeCanary(join(folder, 'shorter'), canaryBytes / 2);
    await store.put(right.path, key, right, options);
    await ask('what was copied', right, 'confirmed');
    await ask('with the checksums of another file', other, 'not confirmed');
    await store.put(other.path, key, other, options);
    await ask('overwritten by another file of the same size', right, 'not confirmed');
    await store.put(shorter.path, key, shorter, options);
    await ask('overwritten by a shorter file', other, 'not confirmed');
    await store.removeTemporary(key);
    await ask('deleted', shorter, 'not confirmed');
    const passed = findings.every((finding) => finding.got === finding.expected);
    return { host: hostname(), passed, isConclusive: true, findings };
  } catch (error) {
    options.signal?.throwIfAborted();
    const common = { host: hostname(), passed: false, findings };
    return { ...common, isConclusive: false, trouble: messageOf(error) };
  } finally {
    await store.removeTemporary(key).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  }
}

interface Question {
  readonly step: string;
  readonly key: string;
  readonly what: Expected;
  readonly expected: Finding['expected'];
  readonly asking: Asking;
  readonly options: PutOptions;
}

async function oneFinding(store: MassStore, question: Question): Promise<Finding> {
  const { step, key, what, expected, asking, options } = question;
  const { answer, doubt } = await askAndJudge(store, key, what, asking, options);
  const got = doubt ? 'not confirmed' : 'confirmed';
  const told = { step, asking, expected, got } as const;
  if (got === expected) return told;
  return {
    ...told,
    ...(doubt ? { reason: doubt.message } : {}),
    evidence: keptEvidence(answer.evidence),
  };
}

async function makeCanary(path: string, bytes: number): Promise<Expected & { path: string }> {
  await writeFile(path, randomBytes(bytes));
  const sums = await hashFile(path);
  return { ...sums, path };
}

/** The self-test in a sentence. */
export function tellSelfTest(test: Pick<SelfTest, 'passed' | 'isConclusive' | 'findings'>): string {
  if (test.passed) return `self-test passed: ${test.findings.length} answers, each the right one`;
  if (!test.isConclusive) return 'self-test could not be carried out';
  const wrong = test.findings.filter((finding) => finding.got !== finding.expected);
  const first = wrong[0];
  return (
    `self-test failed: ${wrong.length} of ${test.findings.length} answers were wrong; the first: ` +
    `${first?.step} was ${first?.got} (${first?.asking === 'SAYS' ? 'the store’s word' : 'read back'})`
  );
}
