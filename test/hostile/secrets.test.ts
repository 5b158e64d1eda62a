import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientOf, type TestClient } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { mutate } from '../support/scene.ts';
import { runProgram, startServe, type ServeProcess } from '../support/program.ts';
import { until } from '../support/until.ts';

/* One server at its most talkative, with every secret there is, and everything it leads to failing. */
const folder = mkdtempSync(join(tmpdir(), 'sweepbook-secrets-'));
const { privateKey } = generateKeyPairSync('ed25519');
const pem = String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
const secret: Record<string, string> = {
  'access key': 'AKIA7c21e90b',
  'secret key': 's3-5d0e77a1c3b9',
  'token of the tape store': 'tape-2b94c0ffee',
  'token of the import': 'import-91d7be04',
  'key of webhooks': 'webhook-key-0f3c5a7e9b1d2c4e6a8f',
  'key of manifests': pem.split('\n')[1] ?? '',
  'token that nobody knows': 'sbk_0123456789ab_nobody-knows-this-token',
};
const answers: string[] = [];
let echo: Server;
let database: TestDatabase;
let server: ServeProcess;
let admin: TestClient;
let environment: Record<string, string>;

const file = (name: string, content: string) => {
  const path = join(folder, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
};

beforeAll(async () => {
  // What is behind tells everybody what it was sent.
  echo = createServer((request, response) => {
    response.writeHead(request.url?.includes('ready') ? 200 : 500);
    response.end(`${request.method} ${request.url} ${JSON.stringify(request.headers)}`);
  }).listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const behind = `http://127.0.0.1:${(echo.address() as AddressInfo).port}`;
  const hsi = file(
    'hsi',
    `#!/bin/sh\n{ tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' ' ' < /proc/$$/cmdline; } >> ${folder}/tool\nenv >&2\nexit 70\n`,
  );
  chmodSync(hsi, 0o700);
  const stores = `stores:
  - { name: bucket, kind: s3, endpoint: "${behind}", bucket: mass-store, accessKey: { env: TEST_ACCESS }, secretKey: { file: ${file('s3', secret['secret key'] ?? '')} } }
  - { name: tape, kind: tape-rest, root: "${behind}/tape", token: { file: ${file('tape', secret['token of the tape store'] ?? '')} } }
  - { name: hpss, kind: hpss, root: /home/x, hsi: ["${hsi}"] }
`;
  const imports = `area: ${folder}/area
sources:
  - { site: FAR, server: "${behind}", token: { file: ${file('far', secret['token of the import'] ?? '')} } }
`;
  database = await openTestDatabase();
  secret['password of the database'] = new URL(database.url).password;
  environment = {
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_LOG_LEVEL: 'trace',
    SWEEPBOOK_STORES: file('stores.yaml', stores),
    SWEEPBOOK_IMPORT_FROM: file('imports.yaml', imports),
    SWEEPBOOK_MANIFEST_KEY: file('key.pem', pem),
    SWEEPBOOK_WEBHOOK_KEY: secret['key of webhooks'] ?? '',
    SWEEPBOOK_WEBHOOK_PRIVATE: 'true',
    SWEEPBOOK_RETRY_BASE_MS: '20',
    SWEEPBOOK_SHUTDOWN_SECONDS: '1',
    TEST_ACCESS: secret['access key'] ?? '',
  };
  server = await startServe(environment);
  const token = readFileSync(join(folder, 'home', 'operator-token'), 'utf8').trim();
  secret['first token'] = token;
  admin = clientOf(server.address, token);
});
afterAll(async () => {
  await server?.kill('SIGTERM');
  await database.close();
  echo.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Which secrets stand in a text, as they are or as the usual programs write them. */
function secretsIn(text: string, but: readonly string[] = []): string[] {
  return Object.entries(secret)
    .filter(([name, value]) => {
      const written = [
        value,
        Buffer.from(value).toString('hex'),
        encodeURIComponent(value),
        Buffer.from(value).toString('base64'),
      ];
      return !but.includes(name) && written.some((form) => text.includes(form));
    })
    .map(([name]) => name);
}

/** Command line and, of those whom the server has started, environment of every process below it. */
function processesBelow(pid: number): string[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      parents.set(
        Number(name),
        Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]),
      );
    } catch {
      // It has ended.
    }
  }
  const isBelow = (one: number): boolean =>
    one === pid || (parents.has(one) && isBelow(parents.get(one) ?? 0));
  return [...parents.keys()].filter(isBelow).flatMap((one) => {
    try {
      const ofOthers = one === pid ? '' : readFileSync(`/proc/${one}/environ`, 'latin1');
      return [readFileSync(`/proc/${one}/cmdline`, 'latin1'), ofOthers];
    } catch {
      return [];
    }
  });
}

const ask = async (path: string, init: RequestInit = {}) => {
  const response = await fetch(`${server.address}${path}`, init);
  answers.push(await response.text());
};

test('whatever fails, and whatever is asked', async () => {
  const made = await mutate<{ token: string }>(
    admin,
    'createToken',
    { principal: 'anna', roles: ['USER'] },
    'token',
  );
  secret['token of a user'] = made.token;
  const rotated = await clientOf(server.address, made.token).call<{
    rotateToken: { token: string };
  }>('mutation { rotateToken(input: { graceSeconds: 60 }) { token } }');
  secret['token that was rotated'] = rotated.rotateToken.token;
  const hook = await mutate<{ secret: string }>(
    admin,
    'createWebhook',
    { url: 'http://127.0.0.1:1/x' },
    'secret',
  );
  secret['secret of a webhook'] = hook.secret;
  const nobody = secret['token that nobody knows'] ?? '';
  const user = made.token;
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${nobody}` };
  for (const authorization of [
    `Bearer ${nobody}`,
    `Basic ${nobody}`,
    user,
    `Bearer ${user} ${user}`,
  ]) {
    await ask('/graphql', {
      method: 'POST',
      headers: { ...headers, authorization },
      body: '{"query":"{ viewer { name } }"}',
    });
  }
  // In places where nobody should have put it.
  await ask(`/export/datasets/x/files?token=${user}`);
  await ask(`/graphql?access_token=${user}`);
  await ask(`/nowhere?token=${user}`);
  const asked = { lfn: user, name: user, token: user };
  for (const query of [
    'query ($name: String!) { dataset(name: $name) { name } }',
    'query ($lfn: Int!) { run(number: $lfn) { number } }',
    'mutation ($token: String!) { revokeToken(prefix: $token) { changed } }',
    'mutation ($name: String!) { importDataset(input: { from: "FAR", dataset: $name }) { changed } }',
    '{ massStores { name isUp detail lastTest { isPassed findings { what answer } } } }',
    'mutation { checkMassStore(name: "tape") { name isUp detail } }',
    'mutation { checkMassStore(name: "bucket") { name isUp detail } }',
    'mutation { checkMassStore(name: "hpss") { name isUp detail } }',
    'mutation { importDataset(input: { from: "FAR", dataset: "x" }) { changed } }',
  ]) {
    answers.push(JSON.stringify(await admin.raw(query, asked)));
  }
  await until('the tool was started', () => readdirSync(folder).includes('tool'));
  expect(answers.length).toBeGreaterThan(12);
  // What somebody has sent himself may be named to him.
  const own = ['token of a user', 'token that nobody knows'];
  for (const answer of answers) expect(secretsIn(answer, own), answer.slice(0, 500)).toEqual([]);
});

test('not in the list of processes, nor with tools that are started', () => {
  expect(secretsIn(processesBelow(server.pid).join('\n'))).toEqual([]);
  const tool = readFileSync(join(folder, 'tool'), 'latin1');
  expect(tool).toContain('hsi');
  expect(secretsIn(tool)).toEqual([]);
});

test('not in the log', async () => {
  const { stdout, stderr } = await server.kill('SIGTERM');
  expect(stdout.length).toBeGreaterThan(1000);
  const leaking = stdout.split('\n').filter((line) => secretsIn(line).length > 0);
  expect(leaking).toEqual([]);
  // Whoever starts it for the first time is told the first token, and that alone.
  expect(secretsIn(stderr)).toEqual(['first token']);
});

test('not in the database', async () => {
  const tables = await database.sql<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`,
  );
  const leaking: string[] = [];
  let seen = 0;
  for (const { name } of tables) {
    for (const { row } of await database.sql<{ row: string }>(
      `select row_to_json(t)::text as row from ${name} t`,
    )) {
      seen++;
      for (const found of secretsIn(row)) leaking.push(`${found} in ${name}: ${row.slice(0, 300)}`);
    }
  }
  expect(seen).toBeGreaterThan(20);
  expect(leaking).toEqual([]);
});

test('not in what config shows, nor in why a start fails', async () => {
  const shown = await runProgram(['config', '--json'], environment);
  expect(shown.code).toBe(0);
  expect(shown.stdout).toContain('SWEEPBOOK_WEBHOOK_KEY');
  const away = new URL(environment['DATABASE_URL'] ?? '');
  away.port = '1';
  const failed = await runProgram(['migrate'], { ...environment, DATABASE_URL: away.href });
  expect(failed.code).not.toBe(0);
  for (const text of [shown.stdout, shown.stderr, failed.stdout, failed.stderr])
    expect(secretsIn(text), text).toEqual([]);
});
