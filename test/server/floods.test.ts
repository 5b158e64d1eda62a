import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultLimits, type LimitName, limitSetting } from '../../src/limits.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { documents, type Outcomes } from '../support/flood.ts';
import { startServe, type ServeProcess } from '../support/program.ts';

const MiB = 1024 * 1024;
/** How much of its memory the server may still have more after a flood than before all of them. */
const mostGrownBytes = 256 * MiB;
const all = process.env['TEST_ALL'] === '1';
/** A flood in full, or as much of it as shows the same. */
const size = (full: number, usual: number) => (all ? full : usual);

/** The same server as users start it, with short times and few points, so that each limit is met soon. */
const set: Partial<Record<LimitName, number>> = {
  headersSeconds: 1,
  initSeconds: 1,
  answerStallSeconds: 1,
  silentSocketsPerAddress: 50,
  anonymousRate: 20,
  refusalMilliseconds: 20,
  anonymousBurst: size(30_000, 2000),
  wrongTokenBurst: 50,
  connectionsPerAddress: size(1500, 150),
};
const limits = { ...defaultLimits, ...set };

let database: TestDatabase;
let home: string;
let server: ServeProcess;
let token: string;
let before: number;
beforeAll(async () => {
  database = await openTestDatabase();
  home = mkdtempSync(join(tmpdir(), 'sweepbook-floods-'));
  server = await startServe({
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: home,
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_LOG_LEVEL: 'error',
    ...Object.fromEntries(
      Object.entries(set).map(([name, value]) => [limitSetting(name as LimitName), String(value)]),
    ),
  });
  token = readFileSync(join(home, 'operator-token'), 'utf8').trim();
  before = (await measured()).rss;
});
afterAll(async () => {
  await server.kill('SIGTERM');
  await database.close();
  rmSync(home, { recursive: true, force: true });
});

/** As an operator's Prometheus sees it. */
async function measured(): Promise<{ rss: number; sockets: number }> {
  const response = await fetch(`${server.address}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const metrics = await response.text();
  const read = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1]);
  return { rss: read('process_resident_memory_bytes'), sockets: read('sweepbook_websockets') };
}

/** Floods from another process and address, while a usual client asks on: what came back, and the bad news of the client. */
async function flood(kind: string, count: number, as?: string): Promise<Outcomes> {
  const program = fileURLToPath(new URL('../support/flood.ts', import.meta.url));
  const args = [server.address, kind, String(count), ...(as ? [as] : [])];
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let isOver = false;
  const outcomes = text(child.stdout).finally(() => (isOver = true));
  const asked: number[] = [];
  while (!isOver) {
    const response = await fetch(`${server.address}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: '{"query":"{ viewer { name } datasets(first: 5) { totalCount } }"}',
      signal: AbortSignal.timeout(20_000),
    });
    expect(await response.json()).toEqual({
      data: { viewer: { name: 'operator' }, datasets: { totalCount: 0 } },
    });
    asked.push(response.status);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(new Set(asked)).toEqual(new Set([200]));
  const { rss } = await measured();
  expect(rss, `${kind}: memory in bytes`).toBeLessThan(before + mostGrownBytes);
  return JSON.parse(await outcomes) as Outcomes;
}

const refusals: Readonly<Record<string, string>> = { 'circle-of-fragments': 'BAD_USER_INPUT' };

describe.each(['http', 'ws'])('over %s', (road) => {
  test('documents that are bombs are refused, each by its code', async () => {
    const found = await flood(`${road}:each`, size(50, 3));
    const codes = Object.keys(documents).map((name) => [
      name,
      refusals[name] ?? 'QUERY_TOO_COMPLEX',
    ]);
    expect(found).toEqual(
      Object.fromEntries(
        codes.map(([name, code]) => [
          `${name}: ${road === 'ws' ? '' : code === 'BAD_USER_INPUT' ? '200 ' : '400 '}${code}`,
          size(50, 3),
        ]),
      ),
    );
  });
});

test('bodies without an end, and frames that are too long, are not taken', async () => {
  for (const [as, refusal] of [
    [token, '413 BAD_USER_INPUT'],
    [undefined, '401 UNAUTHENTICATED'],
  ] as const) {
    // Who goes on sending may not come to read the refusal.
    const {
      [refusal]: told = 0,
      EPIPE: cut = 0,
      ECONNRESET: reset = 0,
    } = await flood('endless-bodies', 4, as);
    expect(told + cut + reset, refusal).toBe(4);
  }
  expect(await flood('giant-frames', size(8, 1))).toEqual({ 1009: size(8, 1) });
});

test('WebSockets that say nothing: a few wait, all are closed', async () => {
  const count = size(2000, 200);
  const { 4408: waited = 0, 'HTTP 429': refused } = await flood('silent-sockets', count);
  expect(waited).toBeGreaterThanOrEqual(limits.silentSocketsPerAddress);
  expect(refused).toBe(count - waited);
  expect((await measured()).sockets).toBe(0);
});

test('requests that come byte by byte are ended in time, and one address has so many connections', async () => {
  const slow = size(1000, 100);
  expect(await flood('loris', slow)).toEqual({ 408: slow });
  const more = limits.connectionsPerAddress + 20;
  const found = await flood('loris', more);
  expect(found['408'] ?? 0).toBeLessThanOrEqual(limits.connectionsPerAddress);
  expect((found['408'] ?? 0) + (found['429'] ?? 0)).toBe(more);
});

test('who takes no answers holds little', async () => {
  await flood('deaf-readers', size(100, 20));
});

test('who asks for the schema again and again is answered, each time in his own words, until he has asked too much', async () => {
  const count = size(2000, 30);
  const { '200 data': answered = 0, '429 RATE_LIMITED': refused = 0 } = await flood(
    'curious',
    count,
  );
  expect(answered).toBeGreaterThan(0);
  expect(answered + refused).toBe(count);
});

test('who asks for as much as he may, many times at once, is answered, and others meanwhile', async () => {
  const count = size(200, 30);
  expect(await flood('greedy', count, token)).toEqual({ '200 data': count });
});

test('who asks too much waits, and wrong tokens are looked up so often', async () => {
  // More than an address ever has.
  const count = size(32_000, 2200);
  const found = await flood('hammer', count);
  const { '200 data': answered = 0, '429 RATE_LIMITED': refused = 0 } = found;
  expect(answered + refused, JSON.stringify(found)).toBe(count);
  expect(refused).toBeGreaterThan(0);
  const wrong = await flood('wrong-tokens', 300);
  expect(Object.keys(wrong).toSorted()).toEqual(['401 UNAUTHENTICATED', '429 RATE_LIMITED']);
});

test('after all of it the server has nothing to complain of, and goes down in order', async () => {
  const { code, stderr } = await server.kill('SIGTERM');
  expect(code).toBe(0);
  expect(stderr).not.toMatch(/\n\s+at /);
});
