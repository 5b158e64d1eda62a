import type { IncomingMessage, Server } from 'node:http';
import { randomUUID } from 'node:crypto';
import {
  getOperationAST,
  GraphQLError,
  parse,
  specifiedRules,
  validate,
  type ExecutionArgs,
  type GraphQLSchema,
} from 'graphql';
import type { SubscribePayload } from 'graphql-ws';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import type { Viewer } from '../access/policy.ts';
import { expiryOf, type Standing } from '../access/identity.ts';
import { Context, type Means } from '../api/context.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import type { AddressOf } from './address.ts';
import { bearerToken } from './authorization.ts';
import { toGraphQL, type FaultLog } from './errors.ts';
import { demandComplexity, limits, shapeRule } from './limits.ts';
import type { SocketCounts } from './metrics.ts';

/** Why a WebSocket was closed; 4400 and up are those of graphql-transport-ws. */
export const closeCodes = {
  goingAway: 1001,
  tryLater: 1013,
  /** Refused at connection_init, or the token has ended since: a client may come again with another one. */
  forbidden: 4403,
  slowReader: 4413,
} as const;

const checkMs = 5000;
const keepAliveMs = 12_000;
/** Checks in a row in which nothing of what waits was taken. */
const mostIdleChecks = 6;

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
  { log, addressOf, origins }: SocketOptions,
): ServedSockets {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.webSocketMessageBytes });
  acceptUpgrades(server, sockets, origins);
  const peers = new Map<WebSocket, Peer>();
  const served = useServer<Record<string, unknown>>(
    {
      schema,
      connectionInitWaitTimeout: 10_000,
      async onConnect({ connectionParams, extra, subscriptions }) {
        try {
          const token = tokenOf(connectionParams, extra.request);
          const viewer = await means.identity.authenticate(token, addressOf(extra.request));
          peers.set(extra.socket, newPeer(token, viewer, subscriptions));
          return true;
        } catch (error) {
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
        return prepare(schema, payload, new Context(means, peer.viewer, randomUUID()), log);
      },
      onNext: (_ctx, _id, _payload, { contextValue }, result) =>
        result.errors && {
          ...result,
          errors: result.errors.map((error) =>
            tell(error, (contextValue as Context).requestId, log),
          ),
        },
      onError: (_ctx, _id, _payload, errors) =>
        errors.map((error) => tell(error, randomUUID(), log)),
    },
    sockets,
    keepAliveMs,
  );
  let isChecking = false;
  const timer = setInterval(() => {
    closeStuck(peers, log);
    if (isChecking) return;
    isChecking = true;
    void closeEnded(peers, means).finally(() => (isChecking = false));
  }, checkMs);
  return {
    counts: () => ({ sockets: sockets.clients.size, operations: operationsOf(peers.values()) }),
    async close() {
      clearInterval(timer);
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

function acceptUpgrades(
  server: Server,
  sockets: WebSocketServer,
  origins: readonly string[],
): void {
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    if (request.url?.split('?')[0] !== '/graphql') {
      socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    } else if (isForeignPage(request, origins)) {
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    } else if (sockets.clients.size >= limits.sockets) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n');
    } else {
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        sockets.emit('connection', webSocket, request);
      });
    }
  });
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

/** The same steps as Apollo takes: limits, then rules, then how much would come back. */
function prepare(
  schema: GraphQLSchema,
  payload: SubscribePayload,
  contextValue: Context,
  log: FaultLog,
): ExecutionArgs | readonly GraphQLError[] {
  try {
    const document = parse(payload.query, { maxTokens: limits.tokens });
    const faults = validate(schema, document, [...specifiedRules, shapeRule], { maxErrors: 20 });
    if (faults.length > 0) return faults;
    const operation = getOperationAST(document, payload.operationName);
    if (!operation)
      return [new GraphQLError('name one of the operations of the document (operationName)')];
    const variableValues = payload.variables ?? {};
    demandComplexity(schema, document, variableValues, payload.operationName ?? undefined);
    return { schema, document, operationName: payload.operationName, variableValues, contextValue };
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    log.error(
      { requestId: contextValue.requestId, error: messageOf(error) },
      'websocket: preparation failed',
    );
    return [new GraphQLError('the operation cannot be prepared')];
  }
}

const tooMany = () =>
  new GraphQLError(
    `a connection has at most ${limits.operationsPerSocket} operations at once: end one, or open another connection`,
    { extensions: { code: 'RATE_LIMITED', facts: { most: limits.operationsPerSocket } } },
  );

function tell(error: Error, requestId: string, log: FaultLog): GraphQLError {
  const found = error instanceof GraphQLError ? error : new GraphQLError(error.message);
  const told = toGraphQL(found, requestId, log);
  return new GraphQLError(told.message, {
    nodes: found.nodes,
    path: found.path,
    extensions: told.extensions ?? {},
  });
}
