import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { getIntrospectionQuery } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultLimits as limits } from '../../src/limits.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { overSocket } from '../support/socket.ts';

let server: TestServer;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  token = await server.tokenOf('olga', 'OPERATOR');
});
afterAll(() => server.close());

const connected = async ({ address }: TestServer) => {
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
  await once(socket, 'connect');
  return socket.pause();
};

const deep = (levels: number) =>
  `{ files { nodes { ${'mergedInto { '.repeat(levels)} lfn ${'}'.repeat(levels)} } } }`;
const bomb = (levels: number) =>
  Array.from(
    { length: levels },
    (_, at) => `fragment f${at} on Viewer { ${at === 0 ? 'name' : `...f${at - 1} ...f${at - 1}`} }`,
  ).join('\n') + `\n{ viewer { ...f${levels - 1} } }`;

const times = (count: number, part: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => part(at)).join(' ');

const hostile: [string, string, string][] = [
  ['brackets that overflow a parser', '{ a '.repeat(2000), 'QUERY_TOO_COMPLEX'],
  ['lists that overflow a parser', `{ a(x: ${'['.repeat(2000)} }`, 'QUERY_TOO_COMPLEX'],
  ['too many same fields', `{ viewer { ${'name '.repeat(150)} } }`, 'QUERY_TOO_COMPLEX'],
  [
    'too many same fields by fragments',
    `${times(60, (at) => `fragment f${at} on Viewer { name roles scopes }`)} { viewer { ${times(60, (at) => `...f${at}`)} } }`,
    'QUERY_TOO_COMPLEX',
  ],
  [
    'too many fragments',
    `${times(101, (at) => `fragment f${at} on Viewer { name }`)} { viewer { name } }`,
    'QUERY_TOO_COMPLEX',
  ],
  [
    'too many uses of fragments',
    `fragment f on Viewer { name } { ${times(201, () => 'viewer { ...f }')} }`,
    'QUERY_TOO_COMPLEX',
  ],
  [
    'too many root fields by a fragment',
    `fragment f on Query { ${times(51, (at) => `a${at}: viewer { name }`)} } { ...f }`,
    'QUERY_TOO_COMPLEX',
  ],
  ['too many operations', times(51, (at) => `query q${at} { __typename }`), 'QUERY_TOO_COMPLEX'],
  [
    'the schema too often',
    `{ ${times(6, (at) => `a${at}: __schema { __typename }`)} }`,
    'QUERY_TOO_COMPLEX',
  ],
  [
    'the schema many times over by aliases',
    `{ __schema { types { ${times(10, (a) => `a${a}: fields { type { ${times(15, (b) => `b${b}: fields { name }`)} } }`)} } } }`,
    'QUERY_TOO_COMPLEX',
  ],
  ['too deep', deep(20), 'QUERY_TOO_COMPLEX'],
  [
    'too many aliases',
    `{ ${Array.from({ length: 201 }, (_, at) => `a${at}: __typename`).join(' ')} }`,
    'QUERY_TOO_COMPLEX',
  ],
  ['too many root fields', `{ ${'viewer { name } '.repeat(51)} }`, 'QUERY_TOO_COMPLEX'],
  [
    'too many directives',
    `{ viewer { name ${'@include(if: true) '.repeat(51)} } }`,
    'QUERY_TOO_COMPLEX',
  ],
  ['too many tokens', `{ viewer { ${'name '.repeat(5000)} } }`, 'QUERY_TOO_COMPLEX'],
  [
    'too much to answer',
    '{ datasets(first: 200) { nodes { files(first: 1000) { nodes { lfn } } } } }',
    'QUERY_TOO_COMPLEX',
  ],
  ['a fragment bomb', bomb(60), 'QUERY_TOO_COMPLEX'],
  [
    'a circle of fragments',
    'fragment a on Viewer { ...b } fragment b on Viewer { ...a } { viewer { ...a } }',
    'BAD_USER_INPUT',
  ],
  ['an unknown field', '{ viewer { password } }', 'BAD_USER_INPUT'],
  ['not GraphQL', 'select * from tokens', 'BAD_USER_INPUT'],
  ['no page', '{ datasets(first: 0) { nodes { name } } }', 'BAD_USER_INPUT'],
  ['a page of less than nothing', '{ files(first: -1) { nodes { lfn } } }', 'BAD_USER_INPUT'],
  ['too long a page', '{ files(first: 1001) { nodes { lfn } } }', 'BAD_USER_INPUT'],
  ['a cursor of another list', '{ runs(after: "garbage") { nodes { number } } }', 'INVALID_CURSOR'],
];

describe.each(['HTTP', 'WebSocket'])('over %s', (road) => {
  test.each(hostile)(
    '%s is refused at once, with a code and no stack trace',
    async (_what, query, code) => {
      const answer =
        road === 'HTTP'
          ? await server.operator.raw(query)
          : await overSocket(server.address, query, {}, token);
      const [error] = answer.errors ?? [];
      expect(error?.message).toBeTruthy();
      expect(error?.extensions.code).toBe(code);
      expect(JSON.stringify(answer)).not.toMatch(/node_modules|\.ts:|\.js:|stack/);
      expect(Object.keys(error?.extensions ?? {}).toSorted()).toEqual(['code', 'facts']);
    },
  );

  test('the schema tells of itself', async () => {
    const query = getIntrospectionQuery();
    const answer =
      road === 'HTTP' ? await server.anonymous.raw(query) : await overSocket(server.address, query);
    expect(answer.errors).toBeUndefined();
    expect(answer.data).toHaveProperty('__schema');
  });
});

test('bulk calls take 10,000 items, and no more', async () => {
  const query =
    'mutation ($lfns: [String!]!) { requestBackup(input: { lfns: $lfns }) { refusedCount } }';
  const lfns = Array.from({ length: 10_001 }, (_, at) => `/none/${at}`);
  await expect(server.operator.call(query, { lfns })).rejects.toMatchObject({
    code: 'BAD_USER_INPUT',
  });
  expect(await server.operator.call(query, { lfns: lfns.slice(1) })).toEqual({
    requestBackup: { refusedCount: 10_000 },
  });
});

test('a stranger sends little, nobody sends too much', async () => {
  const send = (bytes: number, authorization?: string) =>
    fetch(`${server.address}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(authorization ? { authorization } : {}) },
      body: JSON.stringify({ query: `{ viewer { name } } #${'x'.repeat(bytes)}` }),
    });
  expect((await send(limits.anonymousBodyBytes)).status).toBe(401);
  expect((await send(limits.anonymousBodyBytes, `Bearer ${token}`)).status).toBe(200);
  const long = await send(limits.documentCharacters, `Bearer ${token}`);
  expect([long.status, await long.json()]).toMatchObject([
    400,
    {
      errors: [
        { extensions: { code: 'QUERY_TOO_COMPLEX', facts: { limit: 'documentCharacters' } } },
      ],
    },
  ]);
  expect((await send(limits.bodyBytes, `Bearer ${token}`)).status).toBe(413);
});

test('no mutation by GET, no batches, no foreign forms', async () => {
  const get = await server.operator.get(
    `/graphql?query=${encodeURIComponent('mutation { revokeToken(prefix: "x") { changed } }')}`,
    { 'apollo-require-preflight': 'yes' },
  );
  expect(get.status).toBe(405);
  const post = (body: string, type: string) =>
    fetch(`${server.address}/graphql`, { method: 'POST', headers: { 'content-type': type }, body });
  const batch = await post(
    '[{"query":"{__typename}"},{"query":"{__typename}"}]',
    'application/json',
  );
  expect([batch.status, await batch.json()]).toMatchObject([
    400,
    { errors: [{ message: expect.stringContaining('batches are not taken') }] },
  ]);
  const headers = Object.fromEntries(Array.from({ length: 120 }, (_, at) => [`x-${at}`, '1']));
  const strange = await server.operator.get('/healthz', headers);
  expect([strange.status, await strange.json()]).toMatchObject([431, { code: 'BAD_USER_INPUT' }]);
  const kept = await post(
    '{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ecf4edb4"}}}',
    'application/json',
  );
  expect(JSON.stringify(await kept.json())).toContain('PersistedQueryNotSupported');
  const packed = await fetch(`${server.address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    body: gzipSync('{"query":"{__typename}"}'),
  });
  expect([packed.status, await packed.json()]).toMatchObject([
    415,
    { errors: [{ extensions: { code: 'BAD_USER_INPUT', facts: { field: 'Content-Encoding' } } }] },
  ]);
  expect((await post('{"query":"{__typename}"}', 'text/plain')).status).toBeGreaterThanOrEqual(400);
  expect((await post('{"query":', 'application/json')).status).toBe(400);
});

test('a fault inside shows its request id and nothing else', async () => {
  await server.database.sql('alter table volumes rename to volumes_away');
  try {
    const answer = await server.operator.raw(
      `mutation { registerFiles(input: { files: [{ lfn: "/x", kind: MERGED_FILE, sizeBytes: 1, adler32: "00000001", path: "/x" }] }) { registeredCount } }`,
    );
    const [error] = answer.errors ?? [];
    expect(error?.extensions.code).toBe('INTERNAL');
    expect(error?.message).toMatch(/request id [0-9a-f-]{36}/);
    expect(JSON.stringify(answer)).not.toContain('volumes');
  } finally {
    await server.database.sql('alter table volumes_away rename to volumes');
  }
});

test('other roads: health, and what is not there', async () => {
  expect((await server.anonymous.get('/healthz')).status).toBe(200);
  const ready = await server.anonymous.get('/readyz');
  expect([ready.status, await ready.json()]).toMatchObject([200, { status: 'ready' }]);
  const marker = join(server.folder, 'home', 'store', '.sweepbook-store');
  renameSync(marker, `${marker}.away`);
  const away = await server.anonymous.get('/readyz');
  expect(away.status).toBe(503);
  expect(JSON.stringify(await away.json())).toContain('is it mounted?');
  renameSync(`${marker}.away`, marker);
  const nothing = await server.anonymous.get('/nothing/here');
  expect([nothing.status, await nothing.json()]).toMatchObject([404, { code: 'NOT_FOUND' }]);
  expect(nothing.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  const page = await server.anonymous.get('/graphiql');
  expect(page.headers.get('content-security-policy')).toContain("default-src 'self'");
  expect(await page.text()).not.toMatch(/https?:\/\/(?!127\.0\.0\.1|localhost|www\.w3\.org)/);
});

test('who sends a body that is too long, and reads only then, is told why', async () => {
  const socket = await connected(server);
  const length = limits.bodyBytes + 1024 * 1024;
  socket.write(`POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`);
  await new Promise((resolve) => socket.write(Buffer.alloc(length, 'x'), resolve));
  socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const told = await text(socket);
  // It was taken to its end, and the connection is as good as before.
  expect(told.match(/HTTP\S+ \d+/g)).toEqual(['HTTP/1.1 413', 'HTTP/1.1 200']);
  expect(told).toContain(`${limits.bodyBytes} bytes are the limit`);
});

/** Sends so many requests at once; the statuses that came back, in order, and all of the text. */
async function pipelined(count: number) {
  const socket = await connected(server);
  const asked = Array.from({ length: count }, (_, at) => {
    const body = `{"query":"{ a${at}: __typename }"}`;
    return `POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  });
  socket.write(asked.join('') + (count > limits.requestsPerConnection ? '' : lastRequest));
  const told = await text(socket);
  return { told, statuses: told.match(/HTTP\S+ \d+/g), data: told.match(/"a\d+"/g) };
}

test.each(['Host', 'Authorization'])('two headers %s are refused', async (name) => {
  const socket = await connected(server);
  const twice = `${name}: x\r\n${name}: y\r\n`;
  const host = name === 'Host' ? '' : 'Host: x\r\n';
  socket.write(`GET /healthz HTTP/1.1\r\n${host}${twice}Connection: close\r\n\r\n`);
  const told = await text(socket);
  expect(told).toMatch(/^HTTP\/1\.1 400 /);
  expect(told).toContain(`"code":"BAD_USER_INPUT","message":"${name}`);
});

const lastRequest = 'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

test('requests that are sent before the answers to others are answered in their order', async () => {
  const count = limits.requestsPerConnection - 1;
  const { statuses, data } = await pipelined(count);
  expect(statuses).toEqual(Array.from({ length: count + 1 }, () => 'HTTP/1.1 200'));
  expect(data).toEqual(Array.from({ length: count }, (_, at) => `"a${at}"`));
});

test('who asks on and on without waiting for answers is cut off, and what waits is not even begun', async () => {
  const { told, statuses } = await pipelined(limits.requestsPerConnection + 20);
  expect(statuses).toEqual(['HTTP/1.1 200', 'HTTP/1.1 429']);
  expect(told).toContain('SWEEPBOOK_LIMIT_REQUESTS_PER_CONNECTION');
});

test('silent connections and half a request do not keep a server that goes down', async () => {
  const short = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_SHUTDOWN_SECONDS: '1',
  });
  const port = Number(new URL(short.address).port);
  const sockets = await Promise.all(
    ['', 'POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{'].map(async (begun) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined).resume();
      await once(socket, 'connect');
      socket.write(begun);
      return socket;
    }),
  );
  // The half request has come in once another one is answered.
  await short.anonymous.get('/healthz');
  const ended = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  await short.close();
  await Promise.all(ended);
});
