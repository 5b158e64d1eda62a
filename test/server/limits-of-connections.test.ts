import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limitsOfConnections } from '../../src/limits-of-connections.ts';
import {
  factsOf,
  headersOf,
  onSocket,
  rateLimitedBy,
  rawConnection,
  serverWith,
  show,
  type Asker,
  type Entry,
  type Figures,
} from '../support/limits.ts';
import type { TestServer } from '../support/server.ts';
import { openSocket, TestSocket, type Closed } from '../support/socket.ts';
import { until } from '../support/until.ts';
import { writeImportFile } from '../imports/sites.ts';
import { makeLarge } from './export/world.ts';

const {
  Connections: ofConnections,
  WebSockets: ofWebSockets,
  'Lists of files and manifests': ofLists,
  ...others
} = limitsOfConnections;

test('all groups of limits are looked at here', () => expect(others).toEqual({}));

const health = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
const last = 'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

describe('connections', () => {
  /** Who comes from one address, and by one proxy. */
  const figures = { connections: 6, connectionsPerAddress: 3, requestsPerConnection: 4 };
  let server: TestServer;
  let proxied: TestServer;
  beforeAll(async () => {
    server = await serverWith(figures, { SWEEPBOOK_TRUSTED_PROXIES: '' });
    proxied = await serverWith(figures);
  });
  afterAll(async () => {
    await server.close();
    await proxied.close();
  });

  /** As many as may be, each answered; one more is not. */
  async function expectMost(on: TestServer, most: number): Promise<string> {
    const sockets: Socket[] = [];
    for (let at = 0; at < most; at++) {
      const socket = rawConnection(on);
      socket.write(health);
      expect(String(await once(socket, 'data'))).toMatch(/^HTTP\/1\.1 200 /);
      sockets.push(socket);
    }
    const refused = await text(rawConnection(on));
    for (const socket of sockets) socket.destroy();
    await until('there is room', async () => {
      const socket = rawConnection(on);
      socket.write(last);
      return (await text(socket)).startsWith('HTTP/1.1 200 ');
    });
    return refused;
  }
  const bodyOf = (told: string): unknown => JSON.parse(/\{.*\}/s.exec(told)?.[0] ?? '');

  const entries: Record<keyof typeof ofConnections, Entry> = {
    async connections() {
      const refused = await expectMost(proxied, 6);
      expect(refused).toMatch(/^HTTP\/1\.1 503 .*Retry-After: 5/s);
      const facts = factsOf('connections', 6);
      expect(bodyOf(refused)).toMatchObject({ code: 'UNAVAILABLE', facts });
    },
    async connectionsPerAddress() {
      const refused = await expectMost(server, 3);
      expect(refused).toMatch(/^HTTP\/1\.1 429 .*Retry-After: 5/s);
      const facts = factsOf('connectionsPerAddress', 3);
      expect(bodyOf(refused)).toMatchObject({ code: 'RATE_LIMITED', facts });
    },
    async requestsPerConnection() {
      const told = async (count: number) => {
        const socket = rawConnection(server);
        socket.write(health.repeat(count - 1) + last);
        return text(socket);
      };
      expect((await told(4)).match(/HTTP\S+ \d+/g)).toEqual(Array(4).fill('HTTP/1.1 200'));
      const refused = await told(12);
      expect(refused.match(/HTTP\S+ \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 429']);
      const facts = factsOf('requestsPerConnection', 4);
      expect(bodyOf(refused.slice(refused.indexOf('HTTP/1.1 429')))).toMatchObject({ facts });
    },
  };
  test.each(Object.keys(ofConnections) as (keyof typeof ofConnections)[])('%s', (name) =>
    show(name, entries[name]),
  );
});

describe('WebSockets', () => {
  const figures = {
    sockets: 8,
    socketsPerPrincipal: 3,
    silentSockets: 5,
    silentSocketsPerAddress: 2,
    operationsPerSocket: 4,
    subscriptionsPerSocket: 2,
    webSocketMessageBytes: 4096,
  };
  const slow = {
    initSeconds: 1,
    pingSeconds: 1,
    socketStallSeconds: 1,
    messageRate: 10,
    messageBurst: 30,
  };
  let server: TestServer;
  let slowServer: TestServer;
  beforeAll(async () => {
    server = await serverWith(figures);
    slowServer = await serverWith(slow);
  });
  afterAll(async () => {
    await server.close();
    await slowServer.close();
  });

  const token = (principal: string, on = server) => on.tokenOf(principal, 'USER');
  const open = (asker: Asker = {}) => openSocket(server.address, asker.token, asker);
  const silent = async (from: string) => {
    const socket = new TestSocket(server.address, undefined, { from, greets: false });
    await once(socket.webSocket, 'open');
    return socket;
  };
  /** One more that is not taken; and once these are gone, that there is room again. */
  async function expectRefused(refused: Promise<Closed>, sockets: TestSocket[]): Promise<Closed> {
    const closed = await refused;
    for (const socket of sockets) expect(socket.webSocket.readyState).toBe(1);
    for (const socket of sockets) socket.terminate();
    await until('all are gone', async () => {
      const metrics = await (await server.operator.get('/metrics')).text();
      return /^sweepbook_websockets 0$/m.test(metrics);
    });
    (await open()).terminate();
    return closed;
  }
  const pings = (socket: TestSocket, count: number) => {
    for (let at = 0; at < count; at++) socket.send({ type: 'ping' });
  };
  const arrive = (socket: TestSocket, count: number) =>
    until(`${count} messages`, () => socket.messages.length >= count);

  const entries: Record<keyof typeof ofWebSockets, Entry> = {
    async sockets() {
      const sockets = [];
      for (let at = 0; at < 8; at++) sockets.push(await open({ from: `192.0.2.${at % 4}` }));
      const { closed } = new TestSocket(server.address, undefined, { from: '192.0.2.9' });
      const { code, reason } = await expectRefused(closed, sockets);
      expect([code, JSON.parse(reason)]).toMatchObject([
        503,
        { code: 'UNAVAILABLE', facts: factsOf('sockets', 8) },
      ]);
    },
    async socketsPerPrincipal() {
      // Of a principal, from wherever; and of an address.
      const anna = await token('anna');
      for (const asker of [{ token: anna }, { from: '192.0.2.7' }]) {
        const sockets = [];
        for (let at = 0; at < 3; at++) {
          sockets.push(await open({ from: `192.0.2.${10 + at}`, ...asker }));
        }
        const { closed } = new TestSocket(server.address, anna && asker.token, {
          from: '192.0.2.20',
          ...asker,
        });
        expect(await expectRefused(closed, sockets)).toMatchObject({
          code: 1013,
          reason: expect.stringContaining('has 3 WebSockets'),
        });
      }
    },
    async silentSockets() {
      const sockets = [];
      for (let at = 0; at < 5; at++) sockets.push(await silent(`192.0.2.${at}`));
      const { closed } = new TestSocket(server.address, undefined, { from: '192.0.2.9' });
      const { code, reason } = await expectRefused(closed, sockets);
      expect([code, JSON.parse(reason)]).toMatchObject([
        503,
        { code: 'UNAVAILABLE', facts: factsOf('silentSockets', 5) },
      ]);
    },
    async silentSocketsPerAddress() {
      const sockets = [await silent('192.0.2.1'), await silent('192.0.2.1')];
      // Who has said who he is, is none of them.
      sockets[0]?.greet();
      await sockets[0]?.next();
      sockets.push(await silent('192.0.2.1'), await silent('192.0.2.2'));
      const { closed } = new TestSocket(server.address, undefined, { from: '192.0.2.1' });
      const { code, reason } = await expectRefused(closed, sockets);
      expect([code, JSON.parse(reason)]).toMatchObject([
        429,
        { code: 'RATE_LIMITED', facts: factsOf('silentSocketsPerAddress', 2) },
      ]);
    },
    async initSeconds() {
      const [usual, late] = [1, 2].map(
        () => new TestSocket(slowServer.address, undefined, { greets: false }),
      ) as [TestSocket, TestSocket];
      await Promise.all([usual, late].map(({ webSocket }) => once(webSocket, 'open')));
      usual.greet();
      expect((await late.closed).code).toBe(4408);
      expect(usual.webSocket.readyState).toBe(1);
      usual.terminate();
    },
    async pingSeconds() {
      const alive = await openSocket(slowServer.address);
      const dead = await openSocket(slowServer.address, undefined, { isAlive: false });
      expect((await dead.closed).code).toBe(1006);
      await pause(1500);
      expect(alive.webSocket.readyState).toBe(1);
      alive.terminate();
    },
    async operationsPerSocket() {
      const socket = await open({ token: await token('ops') });
      const lock = await server.database.client();
      await lock.query('begin; lock table datasets in access exclusive mode');
      try {
        for (let at = 0; at < 4; at++) socket.start('{ datasets { totalCount } }');
        const refused = await onSocket(socket, { query: '{ viewer { name } }' });
        const { facts } = rateLimitedBy('operationsPerSocket', 4);
        expect(refused).toMatchObject({ code: 'RATE_LIMITED', facts });
      } finally {
        await lock.query('rollback');
      }
      // Each of the others is answered, and ends.
      await arrive(socket, 8);
      expect(socket.messages.map(({ type }) => type).toSorted()).toEqual([
        ...Array<string>(4).fill('complete'),
        ...Array<string>(4).fill('next'),
      ]);
      socket.terminate();
    },
    async subscriptionsPerSocket() {
      const socket = await open({ token: await token('subscriber') });
      const query = 'subscription { datasetStatusChanged { cursor } }';
      const ids = [socket.start(query), socket.start(query)];
      const { facts } = rateLimitedBy('subscriptionsPerSocket', 2);
      expect(await onSocket(socket, { query })).toMatchObject({ code: 'RATE_LIMITED', facts });
      expect(await onSocket(socket, { query: '{ viewer { name } }' })).toMatchObject({
        code: 'data',
      });
      socket.send({ type: 'complete', id: ids[0] });
      socket.start(query);
      expect(await onSocket(socket, { query: '{ viewer { name } }' })).toMatchObject({
        code: 'data',
      });
      socket.terminate();
    },
    async webSocketMessageBytes() {
      const socket = await open();
      socket.webSocket.send('{"type":"ping"}'.padEnd(4096));
      expect(await socket.next()).toEqual({ type: 'pong' });
      socket.webSocket.send('{"type":"ping"}'.padEnd(4097));
      expect((await socket.closed).code).toBe(1009);
    },
    async messageBurst() {
      // The first one says who it is.
      const socket = await openSocket(slowServer.address);
      pings(socket, 29);
      await arrive(socket, 29);
      pings(socket, 200);
      expect((await socket.closed).code).toBe(1008);
    },
    async messageRate() {
      const socket = await openSocket(slowServer.address);
      // Pings of the server are answered, and count.
      for (let time = 1; time <= 3; time++) {
        pings(socket, 15);
        await arrive(socket, time * 15);
        await pause(1600);
      }
      pings(socket, 200);
      expect(await socket.closed).toEqual({
        code: 1008,
        reason: 'too many messages: send less at once',
      });
    },
    async socketStallSeconds() {
      const much = (socket: TestSocket) => {
        const payload = { all: 'x'.repeat(500_000) };
        for (let at = 0; at < 24; at++) socket.send({ type: 'ping', payload });
      };
      const usual = await openSocket(slowServer.address);
      const stalled = await openSocket(slowServer.address, await token('dan', slowServer));
      stalled.webSocket.pause();
      for (const socket of [usual, stalled]) much(socket);
      await arrive(usual, 24);
      await pause(3500);
      stalled.webSocket.resume();
      expect([1006, 4413]).toContain((await stalled.closed).code);
      expect(stalled.messages.length).toBeLessThan(24);
      usual.terminate();
    },
    webSocketMessageSeconds: [
      'test/server/unfinished-messages.test.ts',
      'a message has so long to come whole',
    ],
    silentMessageBytes: [
      'test/server/unfinished-messages.test.ts',
      'are few before connection_init',
    ],
    socketWaitingBytes: [
      'test/server/gate.test.ts',
      'a reader who takes nothing is cut off when too many %s wait for him',
    ],
  };

  const waiting: ReadonlySet<string> = new Set(Object.keys(slow));
  const names = Object.keys(ofWebSockets) as (keyof typeof ofWebSockets)[];
  test.each(names.filter((name) => !waiting.has(name)))('%s', (name) => show(name, entries[name]));
  test.concurrent.each(names.filter((name) => waiting.has(name)))('%s', (name) =>
    show(name, entries[name]),
  );
});

describe('lists of files and manifests', () => {
  const figures: Figures = { exports: 2, exportsInAll: 3, exportGraceSeconds: 1, manifests: 1 };
  let server: TestServer;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sweepbook-limits-'));
    server = await serverWith(figures, {
      SWEEPBOOK_SHUTDOWN_SECONDS: '60',
      SWEEPBOOK_IMPORT_FROM: writeImportFile(folder, { read: ['http://127.0.0.1:1/'] }),
    });
    await makeLarge(server, 'large', 60_000);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const list = (asker: Asker, of = server) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const url = `${of.address}/export/datasets/large/files?format=jsonl`;
      get(
        url,
        { headers: headersOf(asker), agent: false, highWaterMark: 1 } as object,
        (response) => response.once('readable', () => resolve(response)),
      ).on('error', reject);
    });
  const toldOf = async (response: IncomingMessage) => {
    const body = JSON.parse(await text(response)) as { code: string; facts: object };
    const retryAfter = response.headers['retry-after'] ?? null;
    return { status: response.statusCode, retryAfter, code: body.code, facts: body.facts };
  };
  /** Those that have gone leave theirs a moment later. */
  const place = (asker: Asker) =>
    until('there is room', async () => {
      const response = await list(asker);
      if (response.statusCode === 200) return response;
      response.destroy();
      return undefined;
    });
  /** Those that are read by nobody go on; one more is refused until they are gone. */
  async function expectRefused(
    readers: Asker[],
    one: Asker,
    limit: 'exports' | 'exportsInAll',
  ): Promise<void> {
    const lists = await Promise.all(readers.map(place));
    expect(await toldOf(await list(one))).toMatchObject(rateLimitedBy(limit, figures[limit] ?? 0));
    for (const each of lists) each.destroy();
    (await place(one)).destroy();
  }

  const entries: Record<keyof typeof ofLists, Entry> = {
    async exports() {
      const anna = { token: await server.tokenOf('anna', 'USER') };
      await expectRefused([anna, anna], anna, 'exports');
      const stranger = { from: '192.0.2.1' };
      await expectRefused([stranger, stranger], stranger, 'exports');
    },
    exportsInAll: () =>
      expectRefused(
        [{ from: '192.0.2.2' }, { from: '192.0.2.2' }, { from: '192.0.2.3' }],
        { from: '192.0.2.4' },
        'exportsInAll',
      ),
    async manifests() {
      const head = async () => {
        const socket = rawConnection(server);
        const headers = headersOf({ token: await server.tokenOf('imp', 'IMPORTER') });
        socket.write(
          `POST /imports HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ${headers['authorization']}\r\nContent-Length: 5\r\n\r\n`,
        );
        return socket;
      };
      const held = await head();
      const refused = await until('one more is refused', async () => {
        const socket = await head();
        await pause(100);
        socket.write('{"a":');
        const told = await text(socket);
        return told.startsWith('HTTP/1.1 429 ') && told;
      });
      expect(refused).toMatch(/retry-after: 5/);
      const { facts } = rateLimitedBy('manifests', 1);
      expect(JSON.parse(refused.split('\r\n\r\n')[1] ?? '')).toMatchObject({ facts });
      held.write('{"a":');
      expect(await text(held)).toMatch(/^HTTP\/1\.1 400 /);
    },
    async exportStallSeconds() {
      const hasty = await serverWith({ exportStallSeconds: 1 });
      try {
        await makeLarge(hasty, 'large', 60_000);
        const stalled = await list({}, hasty);
        expect((await text(await list({}, hasty))).length).toBeGreaterThan(60_000);
        await pause(4000);
        await expect(text(stalled)).rejects.toThrow(/aborted/);
      } finally {
        await hasty.close();
      }
    },
    // The last one: the server is gone then.
    async exportGraceSeconds() {
      const stalled = await list({ from: '192.0.2.5' });
      const begun = performance.now();
      await server.close();
      expect(performance.now() - begun).toBeLessThan(30_000);
      await expect(text(stalled)).rejects.toThrow(/aborted/);
    },
  };
  const names = Object.keys(ofLists) as (keyof typeof ofLists)[];
  const ends = (name: string) => name === 'exportGraceSeconds';
  test.each([...names.filter((name) => !ends(name)), ...names.filter(ends)])('%s', (name) =>
    show(name, entries[name]),
  );
});
