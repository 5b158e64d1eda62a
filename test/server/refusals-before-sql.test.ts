import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  halfRequest,
  onSocket,
  overHttp,
  rawConnection,
  serverWith,
  shapes,
  small,
  type Asked,
  type Asker,
  type ShapedLimit,
  type Told,
} from '../support/limits.ts';
import type { TestServer } from '../support/server.ts';
import { openSocket, TestSocket } from '../support/socket.ts';
import { watchStatements, type Watch } from '../support/statements.ts';
import { until } from '../support/until.ts';

/*
 * What is beyond a limit is refused before PostgreSQL is asked: what it is asked by the server is read along, on the way
 * to it. Whoever shows a token has it looked up by each request, for it may have ended since; once he has asked too much
 * he is known by it, and it is not.
 */
const figures = {
  ...Object.fromEntries(Object.entries(shapes).map(([name, { most }]) => [name, most])),
  rate: 1,
  burst: 3000,
  anonymousRate: 1,
  anonymousBurst: 3000,
  pointFields: 1,
  wrongTokenRate: 1,
  wrongTokenBurst: 3,
  refusalMilliseconds: 0,
  bodyBytes: 8192,
  anonymousBodyBytes: 4096,
  requestsInFlight: 2,
  bytesInFlight: 12_000,
  socketsPerPrincipal: 2,
  silentSocketsPerAddress: 2,
  subscriptionsPerSocket: 1,
  webSocketMessageBytes: 4096,
  messageBurst: 50,
  messageRate: 1,
};

/** Beside, the server asks for itself: the queue of jobs, and who listens for the bell, have connections of their own. */
const applications: ReadonlySet<string> = new Set(['sweepbook', 'sweepbook-reads']);
const beside: Readonly<Record<string, RegExp>> = {
  // Each second, for who subscribes; nothing here asks for it.
  'the log': /\bfrom events e\b/,
  // Written twice a second, of what was told before.
  'the audit trail': /\baudit_trail\b/,
  // Every two seconds, while a WebSocket is open that a token came with.
  'whether tokens have ended': /from tokens t\b.*where t\.id = any|update tokens set last_used_at/s,
  // Every two seconds, whether there is something to be added.
  totals: /\bfile_total_changes\b/,
};
const isBeside = (statement: string) =>
  Object.values(beside).some((known) => known.test(statement.trim()));
const isLookUp = (statement: string) => /from tokens t where t\.prefix = /.test(statement);

let watch: Watch;
let server: TestServer;
let token: string;
beforeAll(async () => {
  watch = await watchStatements();
  server = await serverWith(figures, { SWEEPBOOK_WEBHOOKS: 'false' }, (url) => watch.through(url));
  token = await server.tokenOf('olga', 'USER');
  // Its use is noted once a minute.
  await overHttp(server, { query: small, token });
  await overHttp(server, { query: '{ datasets(first: 1) { totalCount } }', token });
});
afterAll(async () => {
  await server.close();
  watch.close();
});

/** What PostgreSQL is asked for this work: statements, and how often a token is looked up. */
async function asked(work: () => Promise<void>) {
  watch.taken();
  await work();
  // What is done after the answer is out.
  await pause(20);
  const texts = watch
    .taken()
    .filter(({ application }) => applications.has(application))
    .map((statement) => statement.text);
  const lookUps = texts.filter(isLookUp).length;
  return { lookUps, others: texts.filter((one) => !isLookUp(one) && !isBeside(one)) };
}

const nothing = { lookUps: 0, others: [] };
const lookUp = { lookUps: 1, others: [] };
const askers: [string, () => Asker][] = [
  ['a stranger', () => ({ from: '192.0.2.1' })],
  ['a principal', () => ({ token })],
];

test('the watch sees what is asked, on both roads', async () => {
  const query = '{ datasets(first: 1) { nodes { name } } }';
  for (const [, asker] of askers) {
    const overRequest = await asked(async () => {
      expect(await overHttp(server, { query, ...asker() })).toMatchObject({ code: 'data' });
    });
    expect(overRequest.others.join()).toMatch(/\bdatasets\b/);
    expect(overRequest.lookUps).toBe(asker().token === undefined ? 0 : 1);
    const socket = await openSocket(server.address, asker().token, asker());
    const overSocket = await asked(async () => {
      expect(await onSocket(socket, { query })).toMatchObject({ code: 'data' });
    });
    expect(overSocket.others.join()).toMatch(/\bdatasets\b/);
    socket.terminate();
  }
});

describe.each(askers)('of %s', (_who, asker) => {
  test.each(Object.keys(shapes) as ShapedLimit[])('%s', async (limit) => {
    const { query, most, ...more } = shapes[limit];
    const beyond: Asked = { query: query(most + 1), ...more, ...asker() };
    const expectRefusal = (told: Told) => expect(told.facts).toMatchObject({ limit });
    const overRequest = asked(async () => expectRefusal(await overHttp(server, beyond)));
    expect(await overRequest).toEqual(beyond.token === undefined ? nothing : lookUp);
    const socket = await openSocket(server.address, beyond.token, beyond);
    expect(await asked(async () => expectRefusal(await onSocket(socket, beyond)))).toEqual(nothing);
    socket.terminate();
  });
});

describe('of requests', () => {
  const post = async (body: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${server.address}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-forwarded-for': '192.0.2.2', ...headers },
      body,
    });
    return response.status;
  };
  const authorized = () => ({ authorization: `Bearer ${token}` });
  const raw = async (request: string) => {
    const socket = rawConnection(server);
    socket.write(request);
    return Number((await text(socket)).slice(9, 12));
  };
  const body = (bytes: number) => JSON.stringify({ query: small }).padEnd(bytes);

  test.each<[string, number, () => Promise<number>, object]>([
    ['too long a body', 413, () => post(body(8193), authorized()), nothing],
    ['too long a body of a stranger', 401, () => post(body(4097)), nothing],
    ['a packed body', 415, () => post('', { 'content-encoding': 'gzip' }), nothing],
    ['a batch', 400, () => post(`[${body(0)}]`), nothing],
    ['a batch of a principal', 400, () => post(`[${body(0)}]`, authorized()), lookUp],
    ['no JSON', 400, () => post('{"query":', authorized()), lookUp],
    ['too long a header', 431, () => post(body(0), { 'x-long': 'x'.repeat(17_000) }), nothing],
    [
      'two hosts',
      400,
      () => raw('GET /graphql HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n'),
      nothing,
    ],
    ['no request', 400, () => raw('SELECT * FROM tokens\r\n\r\n'), nothing],
  ])('%s', async (_what, status, refuse, expected) => {
    const found = await asked(async () => expect(await refuse()).toBe(status));
    expect(found).toEqual(expected);
  });

  test.each<[string, number, number]>([
    ['requestsInFlight', 100, 100],
    ['bytesInFlight', 6500, 6500],
  ])('%s', async (limit, held, more) => {
    const busy = { token: await server.tokenOf(limit, 'USER') };
    const ends = Array.from({ length: limit === 'requestsInFlight' ? 2 : 1 }, () =>
      halfRequest(server, busy, held),
    );
    await pause(300);
    const found = await asked(async () => {
      const told = await overHttp(server, { query: small, ...busy }, more);
      expect(told).toMatchObject({ code: 'RATE_LIMITED', facts: { limit } });
    });
    expect(found).toEqual(lookUp);
    for (const end of ends) await end();
  });
});

describe('of who has asked too much', () => {
  const bomb = shapes.aliases.query(shapes.aliases.most + 1);
  /** So many at once, lest points come back meanwhile: how many were let in to be looked at. */
  const letIn = async (ask: () => Promise<string>) => {
    const codes = await Promise.all(Array.from({ length: 10 }, ask));
    expect(codes).toContain('RATE_LIMITED');
    return codes.filter((code) => code !== 'RATE_LIMITED').length;
  };

  test.each(askers)('%s', async (_who, asker) => {
    const who: Asker = asker().token
      ? { token: await server.tokenOf('fred', 'USER') }
      : { from: '192.0.2.3' };
    const socket = await openSocket(server.address, who.token, who);
    const ask = async (query: string) => (await overHttp(server, { query, ...who })).code;
    await until('he has asked too much', async () => (await ask(bomb)) === 'RATE_LIMITED');
    let few = 0;
    const overRequest = await asked(async () => void (few = await letIn(() => ask(small))));
    expect(overRequest.others).toEqual([]);
    expect(overRequest.lookUps).toBeLessThanOrEqual(few);
    const onOpen = await asked(async () => {
      for (let time = 0; time < 10; time++) await onSocket(socket, { query: bomb });
    });
    expect(onOpen).toEqual(nothing);
    const opening = await asked(async () => {
      few = await letIn(async () => {
        const one = new TestSocket(server.address, who.token, who);
        if (await one.next()) one.terminate();
        return (await one.closed).code === 1013 ? 'RATE_LIMITED' : 'greeted';
      });
    });
    expect(opening.others).toEqual([]);
    expect(opening.lookUps).toBeLessThanOrEqual(few);
    socket.terminate();
  });

  test('where too many tokens were wrong', async () => {
    const wrong = { token: `sbk_${'a'.repeat(12)}_${'A'.repeat(43)}`, from: '192.0.2.4' };
    const ask = async () => (await overHttp(server, { query: small, ...wrong })).code;
    await until('too many were wrong', async () => (await ask()) === 'RATE_LIMITED');
    let few = 0;
    const found = await asked(async () => void (few = await letIn(ask)));
    expect(found.others).toEqual([]);
    expect(found.lookUps).toBeLessThanOrEqual(few);
  });

  test('the audit trail is not filled with them', async () => {
    const refused = () =>
      server.database.sql<{ code: string }>(
        `select code from audit_trail where outcome = 'REFUSED'`,
      );
    // What was told last is written last.
    await overHttp(server, { query: small, token: 'last', from: '192.0.2.5' });
    await until('it is written', async () => {
      const rows = await server.database.sql(
        `select from audit_trail where address = '192.0.2.5' and code = 'UNAUTHENTICATED'`,
      );
      return rows.length > 0;
    });
    expect((await refused()).map(({ code }) => code)).not.toContain('RATE_LIMITED');
  });
});

describe('of WebSockets', () => {
  const closed = async (socket: TestSocket) => (await socket.closed).code;
  const silent = async (from: string) => {
    const socket = new TestSocket(server.address, undefined, { from, greets: false });
    await once(socket.webSocket, 'open');
    return socket;
  };

  test('too many of a principal', async () => {
    const many = await server.tokenOf('many', 'USER');
    const open = [await openSocket(server.address, many), await openSocket(server.address, many)];
    const found = await asked(async () => {
      expect(await closed(new TestSocket(server.address, many))).toBe(1013);
    });
    expect(found).toEqual(lookUp);
    for (const socket of open) socket.terminate();
  });

  test('too many that are silent', async () => {
    const open = [await silent('192.0.2.6'), await silent('192.0.2.6')];
    const found = await asked(async () => {
      expect(await closed(new TestSocket(server.address, token, { from: '192.0.2.6' }))).toBe(429);
    });
    expect(found).toEqual(nothing);
    for (const socket of open) socket.terminate();
  });

  test('a subscription too many', async () => {
    const socket = await openSocket(server.address, token);
    const query = 'subscription { datasetStatusChanged { cursor } }';
    socket.start(query);
    expect(await onSocket(socket, { query: small })).toMatchObject({ code: 'data' });
    await pause(300);
    const found = await asked(async () => {
      const told = await onSocket(socket, { query });
      expect(told.facts).toMatchObject({ limit: 'subscriptionsPerSocket' });
    });
    expect(found).toEqual(nothing);
    socket.terminate();
  });

  test.each<[string, number, (socket: TestSocket) => void]>([
    ['too long a message', 1009, ({ webSocket }) => webSocket.send(small.padEnd(5000))],
    [
      'too many messages',
      1008,
      (socket) => {
        for (let at = 0; at < 100; at++) socket.send({ type: 'ping' });
      },
    ],
    ['an operation before it says who it is', 4401, (socket) => void socket.start(small)],
    ['no message of the protocol', 4400, ({ webSocket }) => webSocket.send('select 1')],
  ])('%s', async (_what, code, say) => {
    const socket =
      code === 4401 ? await silent('192.0.2.7') : await openSocket(server.address, token);
    const found = await asked(async () => {
      say(socket);
      expect(await closed(socket)).toBe(code);
    });
    expect(found).toEqual(nothing);
  });
});
