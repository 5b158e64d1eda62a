import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { allTold, backUp, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { runProgram, startProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let operator: TestClient;
let user: TestClient;
let folder: string;
let environment: Record<string, string>;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  user = await server.as('analyst', 'USER');
  environment = {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_TOKEN: await server.tokenOf('cli', 'OPERATOR'),
  };
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-runs-'));
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function produce(number: number, stream = 'A'): Promise<void> {
  await mutate(
    operator,
    'registerRuns',
    { runs: [{ number, endedAt: '2026-01-01T10:00:00Z' }] },
    'refusedCount',
  );
  const file = await newFile(`/available/${number}`, { stream, runs: [{ number }] });
  await register(operator, file);
  await backUp(operator, file);
}

interface Page {
  readonly runsAvailable: {
    readonly totalCount: number;
    readonly nodes: { cursor: string; run: { number: number } }[];
    readonly pageInfo: { endCursor: string | null; hasNextPage: boolean };
  };
}
async function pageOf(client: TestClient, variables: object = {}) {
  const { runsAvailable } = await client.call<Page>(
    `query ($filter: RunFilter, $first: Int = 50, $after: String) {
      runsAvailable(filter: $filter, first: $first, after: $after) {
        totalCount nodes { cursor actor occurredAt run { number } } pageInfo { endCursor hasNextPage } } }`,
    { ...variables },
  );
  return { ...runsAvailable, numbers: runsAvailable.nodes.map((node) => node.run.number) };
}

test('whoever keeps the cursor learns of each run, also of those that commit late', async () => {
  await produce(1);
  await produce(2, 'B');
  await allTold(server.database);
  const first = await pageOf(user, { first: 1 });
  expect(first).toMatchObject({ numbers: [1], totalCount: 2, pageInfo: { hasNextPage: true } });
  const second = await pageOf(user, { after: first.pageInfo.endCursor });
  expect(second).toMatchObject({ numbers: [2], pageInfo: { hasNextPage: false } });
  expect((await pageOf(user, { filter: { stream: 'B' } })).numbers).toEqual([2]);

  // An older transaction finishes run 3 and waits; run 4 is done and committed meanwhile.
  await mutate(operator, 'registerRuns', { runs: [{ number: 3 }] }, 'refusedCount');
  const file = await newFile('/available/3', { stream: 'A', runs: [{ number: 3 }] });
  await register(operator, file);
  await backUp(operator, file);
  const late = await server.database.client();
  await late.query('begin');
  await late.query('update runs set ended_at = now() where number = 3');
  await produce(4);
  const meanwhile = await pageOf(user, { after: second.pageInfo.endCursor });
  expect(meanwhile.numbers).toEqual([]);
  await late.query('commit');
  await allTold(server.database);
  const after = await pageOf(user, { after: second.pageInfo.endCursor });
  expect(after.numbers.toSorted()).toEqual([3, 4]);

  // The cursors are those of the subscription.
  const heard: number[] = [];
  for await (const { runBecameAvailable } of user.subscribe<{
    runBecameAvailable: { run: { number: number } };
  }>('subscription ($after: String) { runBecameAvailable(after: $after) { run { number } } }', {
    after: first.pageInfo.endCursor,
  })) {
    heard.push(runBecameAvailable.run.number);
    if (heard.length === 3) break;
  }
  expect(heard).toEqual([2, ...after.numbers]);
});

test('what is still in production is in no page, however it is asked for', async () => {
  await mutate(operator, 'registerRuns', { runs: [{ number: 50 }] }, 'refusedCount');
  await allTold(server.database);
  const dqm = await server.as('shifter', 'DQM');
  for (const client of [operator, dqm, user]) {
    expect(await pageOf(client, { filter: { numbers: '50' } })).toMatchObject({
      numbers: [],
      totalCount: 0,
    });
    expect(await pageOf(client, { filter: { productionStatus: 'IN_PRODUCTION' } })).toMatchObject({
      numbers: [],
      totalCount: 0,
    });
  }
  expect(await refusalOf(pageOf(user, { after: 'x' }))).toMatchObject({ code: 'INVALID_CURSOR' });
  expect(await refusalOf(pageOf(user, { first: 201 }))).toMatchObject({ code: 'BAD_USER_INPUT' });
});

test('run watch goes on where it was cut off', async () => {
  const cursorFile = join(folder, 'cursor');
  const watching = () =>
    startProgram(['run', 'watch', '--json', '--cursor-file', cursorFile], environment);
  const numbers = (text: string) =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as { run: { number: number } }).run.number);
  let watch = watching();
  // It follows from its connection on; a run a second until it is there.
  let next = 100;
  await until('the watch hears', async () => {
    if (watch.stdout() !== '') return true;
    await produce(next++);
    return undefined;
  });
  const first = await watch.kill('SIGINT');
  expect(first.code).toBe(130);
  expect(first.stderr).toContain('continue with: sweepbook run watch --after ');
  expect(readFileSync(cursorFile, 'utf8').trim()).not.toBe('');
  await produce(200);
  await produce(201);
  watch = watching();
  await until('both', () => watch.stdout().includes('201'));
  const heard = [...numbers(first.stdout), ...numbers((await watch.kill('SIGINT')).stdout)];
  expect(heard.slice(-2)).toEqual([200, 201]);
  expect(new Set(heard).size).toBe(heard.length);
});

test('progress, verdicts and good runs on the command line', async () => {
  const run = (...args: string[]) => runProgram(['run', ...args], environment);
  await mutate(operator, 'setRunVerdict', { number: 200, verdict: 'GOOD', comment: 'clean' });
  expect((await run('good', '--numbers', '100-300')).stdout).toBe('200\n');
  expect(await run('good', '--numbers', '300-400')).toMatchObject({ code: 0, stdout: '' });
  expect(await run('good', '--dataset', 'nowhere')).toMatchObject({ code: 4 });
  const verdicts = await run('verdicts', '200');
  expect(verdicts.stdout).toMatch(/GOOD +operator +clean/);
  expect((await run('verdicts', '201', '--json')).stdout).toBe('[]\n');
  const progress = await run('progress', '50');
  expect(progress.stdout).toContain('run 50 (DATA) is IN_PRODUCTION');
  expect(progress.stdout).toMatch(/^waits: no merged file holds it, for \d+ \w+ \(since /m);
  expect(progress.stdout).toMatch(/^waits: the end of the run is not told/m);
  expect((await run('progress', '200')).stdout).toMatch(/^A +DONE +0 +0 +0 +1 +1 +0/m);
  expect(await run('progress', '999999')).toMatchObject({ code: 4 });
});
