import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { getIntrospectionQuery } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LimitName } from '../../src/limits.ts';
import { limitsOfRequests } from '../../src/limits-of-requests.ts';
import {
  factsOf,
  halfRequest,
  headersOf,
  onSocket,
  overHttp,
  overWebSocket,
  rateLimitedBy,
  rawConnection,
  serverWith,
  shapes,
  show,
  small,
  times,
  type Asker,
  type Entry,
  type ShapedLimit,
  type Told,
} from '../support/limits.ts';
import type { TestServer } from '../support/server.ts';
import { openSocket, TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

const {
  'One document (HTTP and WebSocket alike, before it is checked against the schema)': ofDocuments,
  'One operation (before any SQL)': ofOperations,
  'Rates (0 = none)': ofRates,
  'HTTP requests': ofHttp,
  ...others
} = limitsOfRequests;

test('all groups of limits are looked at here', () => expect(others).toEqual({}));
describe('documents and operations', () => {
  let server: TestServer;
  let hasty: TestServer;
  beforeAll(async () => {
    const figures = Object.entries(shapes).map(([name, { most }]) => [name, most]);
    server = await serverWith({ ...Object.fromEntries(figures), anonymousRate: 0 });
    hasty = await serverWith({ schemaMilliseconds: 1 });
  });
  afterAll(async () => {
    await server.close();
    await hasty.close();
  });

  const roads = { HTTP: overHttp, WebSocket: overWebSocket };
  type Name = keyof typeof ofDocuments | keyof typeof ofOperations;
  type Ask = typeof overHttp;
  async function showShape(name: ShapedLimit, ask: Ask): Promise<void> {
    const { most, query, ...more } = shapes[name];
    const fitting = await ask(server, { query: query(most), ...more });
    expect([fitting.code, fitting.facts]).toEqual(['data', {}]);
    const refused = await ask(server, { query: query(most + 1), ...more });
    const code = name === 'pageSize' ? 'BAD_USER_INPUT' : 'QUERY_TOO_COMPLEX';
    expect(refused).toMatchObject({ code, facts: factsOf(name, most) });
    // A page too long is told by its field, as GraphQL has it; a WebSocket has no status.
    expect([0, name === 'pageSize' ? 200 : 400]).toContain(refused.status);
  }
  const shaped = Object.keys(shapes) as ShapedLimit[];
  const entries = {
    ...(Object.fromEntries(
      shaped.map((name) => [name, (ask: Ask) => showShape(name, ask)]),
    ) as Record<ShapedLimit, (ask: Ask) => Promise<void>>),
    async schemaMilliseconds(ask: Ask) {
      const fitting = await ask(server, { query: '{ __schema { queryType { name } } }' });
      expect(fitting.code).toBe('data');
      const facts = factsOf('schemaMilliseconds', 1);
      const refused = await ask(hasty, { query: getIntrospectionQuery() });
      expect(refused).toMatchObject({ code: 'UNAVAILABLE', facts });
    },
  };

  describe.each(Object.entries(roads))('over %s', (_road, ask) => {
    test.each([...Object.keys(ofDocuments), ...Object.keys(ofOperations)] as Name[])('%s', (name) =>
      show(name, entries[name] && (() => entries[name](ask))),
    );
  });
});

describe('rates', () => {
  const figures = {
    rate: 2,
    burst: 12,
    anonymousRate: 1,
    anonymousBurst: 6,
    pointFields: 10,
    refusedPoints: 5,
    refusalMilliseconds: 300,
    wrongTokenRate: 1,
    wrongTokenBurst: 3,
    aliases: 3,
  };
  let server: TestServer;
  beforeAll(async () => {
    server = await serverWith(figures);
    // Whose token is new, and asked for several times at once, may seem to have wrong ones.
    await token('first');
  });
  afterAll(() => server.close());

  const token = (principal: string) => server.tokenOf(principal, 'USER');

  /** Asks until it is refused: how often it was not, how often at most while points came again, and how it was. */
  async function drain(ask: () => Promise<Told>, perSecond: number) {
    const begun = performance.now();
    for (let passed = 0; passed < 1000; passed++) {
      const refused = await ask();
      const more = Math.ceil(((performance.now() - begun) / 1000) * perSecond);
      if (refused.code === 'RATE_LIMITED') return { passed, more, refused };
    }
    throw new Error('it is never refused');
  }

  /** Has so many points at once, over both roads; by what each operation costs. */
  async function expectPoints(
    asker: Asker,
    limit: 'rate' | 'anonymousRate',
    { burst, query = small, cost = 1 }: { burst: number; query?: string; cost?: number },
  ): Promise<void> {
    const most = figures[limit];
    const { passed, more, refused } = await drain(
      () => overHttp(server, { query, ...asker }),
      most / cost,
    );
    expect(passed).toBeGreaterThanOrEqual(Math.floor(burst / cost));
    expect(passed).toBeLessThanOrEqual(Math.floor(burst / cost) + more);
    expect(refused).toEqual(rateLimitedBy(limit, most));
    // After as long as it says it is answered; what an operation costs is said once it may begin.
    let told = refused;
    for (let time = 0; time < 2 && told.code === 'RATE_LIMITED'; time++) {
      await pause(Number(told.retryAfter) * 1000);
      told = await overHttp(server, { query, ...asker });
    }
    expect(told).toMatchObject({ code: 'data' });
  }

  async function expectSocket(asker: Asker, limit: 'rate' | 'anonymousRate'): Promise<void> {
    const socket = await openSocket(server.address, asker.token, asker);
    const { refused } = await drain(() => onSocket(socket, { query: small }), 0);
    const { facts } = rateLimitedBy(limit, figures[limit]);
    expect(refused).toMatchObject({ code: 'RATE_LIMITED', facts });
    // One more WebSocket costs a point, too.
    await until('one is turned away', async () => {
      const { code, reason } = await closedOf(new TestSocket(server.address, asker.token, asker));
      return code === 1013 && reason.includes('has asked too much');
    });
    socket.terminate();
  }

  const closedOf = async (socket: TestSocket) => {
    if (await socket.next()) socket.terminate();
    return socket.closed;
  };

  const wrong = (digit: string) => `sbk_${digit.repeat(12)}_${'A'.repeat(43)}`;

  const entries: Record<keyof typeof ofRates, Entry> = {
    burst: async () => expectPoints({ token: await token('burst') }, 'rate', { burst: 12 }),
    rate: async () => expectSocket({ token: await token('rate') }, 'rate'),
    anonymousBurst: () => expectPoints({ from: '192.0.2.1' }, 'anonymousRate', { burst: 6 }),
    anonymousRate: () => expectSocket({ from: '192.0.2.2' }, 'anonymousRate'),
    // 1 + 10 × 3 fields are three points more.
    pointFields: async () =>
      expectPoints({ token: await token('points') }, 'rate', {
        burst: 12,
        query: '{ datasets(first: 10) { nodes { name kind } } }',
        cost: 4,
      }),
    async pointsAtOnce() {
      const own = await serverWith({ pointsAtOnce: 2 });
      const lock = await own.database.client();
      const anna = { token: await own.tokenOf('anna', 'USER') };
      const code = async (asker: Asker, query = small) =>
        (await overHttp(own, { query, ...asker })).code;
      const held: Promise<string>[] = [];
      const hold = () => held.push(code(anna, '{ datasets { totalCount } }'));
      await lock.query('begin; lock table datasets in access exclusive mode');
      try {
        hold();
        await pause(200);
        expect(await code(anna)).toBe('data');
        hold();
        await pause(200);
        held.push(code(anna));
        expect(await code({ from: '192.0.2.8' })).toBe('data');
        expect(await Promise.race([...held, pause(300, 'they wait')])).toBe('they wait');
      } finally {
        await lock.query('rollback');
      }
      expect(await Promise.all(held)).toEqual(['data', 'data', 'data']);
      await own.close();
    },
    async refusedPoints() {
      const asker = { token: await token('refused') };
      const bomb = `{ ${times(4, (at) => `a${at}: __typename`)} }`;
      for (let time = 0; time < 2; time++) {
        const told = await overHttp(server, { query: bomb, ...asker });
        expect(told).toMatchObject({ code: 'QUERY_TOO_COMPLEX' });
      }
      const { passed, more } = await drain(() => overHttp(server, { query: small, ...asker }), 2);
      expect(passed).toBeLessThanOrEqual(12 - 2 * 6 + more + 2);
    },
    async refusalMilliseconds() {
      const asker = { from: '192.0.2.3' };
      let begun = 0;
      const ask = async () => {
        begun = performance.now();
        return overHttp(server, { query: small, ...asker });
      };
      await drain(ask, 1);
      expect(performance.now() - begun).toBeGreaterThanOrEqual(295);
    },
    async wrongTokenBurst() {
      const ask = (digit: string) =>
        overHttp(server, { query: small, token: wrong(digit), from: '192.0.2.4' });
      const { passed, more, refused } = await drain(() => ask('a'), 1);
      expect(passed).toBeGreaterThanOrEqual(3);
      expect(passed).toBeLessThanOrEqual(3 + more);
      expect(refused).toEqual(rateLimitedBy('wrongTokenRate', 1));
      expect(
        await overHttp(server, { query: small, token: wrong('b'), from: '192.0.2.5' }),
      ).toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
    },
    async wrongTokenRate() {
      const ask = async () =>
        (await new TestSocket(server.address, wrong('c'), { from: '192.0.2.6' }).closed).code;
      await until('too many were wrong', async () => (await ask()) === 1013);
      await pause(1100);
      expect(await ask()).toBe(4403);
    },
  };

  test.concurrent.each(Object.keys(ofRates) as (keyof typeof ofRates)[])('%s', (name) =>
    show(name, entries[name]),
  );
});

describe('HTTP', () => {
  const figures = {
    bodyBytes: 8192,
    anonymousBodyBytes: 2048,
    requestsInFlight: 3,
    anonymousRequestsInFlight: 2,
    requestsInAll: 5,
    bytesInFlight: 20_000,
    bytesInAll: 30_000,
    headerBytes: 4096,
    headers: 20,
    refusalMilliseconds: 0,
  };
  const slow = { headersSeconds: 2, requestSeconds: 3, keepAliveSeconds: 1, answerStallSeconds: 1 };
  const paced = { bodyBytes: 100_000, bodyRate: 100_000 };
  let server: TestServer;
  let slowServer: TestServer;
  let pacedServer: TestServer;
  beforeAll(async () => {
    server = await serverWith(figures);
    slowServer = await serverWith(slow);
    pacedServer = await serverWith(paced);
  });
  afterAll(async () => {
    for (const each of [server, slowServer, pacedServer]) await each.close();
  });

  const token = (principal: string) => server.tokenOf(principal, 'USER');
  const ask = (asker: Asker, bytes = 0) => overHttp(server, { query: small, ...asker }, bytes);

  /** Half requests of these, each of so many bytes; one more of `asker` is refused until they are whole. */
  async function expectFull(
    held: readonly (readonly [Asker, number])[],
    [asker, bytes]: readonly [Asker, number],
    limit: keyof typeof figures,
  ): Promise<void> {
    let ends: (() => Promise<string>)[] = [];
    const refused = await until('it is refused', async () => {
      ends = held.map(([of, length]) => halfRequest(server, of, length));
      // Who is asked before all of them have come takes a place from one of them.
      await pause(100);
      const told = await ask(asker, bytes);
      if (told.code !== 'data') return told;
      await Promise.all(ends.map((end) => end()));
      return undefined;
    });
    expect(refused).toEqual(rateLimitedBy(limit, figures[limit]));
    for (const end of ends) expect(await end()).toMatch(/^HTTP\/1\.1 200 /);
    await until('there is room', async () => (await ask(asker, bytes)).code === 'data');
  }

  const entries: Record<keyof typeof ofHttp, Entry> = {
    async bodyBytes() {
      const anna = { token: await token('anna') };
      expect(await ask(anna, 8192)).toMatchObject({ status: 200, code: 'data' });
      const facts = factsOf('bodyBytes', 8192);
      expect(await ask(anna, 8193)).toMatchObject({ status: 413, code: 'BAD_USER_INPUT', facts });
    },
    async bodyRate() {
      const olga = { token: await pacedServer.tokenOf('olga', 'USER') };
      const begun = performance.now();
      for (let time = 0; time < 2; time++) {
        expect(await overHttp(pacedServer, { query: small, ...olga }, 90_000)).toMatchObject({
          status: 200,
        });
      }
      // 100,000 bytes at once, and as many each second.
      expect(performance.now() - begun).toBeGreaterThan(700);
    },
    async anonymousBodyBytes() {
      expect(await ask({}, 2048)).toMatchObject({ status: 200, code: 'data' });
      const facts = factsOf('anonymousBodyBytes', 2048);
      expect(await ask({}, 2049)).toMatchObject({ status: 401, code: 'UNAUTHENTICATED', facts });
    },
    async requestsInFlight() {
      const anna = { token: await token('anna') };
      const held = [1, 2, 3].map(() => [anna, 30] as const);
      await expectFull(held, [anna, 0], 'requestsInFlight');
    },
    async anonymousRequestsInFlight() {
      const from = '192.0.2.1';
      const held = [1, 2].map(() => [{ from }, 30] as const);
      await expectFull(held, [{ from }, 0], 'anonymousRequestsInFlight');
    },
    async requestsInAll() {
      const [anna, ben] = [{ token: await token('anna') }, { token: await token('ben') }];
      const held = [anna, anna, anna, ben, ben].map((of) => [of, 30] as const);
      await expectFull(held, [{ from: '192.0.2.2' }, 0], 'requestsInAll');
    },
    async bytesInFlight() {
      const anna = { token: await token('anna') };
      const held = [6500, 6500].map((bytes) => [anna, bytes] as const);
      await expectFull(held, [anna, 7200], 'bytesInFlight');
      // Answers that wait count, too.
      expect(await ask(anna, 8000)).toMatchObject({ status: 200 });
    },
    async bytesInAll() {
      const [anna, ben] = [{ token: await token('anna') }, { token: await token('ben') }];
      const held = [
        [anna, 8000],
        [anna, 8000],
        [ben, 6500],
        [ben, 6500],
      ] as const;
      await expectFull(held, [{ from: '192.0.2.3' }, 1500], 'bytesInAll');
    },
    async headerBytes() {
      const status = async (bytes: number) =>
        (await server.anonymous.get('/healthz', { 'x-long': 'x'.repeat(bytes) })).status;
      expect(await status(3500)).toBe(200);
      expect(await status(4100)).toBe(431);
    },
    async headers() {
      const told = async (count: number) => {
        const socket = rawConnection(server);
        const more = times(count - 2, (at) => `X-${at}: y\r\n`).replaceAll(' X', 'X');
        socket.write(`GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${more}\r\n`);
        return text(socket);
      };
      expect(await told(20)).toMatch(/^HTTP\/1\.1 200 /);
      const refused = await told(21);
      expect(refused).toMatch(/^HTTP\/1\.1 431 /);
      expect(refused).toContain('"code":"BAD_USER_INPUT"');
      expect(refused).toContain('SWEEPBOOK_LIMIT_HEADERS');
    },
    async headersSeconds() {
      const [usual, late] = [rawConnection(slowServer), rawConnection(slowServer)];
      for (const socket of [usual, late]) socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n');
      await pause(300);
      usual.write('Connection: close\r\n\r\n');
      expect(await text(usual)).toMatch(/^HTTP\/1\.1 200 /);
      const refused = await text(late);
      expect(refused).toMatch(/^HTTP\/1\.1 408 /);
      expect(refused).toContain('its header has 2 s, the whole of it 3 s (SWEEPBOOK_LIMIT_HEADERS');
    },
    async requestSeconds() {
      const [usual, late] = [rawConnection(slowServer), rawConnection(slowServer)];
      for (const socket of [usual, late]) {
        socket.write(
          'POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{',
        );
      }
      await pause(300);
      usual.write('"query":"{ __typename }"}');
      expect(await text(usual)).toMatch(/^HTTP\/1\.1 200 /);
      expect(await text(late)).toMatch(/^HTTP\/1\.1 408 .*"code":"BAD_USER_INPUT"/s);
    },
    async keepAliveSeconds() {
      const socket = rawConnection(slowServer);
      const closed = once(socket, 'close');
      for (let time = 0; time < 2; time++) {
        socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
        expect(String(await once(socket, 'data'))).toMatch(/^HTTP\/1\.1 200 /);
      }
      const idle = performance.now();
      socket.resume();
      await closed;
      expect(performance.now() - idle).toBeGreaterThan(900);
    },
    async answerStallSeconds() {
      // What is not there is told by its name: more than the system keeps.
      const whole = 12 * 1024 * 1024;
      const body = JSON.stringify({ query: small, operationName: 'x'.repeat(whole) });
      const { authorization } = headersOf({ token: await slowServer.tokenOf('dan', 'USER') });
      const comes = async (afterMs: number) => {
        const socket = rawConnection(slowServer);
        socket.write(
          `POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ${authorization}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
        await once(socket, 'readable');
        await pause(afterMs);
        let bytes = 0;
        for await (const chunk of socket) bytes += (chunk as Buffer).length;
        return bytes;
      };
      expect(await comes(0)).toBeGreaterThan(whole);
      expect(await comes(3500).catch(() => 0)).toBeLessThan(whole);
    },
    answerRate: [
      'test/server/readers.test.ts',
      'an answer over HTTP: who takes a little now and then is cut off',
    ],
  };

  const waiting: ReadonlySet<string> = new Set([...Object.keys(slow), 'bodyRate']);
  const names = Object.keys(ofHttp) as (keyof typeof ofHttp & LimitName)[];
  test.each(names.filter((name) => !waiting.has(name)))('%s', (name) => show(name, entries[name]));
  test.concurrent.each(names.filter((name) => waiting.has(name)))('%s', (name) =>
    show(name, entries[name]),
  );
});
