import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeDataset, mutate, newFile, register } from '../support/scene.ts';
import { runProgram, type Ended } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  token = readFileSync(join(server.folder, 'home', 'operator-token'), 'utf8').trim();
  const { operator } = server;
  const endedAt = '2026-01-01T00:00:00Z';
  const runs = [1, 2].map((number) => ({
    number,
    endedAt,
    luminosity: number / 10,
    eventCount: 7,
  }));
  await mutate(operator, 'registerRuns', { runs }, 'registeredCount');
  const one = await newFile('/c/one', { runs: [{ number: 1 }] });
  const two = await newFile('/c/two', { runs: [{ number: 2 }], eventCount: 99 });
  await register(operator, one, two);
  await register(operator, await newFile('/c/child', { parents: ['/c/one', '/c/two'] }));
  await makeDataset(operator, 'both', 'CLOSED', { files: [one, two] });
  await makeDataset(operator, 'second', 'CLOSED', { files: [two] });
  await mutate(operator, 'setRunVerdict', { number: 2, verdict: 'GOOD' });
});
afterAll(() => server.close());

const run = (...args: string[]): Promise<Ended> =>
  runProgram(args, { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token });
/** The lines of a list, as JSON. */
async function listed(key: string, ...args: string[]): Promise<unknown[]> {
  const end = await run(...args, '--json');
  expect(end).toMatchObject({ code: 0, stderr: '' });
  return end.stdout
    .trimEnd()
    .split('\n')
    .flatMap((line): unknown[] => {
      const row = JSON.parse(line) as Record<string, unknown>;
      return Array.isArray(row) ? [] : [row[key]];
    });
}

test('lists by run, events, time, dataset and name', async () => {
  expect(await listed('name', 'dataset', 'list', '--run', '1')).toEqual(['both']);
  expect(await listed('name', 'dataset', 'list', '--runs', '2-9', '--order', 'size_desc')).toEqual([
    'both',
    'second',
  ]);
  expect(await listed('name', 'dataset', 'list', '--min-events', '100')).toEqual(['both']);
  expect(await listed('name', 'dataset', 'list', '--since', '2999-01-01')).toEqual([]);
  expect(await listed('number', 'run', 'list', '--dataset', 'second', '--min-events', '7')).toEqual(
    [2],
  );
  expect(await listed('lfn', 'file', 'list', '--name', '/c/*o', '--until', '2999-01-01')).toEqual([
    '/c/two',
  ]);
  expect(await listed('lfn', 'file', 'list', '--dataset', 'both', '--run', '1')).toEqual([
    '/c/one',
  ]);
  expect(await listed('lfn', 'file', 'list', '--no-backed-up')).toEqual(['/c/child']);
});

test('a time that is none, and a pattern that begins with anything, are refused', async () => {
  const time = await run('file', 'list', '--since', 'yesterday');
  expect(time).toMatchObject({ code: 2, stderr: expect.stringContaining('2026-01-31') });
  const glob = await run('file', 'list', '--name', '*x');
  expect(glob).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('say how the names begin'),
  });
});

test('dataset runs prints what is in it run by run, and the sums', async () => {
  const end = await run('dataset', 'runs', 'both', 'second', '--good');
  expect(end).toMatchObject({ code: 0, stderr: '' });
  expect(end.stdout).toMatch(
    /^DATASET +RUN +SOURCE +EVENTS +FILES +SIZE +1\/PB +VERDICT\nboth +2 +DATA +99 +1 +64 B +0\.2 +GOOD\nsecond +2 /,
  );
  expect(end.stdout).toContain(
    'both: 1 run, 99 events, 0.2 /pb\nsecond: 1 run, 99 events, 0.2 /pb\n',
  );
  expect(await run('dataset', 'runs', 'none')).toMatchObject({ code: 4 });
});

test('file show tells the family of a file', async () => {
  const child = await run('file', 'show', '/c/child');
  expect(child.stdout).toMatch(/^derived from +\/c\/one, \/c\/two$/m);
  const parent = await run('file', 'show', '/c/one');
  expect(parent.stdout).toMatch(/^made of it +\/c\/child$/m);
  expect(parent.stdout).toMatch(/^runs +1$/m);
});
