import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let producer: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  producer = await server.as('production', 'PRODUCER');
  await mutate(
    producer,
    'registerRuns',
    { runs: [{ number: 1 }, { number: 2 }] },
    'registeredCount',
  );
});
afterAll(() => server.close());

/** Registered run files of ten events each, of runs 1 and 2 in turn. */
async function runFiles(
  tag: string,
  count: number,
  more: Record<string, unknown> = {},
): Promise<string[]> {
  const files = await Promise.all(
    Array.from({ length: count }, (_, at) =>
      newFile(`/run/${tag}/${at}.root`, {
        kind: 'RUN_FILE',
        stream: 'A',
        runs: [{ number: 1 + (at % 2) }],
        ...more,
      }),
    ),
  );
  await register(producer, ...files);
  return files.map((file) => file.lfn);
}
const output = async (lfn: string, eventCount: number | null, more: Record<string, unknown> = {}) =>
  (await newFile(lfn, { eventCount, ...more })).description;

interface Merge {
  changed: boolean;
  file: {
    lfn: string;
    eventCount: number;
    stream: string | null;
    runs: { nodes: { number: number }[] };
    inputs: { nodes: { lfn: string }[] };
  };
}
const merge = (input: object) =>
  mutate<Merge>(
    producer,
    'recordMerge',
    input,
    'changed file { lfn eventCount stream runs { nodes { number } } inputs { nodes { lfn } } }',
  );

test('a merge registers its output on the way, with the runs and the stream of its inputs', async () => {
  const inputs = await runFiles('new', 3);
  const input = { output: await output('/merged/new', 30), inputs };
  const first = await merge(input);
  expect(first).toEqual({
    changed: true,
    file: {
      lfn: '/merged/new',
      eventCount: 30,
      stream: 'A',
      runs: { nodes: [{ number: 1 }, { number: 2 }] },
      inputs: { nodes: inputs.map((lfn) => ({ lfn })) },
    },
  });
  expect(await merge(input)).toEqual({ ...first, changed: false });
  expect(
    await merge({ outputLfn: '/merged/new', inputs: [...inputs.toReversed(), inputs[0]] }),
  ).toEqual({ ...first, changed: false });
  expect(
    await producer.call('query ($lfn: String!) { file(lfn: $lfn) { mergedInto { lfn } } }', {
      lfn: inputs[0],
    }),
  ).toEqual({ file: { mergedInto: { lfn: '/merged/new' } } });
});

test('a merge into a file that is registered already takes its name', async () => {
  const inputs = await runFiles('known', 2);
  await register(producer, await newFile('/merged/known', { eventCount: 20 }));
  expect(await merge({ outputLfn: '/merged/known', inputs })).toMatchObject({
    changed: true,
    file: { runs: { nodes: [{ number: 1 }, { number: 2 }] } },
  });
});

test('what does not add up, or is no merge, is refused and leaves nothing behind', async () => {
  const inputs = await runFiles('bad', 3);
  const [uncounted = ''] = await runFiles('bad-uncounted', 1, { eventCount: null });
  await register(
    producer,
    await newFile('/merged/other', { eventCount: 30 }),
    await newFile('/merged/uncounted', { eventCount: null }),
  );
  const fresh = (eventCount: number | null, more = {}) => output('/merged/bad', eventCount, more);
  const cases: [input: object, code: string, facts: object, words: string][] = [
    [
      { output: await fresh(29), inputs },
      'EVENT_COUNT_MISMATCH',
      { output: 29, inputs: 30, inputCount: 3 },
      'merge again',
    ],
    [{ output: await fresh(null), inputs }, 'EVENT_COUNT_MISMATCH', { output: null }, 'no known'],
    [
      { outputLfn: '/merged/uncounted', inputs },
      'EVENT_COUNT_MISMATCH',
      { output: null },
      'no known',
    ],
    [
      { output: await fresh(30), inputs: [...inputs, uncounted] },
      'EVENT_COUNT_MISMATCH',
      {},
      `${uncounted} has no event count`,
    ],
    [
      { output: await fresh(60), inputs: [...inputs, '/merged/other'] },
      'NOT_MERGED',
      { lfn: '/merged/other' },
      'only run files are merged',
    ],
    [{ output: await fresh(0), inputs: [] }, 'NOT_MERGED', {}, 'name the run files'],
    [
      { outputLfn: inputs[0], inputs: inputs.slice(1) },
      'NOT_MERGED',
      {},
      'a merge makes a MERGED_FILE',
    ],
    [
      { output: await fresh(30), inputs: [...inputs, '/not/there'] },
      'NOT_FOUND',
      { count: 1, first: ['/not/there'] },
      'register them first',
    ],
    [{ outputLfn: '/not/there', inputs }, 'NOT_FOUND', { first: ['/not/there'] }, 'register'],
    [{ inputs }, 'BAD_USER_INPUT', { field: 'output' }, 'either output'],
    [
      { output: await fresh(30), outputLfn: '/merged/bad', inputs },
      'BAD_USER_INPUT',
      { field: 'output' },
      'either output',
    ],
    [
      { output: await fresh(30, { runs: [{ number: 1 }] }), inputs },
      'BAD_USER_INPUT',
      { field: 'output.runs' },
      'leave it out',
    ],
    [
      { output: await fresh(30, { adler32: 'x' }), inputs },
      'BAD_USER_INPUT',
      { lfn: '/merged/bad' },
      'adler32 "x"',
    ],
    [
      { output: await fresh(30, { kind: 'RUN_FILE' }), inputs: inputs.slice(0, 1) },
      'NOT_MERGED',
      {},
      'a merge makes a MERGED_FILE',
    ],
    [
      { output: await fresh(30), inputs: Array.from({ length: 10_001 }, (_, at) => `/x/${at}`) },
      'BAD_USER_INPUT',
      { field: 'inputs' },
      'at most 10000',
    ],
  ];
  for (const [input, code, facts, words] of cases) {
    const refusal = await refusalOf(merge(input));
    expect({ words, code: refusal.code, message: refusal.message }).toEqual({
      words,
      code,
      message: expect.stringContaining(words),
    });
    expect(refusal.facts).toMatchObject(facts);
  }
  expect(await producer.call('{ file(lfn: "/merged/bad") { lfn } }')).toEqual({ file: null });
  expect(await merge({ output: await fresh(30), inputs })).toMatchObject({ changed: true });
});

test('a run file goes into one merged file, and a merged file has one merge', async () => {
  const inputs = await runFiles('once', 25);
  await merge({ output: await output('/merged/once', 250), inputs });
  const [other = ''] = await runFiles('once-more', 1);
  const taken = await refusalOf(
    merge({ output: await output('/merged/twice', 260), inputs: [...inputs, other] }),
  );
  expect(taken).toMatchObject({
    code: 'ALREADY_MERGED',
    message: expect.stringContaining('25 of 26 inputs are merged already'),
    facts: {
      count: 25,
      first: inputs.slice(0, 20).map((lfn) => ({ lfn, mergedInto: '/merged/once' })),
    },
  });
  expect(await refusalOf(merge({ outputLfn: '/merged/once', inputs: [other] }))).toMatchObject({
    code: 'ALREADY_MERGED',
    facts: { lfn: '/merged/once' },
  });
});

test('of merges at once that share an input one wins, and the events still add up', async () => {
  const inputs = await runFiles('race', 6);
  const results = await Promise.all(
    Array.from({ length: 12 }, async (_, at) => {
      const some = [inputs[at % 6] ?? '', inputs[(at + 1) % 6] ?? ''];
      return merge({ output: await output(`/merged/race-${at}`, 20), inputs: some }).then(
        () => 'merged',
        (error: { code?: string }) => error.code,
      );
    }),
  );
  const won = results.filter((result) => result === 'merged').length;
  expect(won).toBeGreaterThanOrEqual(2);
  expect(won).toBeLessThanOrEqual(3);
  expect(new Set(results)).toEqual(new Set(['merged', 'ALREADY_MERGED']));
  const [row] = await server.database.sql<{ n: string }>(
    `select count(*) as n from files where lfn like '/merged/race-%'`,
  );
  expect(Number(row?.n)).toBe(won);
});

test('one merge told many times at once is recorded once', async () => {
  const inputs = await runFiles('same', 3);
  const input = { output: await output('/merged/same', 30), inputs };
  const answers = await Promise.all(Array.from({ length: 10 }, () => merge(input)));
  expect(answers.filter((answer) => answer.changed)).toHaveLength(1);
  const keyed = { ...input, idempotencyKey: 'merge-1' };
  expect(await merge(keyed)).toMatchObject({ changed: false });
  expect(await refusalOf(merge({ ...keyed, inputs: inputs.slice(1) }))).toMatchObject({
    code: 'IDEMPOTENCY_KEY_REUSED',
  });
});
