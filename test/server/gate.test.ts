import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { buildSchema, getIntrospectionQuery, parse } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anonymous, type Viewer } from '../../src/access/policy.ts';
import { readConfig } from '../../src/config.ts';
import { SweepbookError } from '../../src/errors.ts';
import { defaultLimits } from '../../src/limits.ts';
import { networkOf } from '../../src/server/address.ts';
import { Bodies } from '../../src/server/bodies.ts';
import { Buckets } from '../../src/server/buckets.ts';
import { Gate, payerOf } from '../../src/server/gate.ts';
import { InFlight } from '../../src/server/in-flight.ts';
import { SchemaAnswers } from '../../src/server/schema-answers.ts';
import { Turns } from '../../src/server/turns.ts';
import { WaitingBytes } from '../../src/server/websocket-connection.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket, TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

const anna: Viewer = { principal: 'anna', roles: ['USER'] };

describe('alone', () => {
  test('a bucket gives what it has at once, and then as it fills', () => {
    let now = 0;
    const buckets = new Buckets(2, 10, () => now);
    expect(buckets.take('a', 10)).toBe(0);
    expect(buckets.take('a', 1)).toBe(0.5);
    expect(buckets.take('b', 10)).toBe(0);
    now = 1500;
    expect(buckets.take('a', 3)).toBe(0);
    expect(buckets.take('a', 1)).toBe(0.5);
    buckets.give('a', 4);
    expect(buckets.take('a', 4)).toBe(0);
    now = 1_000_000;
    expect(buckets.take('a', 11)).toBe(0);
    expect(buckets.take('a', 10)).toBe(5);
    expect(new Buckets(0, 1).take('a', 99)).toBe(0);
  });

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    [undefined, 'an unknown address'],
  ])('%s is counted as %s', (address, network) => {
    expect(networkOf(address)).toBe(network);
  });

  test('nobody is looked up who has asked too much, or from where too many tokens were wrong', async () => {
    const few = { rate: 1, burst: 3, anonymousBurst: 2, wrongTokenRate: 1, wrongTokenBurst: 2 };
    const gate = new Gate({ ...defaultLimits, ...few });
    let lookedUp = 0;
    const ask = (token: string, address = '192.0.2.1') =>
      gate.admit(token, address, async () => {
        lookedUp++;
        if (token === 'wrong') throw new SweepbookError('UNAUTHENTICATED', 'not known');
        return anna;
      });
    // Two tokens, two addresses, one principal.
    for (const [token, address] of [
      ['one', '192.0.2.1'],
      ['two', '192.0.2.2'],
      ['one', '192.0.2.2'],
    ] as const) {
      await ask(token, address);
    }
    const refusal = { code: 'RATE_LIMITED', facts: { limit: 'rate', retryAfterSeconds: 1 } };
    await expect(ask('two')).rejects.toMatchObject(refusal);
    expect(lookedUp).toBe(3);
    for (let at = 0; at < 2; at++) {
      await expect(ask('wrong')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    }
    await expect(ask('wrong')).rejects.toMatchObject({ facts: { limit: 'wrongTokenRate' } });
    await expect(ask('wrong', '192.0.2.9')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(lookedUp).toBe(6);
  });

  test('tokens that are new come a few at a time, and no more of them than may be wrong', async () => {
    let working = 0;
    let most = 0;
    let lookedUp = 0;
    const gate = new Gate({ ...defaultLimits, wrongTokenRate: 1, wrongTokenBurst: 10 });
    const ask = (token: string) =>
      gate.admit(token, '192.0.2.1', async () => {
        lookedUp++;
        most = Math.max(most, ++working);
        await setImmediate();
        working--;
        if (token.startsWith('wrong')) throw new SweepbookError('UNAUTHENTICATED', 'not known');
        return anna;
      });
    const good = Array.from({ length: 30 }, (_, at) => ask(`good ${at}`));
    expect(await Promise.all(good)).toHaveLength(30);
    const wrong = Array.from({ length: 30 }, (_, at) => ask(`wrong ${at}`));
    const codes = (await Promise.allSettled(wrong)).map((end) =>
      end.status === 'rejected' ? (end.reason as SweepbookError).code : 'admitted',
    );
    expect(codes.filter((code) => code === 'UNAUTHENTICATED')).toHaveLength(10);
    expect(codes.filter((code) => code === 'RATE_LIMITED')).toHaveLength(20);
    expect([lookedUp, most]).toEqual([40, 4]);
  });

  test('the bodies of one sender share his rate, and all of them come whole', async () => {
    const bodies = new Bodies({ ...defaultLimits, bodyRate: 2000, bodyBytes: 1000 });
    const begun = performance.now();
    const came = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const chunks = Array.from({ length: 4 }, (_, at) => Buffer.alloc(250, `${name}${at}`));
        const request = Readable.from(chunks) as IncomingMessage;
        const body = await buffer(bodies.paced(request, 'anna'));
        return body.equals(Buffer.concat(chunks));
      }),
    );
    expect(came).toEqual([true, true]);
    // 1,000 bytes at once, and as many in half a second.
    expect(performance.now() - begun).toBeGreaterThan(400);
  });

  test('what is asked about the schema is found out once, as text and as answer', async () => {
    const answers = new SchemaAnswers(buildSchema('type Query { a(b: Int): Int }'));
    const ask = (text: string) => answers.answerTo({ document: parse(text) }, 'anna');
    const types = '{ __schema { queryType { name } } }';
    const [first, second] = await Promise.all([ask(types), ask(types)]);
    const text = '{"data":{"__schema":{"queryType":{"name":"Query"}}}}\n';
    expect(first?.text).toBe(text);
    expect(second).toBe(first);
    expect(await ask(types)).toBe(first);
    expect(answers.textOf({ data: first?.standIn.data ?? null })).toBe(text);
    const bytes = answers.bytesOf(text);
    expect(bytes?.toString()).toBe(text);
    expect(bytes).toBe(first?.bytes);
    expect(answers.bytesOf(text.replace('Query', 'query'))).toBeUndefined();
    expect(answers.textOf({ data: { a: 1 } })).toBe('{"data":{"a":1}}\n');
    expect(ask('{ __typename }')).toBeUndefined();
    expect(ask('{ __typename a }')).toBeUndefined();
    expect(ask('{ __schema { queryType { name } } a }')).toBeUndefined();
    expect(ask('fragment f on Query { a } { __typename ...f }')).toBeUndefined();
    expect(ask('query q($n: String!) { __type(name: $n) { name } }')).toBeUndefined();
    for (let at = 0; at < 16; at++) await ask(`{ a${at}: __type(name: "Query") { name } }`);
    expect(await ask(types)).not.toBe(first);
    // A document that is not valid does not come so far.
    await expect(ask('{ __type { name } }')).rejects.toThrow('the schema does not tell this');
    await answers.close();
  });

  test('what may be answered is paid for, and the rest of it once', () => {
    const gate = new Gate({ ...defaultLimits, rate: 1, burst: 10, pointFields: 100 });
    const payer = payerOf(anna, undefined);
    const take = (points: number) => () => gate.take(payer, points);
    take(5)();
    expect(take(6)).toThrow('anna has asked too much');
    gate.fine(payer);
    expect(take(1)).toThrow('try again in 1 s');
  });

  test('requests and bytes under way are counted until they are gone', () => {
    const inFlight = new InFlight({
      ...defaultLimits,
      requestsInFlight: 2,
      anonymousRequestsInFlight: 1,
      bytesInFlight: 100,
      bytesInAll: 150,
    });
    const own = payerOf(anna, undefined);
    const first = inFlight.enter(own, 60);
    expect(() => inFlight.enter(own, 50)).toThrow('60 bytes under way');
    const second = inFlight.enter(own, 0);
    expect(() => inFlight.enter(own, 0)).toThrow('anna has 2 requests under way');
    second.hold(30);
    expect(() => second.hold(20)).toThrow('90 bytes under way');
    const stranger = payerOf(anonymous, '192.0.2.1');
    expect(() => inFlight.enter(stranger, 70)).toThrow('of all');
    inFlight.enter(stranger, 10);
    expect(() => inFlight.enter(stranger, 0)).toThrow('192.0.2.1 without a token has 1');
    first.leave();
    second.leave();
    inFlight.enter(own, 100);
  });

  test('what waits on the WebSockets of one, and of all, is counted until it is gone', () => {
    const waiting = new WaitingBytes({ ...defaultLimits, bytesInFlight: 100, bytesInAll: 150 });
    const keys = ['stranger', 'anna', 'ben'];
    const [first, second, third] = keys.map((_, at) => waiting.counter(() => keys[at] ?? ''));
    expect(first?.(60)).toBe(true);
    expect(second?.(60)).toBe(true);
    // The first says who it is.
    keys[0] = 'anna';
    expect(first?.(60)).toBe(false);
    expect(first?.(40)).toBe(true);
    expect(third?.(60)).toBe(false);
    expect(third?.(50)).toBe(true);
    expect(second?.(0)).toBe(true);
    expect(third?.(100)).toBe(true);
  });

  test('turns go round, payer after payer', async () => {
    const turns = new Turns();
    const order: string[] = [];
    await Promise.all(
      ['a', 'a', 'a', 'b', 'c', 'b'].map(async (key) => {
        await turns.next(key);
        order.push(key);
      }),
    );
    expect(order.join('')).toBe('abcaba');
  });

  test('whose turn was a heavy one rests, and nobody else', async () => {
    const turns = new Turns();
    const order: string[] = [];
    const take = async (key: string, ms = 0) => {
      await turns.next(key);
      order.push(key);
      for (const end = performance.now() + ms; performance.now() < end;);
    };
    await Promise.all([
      ...['a', 'a'].map((key) => take(key, 100)),
      take('b'),
      take('b'),
      take('b'),
    ]);
    expect(order.join('')).toBe('abbba');
    // Who comes while all others rest does not wait for them.
    const [first, second] = [take('a', 300), take('a')];
    await first;
    await new Promise((resolve) => setTimeout(resolve, 20));
    await take('c');
    await second;
    expect(order.join('').slice(5)).toBe('aca');
  });

  test.each([
    ['SWEEPBOOK_LIMIT_DEPTH', '3', 'SWEEPBOOK_LIMIT_DEPTH "3": a whole number from 4 to 100'],
    ['SWEEPBOOK_LIMIT_BODY_BYTES', '32MB', 'SWEEPBOOK_LIMIT_BODY_BYTES "32MB": a whole number'],
    ['SWEEPBOOK_LIMIT_DEPHT', '9', 'SWEEPBOOK_LIMIT_DEPHT: there is no such limit'],
  ])('%s=%s is refused', (name, value, why) => {
    expect(() => readConfig({ [name]: value })).toThrow(why);
  });
});

describe('of a server', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_LIMIT_RATE: '5',
      SWEEPBOOK_LIMIT_BURST: '1000',
      SWEEPBOOK_LIMIT_SOCKETS_PER_PRINCIPAL: '3',
      SWEEPBOOK_LIMIT_MESSAGE_RATE: '5',
      SWEEPBOOK_LIMIT_MESSAGE_BURST: '60',
      SWEEPBOOK_LIMIT_SOCKET_WAITING_BYTES: '65536',
    });
  });
  afterAll(() => server.close());

  const bomb = `{ ${Array.from({ length: 300 }, (_, at) => `a${at}: __typename`).join(' ')} }`;
  const codeOf = async (client: TestClient, query: string) =>
    (await client.raw(query)).errors?.[0]?.extensions.code ?? 'data';

  test('one rate for HTTP and WebSocket; others do not notice', async () => {
    const token = await server.tokenOf('fred', 'USER');
    const fred = clientOf(server.address, token);
    const socket = await openSocket(server.address, token);
    const codes = await Promise.all(Array.from({ length: 60 }, () => codeOf(fred, bomb)));
    // How many are let in before it is known what the first ones cost depends on who is faster.
    expect(codes).toContain('QUERY_TOO_COMPLEX');
    expect(new Set([...codes, 'RATE_LIMITED']).size).toBe(2);
    const response = await fetch(`${server.address}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ query: getIntrospectionQuery() }),
    });
    expect([response.status, Number(response.headers.get('retry-after'))]).toEqual([
      429,
      expect.toSatisfy((seconds: number) => seconds >= 1 && seconds <= 5),
    ]);
    socket.start(getIntrospectionQuery());
    expect(await socket.next()).toMatchObject({
      type: 'error',
      payload: [{ extensions: { code: 'RATE_LIMITED', facts: { limit: 'rate', most: 5 } } }],
    });
    socket.terminate();
    const other = await server.as('greta', 'USER');
    expect(await other.call('{ viewer { name } }')).toEqual({ viewer: { name: 'greta' } });
    await until(
      'there are points again',
      async () => (await codeOf(fred, '{ __typename }')) === 'data',
    );
  });

  test('a WebSocket too many of a principal is closed with 1013', async () => {
    const token = await server.tokenOf('sophie', 'USER');
    const open = [];
    for (let at = 0; at < 3; at++) open.push(await openSocket(server.address, token));
    expect(await new TestSocket(server.address, token).closed).toEqual({
      code: 1013,
      reason: 'sophie has 3 WebSockets: close one, or try again later',
    });
    open[0]?.terminate();
    await open[0]?.closed;
    await until('there is room', async () => {
      const socket = new TestSocket(server.address, token);
      const message = await socket.next();
      socket.terminate();
      return message?.type === 'connection_ack';
    });
    for (const socket of open) socket.terminate();
  });

  test('who says too much on a WebSocket is closed with 1008', async () => {
    const socket = await openSocket(server.address, await server.tokenOf('paul', 'USER'));
    for (let at = 0; at < 80; at++) socket.send({ type: 'ping' });
    expect(await socket.closed).toMatchObject({ code: 1008 });
  });

  test('a message in crumbs is not waited for', async () => {
    const socket = await openSocket(server.address);
    for (let at = 0; at < 1100; at++) socket.webSocket.send(' ', { fin: false });
    expect([1006, 1008]).toContain((await socket.closed).code);
  });

  test.each<[string, (socket: TestSocket) => void, number]>([
    ['answers', (socket) => void socket.start(getIntrospectionQuery()), 40],
    ['pongs', (socket) => socket.send({ type: 'ping', payload: { all: 'x'.repeat(1e6) } }), 40],
    ['refusals', (socket) => void socket.start(`{ ${'x'.repeat(1e6)} }`), 40],
  ])(
    'a reader who takes nothing is cut off when too many %s wait for him',
    async (what, say, times) => {
      const socket = await openSocket(server.address, await server.tokenOf(`dan ${what}`, 'USER'));
      socket.webSocket.pause();
      for (let at = 0; at < times; at++) say(socket);
      const isCutOff = async () => {
        const metrics = await (await server.operator.get('/metrics')).text();
        return /^sweepbook_websockets 0$/m.test(metrics);
      };
      // Sooner than it would be taken for dead.
      await until('it is cut off', isCutOff, 10_000);
      socket.webSocket.resume();
      expect([1006, 4413]).toContain((await socket.closed).code);
    },
  );
});

test('the command line waits for as long as it is told to, and asks again', async () => {
  const server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_LIMIT_RATE: '6',
    SWEEPBOOK_LIMIT_BURST: '16',
    SWEEPBOOK_LIMIT_POINT_FIELDS: '1',
  });
  const ask = async () => (await server.operator.raw('{ viewer { name } }')).errors;
  await until(
    'nothing is left',
    async () => (await ask())?.[0]?.extensions.code === 'RATE_LIMITED',
  );
  const token = readFileSync(join(server.folder, 'home', 'operator-token'), 'utf8').trim();
  const settings = { SWEEPBOOK_URL: server.address, SWEEPBOOK_TOKEN: token };
  const ended = await runProgram(['whoami'], settings);
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  await server.close();
});
