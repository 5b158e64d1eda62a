import WebSocket from 'ws';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientOf, type TestClient } from '../support/client.ts';
import { makeDataset, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket, overSocket, TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_AUDIT_READS: 'true',
    SWEEPBOOK_AUDIT_DAYS: '10',
    SWEEPBOOK_TRUSTED_PROXIES: '127.0.0.1, ::1',
    SWEEPBOOK_INTROSPECTION: 'PRODUCER, ADMIN',
    SWEEPBOOK_GRAPHIQL: 'false',
  });
});
afterAll(() => server.close());

interface Line {
  principal: string;
  field: string;
  outcome: string;
  code: string | null;
  times: number;
  [more: string]: unknown;
}

async function trail(filter: object): Promise<Line[]> {
  const { auditTrail } = await server.operator.call<{ auditTrail: { nodes: Line[] } }>(
    `query ($filter: AuditTrailFilter) { auditTrail(filter: $filter, first: 200) { nodes {
      at keptUntil principal roles tokenPrefix issuer address requestId kind operation field outcome code times
    } } }`,
    { filter },
  );
  return auditTrail.nodes;
}
/** Refusals and reads are written a moment later. */
const told = (filter: object) =>
  until(JSON.stringify(filter), async () => {
    const lines = await trail(filter);
    return lines.length > 0 && lines;
  });

const post = (token: string | undefined, query: string, headers: Record<string, string> = {}) =>
  fetch(`${server.address}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: JSON.stringify({ query }),
  });

test('a change stands there when it is answered: who, what, from where, by which token', async () => {
  const token = await server.tokenOf('auditor-made', 'PRODUCER');
  const query =
    'mutation MakeOne { createDataset(input: { name: "audited", kind: PR }) { changed } }';
  const answer = await post(token, query, { 'x-forwarded-for': '203.0.113.9, 198.51.100.7' });
  expect(await trail({ principal: 'auditor-made', kind: ['MUTATION'] })).toEqual([
    {
      at: expect.any(String),
      keptUntil: expect.any(String),
      principal: 'auditor-made',
      roles: ['PRODUCER'],
      tokenPrefix: token.split('_')[1],
      issuer: null,
      address: '198.51.100.7',
      requestId: answer.headers.get('x-request-id'),
      kind: 'MUTATION',
      operation: 'MakeOne',
      field: 'createDataset',
      outcome: 'DONE',
      code: null,
      times: 1,
    },
  ]);
  const overWs =
    'mutation Again { createDataset(input: { name: "audited-2", kind: PR }) { changed } }';
  await overSocket(server.address, overWs, {}, token);
  expect((await trail({ principal: 'auditor-made' })).map((line) => line['operation'])).toEqual(
    expect.arrayContaining(['MakeOne', 'Again']),
  );
});

test('a change and its line are one: without the line it is not done', async () => {
  await server.database.sql(`create function no_line() returns trigger language plpgsql as
    $$ begin raise 'the disk of the trail is full'; end $$;
    create trigger no_line before insert on audit_trail for each row when (new.principal = 'unlucky')
      execute function no_line()`);
  const unlucky = await server.as('unlucky', 'PRODUCER');
  const input = { name: 'not-done', kind: 'PR' };
  expect(await refusalOf(mutate(unlucky, 'createDataset', input))).toMatchObject({
    code: 'INTERNAL',
  });
  expect(await server.operator.call('{ dataset(name: "not-done") { name } }')).toEqual({
    dataset: null,
  });
  await server.database.sql('drop trigger no_line on audit_trail');
  expect(await mutate(unlucky, 'createDataset', input)).toEqual({ changed: true });
});

test('each field of an operation has its own line, and its own outcome', async () => {
  const client = await server.as('two-steps', 'PRODUCER');
  await client.raw(`mutation Two {
    createDataset(input: { name: "two-steps", kind: PR }) { changed }
    again: createDataset(input: { name: "two-steps-b", kind: PR }) { changed }
    markDatasetBad(input: { dataset: "two-steps", reason: "x" }) { changed }
  }`);
  await told({ principal: 'two-steps', outcome: 'REFUSED', code: 'FORBIDDEN' });
  const lines = await trail({ principal: 'two-steps', kind: ['MUTATION'] });
  expect(lines.map(({ field, outcome, code }) => `${field} ${code ?? outcome}`).toSorted()).toEqual(
    ['createDataset DONE', 'createDataset DONE', 'markDatasetBad FORBIDDEN'],
  );
});

test('what is refused is there on every road, a flood of it as few lines', async () => {
  const user = await server.tokenOf('curious', 'USER');
  const ended = await server.tokenOf('ended', 'USER');
  const prefix = ended.split('_')[1];
  await server.operator.call(`mutation { revokeToken(prefix: "${prefix}") { changed } }`);
  const get = (path: string, token: string) =>
    fetch(`${server.address}${path}`, { headers: { authorization: `Bearer ${token}` } });
  await Promise.all([
    ...Array.from({ length: 20 }, (_, at) => post(user, `query Called${at} { stuck { asOf } }`)),
    post(undefined, '{ tokens { prefix } }'),
    post(ended, '{ viewer { name } }'),
    post(`${ended.slice(0, -2)}xx`, '{ viewer { name } }'),
    get('/metrics', user),
    fetch(`${server.address}/imports`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user}` },
    }),
    new TestSocket(server.address, ended).closed,
  ]);
  const socket = await openSocket(server.address, user);
  socket.start('subscription { backupProgress { status } }');
  await socket.next();
  socket.terminate();
  const expected = [
    { field: 'stuck', principal: 'curious', code: 'FORBIDDEN' },
    { field: 'tokens', principal: 'anonymous', code: 'UNAUTHENTICATED' },
    { field: 'POST /graphql', principal: 'ended', tokenPrefix: prefix, code: 'UNAUTHENTICATED' },
    { field: 'POST /graphql', principal: 'unknown', code: 'UNAUTHENTICATED' },
    { field: 'GET /metrics', principal: 'curious', code: 'FORBIDDEN' },
    { field: 'POST /imports', principal: 'curious', code: 'FORBIDDEN' },
    { field: 'connection_init', tokenPrefix: prefix, code: 'UNAUTHENTICATED' },
    { field: 'connection_init', principal: 'curious', outcome: 'DONE' },
    { field: 'backupProgress', principal: 'curious', code: 'FORBIDDEN' },
  ];
  for (const filter of expected) expect(await told(filter)).not.toEqual([]);
  const flood = await told({ field: 'stuck' });
  expect(flood.reduce((sum, line) => sum + line.times, 0)).toBe(20);
  expect(flood.length).toBeLessThan(20);
});

/** The status that the upgrade for a page of this origin is answered by. */
const upgradeFor = (origin: string, from: string) =>
  new Promise<number | undefined>((resolve, reject) => {
    const headers = { 'x-forwarded-for': from };
    const url = `${server.address.replace('http', 'ws')}/graphql`;
    const socket = new WebSocket(url, 'graphql-transport-ws', { origin, headers });
    socket.on('unexpected-response', (request, { statusCode }) => {
      request.destroy();
      resolve(statusCode);
    });
    socket.on('open', () => reject(new Error('it was let in')));
    socket.on('error', reject);
  });

test('a page of another origin that wants a WebSocket is there with its origin, a flood as few lines', async () => {
  const page = 'https://evil.example.org';
  expect(await upgradeFor(page, '203.0.113.20')).toBe(403);
  expect(await told({ address: '203.0.113.20' })).toMatchObject([
    {
      principal: 'unknown',
      kind: 'CONNECTION',
      field: 'GET /graphql',
      operation: page,
      outcome: 'REFUSED',
      code: 'FORBIDDEN',
      times: 1,
    },
  ]);
  // What no browser sends as an origin is shown as it can be, or not kept.
  await upgradeFor('https://\x9bevil', '203.0.113.21');
  await upgradeFor(`https://${'x'.repeat(5000)}`, '203.0.113.22');
  expect(await told({ address: '203.0.113.21' })).toMatchObject([
    { operation: 'https://\\x9bevil' },
  ]);
  expect(await told({ address: '203.0.113.22' })).toMatchObject([{ operation: null }]);
  await Promise.all(
    Array.from({ length: 40 }, (_, at) => upgradeFor(`https://evil-${at}.org`, '203.0.113.23')),
  );
  const flood = await until('all of them are counted', async () => {
    const lines = await trail({ address: '203.0.113.23' });
    return lines.reduce((sum, line) => sum + line.times, 0) === 40 && lines;
  });
  expect(flood.length).toBeLessThan(20);
});

test('reads are there when they are wanted, by whichever road they are answered', async () => {
  await makeDataset(server.operator, 'read-me', 'CLOSED');
  const reader = await server.as('reader', 'USER');
  await reader.call('query Fast { datasets(first: 1) { totalCount } }');
  await reader.call('query Plain { viewer { name } }');
  await reader.get('/export/datasets/read-me/files');
  await told({ principal: 'reader', kind: ['REQUEST'] });
  const lines = await trail({ principal: 'reader' });
  expect(lines.map(({ field, operation }) => `${field} ${String(operation)}`).toSorted()).toEqual([
    'GET /export/datasets/:name/files /export/datasets/read-me/files',
    'datasets Fast',
    'viewer Plain',
  ]);
});

test('nobody changes a line, or removes one before its time', async () => {
  for (const attempt of [
    'update audit_trail set principal = $$nobody$$',
    'delete from audit_trail',
    'truncate audit_trail',
  ]) {
    await expect(server.database.sql(attempt), attempt).rejects.toMatchObject({ code: 'SW001' });
  }
  const forged = await server.database.sql<{ old: boolean }>(
    `insert into audit_trail (at, kept_until, principal, kind, field, outcome) values
      ('2000-01-01', clock_timestamp() - interval '1 s', 'forger', 'QUERY', 'x', 'DONE') returning at < now() - interval '1 h' as old`,
  );
  expect(forged).toEqual([{ old: false }]);
  await server.database.sql(`delete from audit_trail where principal = 'forger'`);
  expect(await trail({ principal: 'forger' })).toEqual([]);
});

test('what came before a proxy that is not trusted may be written by anybody', async () => {
  const token = await server.tokenOf('spoofer', 'USER');
  await post(token, '{ viewer { name } }', {
    'x-forwarded-for': '127.0.0.1, 203.0.113.5, 127.0.0.1',
  });
  const [line] = await told({ principal: 'spoofer' });
  expect(line?.['address']).toBe('203.0.113.5');
});

test('without GraphiQL there is no page', async () => {
  for (const path of ['/', '/graphiql', '/graphiql/static/ruru.js']) {
    expect((await fetch(`${server.address}${path}`, { redirect: 'manual' })).status).toBe(404);
  }
});

test('a page of the trail goes on where the last one ended', async () => {
  const admin: TestClient = server.operator;
  const page = `query ($after: String) { auditTrail(first: 3, after: $after) {
    totalCount nodes { at } pageInfo { endCursor hasNextPage } } }`;
  const first = await admin.call<{
    auditTrail: { nodes: object[]; pageInfo: { endCursor: string } };
  }>(page);
  const { endCursor: after } = first.auditTrail.pageInfo;
  expect(await admin.call(page, { after })).toMatchObject({
    auditTrail: { totalCount: expect.any(Number), pageInfo: { hasNextPage: true } },
  });
  const unknown = clientOf(server.address, await server.tokenOf('op', 'OPERATOR'));
  expect((await unknown.raw(page)).errors?.[0]?.extensions.code).toBe('FORBIDDEN');
});
