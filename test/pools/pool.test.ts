import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import type { TestClient } from '../support/client.ts';
import { isInstalled } from '../support/installed.ts';
import { runProgram } from '../support/program.ts';
import { makeDataset, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { startTapeSite } from '../support/tape-site.ts';
import { until } from '../support/until.ts';
import { XrootdForTests } from '../support/xrootd.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-pool-'));
const hasXrootd = isInstalled('xrootd');
const fileBytes = 50_000;
const limit = 5 * fileBytes;
let xrootd: XrootdForTests | undefined;
let site: Awaited<ReturnType<typeof startTapeSite>>;
let server: TestServer;
let poolPath: string;
let rootUrl: string;
let paula: TestClient;
let cli: Record<string, string>;

beforeAll(async () => {
  xrootd = hasXrootd ? await XrootdForTests.start() : undefined;
  site = await startTapeSite(folder);
  poolPath = xrootd?.path('pool') ?? join(folder, 'pool');
  rootUrl = xrootd ? `${xrootd.url}//store/pool` : 'root://127.0.0.1:1//store/pool';
  const storeFile = join(folder, 'stores.yaml');
  writeFileSync(
    storeFile,
    `stores:
  - { name: near, kind: directory, root: ${folder}/near, default: true }
  - { name: cta, kind: tape-rest, root: "${site.url}", confirm: COPIED, askSeconds: 5 }
policies:
  - { minBytes: ${fileBytes + 1}, stores: [near] }
  - { stores: [cta] }
pools:
  - name: reading
    path: ${poolPath}
    urls: { root: "${rootUrl}", file: "file://${poolPath}/{path}" }
    sizeLimit: ${limit}
    filesPerPrincipal: 6
  - { name: closed, path: ${folder}/closed, urls: { file: file:///c }, sizeLimit: 1 KB, roles: [ADMIN] }
`,
  );
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile, SWEEPBOOK_LEASE_SECONDS: '3' });
  paula = await server.as('paula', 'USER');
  cli = { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: await server.tokenOf('paula', 'USER') };
});
afterAll(async () => {
  await server.close();
  await site.close();
  await xrootd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => runProgram(args, cli);

const lfnsOf = (name: string, count: number) =>
  Array.from({ length: count }, (_, at) => `/pool/${name}/${at}.root`);

/** A closed dataset whose files lie on tape alone. */
async function onTape(name: string, fileCount = 1): Promise<string[]> {
  const lfns = lfnsOf(name, fileCount);
  for (const lfn of lfns) {
    const file = await makeFile(join(folder, 'disk', lfn), lfn, fileBytes);
    await registerMerged(server.operator, [{ ...file, lfn }]);
  }
  await startSweep(server.operator, name, lfns);
  await until(
    `${name} is closed`,
    async () => (await statusOf(server.operator, name)) === 'CLOSED',
  );
  for (const lfn of lfns) site.purge(lfn.slice(1));
  return lfns;
}
/** A file that the store without tape holds, in an open dataset. */
async function onDisk(lfn: string): Promise<void> {
  const file = await makeFile(join(folder, 'disk', lfn), lfn, fileBytes + 10_000);
  await registerMerged(server.operator, [{ ...file, lfn }]);
  await mutate(server.operator, 'requestBackup', { lfns: [lfn], store: 'near' }, 'requestedCount');
  const isThere = async () => (await whereIs(server.operator, lfn))?.locality === 'ONLINE';
  await until(`${lfn} is backed up`, isThere);
}
const bring = (lfns: readonly string[]) => {
  for (const lfn of lfns) site.bring(lfn.slice(1));
};

interface Request {
  readonly number: number;
  readonly releasedAt: string | null;
  readonly progress: Record<string, unknown>;
}
const requestFields = `number releasedAt progress { state online recalling waiting failed gone copiedBytes lastError }`;

const stage = (client: TestClient, input: object) =>
  mutate<{ changed: boolean; request: Request }>(
    client,
    'stageFiles',
    { pool: 'reading', ...input },
    `changed request { ${requestFields} }`,
  );
const release = (client: TestClient, request: number, lfns?: readonly string[]) =>
  mutate<{ changed: boolean; request: Request }>(
    client,
    'releaseStage',
    { request: String(request), lfns },
    `changed request { ${requestFields} }`,
  );

async function requestOf(client: TestClient, number: number): Promise<Request | null> {
  const { stageRequest } = await client.call<{ stageRequest: Request | null }>(
    `query ($id: ID!) { stageRequest(id: $id) { ${requestFields} } }`,
    { id: String(number) },
  );
  return stageRequest;
}
const reaches = (number: number, wanted: Record<string, unknown>): Promise<Request> =>
  until(`request ${number} is ${JSON.stringify(wanted)}`, async () => {
    const found = await requestOf(server.operator, number);
    const isThere = Object.entries(wanted).every(([key, value]) => found?.progress[key] === value);
    return isThere && found !== null && found;
  });
const copyOf = async (lfn: string): Promise<string | undefined> =>
  (
    await server.database.sql<{ status: string }>(
      `select c.status from pool_copies c join files f on f.id = c.file_id where f.lfn = $1`,
      [lfn],
    )
  )[0]?.status;

interface Where {
  readonly locality: string;
  readonly accessUrls: { protocol: string; url: string; place: string }[];
}
async function whereIs(client: TestClient, lfn: string): Promise<Where | null> {
  const { file } = await client.call<{ file: Where | null }>(
    'query ($lfn: String!) { file(lfn: $lfn) { locality accessUrls { protocol url place } } }',
    { lfn },
  );
  return file;
}
const exported = async (name: string, query: string) => {
  const response = await fetch(`${server.address}/export/datasets/${name}/files?${query}`);
  return { status: response.status, text: await response.text() };
};
/** Whatever was pinned: the next test begins with a pool that has room. */
async function releaseAll(): Promise<void> {
  const { stageRequests } = await server.operator.call<{ stageRequests: { nodes: Request[] } }>(
    `{ stageRequests(filter: { isReleased: false }, first: 200) { nodes { ${requestFields} } } }`,
  );
  for (const { number } of stageRequests.nodes) await release(server.operator, number);
}

test('a dataset comes from tape into the pool, and is read there', async () => {
  const [lfn = ''] = await onTape('from-tape');
  expect(await whereIs(paula, lfn)).toEqual({ locality: 'NEARLINE', accessUrls: [] });
  expect(await exported('from-tape', 'protocol=root')).toMatchObject({ status: 409 });
  const asked = await run('stage', '--dataset', 'from-tape', '--pool', 'reading', '--pin', '7d');
  expect(asked).toMatchObject({ code: 0, stderr: '' });
  const number = Number(/request (\d+)/.exec(asked.stdout)?.[1]);
  await reaches(number, { recalling: 1, state: 'RUNNING' });
  const waiting = run('stage', 'watch', String(number));
  bring([lfn]);
  const end = await waiting;
  expect(end).toMatchObject({ code: 0, stderr: '' });
  expect(end.stdout).toMatch(/1 of 1 file online, pinned until \d{4}-/);

  const bytes = readFileSync(join(folder, 'disk', lfn));
  expect(readFileSync(join(poolPath, lfn)).equals(bytes)).toBe(true);
  expect(await whereIs(paula, lfn)).toEqual({
    locality: 'ONLINE_AND_NEARLINE',
    accessUrls: [
      { protocol: 'ROOT', url: `${rootUrl}${lfn}`, place: 'reading' },
      { protocol: 'FILE', url: `file://${poolPath}${lfn}`, place: 'reading' },
    ],
  });
  expect((await exported('from-tape', 'protocol=root')).text).toContain(`${rootUrl}${lfn}\n`);
  const { dataset } = await paula.call<{ dataset: { onlineShare: object } }>(
    '{ dataset(name: "from-tape") { onlineShare { onlineFiles onlineBytes share } } }',
  );
  expect(dataset.onlineShare).toEqual({ onlineFiles: 1, onlineBytes: fileBytes, share: 1 });
  await until('the tape store heard of it', () =>
    site.asked.some((line) => /release\/req/.test(line)),
  );
});

test.skipIf(!hasXrootd)(
  'xrdcp reads what was staged, and its checksum is the registered one',
  async () => {
    const [lfn = ''] = await onTape('by-xrootd');
    bring([lfn]);
    const { request } = await stage(paula, { lfns: [lfn] });
    await reaches(request.number, { state: 'ONLINE' });
    const url = (await whereIs(paula, lfn))?.accessUrls[0]?.url ?? '';
    const target = join(folder, 'read-by-a-job');
    const { adler32 } = await makeFile(join(folder, 'disk', lfn), lfn, fileBytes);
    execFileSync('xrdcp', ['--nopbar', '--cksum', `adler32:${adler32}`, url, target], {
      stdio: 'pipe',
    });
    expect(readFileSync(target).equals(readFileSync(join(folder, 'disk', lfn)))).toBe(true);
  },
);

test('asked for twice is asked for once, and the pins are longer', async () => {
  await releaseAll();
  const [lfn = ''] = await onTape('twice');
  const first = await stage(paula, { lfns: [lfn, lfn], pinSeconds: 600 });
  const again = await stage(paula, { lfns: [lfn], pinSeconds: 600 });
  expect(again).toMatchObject({ changed: false, request: { number: first.request.number } });
  bring([lfn]);
  await reaches(first.request.number, { state: 'ONLINE' });
  const longer = await stage(paula, { lfns: [lfn], pinSeconds: 6000 });
  expect(longer).toMatchObject({ changed: true, request: { number: first.request.number } });
  const other = await stage(server.operator, { dataset: 'twice' });
  expect(other.request.number).not.toBe(first.request.number);
  expect(other.request.progress['state']).toBe('ONLINE');
  const [row] = await server.database.sql<{ n: number; attempt: number; hours: number }>(
    `select count(*) over ()::int as n, attempt, round(extract(epoch from pinned_until - now()) / 3600)::int as hours
     from pool_copies c join files f on f.id = c.file_id where f.lfn = $1`,
    [lfn],
  );
  // The operator's default of a day is the longest.
  expect(row).toEqual({ n: 1, attempt: 1, hours: 24 });
});

test('what is pinned stays; what is not makes room, the longest unpinned first; full of pins is told', async () => {
  await releaseAll();
  const lfns = await onTape('full', 5);
  bring(lfns);
  const requests: number[] = [];
  for (const lfn of lfns) {
    const { request } = await stage(paula, { lfns: [lfn] });
    requests.push((await reaches(request.number, { state: 'ONLINE' })).number);
  }
  const [more = ''] = await onTape('one-more');
  bring([more]);
  const full = await refusalOf(stage(server.operator, { lfns: [more] }));
  expect(full.code).toBe('POOL_FULL');
  expect(full.facts).toMatchObject({
    limitBytes: limit,
    pinnedBytes: limit,
    askedBytes: fileBytes,
  });
  expect(await copyOf(more)).toBeUndefined();

  await release(paula, requests[3] ?? 0);
  expect(await release(paula, requests[1] ?? 0)).toMatchObject({ changed: true });
  expect(await release(paula, requests[1] ?? 0)).toMatchObject({ changed: false });
  const { request } = await stage(server.operator, { lfns: [more] });
  await reaches(request.number, { state: 'ONLINE' });
  expect(await Promise.all(lfns.map(copyOf))).toEqual([
    'ONLINE',
    'ONLINE',
    'ONLINE',
    'EVICTED',
    'ONLINE',
  ]);
  expect(existsSync(join(poolPath, lfns[3] ?? ''))).toBe(false);
  expect(await whereIs(paula, lfns[3] ?? '')).toEqual({ locality: 'NEARLINE', accessUrls: [] });
  expect(await statusOf(server.operator, 'full')).toBe('CLOSED');
  const { pools } = await paula.call<{ pools: object[] }>(
    '{ pools { name usedBytes pinnedBytes onlineCount protocols } }',
  );
  expect(pools[1]).toEqual({
    name: 'reading',
    usedBytes: limit,
    pinnedBytes: 4 * fileBytes,
    onlineCount: 5,
    protocols: ['ROOT', 'FILE'],
  });
  // And back it comes, when somebody asks.
  const back = await stage(paula, { lfns: [lfns[3] ?? ''] });
  await reaches(back.request.number, { state: 'ONLINE' });
  expect(await copyOf(lfns[1] ?? '')).toBe('EVICTED');
});

test('the last copy of a file is never evicted', async () => {
  await releaseAll();
  const lfns = await onTape('last-copy', 5);
  bring(lfns);
  const { request } = await stage(paula, { dataset: 'last-copy' });
  await reaches(request.number, { state: 'ONLINE' });
  await release(paula, request.number);
  // It cannot be backed up again as long as the store is away.
  site.state.isDown = true;
  const loss = { massStore: 'cta', lfns: [lfns[0]], reason: 'the tape is torn' };
  await mutate(server.operator, 'reportStorageLoss', loss);
  await onDisk('/pool/near.root');
  const next = await stage(server.operator, { lfns: ['/pool/near.root'] });
  await reaches(next.request.number, { state: 'ONLINE' });
  site.state.isDown = false;
  expect(await copyOf(lfns[0] ?? '')).toBe('ONLINE');
  expect(readdirSync(join(poolPath, 'pool/last-copy'))).toContain('0.root');
});

test('what is released before it is there is not brought', async () => {
  await releaseAll();
  const [lfn = ''] = await onTape('cancelled');
  const { request } = await stage(paula, { lfns: [lfn] });
  await reaches(request.number, { recalling: 1 });
  await release(paula, request.number);
  await until('the tape store heard of it', () =>
    site.asked.some((line) => line.endsWith('/cancel')),
  );
  expect(await copyOf(lfn)).toBe('CANCELLED');
  expect((await requestOf(paula, request.number))?.progress).toMatchObject({
    state: 'RELEASED',
    gone: 1,
  });
});

test('what the tape store refuses or forgets is asked for again, and given up in the end', async () => {
  await releaseAll();
  const [lfn = '', other = ''] = await onTape('trouble', 2);
  site.state.lies = { stageStatus: 503 };
  const { request } = await stage(paula, { lfns: [lfn] });
  await until(
    'it was asked',
    () => site.asked.filter((line) => line.endsWith('/stage')).length > 1,
  );
  site.state.lies = {};
  await reaches(request.number, { recalling: 1 });
  // It says nothing of this file, time and again.
  site.state.lies = { staged: () => [] };
  const looked = (more: string) =>
    server.database.sql<{ n: number }>(
      `update pool_copies set next_look_at = now()${more} where status = 'RECALLING' returning silent_looks as n`,
    );
  // It waited for long before: that is not counted against it.
  await looked(', look_count = 50');
  await until('it is waited for', async () => (await looked(''))[0]?.n === 2);
  await looked(', silent_looks = 20');
  const recalls = () => site.asked.filter((line) => line === 'POST /api/v1/stage').length;
  const before = recalls();
  await until('it is asked anew', () => recalls() > before);
  site.state.lies = {};
  await reaches(request.number, { recalling: 1 });
  site.forget();
  bring([lfn]);
  await reaches(request.number, { state: 'ONLINE' });
  site.state.lies = {
    staged: (honest) =>
      honest.map((entry) => ({ path: entry.path, state: 'FAILED', error: 'no drive' })),
  };
  const failing = await stage(paula, { lfns: [other] });
  // Four attempts are behind it.
  await server.database.sql(`update pool_copies set failure_count = 4
    where file_id = (select id from files where lfn = '${other}')`);
  const end = await reaches(failing.request.number, { state: 'FAILED' });
  expect(end.progress['lastError']).toBe('the store does not bring it from tape: no drive');
  site.state.lies = {};
  bring([other]);
  expect((await stage(paula, { lfns: [other] })).changed).toBe(true);
  await reaches(failing.request.number, { state: 'ONLINE' });
});

test('a crash of the pool is no loss: nothing is bad, and it is staged again', async () => {
  await releaseAll();
  const [lfn = ''] = await onTape('crash');
  bring([lfn]);
  const { request } = await stage(paula, { lfns: [lfn] });
  await reaches(request.number, { state: 'ONLINE' });
  rmSync(join(poolPath, lfn));
  await mutate(server.operator, 'reportStorageLoss', {
    volume: 'reading',
    reason: 'the disk is dead',
  });
  expect(await copyOf(lfn)).toBe('LOST');
  expect((await whereIs(paula, lfn))?.locality).toBe('NEARLINE');
  expect(await statusOf(server.operator, 'crash')).toBe('CLOSED');
  await stage(paula, { lfns: [lfn] });
  await reaches(request.number, { state: 'ONLINE' });
  expect(existsSync(join(poolPath, lfn))).toBe(true);
  const [item] = await server.database.sql<{ status: string }>(
    `select i.status from incident_items i join files f on f.id = i.file_id where f.lfn = $1`,
    [lfn],
  );
  expect(item).toEqual({ status: 'RESTORED' });
});

describe('who may what', () => {
  beforeAll(async () => void (await makeDataset(server.operator, 'pool-open', 'OPEN')));
  test.each<[string, object, string]>([
    ['a file of an open dataset', { lfns: ['/scene/pool-open/file000.root'] }, 'NOT_FOUND'],
    ['a dataset that is not published', { dataset: 'pool-open' }, 'NOT_FOUND'],
    ['a pool for others', { dataset: 'from-tape', pool: 'closed' }, 'FORBIDDEN'],
    ['no pool of this name', { dataset: 'from-tape', pool: 'none' }, 'NOT_FOUND'],
    ['one of several pools', { dataset: 'from-tape', pool: null }, 'BAD_USER_INPUT'],
    ['a pin that is too long', { dataset: 'from-tape', pinSeconds: 99_999_999 }, 'BAD_USER_INPUT'],
    ['files and a dataset', { dataset: 'from-tape', lfns: ['/a'] }, 'BAD_USER_INPUT'],
    ['nothing', {}, 'BAD_USER_INPUT'],
  ])('%s is refused', async (_what, input, code) => {
    expect((await refusalOf(stage(paula, input))).code).toBe(code);
  });

  test('a request is seen and released by who made it, and by operators', async () => {
    await releaseAll();
    const { request } = await stage(paula, { dataset: 'from-tape' });
    const uma = await server.as('uma', 'USER');
    expect(await requestOf(uma, request.number)).toBeNull();
    expect((await refusalOf(release(uma, request.number))).code).toBe('NOT_FOUND');
    expect((await refusalOf(stage(server.anonymous, { dataset: 'from-tape' }))).code).toBe(
      'UNAUTHENTICATED',
    );
    expect(await requestOf(server.operator, request.number)).not.toBeNull();
    expect(await release(server.operator, request.number)).toMatchObject({ changed: true });
  });

  test('nobody wants more files than the pool allows', async () => {
    await releaseAll();
    await stage(paula, { dataset: 'from-tape' });
    const both = [...lfnsOf('full', 5), ...lfnsOf('trouble', 2)];
    const refusal = await refusalOf(stage(paula, { lfns: both }));
    expect(refusal).toMatchObject({ code: 'LIMIT_REACHED', facts: { most: 6, wanted: 8 } });
  });
});
