import { describe, expect, test } from 'vitest';
import { nextDelayMs } from '../../src/storage/backoff.ts';
import { keptEvidence, type Expected, type StoreAnswer } from '../../src/storage/contract.ts';
import { judge } from '../../src/storage/judge.ts';

const expected: Expected = { sizeBytes: 5, adler32: '062c0215', sha256: 'ab'.repeat(32) };
const evidence = {
  asked: 'stat',
  answer: 'something',
  askedAt: '2026-01-01T00:00:00Z',
  host: 'here',
};
const right: StoreAnswer = {
  isPresent: true,
  sizeBytes: 5,
  adler32: '062c0215',
  sha256: 'ab'.repeat(32),
  evidence,
};

test('the same size and checksums confirm', () => {
  expect(judge(expected, right)).toBeUndefined();
  const { sha256: _sha256, ...withoutSha256 } = right;
  expect(judge({ ...expected, sha256: null }, withoutSha256)).toBeUndefined();
});

describe('an answer that does not confirm', () => {
  test.each<[string, Partial<Record<keyof StoreAnswer, unknown>>, string]>([
    ['not present', { isPresent: false }, 'NOT_CONFIRMED'],
    ['no size', { sizeBytes: undefined }, 'NOT_CONFIRMED'],
    ['no adler32', { adler32: undefined }, 'NOT_CONFIRMED'],
    ['no sha256 although one is registered', { sha256: undefined }, 'NOT_CONFIRMED'],
    [
      'nothing but "present"',
      { sizeBytes: undefined, adler32: undefined, sha256: undefined },
      'NOT_CONFIRMED',
    ],
    ['one byte less', { sizeBytes: 4 }, 'CHECKSUM_MISMATCH'],
    ['one byte more', { sizeBytes: 6 }, 'CHECKSUM_MISMATCH'],
    ['size as text', { sizeBytes: '5' }, 'CHECKSUM_MISMATCH'],
    ['size not a number', { sizeBytes: NaN }, 'CHECKSUM_MISMATCH'],
    ['another adler32', { adler32: '062c0216' }, 'CHECKSUM_MISMATCH'],
    ['adler32 without its leading zero', { adler32: '62c0215' }, 'CHECKSUM_MISMATCH'],
    ['adler32 in capitals', { adler32: '062C0215' }, 'CHECKSUM_MISMATCH'],
    ['adler32 empty', { adler32: '' }, 'CHECKSUM_MISMATCH'],
    ['adler32 of nothing', { adler32: '00000001' }, 'CHECKSUM_MISMATCH'],
    ['sha256 where adler32 belongs', { adler32: 'ab'.repeat(32) }, 'CHECKSUM_MISMATCH'],
    ['another sha256', { sha256: 'cd'.repeat(32) }, 'CHECKSUM_MISMATCH'],
    ['sha256 in capitals', { sha256: 'AB'.repeat(32) }, 'CHECKSUM_MISMATCH'],
    [
      'sha256 in base64',
      { sha256: Buffer.alloc(32, 0xab).toString('base64') },
      'CHECKSUM_MISMATCH',
    ],
    ['sha256 cut off', { sha256: 'ab'.repeat(31) }, 'CHECKSUM_MISMATCH'],
    ['null for all', { sizeBytes: null, adler32: null, sha256: null }, 'CHECKSUM_MISMATCH'],
  ])('%s', (_what, lie, code) => {
    const doubt = judge(expected, { ...right, ...lie } as StoreAnswer);
    expect(doubt?.code).toBe(code);
    expect(doubt?.facts['evidence']).toBe(evidence);
  });
});

test('a novel for an answer is kept up to 8 KiB', () => {
  const kept = keptEvidence({ ...evidence, answer: 'ü'.repeat(10_000) });
  expect(Buffer.byteLength(kept.answer)).toBeLessThanOrEqual(8192);
  expect(kept.answer).toMatch(/^ü+$/);
  expect(keptEvidence(evidence)).toBe(evidence);
});

test('waits grow, differ, and stay below their bound', () => {
  const at = (n: number, random: number) =>
    nextDelayMs(n, { baseMs: 100, maxMs: 5000, random: () => random });
  expect(at(1, 0)).toBe(10);
  expect(at(1, 1)).toBe(100);
  expect(at(3, 1)).toBe(400);
  expect(at(30, 1)).toBe(5000);
  expect(at(1000, 1)).toBe(5000);
  expect(at(5, 0.2)).not.toBe(at(5, 0.8));
  expect(nextDelayMs(3, { baseMs: 100, maxMs: 5000, factor: 1.5, random: () => 1 })).toBe(225);
});
