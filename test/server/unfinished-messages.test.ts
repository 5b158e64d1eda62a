import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setImmediate, setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { defaultLimits as limits } from '../../src/limits.ts';
import { UnfinishedMessage } from '../../src/server/unfinished-message.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket, type Closed, type TestSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

const KiB = 1024;

/** A frame as a client sends it, masked with nothing: its header, and so many bytes of its payload. */
function frame(payload: string, { opcode = 1, fin = true, length = payload.length } = {}): Buffer {
  const header = [(fin ? 0x80 : 0) | opcode];
  if (length < 126) header.push(0x80 | length);
  else if (length < 65_536) header.push(0x80 | 126, length >> 8, length & 255);
  else header.push(0x80 | 127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((by) => (length >> by) & 255));
  return Buffer.concat([Buffer.from([...header, 0, 0, 0, 0]), Buffer.from(payload)]);
}

/** What the library would write behind the back of a test. */
function rawOf({ webSocket }: Pick<TestSocket, 'webSocket'>): Socket {
  const { _socket: raw } = webSocket as unknown as { _socket: Socket };
  return raw;
}

/** Begins a message of 200 KiB, a ping that is answered when it is whole; returns how to end it. */
function beginPing(socket: TestSocket): () => void {
  const whole = frame('{"type":"ping"}'.padEnd(200 * KiB));
  rawOf(socket).write(whole.subarray(0, 150 * KiB));
  return () => void rawOf(socket).write(whole.subarray(150 * KiB));
}

const isOpen = ({ webSocket }: TestSocket) => webSocket.readyState === WebSocket.OPEN;
const answers = async (socket: TestSocket) => {
  await until('it is answered', () => socket.messages.length > 0);
  return socket.messages.shift();
};

describe('bytes of messages that are not yet whole', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_LIMIT_BYTES_IN_FLIGHT: String(440 * KiB),
      SWEEPBOOK_LIMIT_BYTES_IN_ALL: String(900 * KiB),
      SWEEPBOOK_LIMIT_SILENT_MESSAGE_BYTES: String(20 * KiB),
    });
  });
  afterAll(() => server.close());

  const tokenOf: Record<string, () => Promise<string | undefined>> = {
    'a principal': () => server.tokenOf('anna', 'USER'),
    'an address': async () => undefined,
  };

  test.each(Object.keys(tokenOf))('count, of %s', async (who) => {
    const token = await tokenOf[who]?.();
    const sockets = [];
    for (let at = 0; at < 3; at++) sockets.push(await openSocket(server.address, token));
    const ends = sockets.map(beginPing);
    expect(await Promise.race(sockets.map((socket) => socket.closed))).toEqual({
      code: 4413,
      reason: 'too many bytes of messages at once: send less, and on fewer WebSockets',
    });
    // The others go on, and what has ended does not count any more.
    const left = sockets.filter(isOpen);
    expect(left).toHaveLength(2);
    for (const socket of left) ends[sockets.indexOf(socket)]?.();
    for (let round = 0; round < 2; round++) {
      for (const socket of left) expect(await answers(socket)).toEqual({ type: 'pong' });
      const again = left.map(beginPing);
      for (const end of again) end();
    }
    for (const socket of left) expect(await answers(socket)).toEqual({ type: 'pong' });
    for (const socket of left) socket.terminate();
  });

  test('count, of all, and go with the WebSocket', async () => {
    const sockets: TestSocket[] = [];
    for (let at = 0; at < 6; at++) {
      sockets.push(await openSocket(server.address, await server.tokenOf(`user ${at}`, 'USER')));
    }
    sockets.forEach(beginPing);
    const { code } = await Promise.race(sockets.map((socket) => socket.closed));
    expect(code).toBe(4413);
    for (const socket of sockets) socket.terminate();
    await until('all are gone', async () => {
      const metrics = await (await server.operator.get('/metrics')).text();
      return /^sweepbook_websockets 0$/m.test(metrics);
    });
    const socket = await openSocket(server.address);
    beginPing(socket)();
    expect(await answers(socket)).toEqual({ type: 'pong' });
    socket.terminate();
  });

  async function silent(): Promise<{ webSocket: WebSocket; closed: Promise<Closed> }> {
    const webSocket = new WebSocket(
      `${server.address.replace('http', 'ws')}/graphql`,
      'graphql-transport-ws',
    );
    const closed = new Promise<Closed>((resolve) => {
      webSocket.on('close', (code, reason) => resolve({ code, reason: String(reason) }));
    });
    webSocket.on('error', () => undefined);
    await once(webSocket, 'open');
    return { webSocket, closed };
  }

  test('are few before connection_init', async () => {
    const most = 20 * KiB;
    const init = '{"type":"connection_init"}';
    const fitting = await silent();
    rawOf(fitting).write(frame(init.padEnd(most)));
    const [greeting] = await once(fitting.webSocket, 'message');
    expect(String(greeting)).toBe('{"type":"connection_ack"}');
    const refusal = {
      code: 1009,
      reason: `before connection_init a message has at most ${most} bytes`,
    };
    const tooLong = await silent();
    rawOf(tooLong).write(frame('', { length: most + 1 }));
    expect(await tooLong.closed).toEqual(refusal);
    const wholeAtOnce = await silent();
    rawOf(wholeAtOnce).write(frame(init.padEnd(most + 1)));
    expect(await wholeAtOnce.closed).toEqual(refusal);
    const byFragments = await silent();
    for (let at = 0; at < 5; at++) byFragments.webSocket.send(' '.repeat(5000), { fin: false });
    expect(await byFragments.closed).toEqual(refusal);
    // Afterwards a message may be as long as any.
    rawOf(fitting).write(frame('{"type":"ping"}'.padEnd(100 * KiB)));
    const [answer] = await once(fitting.webSocket, 'message');
    expect(String(answer)).toBe('{"type":"pong"}');
    fitting.webSocket.terminate();
  });

  test('count with each piece, however short', async () => {
    const crumbs = await silent();
    const raw = rawOf(crumbs);
    raw.setNoDelay();
    raw.write(frame('', { length: 20 * KiB }));
    let sent = 0;
    for (; sent < 4000 && crumbs.webSocket.readyState === WebSocket.OPEN; sent++) {
      raw.write(' ');
      await setImmediate();
    }
    expect((await crumbs.closed).code).toBe(1009);
    expect(sent).toBeLessThan(4000);
  });
});

test('a message has so long to come whole, and pings in between do not help', async () => {
  const server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_LIMIT_WEB_SOCKET_MESSAGE_SECONDS: '2',
  });
  const dripping = await openSocket(server.address);
  const usual = await openSocket(server.address);
  let isOver = false;
  const drip = async () => {
    for (let at = 0; !isOver; at++) {
      dripping.webSocket.send(' ', { fin: false });
      dripping.webSocket.ping();
      await pause(200);
    }
  };
  // Each piece ends a message and begins the next one, so that there is always one unfinished.
  const go = async () => {
    const ping = frame('{"type":"ping"}');
    rawOf(usual).write(ping.subarray(0, 9));
    for (; !isOver; await pause(200)) {
      rawOf(usual).write(Buffer.concat([ping.subarray(9), ping.subarray(0, 9)]));
    }
  };
  const going = [drip(), go()];
  const ended = await Promise.race([dripping.closed, pause(15_000)]);
  await pause(1500);
  isOver = true;
  await Promise.all(going);
  expect(ended).toEqual({
    code: 1008,
    reason: 'a message has 2 s to come whole: send it at once',
  });
  expect(isOpen(usual)).toBe(true);
  expect(usual.messages.length).toBeGreaterThan(10);
  usual.terminate();
  await server.close();
});

test('what is held is told of any frames, in whatever pieces they come', () => {
  const length = fc.oneof(
    fc.integer({ min: 0, max: 200 }),
    fc.integer({ min: 65_530, max: 65_540 }),
  );
  const control = fc.record({ opcode: fc.constantFrom(9, 10), length: fc.nat(125) });
  const message = fc.array(fc.record({ length, before: fc.array(control, { maxLength: 2 }) }), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 4 }),
      fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1 }),
      (messages, cuts) => {
        // All bytes, where messages and control frames between messages end, and how long each message is.
        const bytes: Buffer[] = [];
        const ends = new Set([0]);
        let total = 0;
        const add = (part: Buffer, isEnd: boolean) => {
          bytes.push(part);
          total += part.length;
          if (isEnd) ends.add(total);
        };
        for (const fragments of messages) {
          fragments.forEach((fragment, at) => {
            for (const { opcode, length: size } of fragment.before) {
              add(frame('x'.repeat(size), { opcode }), at === 0);
            }
            const fin = at === fragments.length - 1;
            add(frame('x'.repeat(fragment.length), { opcode: at === 0 ? 1 : 0, fin }), fin);
          });
        }
        const all = Buffer.concat(bytes);
        const unfinished = new UnfinishedMessage();
        let longest = 0;
        let from = 0;
        for (let at = 0; from < all.length; at++) {
          const to = Math.min(all.length, from + (cuts[at % cuts.length] ?? 1));
          const told = unfinished.read(all.subarray(from, to));
          longest = Math.max(longest, told.longestBytes);
          const within = [...ends].filter((end) => end > from && end <= to);
          expect(told.isWholeWithin).toBe(within.length > 0);
          const begun = Math.max(...[...ends].filter((end) => end <= to));
          expect(unfinished.heldBytes > 0).toBe(begun < to);
          expect(unfinished.heldBytes).toBeGreaterThanOrEqual(to - begun);
          from = to;
        }
        expect(unfinished.heldBytes).toBe(0);
        const sizes = messages.map((fragments) =>
          fragments.reduce((sum, fragment) => sum + fragment.length, 0),
        );
        expect(longest).toBe(Math.max(0, ...sizes));
      },
    ),
    { numRuns: 200 },
  );
  expect(limits.silentMessageBytes).toBeGreaterThanOrEqual(limits.headerBytes);
});
