import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openReadPool } from '../../src/database/read-pool.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { makeDataset } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

/** Stands between a server and PostgreSQL, to be taken away. */
class Wire {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  port = 0;

  constructor(private readonly to: URL) {}

  async up(): Promise<void> {
    const server = createServer((near) => {
      const far = connect(Number(this.to.port), this.to.hostname);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.sockets.add(one);
        one.on('error', () => other.destroy()).on('close', () => other.destroy());
        one.pipe(other);
      }
    });
    this.server = server;
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
  }

  async down(): Promise<void> {
    const { server } = this;
    const closed = new Promise((resolve) => server?.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
    await closed;
  }
}

let plain: TestServer;
let fast: RunningSweepbook;
let wire: Wire;

beforeAll(async () => {
  const settings = { SWEEPBOOK_WORKER: 'false', SWEEPBOOK_QUERY_SECONDS: '1' };
  plain = await startTestServer({ ...settings, SWEEPBOOK_FAST_READS: 'false' });
  await makeDataset(plain.operator, 'one', 'CLOSED');
  const url = new URL(plain.database.url);
  wire = new Wire(url);
  await wire.up();
  const byWire = new URL(url);
  byWire.hostname = '127.0.0.1';
  byWire.port = String(wire.port);
  fast = await openSweepbook(
    readConfig({
      ...settings,
      SWEEPBOOK_HOME: join(plain.folder, 'fast'),
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: byWire.href,
    }),
    pino({ level: 'silent' }),
  );
});
afterAll(async () => {
  await fast.close();
  await wire.down();
  await plain.close();
});

interface Answer {
  readonly body: { errors?: { extensions: { code: string; facts: object } }[] };
  readonly isFast: boolean;
}

async function ask(address: string, query: string): Promise<Answer> {
  const response = await fetch(`${address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  const body = (await response.json()) as Answer['body'];
  return { body, isFast: response.headers.has('server-timing') };
}

const question = '{ datasets { totalCount nodes { name } } dataset(name: "one") { fileCount } }';
const answered = { data: { datasets: { totalCount: 1 }, dataset: { fileCount: 1 } } };

/** Asks until the fast road answers, which never takes long. */
async function untilFast(): Promise<Answer> {
  for (let tries = 0; ; tries++) {
    const answer = await ask(fast.address, question);
    if (answer.isFast || tries > 100) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test('switched off, the resolvers answer', async () => {
  expect(await ask(plain.address, question)).toMatchObject({ isFast: false, body: answered });
  expect(await ask(fast.address, question)).toMatchObject({ isFast: true, body: answered });
});

test('connections that PostgreSQL ends are replaced', async () => {
  for (let at = 0; at < 8; at++) await ask(fast.address, question);
  const [ended] = await plain.database.sql<{ n: number }>(
    `select count(pg_terminate_backend(pid))::int as n from pg_stat_activity
     where datname = current_database() and application_name = 'sweepbook-reads'`,
  );
  expect(ended?.n).toBeGreaterThan(0);
  const during = await ask(fast.address, question);
  expect(during.body).toMatchObject(answered);
  expect(await untilFast()).toMatchObject({ isFast: true, body: answered });
});

test('without a database both say so alike, and answer when it is back', async () => {
  await untilFast();
  await wire.down();
  const refused = await ask(fast.address, question);
  expect(refused.isFast).toBe(false);
  expect(refused.body.errors?.map((error) => error.extensions.code)).toContain('UNAVAILABLE');
  await wire.up();
  expect(await untilFast()).toMatchObject({ isFast: true, body: answered });
});

test('what takes too long is refused in the same words, and not asked twice again', async () => {
  const slow = '{ datasets { nodes { name owner } } }';
  expect(await ask(fast.address, slow)).toMatchObject({ isFast: true });
  const client = await plain.database.client();
  await client.query('begin; lock table datasets in access exclusive mode');
  try {
    const [here, there] = await Promise.all([ask(fast.address, slow), ask(plain.address, slow)]);
    expect(there.body.errors?.[0]?.extensions.code).toBe('QUERY_TOO_COMPLEX');
    expect(here).toEqual(there);
  } finally {
    await client.query('rollback');
  }
  expect(await ask(fast.address, slow)).toMatchObject({ isFast: false });
  expect(await ask(fast.address, question)).toMatchObject({ isFast: true });
});

test('its connections take the options of the URL, only read, and end what takes too long', async () => {
  const url = new URL(plain.database.url);
  url.searchParams.set('options', '-c search_path=pg_catalog,public');
  url.searchParams.set('application_name', 'mine');
  const pool = openReadPool({
    url: url.href,
    poolSize: 1,
    statementSeconds: 7,
    onTrouble: () => undefined,
  });
  const ran = (text: string) => pool.text({ text, parameters: [], isKept: false, uses: 0 }, {});
  try {
    const setting = (name: string) => ran(`select current_setting('${name}')`);
    expect(await setting('search_path')).toBe('pg_catalog,public');
    expect(await setting('application_name')).toBe('mine');
    expect(await setting('statement_timeout')).toBe('7s');
    await expect(ran(`update sites set name = name returning name`)).rejects.toThrow('read-only');
  } finally {
    await pool.close();
  }
});
