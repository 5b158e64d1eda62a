import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adler32 } from 'hash-wasm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startProgram } from '../support/program.ts';
import { makeDataset, mutate, register, type TestFile } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-pool-kill-'));
const storeFile = join(folder, 'stores.yaml');
const fileBytes = 4_000_000;
let server: TestServer;

beforeAll(async () => {
  writeFileSync(
    storeFile,
    `stores: [{ name: near, kind: directory, root: ${folder}/near }]
pools:
  - { name: reading, path: ${folder}/pool, urls: { file: "file://${folder}/pool" }, sizeLimit: ${4 * fileBytes} }
`,
  );
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile, SWEEPBOOK_WORKER: 'false' });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function largeFile(lfn: string): Promise<TestFile> {
  const bytes = randomBytes(fileBytes);
  const description = {
    lfn,
    kind: 'MERGED_FILE',
    sizeBytes: bytes.length,
    adler32: await adler32(bytes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
    eventCount: 1,
  };
  return { lfn, bytes, description };
}
async function published(name: string, count: number): Promise<TestFile[]> {
  const files = await Promise.all(
    Array.from({ length: count }, (_, at) => largeFile(`/kill/${name}${at}.root`)),
  );
  await register(server.operator, ...files);
  return makeDataset(server.operator, name, 'CLOSED', { files });
}
const stage = async (dataset: string): Promise<number> =>
  (
    await mutate<{ request: { number: number } }>(
      server.operator,
      'stageFiles',
      { dataset },
      'request { number }',
    )
  ).request.number;
const inState = async (status: string): Promise<number> =>
  (
    await server.database.sql<{ n: number }>(
      'select count(*)::int as n from pool_copies where status = $1',
      [status],
    )
  )[0]?.n ?? 0;
const startWorker = () =>
  startProgram(['worker'], {
    DATABASE_URL: server.database.url,
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_STORES: storeFile,
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
  });
const filesIn = (path: string) =>
  readdirSync(path, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [entry.name] : [],
  );

test('workers die by kill -9 while they stage and evict: another one goes on, and nothing is left behind', async () => {
  const first = await published('a', 4);
  const request = await stage('a');
  const dying = startWorker();
  const isBegun = async () => (await inState('COPYING')) + (await inState('ONLINE')) > 0;
  await until('copies are under way', isBegun, 60_000);
  await dying.kill('SIGKILL');

  const second = await published('b', 2);
  await mutate(server.operator, 'releaseStage', { request: String(request) });
  await stage('b');
  const alive = startWorker();
  await until('the room is being made', async () => (await inState('EVICTED')) > 0, 60_000);
  await alive.kill('SIGKILL');
  const last = startWorker();
  const isThere = async () => {
    const found = await server.database.sql<{ n: number }>(
      `select count(*)::int as n from pool_copies c join files f on f.id = c.file_id
       where f.lfn like '/kill/b%' and c.status = 'ONLINE'`,
    );
    const isIdle = (await inState('COPYING')) + (await inState('EVICTING')) === 0;
    return found[0]?.n === 2 && isIdle;
  };
  await until('all is as it was asked for', isThere, 60_000);
  await last.kill('SIGTERM');

  for (const { lfn, bytes } of second) {
    expect(readFileSync(join(folder, 'pool', lfn)).equals(bytes)).toBe(true);
  }
  const online = await server.database.sql<{ lfn: string }>(
    `select f.lfn from pool_copies c join files f on f.id = c.file_id where c.status = 'ONLINE'`,
  );
  const names = online.map(({ lfn }) => lfn.slice('/kill/'.length));
  expect(filesIn(join(folder, 'pool')).toSorted()).toEqual(
    ['.sweepbook-pool', ...names].toSorted(),
  );
  expect(names.length).toBeLessThanOrEqual(first.length);
}, 120_000);
