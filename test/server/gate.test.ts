import { getIntrospectionQuery } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anonymous, type Viewer } from '../../src/access/policy.ts';
import { readConfig } from '../../src/config.ts';
import { SweepbookError } from '../../src/errors.ts';
import { defaultLimits } from '../../src/limits.ts';
import { networkOf } from '../../src/server/address.ts';
import { Buckets } from '../../src/server/buckets.ts';
import { Gate, payerOf } from '../../src/server/gate.ts';
import { InFlight } from '../../src/server/in-flight.ts';
import { Turns } from '../../src/server/turns.ts';
import { clientOf, type TestClient } from '../support/client.ts';
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
    expect(new Set(codes)).toEqual(new Set(['QUERY_TOO_COMPLEX', 'RATE_LIMITED']));
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

  test('a reader who takes nothing is cut off when too much waits for him', async () => {
    const socket = await openSocket(server.address, await server.tokenOf('dan', 'USER'));
    socket.webSocket.pause();
    for (let at = 0; at < 40; at++) socket.start(getIntrospectionQuery());
    await until('it is cut off', async () => {
      const metrics = await (await server.operator.get('/metrics')).text();
      return /^sweepbook_websockets 0$/m.test(metrics);
    });
    socket.webSocket.resume();
    expect([1006, 4413]).toContain((await socket.closed).code);
  });
});
