import type { IncomingMessage, Server } from 'node:http';
import { randomUUID } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { GraphQLSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import type { Viewer } from '../access/policy.ts';
import { unknownViewer } from '../access/audit-trail.ts';
import { expiryOf, type Standing } from '../access/identity.ts';
import { Context, type Means } from '../api/context.ts';
import { SweepbookError } from '../errors.ts';
import type { AddressOf } from './address.ts';
import { bearerToken } from './authorization.ts';
import type { FaultLog } from './errors.ts';
import type { Introspection } from './introspection.ts';
import { limits } from './limits.ts';
import type { SocketCounts } from './metrics.ts';
import { prepare, refusals, tell, tooMany } from './websocket-operations.ts';

/** Why a WebSocket was closed; 4400 and up are those of graphql-transport-ws. */
export const closeCodes = {
  goingAway: 1001,
  tryLater: 1013,
  /** Refused at connection_init, or the token has ended since: a client may come again with another one. */
  forbidden: 4403,
  slowReader: 4413,
} as const;

const checkMs = 2000;
const keepAliveMs = 12_000;
/** Checks in a row in which nothing of what waits was taken. */
const mostIdleChecks = 15;

interface Peer extends Standing {
  waitingBytes: number;
  idleChecks: number;
  /** Operations under way, by id: graphql-ws keeps them. */
  readonly operations: Readonly<Record<string, unknown>>;
}

const newPeer = (token: string | undefined, viewer: Viewer, operations: Peer['operations']) => ({
  token,
  viewer,
  waitingBytes: 0,
  idleChecks: 0,
  operations,
});

interface SocketLog extends FaultLog {
  warn(facts: object, message: string): void;
}

export interface SocketOptions {
  readonly log: SocketLog;
  readonly addressOf: AddressOf;
  readonly introspection: Introspection;
  /** Pages of other origins that may connect. */
  readonly origins: readonly string[];
}

export interface ServedSockets {
  counts(): SocketCounts;
  close(): Promise<void>;
}

/** GraphQL over WebSocket on the server's own port. Returns how to close it. */
export function serveWebSockets(
  server: Server,
  schema: GraphQLSchema,
  means: Means,
  { log, addressOf, origins, introspection }: SocketOptions,
): ServedSockets {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.webSocketMessageBytes });
  acceptUpgrades(server, sockets, origins);
  const preparing = { schema, introspection, log };
  const peers = new Map<WebSocket, Peer>();
  const served = useServer<Record<string, unknown>>(
    {
      schema,
      connectionInitWaitTimeout: 5000,
      async onConnect({ connectionParams, extra, subscriptions }) {
        try {
          const token = tokenOf(connectionParams, extra.request);
          const viewer = await means.identity.authenticate(token, addressOf(extra.request));
          if (extra.socket.readyState !== WebSocket.OPEN) return false;
          peers.set(extra.socket, newPeer(token, viewer, subscriptions));
          return true;
        } catch (error) {
          noteRefusal(means, addressOf(extra.request), error);
          refuse(extra.socket, error);
          return false;
        }
      },
      onDisconnect: ({ extra }) => void peers.delete(extra.socket),
      onSubscribe({ extra, subscriptions }, _id, payload) {
        const peer = peers.get(extra.socket);
        if (!peer) throw new Error('a subscription without a connection');
        const expiry = expiryOf(peer.viewer);
        if (expiry) refuse(extra.socket, expiry);
        if (Object.keys(subscriptions).length > limits.operationsPerSocket) return [tooMany()];
        const address = addressOf(extra.request);
        const context = new Context(means, peer.viewer, randomUUID(), address);
        return prepare(preparing, payload, context);
      },
      onNext: (_ctx, _id, _payload, { contextValue }, result) =>
        result.errors && {
          ...result,
          errors: result.errors.map((error) =>
            tell(error, (contextValue as Context).requestId, log),
          ),
        },
      onError: ({ extra }, _id, _payload, errors) =>
        refusals(errors, preparing, peers.get(extra.socket)?.viewer, randomUUID()),
    },
    sockets,
    keepAliveMs,
  );
  const checks = keepChecking(peers, means, log);
  return {
    counts: () => ({ sockets: sockets.clients.size, operations: operationsOf(peers.values()) }),
    async close() {
      await checks.stop();
      for (const socket of sockets.clients) {
        socket.close(closeCodes.goingAway, 'the server is going down: connect again');
      }
      await served.dispose();
    },
  };
}

function operationsOf(peers: Iterable<Peer>): number {
  let sum = 0;
  for (const peer of peers) sum += Object.keys(peer.operations).length;
  return sum;
}

/**
 * Browsers let every page open a WebSocket to us, and read from it: that of another origin only if it is named. What is
 * no browser sends no Origin.
 */
function isForeignPage({ headers }: IncomingMessage, origins: readonly string[]): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return false;
  const isOurs = URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
  return !isOurs && !origins.includes(origin);
}

/** Says no and goes: whoever keeps his side open must not keep the server from going down. */
function answer(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`, () => socket.destroy());
}

function acceptUpgrades(
  server: Server,
  sockets: WebSocketServer,
  origins: readonly string[],
): void {
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    if (request.url?.split('?')[0] !== '/graphql') {
      answer(socket, '404 Not Found');
    } else if (isForeignPage(request, origins)) {
      answer(socket, '403 Forbidden');
    } else if (sockets.clients.size >= limits.sockets) {
      answer(socket, '503 Service Unavailable\r\nRetry-After: 5');
    } else {
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        sockets.emit('connection', webSocket, request);
      });
    }
  });
}

function keepChecking(
  peers: ReadonlyMap<WebSocket, Peer>,
  means: Means,
  log: SocketLog,
): { stop(): Promise<void> } {
  let checking: Promise<void> | undefined;
  const timer = setInterval(() => {
    closeStuck(peers, log);
    checking ??= closeEnded(peers, means).finally(() => (checking = undefined));
  }, checkMs);
  return {
    async stop() {
      clearInterval(timer);
      // A pool that is closed just as this gets its connection would never end.
      await checking;
    },
  };
}

/** Ends the connections of readers that take nothing. */
function closeStuck(peers: ReadonlyMap<WebSocket, Peer>, log: SocketLog): void {
  for (const [socket, peer] of peers) {
    if (!isStuck(socket, peer)) continue;
    const { waitingBytes, viewer } = peer;
    log.warn({ principal: viewer.principal, waitingBytes }, 'websocket: slow reader closed');
    socket.close(
      closeCodes.slowReader,
      'too slow a reader: connect again with your last cursor as after',
    );
    setTimeout(() => socket.terminate(), 1000).unref();
  }
}

/** Ends the connections of tokens that have ended since, here or by another server. */
async function closeEnded(peers: ReadonlyMap<WebSocket, Peer>, means: Means): Promise<void> {
  const sockets = new Map<Peer, WebSocket>();
  for (const [socket, peer] of peers) {
    const expiry = expiryOf(peer.viewer);
    if (expiry) refuse(socket, expiry);
    else if (peer.token !== undefined) sockets.set(peer, socket);
  }
  try {
    for (const [peer, error] of await means.identity.ended([...sockets.keys()])) {
      const socket = sockets.get(peer);
      if (socket) refuse(socket, error);
    }
  } catch {
    // A database that is away says nothing about tokens.
  }
}

function noteRefusal({ trail }: Means, address: string | undefined, error: unknown): void {
  if (!(error instanceof SweepbookError)) return;
  const asked = { viewer: unknownViewer, requestId: undefined, address } as const;
  trail.refused({ ...asked, kind: 'CONNECTION', field: 'connection_init' }, error.code);
}

function isStuck(socket: WebSocket, peer: Peer): boolean {
  const waiting = socket.bufferedAmount;
  peer.idleChecks =
    waiting > 0 && waiting >= peer.waitingBytes && peer.waitingBytes > 0 ? peer.idleChecks + 1 : 0;
  peer.waitingBytes = waiting;
  return peer.idleChecks >= mostIdleChecks;
}

function refuse(socket: WebSocket, error: unknown): void {
  const reason = error instanceof SweepbookError ? error.message : 'try again';
  const isRefusal = error instanceof SweepbookError && error.code !== 'UNAVAILABLE';
  const code = isRefusal ? closeCodes.forbidden : closeCodes.tryLater;
  // A close reason has at most 123 bytes.
  socket.close(
    code,
    Buffer.from(reason)
      .subarray(0, 120)
      .toString('utf8')
      .replace(/\uFFFD+$/, ''),
  );
}

/** Browsers cannot set headers on a WebSocket: the token comes in connection_init, as GraphiQL sends it. */
function tokenOf(
  parameters: Record<string, unknown> | undefined,
  request: IncomingMessage,
): string | undefined {
  const headers = parameters?.['headers'];
  const nested =
    typeof headers === 'object' && headers !== null ? (headers as Record<string, unknown>) : {};
  const given = [parameters, nested]
    .flatMap((from) => [from?.['Authorization'], from?.['authorization']])
    .find((value): value is string => typeof value === 'string');
  return bearerToken(given ?? request.headers.authorization);
}
