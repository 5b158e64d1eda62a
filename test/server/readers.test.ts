import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import Fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anonymous } from '../../src/access/policy.ts';
import { defaultLimits as limits } from '../../src/limits.ts';
import { RunningExports, sendList, type SentList } from '../../src/server/export/send.ts';
import { Reader, Readers } from '../../src/server/readers.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

const MiB = 1024 * 1024;
/** So high, and patience so short, that what holds for days with the usual figures is seen at once. */
const leastRate = 16 * MiB;

let server: TestServer;
let token: string;
beforeAll(async () => {
  server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_LIMIT_ANSWER_RATE: String(leastRate),
    SWEEPBOOK_LIMIT_ANSWER_STALL_SECONDS: '2',
    SWEEPBOOK_LIMIT_SOCKET_STALL_SECONDS: '2',
    SWEEPBOOK_LIMIT_OPERATIONS_PER_SOCKET: '20',
  });
  token = await server.tokenOf('olga', 'OPERATOR');
});
afterAll(() => server.close());

/** Takes little for a while, a chunk of up to 64 KiB now and then, and then all that still comes: how many bytes in all. */
async function takeSlowly(socket: Socket, forMs: number): Promise<number> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  let bytes = 0;
  let begun: number | undefined;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    begun ??= performance.now();
    if (performance.now() - begun > forMs) return;
    socket.pause();
    setTimeout(() => socket.resume(), 60);
  });
  await closed;
  return bytes;
}

async function connected(address: string): Promise<Socket> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

/** What is not there is told by its name: an answer of 12 MB, more than the system keeps. */
const whole = 12 * MiB;
const much = { query: '{ viewer { name } }', operationName: 'x'.repeat(whole) };

/** Asks for it, and the connection is closed after it. */
async function askMuch(): Promise<Socket> {
  const socket = await connected(server.address);
  const body = JSON.stringify(much);
  socket.write(
    `POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  return socket;
}

test('an answer over HTTP: who takes a little now and then is cut off', async () => {
  expect(await takeSlowly(await askMuch(), 3800)).toBeLessThan(whole);
});

test('a WebSocket, likewise', async () => {
  const socket = await openSocket(server.address, token);
  const { _socket: raw } = socket.webSocket as unknown as { _socket: Socket };
  void takeSlowly(raw, 3800);
  for (let at = 0; at < 24; at++) {
    socket.send({ type: 'ping', payload: { all: 'x'.repeat(whole / 24) } });
  }
  const code = await Promise.race([socket.closed.then((closed) => closed.code), pause(10_000)]);
  // Its farewell waits behind what is not taken.
  expect([1006, 4413]).toContain(code);
});

test('operations that are given up count until they end', async () => {
  const lock = await server.database.client();
  await lock.query('begin; lock table datasets in access exclusive mode');
  const socket = await openSocket(server.address, token);
  for (let at = 0; at < 20; at++) {
    socket.send({ type: 'complete', id: socket.start('{ datasets { totalCount } }') });
  }
  const last = socket.start('{ viewer { name } }');
  expect(await socket.next()).toMatchObject({
    id: last,
    payload: [{ extensions: { facts: { limit: 'operationsPerSocket', most: 20 } } }],
  });
  await lock.query('rollback');
  await lock.end();
  await until('they have ended', async () => {
    socket.start('{ viewer { name } }');
    return (await socket.next())?.type === 'next';
  });
  socket.terminate();
});

describe('a list', () => {
  const wholeBytes = 12 * MiB;

  /** A list of this length, as it is served; how much of it comes to a slow reader. */
  async function comes(answerRate: number, exportStallSeconds: number): Promise<number> {
    const readers = new Readers(answerRate);
    const lists = new RunningExports({ ...limits, exportStallSeconds }, () => '127.0.0.1', readers);
    async function* text() {
      for (let at = 0; at < wholeBytes; at += 65_536) yield 'x'.repeat(65_536);
    }
    const app = Fastify();
    app.get('/', async (request, reply) => {
      const running = lists.enter(anonymous, request);
      const list = { headers: {}, text: text(), encoding: 'identity', running, count: () => 1 };
      await sendList(request, reply, list as SentList);
      return reply;
    });
    const socket = await connected(await app.listen({ port: 0 }));
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const bytes = await takeSlowly(socket, 2500);
    await app.close();
    readers.stop();
    return bytes;
  }

  test.concurrent('is cut off when its reader takes less than the rate', async () => {
    expect(await comes(leastRate, 1)).toBeLessThan(wholeBytes);
  });

  test.concurrent('comes whole on a slow line', async () => {
    expect(await comes(limits.answerRate, 3)).toBeGreaterThan(wholeBytes);
  });
});

describe('the time of a reader', () => {
  /** A reader with 10 s of patience and 100 bytes a second: by second, how much waits then and how much was taken until then. */
  const tooSlowAt = (
    rate: number,
    seen: (second: number) => { waits: number; taken: number },
  ): number => {
    let second = 0;
    const socket = {
      get writableLength() {
        return seen(second).waits;
      },
      get _handle() {
        return { bytesWritten: seen(second).taken + 500, writeQueueSize: 500 };
      },
    };
    const reader = new Reader(socket as unknown as Socket, rate, 10, () => second * 1000);
    for (; second < 1000; second++) if (reader.isTooSlow()) return second;
    return Infinity;
  };

  test.each([
    ['takes nothing', 100, () => ({ waits: 1, taken: 0 }), 10],
    ['takes nothing, of any rate', 0, () => ({ waits: 1, taken: 0 }), 10],
    ['takes half of it', 100, (at: number) => ({ waits: 1, taken: at * 50 }), 19],
    ['takes a byte, of any rate', 0, (at: number) => ({ waits: 1, taken: at }), Infinity],
    ['takes just so much', 100, (at: number) => ({ waits: 1, taken: at * 100 }), Infinity],
    [
      'takes so much in lumps',
      100,
      (at: number) => ({ waits: 1, taken: Math.floor(at / 9) * 900 }),
      Infinity,
    ],
    [
      'took much, and now a little',
      100,
      (at: number) => ({ waits: 1, taken: Math.min(at, 50) * 1_000_000 + at }),
      60,
    ],
    ['has all of it now and then', 100, (at: number) => ({ waits: at % 8, taken: at }), Infinity],
  ])('who %s', (_what, rate, seen, end) => {
    expect(tooSlowAt(rate, seen)).toBe(end);
  });
});
