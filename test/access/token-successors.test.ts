import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientOf, type TestClient } from '../support/client.ts';
import { runProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
});
afterAll(() => server.close());

const prefixOf = (token: string) => token.split('_')[1] ?? '';
const isGood = async (token: string) =>
  (await clientOf(server.address, token).raw('{ viewer { name } }')).errors === undefined;

async function rotate(token: string, graceSeconds = 0): Promise<string> {
  const made = await mutate<{ token: string }>(
    clientOf(server.address, token),
    'rotateToken',
    { graceSeconds },
    'token',
  );
  return made.token;
}

interface Revoked {
  changed: boolean;
  details: { prefix: string; revokedAt: string | null };
  successors: { prefix: string; revokedAt: string | null }[];
}
async function revoke(
  token: string,
  withSuccessors?: boolean,
  client: TestClient = server.operator,
): Promise<Revoked> {
  const { revokeToken } = await client.call<{ revokeToken: Revoked }>(
    `mutation ($prefix: String!, $withSuccessors: Boolean) {
       revokeToken(prefix: $prefix, withSuccessors: $withSuccessors) {
         changed details { prefix revokedAt } successors { prefix revokedAt }
       }
     }`,
    { prefix: prefixOf(token), ...(withSuccessors === undefined ? {} : { withSuccessors }) },
  );
  return revokeToken;
}

test('what came of a token stands and is told, until it is revoked with it', async () => {
  const stolen = await server.tokenOf('owner', 'USER');
  const second = await rotate(stolen);
  const third = await rotate(second, 60);
  const told = await revoke(stolen);
  expect(told).toMatchObject({
    changed: false,
    successors: [second, third].map((token) => ({ prefix: prefixOf(token), revokedAt: null })),
  });
  expect([await isGood(second), await isGood(third)]).toEqual([true, true]);
  const socket = await openSocket(server.address, third);
  // From the middle: what was before it is not touched.
  const ended = await revoke(second, true);
  expect(ended.changed).toBe(true);
  expect(ended.successors).toEqual([
    { prefix: prefixOf(third), revokedAt: expect.any(String) as string },
  ]);
  expect([await isGood(second), await isGood(third)]).toEqual([false, false]);
  expect((await socket.closed).code).toBe(4403);
  expect(await revoke(stolen, true)).toMatchObject({ changed: false, successors: [] });
});

test('who rotates while all of it is revoked has nothing that stands', async () => {
  for (let round = 0; round < 5; round++) {
    const stolen = await server.tokenOf('racer', 'USER');
    const own = await rotate(stolen);
    const rotations = Promise.allSettled([rotate(own), rotate(own)]);
    await revoke(stolen, true);
    const made = (await rotations).flatMap((end) =>
      end.status === 'fulfilled' ? [end.value] : [],
    );
    for (const token of [own, ...made]) expect(await isGood(token)).toBe(false);
  }
});

test('a rotation that is under way is waited for', async () => {
  const stolen = await server.tokenOf('slow', 'USER');
  const own = await rotate(stolen);
  // A rotation, as far as it holds its token.
  const rotating = await server.database.client();
  await rotating.query('begin');
  const id = await rotating.query<{ id: string }>(
    'select id from tokens where prefix = $1 for update',
    [prefixOf(own)],
  );
  const revoked = revoke(stolen, true);
  await until('the revocation waits', async () => {
    const [seen] = await server.database.sql<{ waits: boolean }>(
      `select exists (select from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock') as waits`,
    );
    return seen?.waits;
  });
  await rotating.query(
    `insert into tokens (prefix, secret_sha256, principal, roles, created_by, replaces)
     select 'abcdefabcdef', secret_sha256, principal, roles, created_by, id from tokens where id = $1`,
    [id.rows[0]?.id],
  );
  await rotating.query('commit');
  expect((await revoked).successors.map(({ prefix }) => prefix)).toEqual([
    prefixOf(own),
    'abcdefabcdef',
  ]);
});

test('more than are told are ended all the same', async () => {
  const stolen = await server.tokenOf('busy', 'USER');
  await server.database.sql(
    `insert into tokens (prefix, secret_sha256, principal, roles, created_by, replaces)
     select lpad(to_hex(n), 12, '0'), secret_sha256, principal, roles, created_by, id
     from tokens, generate_series(1, 1003) n where prefix = $1`,
    [prefixOf(stolen)],
  );
  expect((await revoke(stolen, true)).successors).toHaveLength(1000);
  const standing = `select prefix from tokens where principal = 'busy' and revoked_at is null`;
  expect(await server.database.sql(standing)).toEqual([]);
});

test('on the command line', async () => {
  const stolen = await server.tokenOf('anna', 'USER');
  const second = await rotate(stolen);
  const run = async (...more: string[]) => {
    const { stdout, stderr, code } = await runProgram(
      ['token', 'revoke', prefixOf(stolen), ...more],
      { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: await server.tokenOf('root', 'ADMIN') },
    );
    expect(code).toBe(0);
    return { stdout: stdout.trim(), stderr: stderr.trim() };
  };
  const base = `token ${prefixOf(stolen)} of anna is already revoked`;
  expect(await run()).toEqual({
    stdout: base,
    stderr: `sweepbook: what came of it by rotation still stands: ${prefixOf(second)}; --with-successors ends that, too`,
  });
  expect(await run('--with-successors')).toEqual({
    stdout: `token ${prefixOf(stolen)} of anna is revoked, and so is what came of it: ${prefixOf(second)}`,
    stderr: '',
  });
  expect(await isGood(second)).toBe(false);
});
