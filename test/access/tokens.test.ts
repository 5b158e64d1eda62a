import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientOf } from '../support/client.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket, TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
});
afterAll(() => server.close());

const viewer = '{ viewer { name roles expiresAt } }';
const follow = 'subscription { datasetStatusChanged { to } }';

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
  const token = await server.tokenOf('revoked', 'USER');
  const other = await server.tokenOf('other', 'USER');
  const socket = await openSocket(server.address, token);
  socket.start(follow);
  const stays = await openSocket(server.address, other);
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
  // Looked at every 5 s; a busy machine gets as much again.
  expect(Date.now() - revokedAt).toBeLessThan(15_000);
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
  expect(await clientOf(server.address, token).call(viewer)).toEqual({
    viewer: { name: 'guest', roles: ['USER'], expiresAt },
  });
  const { status, message } = await until('the token expires', async () => {
    const answer = await httpStatus(token);
    return answer.status !== 200 && answer;
  });
  expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expiresAt));
  expect(status).toBe(401);
  expect(message).toContain(expiresAt);
  expect(await socket.closed).toMatchObject({ code: 4403 });
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
    '{ tokens { prefix principal roles note createdBy createdAt lastUsedAt } }',
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
