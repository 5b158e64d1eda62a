import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientOf, type TestClient } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { makeFile, registerMerged } from '../support/files.ts';
import { runProgram, startProgram, startServe, type ServeProcess } from '../support/program.ts';
import { until } from '../support/until.ts';

let folder: string;
let database: TestDatabase;
let server: ServeProcess;
let token: string;
let client: TestClient;
let environment: Record<string, string>;

const home = () => join(folder, 'home');
const serve = (port = '0') =>
  startServe({ DATABASE_URL: database.url, SWEEPBOOK_HOME: home(), SWEEPBOOK_PORT: port });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-watch-'));
  database = await openTestDatabase();
  server = await serve();
  token = readFileSync(join(home(), 'operator-token'), 'utf8').trim();
  client = clientOf(server.address, token);
  environment = { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token };
});
afterAll(async () => {
  await server.kill('SIGTERM');
  await database.close();
  rmSync(folder, { recursive: true, force: true });
});

const mutate = (field: string, type: string, input: object) =>
  client.call(`mutation ($input: ${type}!) { ${field}(input: $input) { changed } }`, { input });

async function newDataset(name: string): Promise<void> {
  const file = await makeFile(join(folder, 'files', name), name);
  await registerMerged(client, [{ ...file, lfn: `/watch/${name}` }]);
  await mutate('createDataset', 'CreateDatasetInput', {
    name,
    kind: 'PR',
    files: [`/watch/${name}`],
  });
}

test('the first start prints address and token, and keeps the token for the command line', async () => {
  expect(server.stderr()).toContain(token);
  expect(server.stderr()).toContain(`${server.address}/graphiql`);
  for (const line of server.stdout().trim().split('\n'))
    expect(() => JSON.parse(line) as unknown).not.toThrow();
  const end = await runProgram(['whoami'], {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_HOME: home(),
  });
  expect(end.stdout).toContain('operator');
});

test('watch shows each step as it happens', async () => {
  await newDataset('shown');
  const watch = startProgram(['dataset', 'watch', 'shown', '--until', 'CLOSED'], environment);
  await until('the present state', () => watch.stdout().includes('is OPEN'));
  await mutate('sweepDataset', 'DatasetTransitionInput', { dataset: 'shown' });
  const end = await watch.ended;
  expect(end.code).toBe(0);
  expect(end.stdout).toMatch(/OPEN → BACKED_UP[\s\S]*BACKED_UP → CLOSED/);
});

test('stopped and started again with the last cursor it misses nothing and tells nothing twice', async () => {
  await newDataset('resumed');
  const cursorFile = join(folder, 'cursor');
  const watching = () =>
    startProgram(
      ['dataset', 'watch', 'resumed', '--cursor-file', cursorFile, '--json'],
      environment,
    );
  const steps: { from: string | null; to: string }[] = [];
  const keep = (text: string) => {
    for (const line of text.split('\n').filter((one) => one.includes('"cursor"'))) {
      const { from, to } = JSON.parse(line) as { from: string | null; to: string };
      // The first line is the state that it begins with.
      if (from !== null) steps.push({ from, to });
    }
  };
  let watch = watching();
  await until('the present state', () => watch.stdout() !== '');
  await mutate('markDatasetBad', 'BadMarkInput', { dataset: 'resumed', reason: 'to be seen' });
  await until('the mark is seen', () => watch.stdout().includes('to be seen'));
  const first = await watch.kill('SIGINT');
  expect(first.code).toBe(130);
  expect(first.stderr).toContain('--after');
  expect(existsSync(cursorFile)).toBe(true);
  keep(first.stdout);
  // Nobody looks, and the server itself is away for a while.
  await mutate('clearDatasetBad', 'BadMarkInput', { dataset: 'resumed', reason: 'was seen' });
  const port = new URL(server.address).port;
  expect((await server.kill('SIGTERM')).code).toBe(0);
  server = await serve(port);
  expect(server.stderr()).not.toContain('Operator token');
  await mutate('sweepDataset', 'DatasetTransitionInput', { dataset: 'resumed' });
  watch = watching();
  await until('CLOSED', () => watch.stdout().includes('"CLOSED"'));
  keep((await watch.kill('SIGINT')).stdout);
  const told = await database.sql(
    `select from_state as "from", to_state as "to" from events
      where kind in ('DATASET_STATUS', 'DATASET_MARKED_BAD', 'DATASET_CLEARED') and from_state is not null
        and dataset_id = (select id from datasets where name = 'resumed') order by xid, id`,
  );
  expect(steps).toEqual(told);
  expect(told).toHaveLength(4);
});

test('watch lives through a restart of the server', async () => {
  await newDataset('through');
  const watch = startProgram(['dataset', 'watch', 'through', '--until', 'CLOSED'], environment);
  await until('the present state', () => watch.stdout().includes('is OPEN'));
  const port = new URL(server.address).port;
  await server.kill('SIGKILL');
  server = await serve(port);
  await mutate('sweepDataset', 'DatasetTransitionInput', { dataset: 'through' });
  const end = await watch.ended;
  expect(end.code).toBe(0);
  expect(end.stdout.match(/OPEN → BACKED_UP/g)).toHaveLength(1);
  expect(end.stdout.match(/BACKED_UP → CLOSED/g)).toHaveLength(1);
});

test('a port that is taken, and a database that is newer, are told in one line', async () => {
  const port = new URL(server.address).port;
  const taken = await runProgram(['serve'], {
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: home(),
    SWEEPBOOK_PORT: port,
    SWEEPBOOK_LOG_LEVEL: 'silent',
  });
  expect(taken.code).toBe(5);
  expect(taken.stderr.trim()).toMatch(/^sweepbook: cannot listen on .*set SWEEPBOOK_PORT$/);
  await database.sql(
    `insert into migrations (name, executed_at) values ('9999_of_the_future', now())`,
  );
  const newer = await runProgram(['migrate'], {
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: home(),
  });
  expect(newer.stderr.trim()).toMatch(
    /^sweepbook: the database is newer .*9999_of_the_future.*install a newer/,
  );
  expect(newer.code).toBe(5);
  await database.sql(`delete from migrations where name = '9999_of_the_future'`);
  const done = await runProgram(['migrate'], {
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: home(),
  });
  expect(done.code).toBe(0);
});
