import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readStoreFile } from '../../src/storage/store-file.ts';
import { makeFile, registerMerged } from '../support/files.ts';
import { runProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-stores-'));
const storeFile = join(folder, 'stores.yaml');
let server: TestServer;
let token: string;
beforeAll(async () => {
  writeFileSync(
    storeFile,
    `stores:
  - { name: near, kind: directory, root: ${folder}/near, default: true }
  - { name: far, kind: directory, root: ${folder}/far, concurrency: 2, attempts: 5,
      retry: { firstSeconds: 3600, longestSeconds: 7200, factor: 1.5, tapeHours: 12 } }
policies: [{ stores: [far, near] }]
`,
  );
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile });
  token = await server.tokenOf('olga', 'OPERATOR');
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const run = (...args: string[]) =>
  runProgram(args, { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token }, { cwd: folder });

describe('a file that owes two copies', () => {
  const confirmedIn = (stdout: string) =>
    [...stdout.matchAll(/^confirmed .* (\w+):two\/\S+$/gm)].map(([, store]) => store).toSorted();
  const backUp = async (name: string, ...more: string[]) => {
    await makeFile(join(folder, name), name);
    return run('backup', name, '--lfn-prefix', '/two', ...more);
  };

  test('is waited for until both are confirmed', async () => {
    renameSync(join(folder, 'far'), join(folder, 'away'));
    mkdirSync(join(folder, 'far'));
    const early = await backUp('one.root', '--timeout', '2');
    expect(early.code).toBe(5);
    expect(confirmedIn(early.stdout)).toEqual(['near']);
    expect(early.stderr).toMatch(/after 2 s 0 of 1 file confirmed/);
    rmSync(join(folder, 'far'), { recursive: true });
    renameSync(join(folder, 'away'), join(folder, 'far'));
    const end = await backUp('one.root');
    expect(end).toMatchObject({ code: 0, stderr: '' });
    expect(confirmedIn(end.stdout)).toEqual(['far', 'near']);
  });

  test('has failed when one has, and the other one is told', async () => {
    await makeFile(join(folder, 'far/two/taken.root'), 'something else');
    const end = await backUp('taken.root');
    expect(end.code).toBe(1);
    expect(confirmedIn(end.stdout)).toEqual(['near']);
    expect(end.stderr).toMatch(/\/two\/taken\.root: backup to far FAILED/);
  });

  test('is copied to one by --direct, and workers make the other at once', async () => {
    const end = await backUp('direct.root', '--direct', '--timeout', '60');
    expect(end).toMatchObject({ code: 0, stderr: '' });
    expect(confirmedIn(end.stdout)).toEqual(['far', 'near']);
  });
});

test('a store is tested, and each answer is told', async () => {
  const end = await run('store', 'check', 'far');
  expect(end).toMatchObject({ code: 0, stderr: '' });
  const lines = end.stdout.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^far is up: /);
  expect(lines[1]).toMatch(/^self-test from \S+ passed .*; confirms with READ_BACK$/);
  expect(lines[2]).toBe(
    'attempts: 5, 3600 s to 7200 s, 1.5 times as long each time; tape is late after 12 h',
  );
  expect(lines.slice(3)).toHaveLength(5);
  for (const line of lines.slice(3)) expect(line).toMatch(/^ {2}right {2}/);
  const list = await run('store', 'list');
  expect(list.stdout).toMatch(/near \(default\) +directory +local +up +READ_BACK/);
  expect(await run('store', 'check', 'none')).toMatchObject({ code: 4 });
});

test('a store tries again when it says, not when the server does', async () => {
  const made = await makeFile(join(folder, 'gone.root'), 'gone');
  await registerMerged(server.operator, [{ ...made, lfn: '/two/gone.root' }]);
  rmSync(made.path);
  await mutate(
    server.operator,
    'requestBackup',
    { lfns: ['/two/gone.root'], store: 'far' },
    'results { lfn }',
  );
  const wait = async () =>
    (
      await server.database.sql<{ seconds: number }>(
        `select extract(epoch from next_attempt_at - now())::float as seconds from backup_records
         where last_error_code = 'SOURCE_UNREADABLE' and failure_count = 1`,
      )
    )[0]?.seconds;
  await until('it has failed once', async () => (await wait()) !== undefined);
  expect(await wait()).toBeGreaterThan(300);
});

test('a store that left the store file is told, with what depends on it', async () => {
  await server.database.sql(`update mass_stores set is_configured = false where name = 'far'`);
  const list = await run('store', 'list');
  expect(list.stdout).toMatch(
    /far +directory +local +not in the store file +READ_BACK .* 2 +1 +5, /,
  );
  const refused = await run('backup', 'one.root', '--lfn-prefix', '/two', '--store', 'far');
  expect(refused).toMatchObject({ code: 4, stderr: expect.stringContaining('put it back') });
  const ready = (await (await fetch(`${server.address}/readyz`)).json()) as { checks: object[] };
  expect(ready.checks).toContainEqual({
    name: 'store file',
    isOk: true,
    detail: expect.stringContaining('does not have far: put them back'),
  });
  await server.database.sql(`update mass_stores set is_configured = true where name = 'far'`);
});

test('a store that is not there has not passed', async () => {
  rmSync(join(folder, 'far'), { recursive: true });
  mkdirSync(join(folder, 'far'));
  const end = await run('store', 'check', 'far');
  expect(end.code).toBe(1);
  expect(end.stdout).toMatch(/^far is down: .*is it mounted\?\nself-test from \S+ cut off/);
});

test.each([
  ['stores: [', /store file .*stores\.broken/],
  ['stores:\n  - name: a\n    kind: disk\n    root: /x\n', /line 2, stores\.0\.kind/],
  [
    'stores:\n  - { name: a, kind: directory, root: relative }\n',
    /stores\.0\.root: .*absolute path/,
  ],
  ['stores:\n  - { name: a, kind: directory, root: /x, secret: 1 }\n', /stores\.0.*secret/],
  ['stores:\n  - { name: "../a", kind: directory, root: /x }\n', /stores\.0\.name/],
  [
    'stores:\n  - { name: a, kind: directory, root: /x }\n  - { name: a, kind: directory, root: /y }\n',
    /two stores are called a/,
  ],
  [
    'stores:\n  - { name: a, kind: directory, root: /x, default: true }\n  - { name: b, kind: directory, root: /y, default: true }\n',
    /more than one store is the default one/,
  ],
  ['stores: []\n', /stores/],
])('a store file like %j is refused with the place', (text, why) => {
  const broken = join(folder, 'stores.broken.yaml');
  writeFileSync(broken, text);
  expect(() => readStoreFile(broken)).toThrow(why);
});

test('a server does not start with a broken store file', async () => {
  const broken = join(folder, 'stores.broken.yaml');
  writeFileSync(broken, 'stores:\n  - name: a\n    kind: disk\n    root: /x\n');
  const end = await runProgram(
    ['serve'],
    { SWEEPBOOK_STORES: broken, SWEEPBOOK_HOME: join(folder, 'home'), SWEEPBOOK_PORT: '0' },
    { cwd: folder },
  );
  expect(end.code).not.toBe(0);
  expect(end.stderr).toMatch(/line 2, stores\.0\.kind/);
});
