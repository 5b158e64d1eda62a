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
import { authenticate } from '../access/tokens.service.ts';
import { Context, type Means } from '../api/context.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import { bearerToken } from './authorization.ts';
import { toGraphQL, type FaultLog } from './errors.ts';
import { demandComplexity, limits, shapeRule } from './limits.ts';
import type { SocketCounts } from './metrics.ts';

/** Why a WebSocket was closed; 4400 and up are those of graphql-transport-ws. */
export const closeCodes = {
  goingAway: 1001,
  unauthorized: 4401,
  slowReader: 4413,
  tooMany: 4429,
} as const;

const checkMs = 5000;
const keepAliveMs = 12_000;
/** Checks in a row in which nothing of what waits was taken. */
const mostIdleChecks = 6;

interface Peer {
  readonly token: string | undefined;
  viewer: Viewer;
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

export interface ServedSockets {
  counts(): SocketCounts;
  close(): Promise<void>;
}

/** GraphQL over WebSocket on the server's own port. Returns how to close it. */
export function serveWebSockets(
  server: Server,
  schema: GraphQLSchema,
  means: Means,
  log: SocketLog,
): ServedSockets {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.webSocketMessageBytes });
  acceptUpgrades(server, sockets);
  const peers = new Map<WebSocket, Peer>();
  const served = useServer<Record<string, unknown>>(
    {
      schema,
      connectionInitWaitTimeout: 10_000,
      async onConnect({ connectionParams, extra, subscriptions }) {
        try {
          const token = tokenOf(connectionParams, extra.request);
          const viewer = await authenticate(means.db, token);
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
        if (Object.keys(subscriptions).length > limits.operationsPerSocket) {
          extra.socket.close(
            closeCodes.tooMany,
            `at most ${limits.operationsPerSocket} operations at once`,
          );
        }
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
  const timer = setInterval(() => void checkPeers(peers, means, log), checkMs);
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

function acceptUpgrades(server: Server, sockets: WebSocketServer): void {
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    if (request.url?.split('?')[0] !== '/graphql') {
      socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    } else if (sockets.clients.size >= limits.sockets) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n');
    } else {
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        sockets.emit('connection', webSocket, request);
      });
    }
  });
}

/** Ends the connections of readers that take nothing, and of tokens that have ended since. */
async function checkPeers(
  peers: Map<WebSocket, Peer>,
  means: Means,
  log: SocketLog,
): Promise<void> {
  for (const [socket, peer] of peers) {
    if (isStuck(socket, peer)) {
      const { waitingBytes, viewer } = peer;
      log.warn({ principal: viewer.principal, waitingBytes }, 'websocket: slow reader closed');
      socket.close(
        closeCodes.slowReader,
        'too slow a reader: connect again with your last cursor as after',
      );
      setTimeout(() => socket.terminate(), 1000).unref();
    } else if (peer.token !== undefined) {
      try {
        peer.viewer = await authenticate(means.db, peer.token);
      } catch (error) {
        // A database that is away says nothing about the token.
        if (error instanceof SweepbookError) refuse(socket, error);
      }
    }
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
  const code = error instanceof SweepbookError ? closeCodes.unauthorized : 1013;
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

function tell(error: Error, requestId: string, log: FaultLog): GraphQLError {
  const found = error instanceof GraphQLError ? error : new GraphQLError(error.message);
  const told = toGraphQL(found, requestId, log);
  return new GraphQLError(told.message, {
    nodes: found.nodes,
    path: found.path,
    extensions: told.extensions ?? {},
  });
}
