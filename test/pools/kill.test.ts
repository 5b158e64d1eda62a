import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { poolsHere } from '../../src/pools/pools.service.ts';
import { removeEvicted, settleLeftAside } from '../../src/worker/evicting.ts';
import { makeFile, registerMerged } from '../support/files.ts';
import { startProgram, type RunningProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { startTapeSite } from '../support/tape-site.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-pool-kill-'));
const storeFile = join(folder, 'stores.yaml');
const pool = join(folder, 'pool');
const fileBytes = 300_000;
const limit = 5 * fileBytes;
const lfnOf = (name: string) => `/kill/${name}.root`;
let site: Awaited<ReturnType<typeof startTapeSite>>;
let server: TestServer;
let gate: pg.Client;
let dying: RunningProgram;
let other: RunningSweepbook | undefined;

/** While it is shut, these two steps are not written down. */
const gates = `
  create function gate() returns trigger language plpgsql as $$
  declare at text := (select new.status || f.lfn from files f where f.id = new.file_id);
  begin
    if at in ('ONLINE${lfnOf('whole')}', 'EVICTED${lfnOf('old')}') then perform pg_advisory_xact_lock_shared(77); end if;
    return new;
  end $$;
  create trigger a_gate before update on pool_copies for each row when (new.status <> old.status) execute function gate()`;

const settings = {
  SWEEPBOOK_STORES: storeFile,
  SWEEPBOOK_LEASE_SECONDS: '2',
  SWEEPBOOK_RETRY_BASE_MS: '50',
};

beforeAll(async () => {
  site = await startTapeSite(folder);
  writeFileSync(
    storeFile,
    `stores: [{ name: cta, kind: tape-rest, root: "${site.url}", confirm: COPIED, askSeconds: 60 }]
pools: [{ name: reading, path: ${pool}, urls: { file: "file://${pool}" }, sizeLimit: ${limit}, concurrency: 3 }]
`,
  );
  server = await startTestServer({ ...settings, SWEEPBOOK_WORKER: 'false' });
  await server.database.sql(gates);
  gate = new pg.Client({ connectionString: server.database.url });
  await gate.connect();
  dying = startProgram(['worker'], {
    ...settings,
    DATABASE_URL: server.database.url,
    SWEEPBOOK_HOME: join(folder, 'home'),
  });
});
afterAll(async () => {
  await dying.kill('SIGKILL');
  await other?.close();
  await gate.end();
  await server.database.sql('drop trigger a_gate on pool_copies; drop function gate()');
  await server.close();
  await site.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Registered and confirmed, without a worker. */
async function backedUp(...names: string[]): Promise<void> {
  const files = names.map(async (name) => ({
    ...(await makeFile(join(folder, 'disk', name), name, fileBytes)),
    lfn: lfnOf(name),
  }));
  await registerMerged(server.operator, await Promise.all(files));
  const { results } = await mutate<{ results: { lfn: string; upload: { path: string } }[] }>(
    server.operator,
    'requestBackup',
    { lfns: names.map(lfnOf), direct: true },
    'results { lfn upload { path } }',
  );
  for (const [at, { lfn, upload }] of results.entries()) {
    copyFileSync(join(folder, 'disk', names[at] ?? ''), upload.path.replace(site.url, site.root));
    await mutate(server.operator, 'recordBackup', { lfn, path: upload.path });
  }
}
const stage = async (...names: string[]): Promise<string> =>
  (
    await mutate<{ request: { id: string } }>(
      server.operator,
      'stageFiles',
      { lfns: names.map(lfnOf) },
      'request { id }',
    )
  ).request.id;
const release = (request: string) =>
  mutate(server.operator, 'releaseStage', { request }, 'changed');

/** Of each of these files: how far its copy is, and the how many-th attempt that was. */
async function copiesOf(...names: string[]): Promise<string[]> {
  const found = await server.database.sql<{ copy: string }>(
    `select c.status || ' ' || c.attempt as copy from pool_copies c join files f on f.id = c.file_id
     where f.lfn = any ($1) order by array_position($1, f.lfn)`,
    [names.map(lfnOf)],
  );
  return found.map(({ copy }) => copy);
}
const waitAtGate = async () =>
  (
    await server.database.sql<{ n: number }>(
      `select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = 77 and not granted`,
    )
  )[0]?.n;

/** What lies in the pool, by name. Never more than it may hold, whatever is under way. */
function inPool(): string[] {
  const entries = readdirSync(pool, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const stat = statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false });
    return stat?.isFile() === true && entry.name !== '.sweepbook-pool'
      ? [{ name: entry.name, stat }]
      : [];
  });
  // A file that is given its name has two for a moment.
  const bytes = new Map(entries.map(({ stat }) => [stat.ino, stat.size]));
  expect([...bytes.values()].reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(limit);
  return entries.map(({ name }) => name).toSorted();
}
/** Those of these files that jobs are sent to. */
async function told(...names: string[]): Promise<string[]> {
  const { files } = await server.operator.call<{
    files: { nodes: { lfn: string; accessUrls: { url: string }[] }[] };
  }>(
    'query ($in: [String!]) { files(filter: { lfn: { in: $in } }, first: 9) { nodes { lfn accessUrls(protocol: FILE) { url } } } }',
    { in: names.map(lfnOf) },
  );
  const urls = new Map(files.nodes.map((file) => [file.lfn, file.accessUrls]));
  return names.filter((name) =>
    urls.get(lfnOf(name))?.some(({ url }) => url === `file://${pool}${lfnOf(name)}`),
  );
}
const areOnline = (...names: string[]) =>
  until(`${names.join()} are online`, async () => {
    inPool();
    return (await copiesOf(...names)).every((copy) => copy.startsWith('ONLINE'));
  });

/** A worker that brought some, and dies when it has half of one, has one whole that is not written down, and one gone. */
test('a worker dies by kill -9 amid copies and an eviction: nothing is told that is not, and another one goes on', async () => {
  await backedUp('kept', 'old', 'idle', 'half', 'whole', 'next');
  const pin = await stage('kept');
  const unpinned = [await stage('old'), await stage('idle')];
  await areOnline('kept', 'old', 'idle');
  for (const request of unpinned) await release(request);
  await gate.query('select pg_advisory_lock(77)');
  site.state.lies = { stalls: (path) => path.endsWith(lfnOf('half')) };
  const halfway = await stage('half', 'whole');
  await until('one is half there', () => inPool().some((name) => name.startsWith('.sweepbook-p')));
  await until('one is whole, without a word', async () => (await waitAtGate()) === 1);
  const last = await stage('next');
  await until('one is gone, without a word', async () => (await waitAtGate()) === 2);
  await dying.kill('SIGKILL');
  const left = inPool().filter((name) => !name.startsWith('.'));
  expect(left).toEqual(['idle.root', 'kept.root', 'whole.root']);
  const states = await copiesOf('kept', 'old', 'idle', 'half', 'whole', 'next');
  expect(states).toEqual([
    'ONLINE 1',
    'EVICTING 3',
    'ONLINE 1',
    'COPYING 1',
    'COPYING 1',
    'REQUESTED 0',
  ]);
  expect(await told('kept', 'old', 'idle', 'half', 'whole', 'next')).toEqual(['kept', 'idle']);

  site.state.lies = {};
  await gate.query('select pg_advisory_unlock(77)');
  // Wanted again before anybody knows that it is gone.
  const again = await stage('old');
  other = await openSweepbook(
    readConfig({
      ...settings,
      DATABASE_URL: server.database.url,
      SWEEPBOOK_HOME: join(folder, 'home'),
      SWEEPBOOK_PORT: '0',
    }),
    pino({ level: 'silent' }),
  );
  const wanted = ['kept', 'old', 'half', 'whole', 'next'];
  await areOnline(...wanted);
  expect(inPool()).toEqual(wanted.map((name) => `${name}.root`).toSorted());
  for (const name of wanted) {
    const there = readFileSync(join(pool, lfnOf(name)));
    expect(there.equals(readFileSync(join(folder, 'disk', name))), name).toBe(true);
  }
  expect(await told(...wanted, 'idle')).toEqual(wanted);
  expect(await copiesOf('kept', 'idle', 'half', 'whole')).toEqual([
    'ONLINE 1',
    'EVICTED 3',
    'ONLINE 2',
    'ONLINE 2',
  ]);
  const { stageRequests } = await server.operator.call<{ stageRequests: { nodes: object[] } }>(
    '{ stageRequests(filter: { isReleased: false }, first: 9) { nodes { id progress { state } } } }',
  );
  expect(stageRequests.nodes).toHaveLength(4);
  for (const id of [pin, halfway, last, again]) {
    expect(stageRequests.nodes).toContainEqual({ id, progress: { state: 'ONLINE' } });
  }
}, 60_000);

/** Frozen amid an eviction for longer than its lease: others have evicted, and brought the file anew. */
test('a worker that wakes up late hurts no later copy, wherever it was frozen, and if it dies then', async () => {
  const db = server.database.db.fork();
  const [place] = await poolsHere(db);
  const [copy] = await server.database.sql<{ id: number; path: string }>(
    `select c.id, c.path from pool_copies c join files f on f.id = c.file_id where f.lfn = $1`,
    [lfnOf('old')],
  );
  if (!place || !copy) throw new Error('no copy in a pool');
  const log = pino({ level: 'silent' });
  const frozen = { db, log, pool: place, name: 'frozen', leaseSeconds: 60 };
  const claimed = { copyId: copy.id, attempt: 3, path: copy.path };
  expect(await removeEvicted(frozen, [claimed], performance.now())).toEqual({ gone: 0, left: 0 });
  const isWhole = () => readFileSync(copy.path).equals(readFileSync(join(folder, 'disk', 'old')));
  expect(isWhole()).toBe(true);
  // Killed when it had taken the file off its name.
  const aside = join(pool, '.evicting', `p${copy.id}.a3`);
  renameSync(copy.path, aside);
  await settleLeftAside(frozen);
  expect(isWhole()).toBe(true);
  // What it took off was the old one, and the new one is there.
  writeFileSync(aside, 'old');
  await settleLeftAside(frozen);
  expect(isWhole()).toBe(true);
  expect(existsSync(aside)).toBe(false);
});
