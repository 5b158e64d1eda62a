import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { pino } from 'pino';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import { readConfig } from '../../src/config.ts';
import { openSweepbook } from '../../src/main.ts';
import { defaultLimits as limits } from '../../src/limits.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { errorsOf, openSocket, TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

let server: TestServer;
/** Waits from the beginning, beside the other tests. */
let silent: Promise<number>;
beforeAll(async () => {
  server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_ORIGINS: 'https://book.example.org',
  });
  silent = bare().closed;
});
afterAll(() => server.close());

const viewer = '{ viewer { name roles expiresAt } }';
const follow = 'subscription { datasetStatusChanged { to } }';

const create = (name: string) =>
  `mutation { createDataset(input: { name: "${name}", kind: PR }) { changed } }`;
const isThere = async (name: string) =>
  (await server.operator.call<{ dataset: object | null }>(`{ dataset(name: "${name}") { name } }`))
    .dataset !== null;

async function httpStatus(
  token: string,
): Promise<{ status: number; code: string; message: string }> {
  const response = await fetch(`${server.address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: viewer }),
  });
  const body = (await response.json()) as {
    errors?: { message: string; extensions: { code: string } }[];
  };
  const error = body.errors?.[0];
  return {
    status: response.status,
    code: error?.extensions.code ?? '',
    message: error?.message ?? '',
  };
}

const revoke = (token: string) =>
  server.operator.call<{ revokeToken: { changed: boolean } }>(
    'mutation ($prefix: String!) { revokeToken(prefix: $prefix) { changed } }',
    { prefix: token.split('_')[1] },
  );

test('a wrong token is 401 UNAUTHENTICATED on every road, and never taken for nobody', async () => {
  const good = await server.tokenOf('wrong', 'USER');
  const otherSecret = `${good.slice(0, -1)}${good.endsWith('A') ? 'B' : 'A'}`;
  for (const token of [
    otherSecret,
    `sbk_000000000000_${'A'.repeat(43)}`,
    'x',
    'sbk__',
    "' or 1=1 --",
  ]) {
    const { status, code } = await httpStatus(token);
    expect({ token, status, code }).toEqual({ token, status: 401, code: 'UNAUTHENTICATED' });
    const listing = await clientOf(server.address, token).get('/export/datasets/none/files');
    expect(listing.status).toBe(401);
    expect(await listing.json()).toMatchObject({ code: 'UNAUTHENTICATED' });
    const { code: closeCode } = await new TestSocket(server.address, token).closed;
    expect(closeCode).toBe(4403);
  }
  const basic = await server.anonymous.get('/export/datasets/none/files', {
    authorization: 'Basic eDp5',
  });
  expect(basic.status).toBe(401);
  expect(basic.headers.get('www-authenticate')).toBe('Bearer');
});

test('a revoked token ends at once over HTTP, and within seconds on an open WebSocket', async () => {
  const token = await server.tokenOf('revoked', 'PRODUCER');
  const other = await server.tokenOf('other', 'USER');
  const socket = await openSocket(server.address, token);
  socket.start(follow);
  const stays = await openSocket(server.address, other);
  // It does not hear that it is to go.
  const deaf = await openSocket(server.address, token);
  deaf.webSocket.pause();
  expect((await httpStatus(token)).status).toBe(200);
  expect(await revoke(token)).toEqual({ revokeToken: { changed: true } });
  expect(await httpStatus(token)).toMatchObject({
    status: 401,
    message: expect.stringContaining('revoked'),
  });
  expect(await revoke(token)).toEqual({ revokeToken: { changed: false } });
  const revokedAt = Date.now();
  const end = await socket.closed;
  expect(end.code).toBe(4403);
  expect(end.reason).toContain('revoked');
  // Looked at every 2 s; a busy machine gets more.
  expect(Date.now() - revokedAt).toBeLessThan(15_000);
  deaf.start(create('by-the-deaf'));
  deaf.webSocket.resume();
  expect(await deaf.closed).toMatchObject({ code: 4403 });
  expect(await isThere('by-the-deaf')).toBe(false);
  stays.start('{ viewer { name } }');
  expect(await stays.nextData()).toEqual({ viewer: { name: 'other' } });
  stays.terminate();
});

test('a token ends when it expires, also on an open WebSocket', async () => {
  const expiresAt = new Date(Date.now() + 2000).toISOString();
  const { token } = await mutate<{ token: string }>(
    server.operator,
    'createToken',
    { principal: 'guest', roles: ['USER'], expiresAt },
    'token',
  );
  const socket = await openSocket(server.address, token);
  const made = { principal: 'late', roles: ['PRODUCER'], expiresAt };
  const sockets: TestSocket[] = [];
  for (let at = 0; at < 3; at++) sockets.push(await openSocket(server.address, await make(made)));
  expect(await clientOf(server.address, token).call(viewer)).toEqual({
    viewer: { name: 'guest', roles: ['USER'], expiresAt },
  });
  // The very moment, before anybody looks.
  const late = (async () => {
    await sleep(Date.parse(expiresAt) - Date.now() + 1);
    for (const [at, one] of sockets.entries()) one.start(create(`too-late-${at}`));
  })();
  const { status, message } = await until('the token expires', async () => {
    const answer = await httpStatus(token);
    return answer.status !== 200 && answer;
  });
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expiresAt));
  expect(status).toBe(401);
  expect(message).toContain(expiresAt);
  await late;
  for (const { closed } of [socket, ...sockets]) expect(await closed).toMatchObject({ code: 4403 });
  for (const at of sockets.keys()) expect(await isThere(`too-late-${at}`)).toBe(false);
});

test('of a token the database keeps the hash, and the log nothing', async () => {
  const token = await server.tokenOf('kept', 'USER', 'DQM');
  const [, prefix = '', secret = ''] = /^sbk_([0-9a-f]{12})_(.{43})$/.exec(token) ?? [];
  await clientOf(server.address, token).call(viewer);
  const [row] = await server.database.sql<{ sha256: string; text: string }>(
    `select encode(secret_sha256, 'hex') as sha256, t::text as text from tokens t where prefix = $1`,
    [prefix],
  );
  expect(row?.sha256).toBe(createHash('sha256').update(secret).digest('hex'));
  const tables = await server.database.sql<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname not in ('pg_catalog', 'information_schema')`,
  );
  for (const { name } of tables) {
    const found = await server.database.sql(`select 1 from ${name} t where t::text like $1`, [
      `%${secret}%`,
    ]);
    expect({ name, found: found.length }).toEqual({ name, found: 0 });
  }
  const { tokens } = await server.operator.call<{ tokens: object[] }>(
    '{ tokens { prefix principal roles note createdBy createdAt lastUsedAt replaces } }',
  );
  expect(JSON.stringify(tokens)).not.toContain(secret);
  expect(tokens).toContainEqual(
    expect.objectContaining({
      prefix,
      principal: 'kept',
      roles: ['USER', 'DQM'],
      createdBy: 'operator',
    }),
  );
});

test('a token that could never be used is not made', async () => {
  const wrong = [
    { principal: '', roles: ['USER'] },
    { principal: 'two\nlines', roles: ['USER'] },
    { principal: 'x'.repeat(129), roles: ['USER'] },
    { principal: 'x', roles: [] },
    { principal: 'x', roles: ['ANONYMOUS'] },
    { principal: 'x', roles: ['USER'], expiresAt: '2020-01-01T00:00:00Z' },
    { principal: 'x', roles: ['USER'], expiresAt: '2999-01-01T00:00:00' },
  ];
  for (const input of wrong) {
    const { code, message } = await refusalOf(
      mutate(server.operator, 'createToken', input, 'token'),
    );
    expect({ input, code }).toEqual({ input, code: 'BAD_USER_INPUT' });
    expect(message).not.toBe('');
  }
  const unknown = await refusalOf(revoke('sbk_ffffffffffff_x'));
  expect(unknown).toMatchObject({ code: 'NOT_FOUND', facts: { prefix: 'ffffffffffff' } });
});

const make = async (input: object) =>
  (await mutate<{ token: string }>(server.operator, 'createToken', input, 'token')).token;

test('a token does what its scopes say and nothing else that its roles would allow', async () => {
  await mutate(server.operator, 'createDataset', { name: 'scoped', kind: 'PR', owner: 'robot' });
  const robot = { principal: 'robot', roles: ['PRODUCER'] };
  const run = { runs: [{ number: 1 }] };
  const scopes: [string[] | null, Record<string, boolean>][] = [
    [null, { sees: true, registers: true, lists: true }],
    [['read'], { sees: true, registers: false, lists: true }],
    [['registerRuns'], { sees: false, registers: true, lists: false }],
    [['readUnfinished', 'registerRuns'], { sees: true, registers: true, lists: false }],
  ];
  for (const [narrowed, may] of scopes) {
    const client = clientOf(server.address, await make({ ...robot, scopes: narrowed }));
    const code = async (query: string, variables?: object) =>
      (await client.raw(query, { ...variables })).errors?.[0]?.extensions.code;
    const register =
      'mutation ($input: RegisterRunsInput!) { registerRuns(input: $input) { existingCount } }';
    const seen = await client.call<{ dataset: object | null }>(
      '{ dataset(name: "scoped") { name } }',
    );
    expect({
      narrowed,
      sees: seen.dataset !== null,
      registers: (await code(register, { input: run })) === undefined,
      lists: (await code('{ backupRecords(first: 1) { totalCount } }')) === undefined,
    }).toEqual({ narrowed, ...may });
  }
  const { message } = await refusalOf(
    mutate(
      clientOf(server.address, await make({ ...robot, scopes: ['read'] })),
      'registerRuns',
      run,
      'existingCount',
    ),
  );
  expect(message).toContain('narrowed to read');
  const wrong = [
    { scopes: [] },
    { scopes: ['registerRuns', 'rule'] },
    { sites: [] },
    { sites: ['a b'] },
  ];
  for (const input of wrong) {
    const refusal = refusalOf(make({ ...robot, ...input }));
    expect(await refusal).toMatchObject({ code: 'BAD_USER_INPUT' });
  }
});

test('a token of one site tests the stores of no other', async () => {
  const check = 'mutation { checkMassStore { name } }';
  // NULL is a name like any other.
  const sites = ['local', 'SLAC', 'NULL'];
  const ours = await make({ principal: 'op', roles: ['OPERATOR'], sites });
  const { tokens } = await server.operator.call<{ tokens: { sites: string[] | null }[] }>(
    '{ tokens { sites } }',
  );
  expect(tokens.map((token) => token.sites)).toContainEqual(sites);
  expect(await clientOf(server.address, ours).raw(check)).not.toHaveProperty('errors');
  const theirs = clientOf(
    server.address,
    await make({ principal: 'op', roles: ['OPERATOR'], sites: ['SLAC'] }),
  );
  for (const query of [check, 'mutation { startAudit(what: COMPARE) { changed } }']) {
    expect((await theirs.raw(query)).errors?.[0]).toMatchObject({
      message: expect.stringContaining('at site local: the token is good for SLAC'),
      extensions: { code: 'FORBIDDEN' },
    });
  }
});

interface Rotated {
  token: string;
  details: {
    prefix: string;
    roles: string[];
    scopes: string[];
    sites: string[];
    expiresAt: string;
  };
  replaced: { prefix: string; revokedAt: string | null; expiresAt: string };
}
const rotate = (client: TestClient, input: object = {}) =>
  mutate<Rotated>(
    client,
    'rotateToken',
    input,
    'token details { prefix roles scopes sites expiresAt } replaced { prefix revokedAt expiresAt }',
  );

test('a token replaces itself by one of the same kind, and never prolongs itself', async () => {
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  const kind = { roles: ['PRODUCER'], scopes: ['read', 'rotateToken'], sites: ['local'] };
  const old = await make({ principal: 'rotor', ...kind, expiresAt });
  const made = await rotate(clientOf(server.address, old));
  // Who ends one sees what has come of it.
  const { tokens } = await server.operator.call<{ tokens: object[] }>(
    '{ tokens { prefix replaces } }',
  );
  expect(tokens).toContainEqual({ prefix: made.details.prefix, replaces: old.split('_')[1] });
  expect(made.details).toEqual({ prefix: made.token.split('_')[1], ...kind, expiresAt });
  expect(made.replaced).toMatchObject({ prefix: old.split('_')[1], revokedAt: expect.any(String) });
  expect((await httpStatus(old)).status).toBe(401);
  // Both are good while the grace lasts.
  const again = await rotate(clientOf(server.address, made.token), { graceSeconds: 60 });
  expect(Date.parse(again.replaced.expiresAt)).toBeLessThanOrEqual(Date.now() + 60_000);
  for (const token of [made.token, again.token]) expect((await httpStatus(token)).status).toBe(200);
  // Of two at once one is in time.
  const twice = clientOf(server.address, await make({ principal: 'rotor', roles: ['USER'] }));
  const both = await Promise.allSettled([rotate(twice), rotate(twice)]);
  expect(both.map((one) => one.status).toSorted()).toEqual(['fulfilled', 'rejected']);
  const other = { prefix: (await make({ principal: 'rotor', roles: ['ADMIN'] })).split('_')[1] };
  expect(await refusalOf(rotate(clientOf(server.address, again.token), other))).toMatchObject({
    code: 'FORBIDDEN',
  });
  expect((await rotate(server.operator, other)).details).toMatchObject({ roles: ['ADMIN'] });
  expect(await refusalOf(rotate(server.operator, other))).toMatchObject({ code: 'NOT_FOUND' });
  const narrow = clientOf(
    server.address,
    await make({ principal: 'r', roles: ['USER'], scopes: ['read'] }),
  );
  expect(await refusalOf(rotate(narrow))).toMatchObject({ code: 'FORBIDDEN' });
});

test('the database lets no token grow, last longer or come back', async () => {
  const prefix = (await make({ principal: 'fixed', roles: ['USER'] })).split('_')[1];
  await server.database.sql(
    'update tokens set revoked_at = now(), expires_at = now() where prefix = $1',
    [prefix],
  );
  for (const change of [
    `roles = '{ADMIN}'`,
    `principal = 'other'`,
    `scopes = '{read}'`,
    `sites = '{x}'`,
    `secret_sha256 = sha256('x')`,
    'revoked_at = null',
    'expires_at = null',
    `expires_at = now() + interval '1 day'`,
    'replaces = id',
  ]) {
    const attempt = server.database.sql(`update tokens set ${change} where prefix = $1`, [prefix]);
    await expect(attempt, change).rejects.toMatchObject({ code: 'SW001' });
  }
});

test('another server of the same database ends the connections of a revoked token, too', async () => {
  const second = await openSweepbook(
    readConfig({
      SWEEPBOOK_HOME: join(server.folder, 'second'),
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: server.database.url,
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_WEBHOOKS: 'false',
      SWEEPBOOK_SHUTDOWN_SECONDS: '1',
    }),
    pino({ level: 'silent' }),
  );
  try {
    const token = await server.tokenOf('roaming', 'USER');
    const socket = await openSocket(second.address, token);
    await revoke(token);
    const revokedAt = Date.now();
    expect(await socket.closed).toMatchObject({ code: 4403 });
    expect(Date.now() - revokedAt).toBeLessThan(10_000);
  } finally {
    await second.close();
  }
});

/** A WebSocket that says nothing by itself. */
function bare(options: { protocol?: string[]; origin?: string } = {}): {
  socket: WebSocket;
  closed: Promise<number>;
} {
  const { protocol = ['graphql-transport-ws'], ...more } = options;
  const socket = new WebSocket(`${server.address.replace('http', 'ws')}/graphql`, protocol, more);
  const closed = new Promise<number>((resolve) => {
    socket.on('close', resolve);
    socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
    socket.on('error', () => undefined);
  });
  return { socket, closed };
}

const init = { type: 'connection_init' };
const stay = { type: 'subscribe', id: '1', payload: { query: follow } };
const twice = (message: object) => [message, message];
test.each<[string, number, unknown[]]>([
  ['what is no message', 4400, [init, { type: 'shout' }]],
  ['an operation before its greeting', 4401, [stay]],
  ['a token that is not known', 4403, [{ ...init, payload: { authorization: 'Bearer sbk_x' } }]],
  ['a token that is no text', 4403, [{ ...init, payload: { authorization: 5 } }]],
  ['a token in other letters', 4403, [{ ...init, payload: { AUTHORIZATION: 'Bearer sbk_x' } }]],
  ['two operations of one name', 4409, [init, stay, stay]],
  ['two operations of one long name', 4409, [init, ...twice({ ...stay, id: 'x'.repeat(5000) })]],
  ['what only servers say', 4400, [init, { type: 'next', id: '1', payload: {} }]],
  ['two greetings', 4429, [init, init]],
])('the close code for %s is %i', async (_what, code, messages) => {
  const printed = vi.spyOn(console, 'error');
  const { socket, closed } = bare();
  const [first = '', ...others] = messages.map((message) => JSON.stringify(message));
  socket.on('open', () => socket.send(first));
  // What follows the greeting waits for its answer.
  socket.once('message', () => {
    for (const message of others) socket.send(message);
  });
  expect(await closed).toBe(code);
  // Strangers write nothing beside the log.
  expect(printed).not.toHaveBeenCalled();
  printed.mockRestore();
});

test('the close code for silence is 4408', async () => {
  expect(await silent).toBe(4408);
});

test('pages of other origins, and other protocols, are kept out', async () => {
  expect(await bare({ origin: 'https://evil.example.org' }).closed).toBe(403);
  expect(await bare({ origin: 'null' }).closed).toBe(403);
  expect(await bare({ protocol: [] }).closed).toBe(4406);
  for (const origin of [server.address, 'https://book.example.org']) {
    const { socket, closed } = bare({ origin });
    socket.on('open', () => socket.close(1000));
    expect(await closed).toBe(1000);
  }
});

test('one subscription too many is refused, and the connection stays', async () => {
  const socket = await openSocket(server.address);
  for (let at = 0; at < limits.subscriptionsPerSocket; at++) socket.start(follow);
  const last = socket.start(follow);
  const message = await socket.next();
  expect({ id: message?.id, code: errorsOf(message)?.[0]?.extensions.code }).toEqual({
    id: last,
    code: 'RATE_LIMITED',
  });
  socket.terminate();
});

test('while the last use of a token is being written, nobody else who shows it waits for that', async () => {
  const token = await server.tokenOf('busy', 'USER');
  const other = await server.database.client();
  await other.query('begin');
  await other.query(`select from tokens where principal = 'busy' for update`);
  const first = httpStatus(token);
  await until('it waits for the row', async () => {
    const waiting = await server.database.sql(
      `select from pg_stat_activity where wait_event_type = 'Lock' and query like 'update "tokens"%'`,
    );
    return waiting.length === 1;
  });
  expect(await httpStatus(token)).toMatchObject({ status: 200 });
  await other.query('rollback');
  expect(await first).toMatchObject({ status: 200 });
});
