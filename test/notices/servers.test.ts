import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { post } from '../../src/notices/post.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startServe, type ServeProcess } from '../support/program.ts';
import { isSigned, startReceiver, status, type Receiver } from '../support/receiver.ts';
import { mutate } from '../support/scene.ts';
import { until } from '../support/until.ts';

const seed = Number(process.env['KILL_SEED'] ?? Date.now() % 100_000);

let folder: string;
let database: TestDatabase;
let receiver: Receiver;
let settings: Record<string, string>;
const opened: RunningSweepbook[] = [];
const processes: (ServeProcess | ChildProcess)[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-notices-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(async () => {
  await Promise.all(opened.splice(0).map((server) => server.close()));
  for (const one of processes.splice(0)) void one.kill('SIGKILL');
  await receiver.close();
  await database.close();
});

async function prepare(more: Record<string, string> = {}): Promise<void> {
  database = await openTestDatabase();
  receiver = await startReceiver();
  const home = mkdtempSync(join(folder, 'home-'));
  settings = {
    SWEEPBOOK_HOME: home,
    SWEEPBOOK_PORT: '0',
    SWEEPBOOK_WORKER: 'false',
    DATABASE_URL: database.url,
    SWEEPBOOK_RETRY_BASE_MS: '50',
    SWEEPBOOK_WEBHOOK_PRIVATE: 'true',
    SWEEPBOOK_WEBHOOK_TIMEOUT_SECONDS: '1',
    ...more,
  };
}

/** One more server of the same database; what it logs is kept. */
async function open(
  more: Record<string, string> = {},
  written: string[] = [],
): Promise<{ client: TestClient; token: string }> {
  const log = pino({ level: 'trace' }, { write: (line: string) => void written.push(line) });
  const running = await openSweepbook(readConfig({ ...settings, ...more }), log);
  opened.push(running);
  const token = readFileSync(
    join(settings['SWEEPBOOK_HOME'] ?? '', 'operator-token'),
    'utf8',
  ).trim();
  return { client: clientOf(running.address, token), token };
}

const createHook = (client: TestClient, input: object = {}) =>
  mutate<{ secret: string; webhook: { id: string } }>(
    client,
    'createWebhook',
    { url: receiver.url, ...input },
    'secret webhook { id }',
  );

const reasonsOnce = () => {
  const seen = new Set<string>();
  return receiver.received.flatMap(({ id, body }) => {
    if (seen.has(id)) return [];
    seen.add(id);
    return [body.data.reason];
  });
};

/** Marks and clears a dataset in turn: notices whose order can be told. */
async function turn(client: TestClient, from: number, to: number): Promise<string[]> {
  const told: string[] = [];
  for (let at = from; at < to; at++) {
    const field = at % 2 === 0 ? 'markDatasetBad' : 'clearDatasetBad';
    await mutate(client, field, { dataset: 'turning', reason: `step ${at}` });
    told.push(`step ${at}`);
  }
  return told;
}
const newDataset = (client: TestClient) =>
  mutate(client, 'createDataset', { name: 'turning', kind: 'PR' });

test('two servers tell one webhook in order, each notice by one of them', async () => {
  await prepare();
  const { client } = await open();
  await open();
  await createHook(client);
  await newDataset(client);
  let now = 0;
  let most = 0;
  receiver.answer((response) => {
    most = Math.max(most, ++now);
    setTimeout(() => {
      now--;
      response.writeHead(204).end();
    }, 5);
  });
  const told = await turn(client, 0, 24);
  await until('all are told', () => receiver.received.length >= told.length);
  expect(receiver.received.map(({ body }) => body.data.reason)).toEqual(told);
  // Never two at once: that is what keeps the order.
  expect(most).toBe(1);
});

test(
  'a server killed (-9) amid deliveries: each notice is told at least once, in order',
  { timeout: 240_000 },
  async () => {
    console.log(`KILL_SEED=${seed}`);
    let state = seed >>> 0;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    await prepare();
    const start = async () => {
      const server = await startServe(settings);
      processes.push(server);
      return server;
    };
    let server = await start();
    const token = readFileSync(
      join(settings['SWEEPBOOK_HOME'] ?? '', 'operator-token'),
      'utf8',
    ).trim();
    const client = () => clientOf(server.address, token);
    const { secret } = await createHook(client());
    await newDataset(client());
    const told: string[] = [];
    for (let round = 0; round < 3; round++) {
      // It dies while the receiver has the notice and has not answered, or has just answered.
      const killAt = receiver.received.length + 1 + Math.floor(random() * 3);
      receiver.answer((response) => {
        const isLast = receiver.received.length >= killAt;
        if (!isLast || random() < 0.5) response.writeHead(204).end();
        if (isLast) server.process.kill('SIGKILL');
      });
      await turn(client(), told.length, told.length + 6).catch(() => undefined);
      await server.ended;
      receiver.answer(status(204));
      server = await start();
      const lines = await database.sql<{ reason: string }>(
        `select reason from events where kind in ('DATASET_MARKED_BAD', 'DATASET_CLEARED') order by xid, id`,
      );
      told.splice(0, Infinity, ...lines.map((line) => line.reason));
      if (told.length % 2 === 1) told.push(...(await turn(client(), told.length, told.length + 1)));
    }
    await until('all are told', () => reasonsOnce().length >= told.length);
    expect(reasonsOnce()).toEqual(told);
    expect(receiver.received.every((one) => isSigned(one, secret))).toBe(true);
    await until('at rest', async () => {
      const [row] = await database.sql<{ rest: boolean }>(
        'select bool_and(failure_count = 0 and lease_until is null) as rest from webhooks',
      );
      return row?.rest;
    });
  },
);

test('a server with another key leaves the webhooks of the first alone', async () => {
  await prepare();
  const { client } = await open();
  await createHook(client);
  await newDataset(client);
  await Promise.all(opened.splice(0).map((server) => server.close()));
  const written: string[] = [];
  const other = await open({ SWEEPBOOK_WEBHOOK_KEY: 'k'.repeat(40) }, written);
  expect(written.join('')).toContain('made with another SWEEPBOOK_WEBHOOK_KEY');
  await turn(other.client, 0, 1);
  const own = await createHook(other.client);
  await turn(other.client, 1, 2);
  await until('its own is told', () => receiver.received.length >= 1);
  expect(receiver.received.every((one) => isSigned(one, own.secret))).toBe(true);
  expect(receiver.received.map(({ body }) => body.data.reason)).toEqual(['step 1']);
  const { client: first } = await open();
  await until('the others are told', () => receiver.received.length >= 3);
  expect(await first.call('{ webhooks { totalCount } }')).toEqual({ webhooks: { totalCount: 2 } });
});

test('the secret is in no table, no log and no file but the key, which is the server’s alone', async () => {
  await prepare();
  const written: string[] = [];
  const { client } = await open({}, written);
  const made = await createHook(client, { url: `${receiver.url}?token=of-the-receiver` });
  await newDataset(client);
  receiver.answer(status(500));
  await turn(client, 0, 1);
  await until('a failure is logged', () => written.some((line) => line.includes('not delivered')));
  const keyFile = join(settings['SWEEPBOOK_HOME'] ?? '', 'webhook-key');
  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  const bytes = Buffer.from(made.secret.replace('whsec_', ''), 'base64');
  const forms = [made.secret, bytes.toString('hex'), readFileSync(keyFile, 'utf8').trim()];
  const dump = await database.sql<{ row: string }>('select w::text as row from webhooks w');
  for (const form of forms) {
    expect(dump.map(({ row }) => row).join()).not.toContain(form);
    expect(written.join()).not.toContain(form);
  }
  expect(written.join()).not.toContain('of-the-receiver');
});

test('after a restore into another cluster a webhook goes on from now', async () => {
  await prepare();
  const { client } = await open({ SWEEPBOOK_WEBHOOKS: 'false' });
  await createHook(client);
  await newDataset(client);
  await turn(client, 0, 2);
  await Promise.all(opened.splice(0).map((server) => server.close()));
  await database.sql(`update meta set epoch = 'restored'`);
  await database.sql(`update webhooks set epoch = 'x', told_xid = '999999999999'`);
  const restored = await open();
  await turn(restored.client, 2, 3);
  await until('told', () => receiver.received.length >= 1);
  expect(receiver.received.map(({ body }) => body.data.reason)).toEqual(['step 2']);
});

test('a name that leads to this host is refused when the connection is made', async () => {
  await prepare();
  // Made while it was allowed, or by a name that was public then.
  const { client } = await open();
  const port = new URL(receiver.url).port;
  await createHook(client, { url: `http://localhost:${port}/hook` });
  await createHook(client);
  await newDataset(client);
  await Promise.all(opened.splice(0).map((server) => server.close()));
  const strict = await open({ SWEEPBOOK_WEBHOOK_PRIVATE: 'false' });
  await turn(strict.client, 0, 1);
  const errors = await until('both failed', async () => {
    const found = await database.sql<{ last_error: string }>(
      'select last_error from webhooks where last_error is not null',
    );
    return found.length === 2 && found.map((row) => row.last_error);
  });
  for (const error of errors) expect(error).toContain('address of the public Internet');
  expect(receiver.received).toEqual([]);
  const posting = { headers: {}, body: '{}', timeoutMs: 1000, isPrivateAllowed: false };
  const unknown = await post({ ...posting, url: 'http://no-such-host.invalid/' });
  const ours = await post({ ...posting, url: `http://localhost:${port}/` });
  expect(unknown).toEqual(ours);
});

/** A port that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('the receiver of docs/webhooks.md takes what is signed, and nothing else', async () => {
  await prepare();
  const text = readFileSync(new URL('../../docs/webhooks.md', import.meta.url), 'utf8');
  const program = join(folder, 'receiver.py');
  writeFileSync(program, /```python\n([\s\S]*?)```/.exec(text)?.[1] ?? '');
  const port = await freePort();
  const { client } = await open();
  const { secret, webhook } = await createHook(client, { url: `http://127.0.0.1:${port}/` });
  const secretFile = join(folder, 'secret');
  writeFileSync(secretFile, `${secret}\n`);
  const python = spawn('python3', [program, secretFile, String(port)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  processes.push(python);
  let printed = '';
  python.stdout.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk));
  await newDataset(client);
  await turn(client, 0, 2);
  await until('it prints both', () => printed.split('\n').length > 2);
  expect(printed).toBe(
    'Dataset turning was marked bad by operator: step 0\nDataset turning is good again, says operator: step 1\n',
  );
  const send = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}/`, { method: 'POST', headers, body: '{}' });
  const forged = {
    'webhook-id': 'evt_1',
    'webhook-timestamp': '1',
    'webhook-signature': 'v1,AAAA',
  };
  expect((await send(forged)).status).toBe(401);
  const { testWebhook } = await client.call<{ testWebhook: object }>(
    'mutation ($id: ID!) { testWebhook(id: $id) { status } }',
    { id: webhook.id },
  );
  expect(testWebhook).toEqual({ status: 204 });
  // A replay: signed once, sent again ten minutes later.
  await createHook(client);
  await turn(client, 2, 3);
  await until('a signed one', () => receiver.received.length >= 1);
  const check = `import base64,hashlib,hmac,sys
key=base64.b64decode(sys.argv[1][6:]); print("v1,"+base64.b64encode(hmac.digest(key,b"evt_1."+sys.argv[2].encode()+b".{}",hashlib.sha256)).decode())`;
  const sign = (timestamp: number) =>
    execFileSync('python3', ['-c', check, secret, String(timestamp)], { encoding: 'utf8' }).trim();
  const replay = async (secondsAgo: number) => {
    const timestamp = Math.floor(Date.now() / 1000) - secondsAgo;
    const body = '{}';
    return fetch(`http://127.0.0.1:${port}/`, {
      method: 'POST',
      body,
      headers: {
        'webhook-id': 'evt_1',
        'webhook-timestamp': String(timestamp),
        'webhook-signature': `v1,AAAA ${sign(timestamp)}`,
      },
    }).then(
      (response) => response.status,
      () => 'printed nothing',
    );
  };
  expect(await replay(600)).toBe(401);
  expect(await replay(10)).not.toBe(401);
});
