import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import {
  backUp,
  lastCursor,
  makeDataset,
  mutate,
  newFile,
  refusalOf,
  register,
  type TestFile,
} from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let operator: TestClient;
let dqm: TestClient;
let user: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  dqm = await server.as('shifter', 'DQM');
  user = await server.as('analyst', 'USER');
});
afterAll(() => server.close());

const registerRuns = (
  runs: object[],
  selection = 'registeredCount updatedCount existingCount refusedCount results { index number outcome error { code message } run { number } }',
) =>
  mutate<
    { results: { outcome: string; error: { code: string; message: string } | null }[] } & Record<
      string,
      number
    >
  >(operator, 'registerRuns', { runs }, selection);

/** A run of two streams; its steps may come in any order that nature allows. */
interface Production {
  readonly number: number;
  readonly runFiles: Record<'A' | 'B', TestFile>;
  readonly merged: Record<'A' | 'B', TestFile>;
}
const steps = [
  'end',
  'write A',
  'write B',
  'merge A',
  'merge B',
  'back up A',
  'back up B',
] as const;
type Step = (typeof steps)[number];

async function begin(number: number): Promise<Production> {
  await registerRuns([
    { number, expectedStreams: ['A', 'B'], luminosity: 2.5, conditions: 'ON_PEAK', eventCount: 20 },
  ]);
  const runFile = (stream: string) =>
    newFile(`/run/${number}/${stream}.root`, { kind: 'RUN_FILE', stream, runs: [{ number }] });
  const mergedFile = (stream: string) => newFile(`/merged/${number}/${stream}.root`, { stream });
  const production = {
    number,
    runFiles: { A: await runFile('A'), B: await runFile('B') },
    merged: { A: await mergedFile('A'), B: await mergedFile('B') },
  };
  await register(operator, production.merged.A, production.merged.B);
  return production;
}

async function take(production: Production, step: Step): Promise<void> {
  const { number, runFiles, merged } = production;
  const stream = step.endsWith('A') ? 'A' : 'B';
  if (step === 'end') await registerRuns([{ number, endedAt: '2026-01-01T10:00:00Z' }]);
  else if (step.startsWith('write')) await register(operator, runFiles[stream]);
  else if (step.startsWith('merge')) {
    await mutate(operator, 'recordMerge', {
      outputLfn: merged[stream].lfn,
      inputs: [runFiles[stream].lfn],
    });
  } else await backUp(operator, merged[stream]);
}

/** Every order in which a file is written before it is merged. */
function* orders(left: readonly Step[] = steps, taken: readonly Step[] = []): Generator<Step[]> {
  if (left.length === 0) yield [...taken];
  for (const step of left) {
    const before = step.replace('merge', 'write') as Step;
    if (step.startsWith('merge') && !taken.includes(before)) continue;
    yield* orders(
      left.filter((other) => other !== step),
      [...taken, step],
    );
  }
}

const statusOf = async (client: TestClient, number: number) =>
  (
    await client.call<{ run: { productionStatus: string } | null }>(
      'query ($number: Int!) { run(number: $number) { productionStatus } }',
      { number },
    )
  ).run?.productionStatus;

test('a run becomes AVAILABLE with its last condition, in whichever order they come, and is told once', async () => {
  const all = [...orders()];
  expect(all).toHaveLength(1260);
  const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * all.length));
  console.info(`orders from TEST_SEED=${seed}`);
  // One that ends with each step that can be the last, and some more.
  const lasts: Step[] = ['end', 'merge A', 'merge B', 'back up A', 'back up B'];
  const chosen = [
    ...lasts.map(
      (last, at) =>
        all.filter((order) => order.at(-1) === last)[(seed * (at + 1)) % 100] ?? all[0] ?? [],
    ),
    ...Array.from({ length: 13 }, (_, at) => all[(seed + at * 97) % all.length] ?? []),
  ];
  const sockets = await Promise.all(
    [await server.tokenOf('follower', 'DQM'), undefined].map((token) =>
      openSocket(server.address, token),
    ),
  );
  const start = await lastCursor(server);
  await makeDataset(operator, 'first-line', 'OPEN');
  const after = start ?? (await lastCursor(server));
  for (const socket of sockets) {
    socket.start(
      'subscription ($after: String) { runBecameAvailable(after: $after) { run { number productionStatus luminosity } } }',
      { after },
    );
  }
  for (const [at, order] of chosen.entries()) {
    const number = 1000 + at;
    const production = await begin(number);
    for (const step of order) {
      expect(await statusOf(dqm, number), `before ${step} of ${order.join(', ')}`).toBe(
        'IN_PRODUCTION',
      );
      expect(await statusOf(user, number)).toBeUndefined();
      await take(production, step);
    }
    expect(await statusOf(user, number), order.join(', ')).toBe('AVAILABLE');
  }
  for (const socket of sockets) {
    for (const at of chosen.keys()) {
      expect(await socket.nextData()).toEqual({
        runBecameAvailable: {
          run: { number: 1000 + at, productionStatus: 'AVAILABLE', luminosity: 2.5 },
        },
      });
    }
    socket.terminate();
  }
  const events = await server.database.sql<{ number: number; n: string }>(
    `select r.number, count(*) as n from events e join runs r on r.id = e.run_id
      where e.kind = 'RUN_STATUS' and e.to_state = 'AVAILABLE' group by r.number order by r.number`,
  );
  expect(events).toEqual(chosen.map((_, at) => ({ number: 1000 + at, n: '1' })));
});

const facts = `number source productionStatus startedAt endedAt eventCount luminosity conditions expectedStreams availableAt
  verdict verdictComment verdictBy verdictAt files { totalCount nodes { lfn } } history { totalCount nodes { kind } }`;

test('of a run in production DQM learns that it is in production, and nothing else', async () => {
  const production = await begin(2000);
  await take(production, 'write A');
  await take(production, 'merge A');
  await take(production, 'back up A');
  await take(production, 'end');
  const byNumber = `{ run(number: 2000) { id ${facts} } }`;
  const told = await until('the log is complete', async () => {
    const answer = await operator.call<{ run: { id: string; history: { totalCount: number } } }>(
      byNumber,
    );
    return answer.run.history.totalCount === 2 && answer;
  });
  expect(told.run).toMatchObject({
    luminosity: 2.5,
    conditions: 'ON_PEAK',
    files: { totalCount: 2 },
    history: { nodes: [{ kind: 'RUN_STATUS' }, { kind: 'FILE_REGISTERED' }] },
  });
  const { id } = told.run;
  const nothing = {
    number: 2000,
    source: 'DATA',
    productionStatus: 'IN_PRODUCTION',
    startedAt: null,
    endedAt: null,
    eventCount: null,
    luminosity: null,
    conditions: null,
    expectedStreams: null,
    availableAt: null,
    verdict: null,
    verdictComment: null,
    verdictBy: null,
    verdictAt: null,
    files: { totalCount: 0, nodes: [] },
    history: { totalCount: 0, nodes: [] },
  };
  expect(await dqm.call(byNumber)).toEqual({ run: { id, ...nothing } });
  expect(
    await dqm.call(`query ($id: ID!) { node(id: $id) { ... on Run { ${facts} } } }`, { id }),
  ).toEqual({ node: nothing });
  expect(
    await dqm.call(
      `{ runs(filter: { numbers: "1999-2000", productionStatus: IN_PRODUCTION }) { totalCount nodes { ${facts} } } }`,
    ),
  ).toEqual({ runs: { totalCount: 1, nodes: [nothing] } });
  // Nor can it be looked for by what is hidden of it.
  const runs = '(filter: { numbers: "2000", productionStatus: IN_PRODUCTION, ';
  for (const filter of ['stream: "A" })', 'verdict: GOOD })']) {
    expect(await dqm.call(`{ runs${runs}${filter} { totalCount nodes { number } } }`)).toEqual({
      runs: { totalCount: 0, nodes: [] },
    });
  }
  for (const client of [user, server.anonymous]) {
    expect(await client.call(byNumber)).toEqual({ run: null });
    expect(await client.call('query ($id: ID!) { node(id: $id) { id } }', { id })).toEqual({
      node: null,
    });
    expect(
      await client.call(
        '{ runs(filter: { productionStatus: IN_PRODUCTION }) { totalCount nodes { number } } }',
      ),
    ).toEqual({ runs: { totalCount: 0, nodes: [] } });
  }
  for (const client of [dqm, user, server.anonymous]) {
    expect(
      await client.call(
        '{ runs(filter: { numbers: "2000" }) { totalCount } events(filter: { run: 2000 }) { totalCount nodes { kind } } }',
      ),
    ).toEqual({
      runs: { totalCount: 0 },
      events: { totalCount: 0, nodes: [] },
    });
  }
  const verdict = { number: 2000, verdict: 'GOOD' };
  expect(await refusalOf(mutate(dqm, 'setRunVerdict', verdict))).toMatchObject({
    code: 'ILLEGAL_TRANSITION',
    facts: { number: 2000, productionStatus: 'IN_PRODUCTION' },
  });
  await take(production, 'write B');
  await take(production, 'merge B');
  await take(production, 'back up B');
  const { run } = await until('the log is complete', async () => {
    const answer = await dqm.call<{ run: { history: { totalCount: number } } }>(byNumber);
    return answer.run.history.totalCount === 2 && answer;
  });
  // Run files stay production's own; the safe merged files are DQM's.
  expect(run).toMatchObject({
    productionStatus: 'AVAILABLE',
    luminosity: 2.5,
    eventCount: 20,
    files: {
      totalCount: 2,
      nodes: [{ lfn: '/merged/2000/A.root' }, { lfn: '/merged/2000/B.root' }],
    },
    history: { totalCount: 2 },
  });
  const seenByUser = await user.call<{ run: object }>(byNumber);
  expect(seenByUser.run).toMatchObject({
    productionStatus: 'AVAILABLE',
    luminosity: 2.5,
    files: { totalCount: 0 },
  });
});

test('DQM says its word on a run that is done; users ask for good runs', async () => {
  for (const number of [2100, 2101]) {
    const production = await begin(number);
    for (const step of steps) await take(production, step);
  }
  const word = { number: 2100, verdict: 'GOOD', comment: ' clean ' };
  const answer = 'changed run { verdict verdictComment verdictBy verdictAt }';
  expect(await mutate(dqm, 'setRunVerdict', word, answer)).toMatchObject({
    changed: true,
    run: {
      verdict: 'GOOD',
      verdictComment: 'clean',
      verdictBy: 'shifter',
      verdictAt: expect.any(String),
    },
  });
  expect(await mutate(dqm, 'setRunVerdict', word, answer)).toMatchObject({ changed: false });
  await mutate(dqm, 'setRunVerdict', { number: 2101, verdict: 'BAD' });
  const good =
    '{ runs(filter: { numbers: "2100-2101", verdict: GOOD }) { nodes { number verdictComment } } }';
  expect(await user.call(good)).toEqual({
    runs: { nodes: [{ number: 2100, verdictComment: 'clean' }] },
  });
  await mutate(dqm, 'setRunVerdict', { number: 2100, verdict: 'BAD', comment: 'hot channel' });
  expect(await user.call(good)).toEqual({ runs: { nodes: [] } });
  const { run } = await until('the log is complete', async () => {
    const told = await user.call<{ run: { history: { nodes: { toState: string }[] } } }>(
      '{ run(number: 2100) { history { nodes { kind fromState toState actor reason } } } }',
    );
    return told.run.history.nodes.at(-1)?.toState === 'BAD' && told;
  });
  expect(run.history.nodes.slice(-2)).toEqual([
    { kind: 'RUN_VERDICT', fromState: null, toState: 'GOOD', actor: 'shifter', reason: 'clean' },
    {
      kind: 'RUN_VERDICT',
      fromState: 'GOOD',
      toState: 'BAD',
      actor: 'shifter',
      reason: 'hot channel',
    },
  ]);
  expect(
    await refusalOf(
      mutate(dqm, 'setRunVerdict', { number: 9, source: 'SIMULATION', verdict: 'GOOD' }),
    ),
  ).toMatchObject({ code: 'NOT_FOUND', facts: { number: 9, source: 'SIMULATION' } });
  expect(
    await refusalOf(mutate(dqm, 'setRunVerdict', { ...word, comment: 'x'.repeat(2001) })),
  ).toMatchObject({ code: 'BAD_USER_INPUT' });
});

test('runs are told piece by piece; what contradicts is refused, item by item', async () => {
  const first = await registerRuns([
    { number: 3000, startedAt: '2026-01-01T00:00:00Z' },
    { number: 3000 },
    { number: 0 },
    { number: -5 },
    { number: 3001, luminosity: -1 },
    { number: 3002, eventCount: -1 },
    { number: 3003, startedAt: '2026-01-02T00:00:00Z', endedAt: '2026-01-01T00:00:00Z' },
    { number: 3004, conditions: 'x'.repeat(201) },
    { number: 3005, conditions: '\ud800' },
    { number: 3006, source: 'SIMULATION' },
    { number: 2147483647 },
  ]);
  expect(first.results.map((item) => item.error?.code ?? item.outcome)).toEqual([
    'REGISTERED',
    'DUPLICATE',
    ...Array.from({ length: 7 }, () => 'BAD_USER_INPUT'),
    'REGISTERED',
    'REGISTERED',
  ]);
  for (const [at, field] of [
    [2, 'number'],
    [4, 'luminosity'],
    [5, 'eventCount'],
    [6, 'endedAt'],
    [7, 'conditions'],
  ] as const) {
    expect(first.results[at]?.error?.message).toContain(field);
  }
  const early = await registerRuns([{ number: 3000, endedAt: '2025-12-31T00:00:00Z' }]);
  expect(early.results[0]).toMatchObject({
    outcome: 'REFUSED',
    error: {
      code: 'BAD_USER_INPUT',
      message: expect.stringContaining('before it starts, at 2026-01-01T00:00:00'),
    },
  });
  const second = await registerRuns([
    { number: 3000, endedAt: '2026-01-01T10:00:00Z', expectedStreams: ['A'] },
    { number: 3006, source: 'SIMULATION' },
    { number: 3006, source: 'DATA' },
  ]);
  expect(second).toMatchObject({
    registeredCount: 1,
    updatedCount: 1,
    existingCount: 1,
    refusedCount: 0,
  });
  const third = await registerRuns([{ number: 3000, endedAt: '2026-01-01T11:00:00Z' }]);
  expect(third.results[0]).toMatchObject({
    outcome: 'REFUSED',
    error: {
      code: 'DUPLICATE',
      message: expect.stringContaining('endedAt 2026-01-01T10:00:00.000Z'),
    },
  });
  const many = Array.from({ length: 10_001 }, (_, at) => ({ number: at + 1 }));
  expect(await refusalOf(registerRuns(many))).toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'runs' },
  });
});

test('run ranges are read as people write them', async () => {
  await registerRuns([4000, 4001, 4002, 4010, 4020].map((number) => ({ number })));
  const numbersOf = async (numbers: string) =>
    (
      await operator.call<{ runs: { nodes: { number: number }[] } }>(
        'query ($numbers: String) { runs(filter: { numbers: $numbers, productionStatus: IN_PRODUCTION }) { nodes { number } } }',
        { numbers },
      )
    ).runs.nodes.map((run) => run.number);
  expect(await numbersOf('4000-4001,4010')).toEqual([4000, 4001, 4010]);
  expect(await numbersOf(' 4020 , 4002 - 4002')).toEqual([4002, 4020]);
  expect(await numbersOf('4030-999999999')).toEqual([]);
  for (const wrong of [
    'x',
    '1-',
    '2-1',
    '1,,2',
    '-5',
    '1e3',
    '9999999999',
    ',',
    Array.from({ length: 1001 }, () => '1').join(','),
  ]) {
    expect(await refusalOf(numbersOf(wrong)), wrong).toMatchObject({
      code: 'BAD_USER_INPUT',
      facts: { field: 'numbers' },
    });
  }
});

test('runs that many register at the same moment are registered once', async () => {
  const runs = Array.from({ length: 20 }, (_, i) => ({ number: 90_000 + i }));
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) => registerRuns(i % 2 === 0 ? runs : runs.toReversed())),
  );
  const sum = (field: string) => answers.reduce((all, answer) => all + Number(answer[field]), 0);
  expect([sum('registeredCount'), sum('existingCount')]).toEqual([20, 140]);
});
