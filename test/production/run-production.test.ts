import pg from 'pg';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { backUp, makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let operator: TestClient;
let dqm: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  dqm = await server.as('shifter', 'DQM');
});
afterAll(() => server.close());

interface Told {
  readonly productionStatus: string;
  readonly production: {
    readonly streams: { stream: string; state: string; [count: string]: unknown }[];
    readonly waitingFor: { reason: string; stream: string | null; fileCount: number }[];
  };
}
const selection = `productionStatus production {
  streams { stream isExpected state runFileCount runFileEventCount mergedRunFileCount mergedFileCount backedUpFileCount failedBackupCount lastError }
  waitingFor { reason stream fileCount since } }`;

const progressOf = async (number: number, client = operator) =>
  (
    await client.call<{ run: Told }>(`query ($n: Int!) { run(number: $n) { ${selection} } }`, {
      n: number,
    })
  ).run;
const registerRuns = (runs: object[]) => mutate(operator, 'registerRuns', { runs }, 'refusedCount');
const runFile = (number: number, stream: string, part = '') =>
  newFile(`/run/${number}/${stream}${part}`, {
    kind: 'RUN_FILE',
    stream,
    runs: [{ number }],
    eventCount: 5,
  });
const waitsFor = (run: Told) =>
  run.production.waitingFor.map((wait) => [wait.reason, wait.stream, wait.fileCount]);
const statesOf = (run: Told) =>
  Object.fromEntries(run.production.streams.map((row) => [row.stream, row.state]));

test('each step of a run, as production sees it', async () => {
  const number = 10;
  await registerRuns([{ number, expectedStreams: ['A', 'B'], startedAt: '2026-01-01T00:00:00Z' }]);
  let run = await progressOf(number);
  expect(statesOf(run)).toEqual({ A: 'NOT_WRITTEN', B: 'NOT_WRITTEN' });
  expect(waitsFor(run)).toEqual([
    ['NOT_ENDED', null, 0],
    ['NOT_WRITTEN', 'A', 0],
    ['NOT_WRITTEN', 'B', 0],
  ]);
  expect(run.production.waitingFor[0]).toMatchObject({ since: '2026-01-01T00:00:00.000Z' });

  await registerRuns([{ number, endedAt: '2026-01-01T10:00:00Z' }]);
  const [a1, a2, extra] = [
    await runFile(number, 'A', '1'),
    await runFile(number, 'A', '2'),
    await runFile(number, 'Extra'),
  ];
  await register(operator, a1, a2, extra);
  run = await progressOf(number);
  expect(statesOf(run)).toEqual({ A: 'NOT_MERGED', B: 'NOT_WRITTEN', Extra: 'NOT_MERGED' });
  expect(waitsFor(run)).toEqual([
    ['NOT_WRITTEN', 'B', 0],
    ['NOT_MERGED', 'A', 2],
    ['NOT_MERGED', 'Extra', 1],
  ]);
  expect(run.production.waitingFor[0]).toMatchObject({ since: '2026-01-01T10:00:00.000Z' });
  expect(run.production.streams[0]).toMatchObject({
    isExpected: true,
    runFileCount: 2,
    runFileEventCount: 10,
    mergedRunFileCount: 0,
  });
  expect(run.production.streams[2]).toMatchObject({ isExpected: false });

  // Half of A goes into a merged file, which is not safe yet.
  const half = await newFile(`/merged/${number}/A1`, { stream: 'A', eventCount: 5 });
  await mutate(operator, 'recordMerge', { output: half.description, inputs: [a1.lfn] });
  run = await progressOf(number);
  expect(statesOf(run)).toMatchObject({ A: 'NOT_MERGED' });
  expect(waitsFor(run)).toEqual([
    ['NOT_WRITTEN', 'B', 0],
    ['NOT_MERGED', 'A', 1],
    ['NOT_MERGED', 'Extra', 1],
    ['NOT_BACKED_UP', 'A', 1],
  ]);

  const rest = await newFile(`/merged/${number}/A2`, { stream: 'A', eventCount: 5 });
  const other = await newFile(`/merged/${number}/Extra`, { stream: 'Extra', eventCount: 5 });
  await mutate(operator, 'recordMerge', { output: rest.description, inputs: [a2.lfn] });
  await mutate(operator, 'recordMerge', { output: other.description, inputs: [extra.lfn] });
  await backUp(operator, half, other);
  // B comes as a merged file only; one of the backups has been given up.
  const b = await newFile(`/merged/${number}/B`, {
    stream: 'B',
    runs: [{ number, eventCount: 3 }],
  });
  await register(operator, b);
  await mutate(operator, 'requestBackup', { lfns: [rest.lfn], direct: true }, 'requestedCount');
  await server.database.sql(
    `update backup_records set status = 'FAILED', last_error = 'the store is full', last_error_code = 'NO_SPACE'
      where file_id = (select id from files where lfn = $1)`,
    [rest.lfn],
  );
  run = await progressOf(number);
  expect(statesOf(run)).toEqual({ A: 'NOT_BACKED_UP', B: 'NOT_BACKED_UP', Extra: 'DONE' });
  expect(waitsFor(run)).toEqual([
    ['NOT_BACKED_UP', 'A', 1],
    ['NOT_BACKED_UP', 'B', 1],
  ]);
  expect(run.production.streams[0]).toMatchObject({
    mergedFileCount: 2,
    backedUpFileCount: 1,
    failedBackupCount: 1,
    lastError: 'the store is full',
  });
  await backUp(operator, rest, b);
  run = await progressOf(number);
  expect(run).toMatchObject({ productionStatus: 'AVAILABLE', production: { waitingFor: [] } });
  expect(statesOf(run)).toEqual({ A: 'DONE', B: 'DONE', Extra: 'DONE' });
  expect(run.production.streams[0]).toMatchObject({ failedBackupCount: 0, lastError: null });
});

test('a run of which nothing is expected and nothing is there waits for a file', async () => {
  await registerRuns([{ number: 20, endedAt: '2026-01-01T10:00:00Z' }]);
  expect(waitsFor(await progressOf(20))).toEqual([['NO_MERGED_FILE', null, 0]]);
});

test('it is AVAILABLE from when it waits for nothing, in any order of steps, and stays so when something comes late', async () => {
  const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9));
  console.info(`TEST_SEED=${seed}`);
  let state = seed;
  const random = (below: number) => (state = (state * 1103515245 + 12345) % 2147483648) % below;
  for (let round = 0; round < 6; round++) {
    const number = 100 + round;
    const streams = ['A', 'B'].slice(0, 1 + random(2));
    await registerRuns([{ number, expectedStreams: random(2) ? streams : [] }]);
    const steps = [
      [() => registerRuns([{ number, endedAt: '2026-01-01T10:00:00Z' }])],
      ...(await Promise.all(
        streams.map(async (stream) => {
          const [input, output] = [
            await runFile(number, stream),
            await newFile(`/any/${number}/${stream}`, { stream, eventCount: 5 }),
          ];
          return [
            () => register(operator, input),
            () =>
              mutate(operator, 'recordMerge', { output: output.description, inputs: [input.lfn] }),
            () => backUp(operator, output),
          ];
        }),
      )),
    ];
    let isAvailable = false;
    for (
      let left = steps.filter((list) => list.length > 0);
      left.length > 0;
      left = left.filter((list) => list.length > 0)
    ) {
      const before = await progressOf(number);
      isAvailable ||= before.production.waitingFor.length === 0;
      expect(before.productionStatus === 'AVAILABLE', JSON.stringify(before)).toBe(isAvailable);
      await left[random(left.length)]?.shift()?.();
    }
    expect(await progressOf(number)).toMatchObject({
      productionStatus: 'AVAILABLE',
      production: { waitingFor: [] },
    });
  }
});

test('production of a page of runs is read with one statement', async () => {
  await registerRuns(
    Array.from({ length: 50 }, (_, at) => ({ number: 1000 + at, expectedStreams: ['A'] })),
  );
  // Listens, and changes nothing: the server runs in this process.
  const asked = vi.spyOn(pg.Client.prototype, 'query');
  const list = await operator.call<{ runs: { nodes: Told[] } }>(
    `{ runs(filter: { numbers: "1000-1049", productionStatus: IN_PRODUCTION }, first: 50) { nodes { ${selection} } } }`,
  );
  const texts = asked.mock.calls.map(([query]) => JSON.stringify(query));
  asked.mockRestore();
  expect(texts.filter((text) => text.includes('merge_inputs'))).toHaveLength(1);
  expect(list.runs.nodes).toHaveLength(50);
  for (const run of list.runs.nodes) expect(statesOf(run)).toEqual({ A: 'NOT_WRITTEN' });
});

test('DQM and users learn nothing of it, of no run', async () => {
  const user = await server.as('analyst', 'USER');
  for (const client of [dqm, user, server.anonymous]) {
    expect((await progressOf(10, client)).production).toBeNull();
  }
  expect((await progressOf(20, dqm)).productionStatus).toBe('IN_PRODUCTION');
  expect((await progressOf(20, dqm)).production).toBeNull();
});

test('good runs: in short, one by one, of a dataset; verdicts with their history', async () => {
  const numbers = [201, 202, 203, 205, 207, 208];
  for (const number of [...numbers, 204, 209]) {
    await registerRuns([
      { number, endedAt: '2026-01-01T10:00:00Z', luminosity: 0.5, eventCount: 100 },
    ]);
    const file = await newFile(`/good/${number}`, { stream: 'A', runs: [{ number }] });
    await register(operator, file);
    await backUp(operator, file);
    if (numbers.includes(number)) await mutate(dqm, 'setRunVerdict', { number, verdict: 'GOOD' });
  }
  await mutate(dqm, 'setRunVerdict', { number: 204, verdict: 'BAD', comment: 'hot channel' });
  const good = (args: string, client = server.anonymous) =>
    client.call<{ goodRuns: { numbers: number[] } | null }>(
      `{ goodRuns(${args}) { count ranges numbers eventCount luminosity } }`,
    );
  expect(await good('numbers: "200-300"')).toEqual({
    goodRuns: { count: 6, ranges: '201-203,205,207-208', numbers, eventCount: 600, luminosity: 3 },
  });
  expect(await good('numbers: "300-400"')).toEqual({
    goodRuns: { count: 0, ranges: '', numbers: [], eventCount: 0, luminosity: null },
  });
  expect((await good('source: SIMULATION')).goodRuns?.numbers).toEqual([]);
  await makeOf('good-open', [201, 204], 'OPEN');
  await makeOf('good-closed', [202, 203, 204, 209], 'CLOSED');
  await makeOf('good-bad', [205], 'BAD');
  expect((await good('dataset: "good-closed"')).goodRuns?.numbers).toEqual([202, 203]);
  expect((await good('dataset: "good-open"', operator)).goodRuns?.numbers).toEqual([201]);
  expect(await good('dataset: "good-open"')).toEqual({ goodRuns: null });
  expect(await good('dataset: "good-nowhere"')).toEqual({ goodRuns: null });
  expect(await refusalOf(good('dataset: "good-bad"'))).toMatchObject({ code: 'DATASET_BAD' });
  expect(await refusalOf(good('numbers: "9-1"'))).toMatchObject({ code: 'BAD_USER_INPUT' });

  await mutate(dqm, 'setRunVerdict', { number: 204, verdict: 'GOOD', comment: 'mended' });
  const { runs } = await server.anonymous.call<{ runs: { nodes: object[] } }>(
    '{ runs(filter: { numbers: "204,209" }) { nodes { number verdicts { from to comment actor } } } }',
  );
  expect(runs.nodes).toEqual([
    {
      number: 204,
      verdicts: [
        { from: null, to: 'BAD', comment: 'hot channel', actor: 'shifter' },
        { from: 'BAD', to: 'GOOD', comment: 'mended', actor: 'shifter' },
      ],
    },
    { number: 209, verdicts: [] },
  ]);
});

async function makeOf(
  name: string,
  runs: readonly number[],
  stage: 'OPEN' | 'CLOSED' | 'BAD',
): Promise<void> {
  const files = await Promise.all(
    runs.map((number) => newFile(`/of/${name}/${number}`, { runs: [{ number }] })),
  );
  await register(operator, ...files);
  await makeDataset(operator, name, stage, { files });
}
