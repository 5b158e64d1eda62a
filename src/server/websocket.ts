import type { IncomingMessage, Server } from 'node:http';
import { randomUUID } from 'node:crypto';
import { execute, type ExecutionResult, type GraphQLError } from 'graphql';
import type { ServerOptions } from 'graphql-ws';
import { useServer, type Extra } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import { connectionOf, unknownViewer } from '../access/audit-trail.ts';
import { expiryOf, type Standing } from '../access/identity.ts';
import { KnownRefusal } from '../access/policy.ts';
import { Context, type Means } from '../api/context.ts';
import { SweepbookError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { AddressOf } from './address.ts';
import { tokenOf } from './authorization.ts';
import type { Complexity } from './complexity.ts';
import { Counts } from './connections.ts';
import type { FaultLog } from './errors.ts';
import { payerOf, rateLimited, Ticket, type Gate, type Payer } from './gate.ts';
import type { Introspection } from './introspection.ts';
import type { SocketCounts } from './metrics.ts';
import type { SchemaAnswers } from './schema-answers.ts';
import {
  ending,
  isEnding,
  isSubscription,
  prepare,
  refusals,
  tell,
  tooMany,
} from './websocket-operations.ts';
import { acceptUpgrades, leaveUnread, SilentSockets } from './websocket-upgrades.ts';

/** Why a WebSocket was closed; 4400 and up are those of graphql-transport-ws. */
export const closeCodes = {
  goingAway: 1001,
  tooManyMessages: 1008,
  tooLongMessage: 1009,
  tryLater: 1013,
  /** Refused at connection_init, or the token has ended since: a client may come again with another one. */
  forbidden: 4403,
  slowReader: 4413,
} as const;

const checkMs = 2000;

interface Peer extends Standing {
  readonly payer: Payer;
  waitingBytes: number;
  /** Checks in a row in which nothing of what waits was taken. */
  idleChecks: number;
  /** Ids of subscriptions; those that have ended stay until another one begins. */
  readonly subscriptions: Set<string>;
  /** Operations under way, by id: graphql-ws keeps them. */
  readonly operations: Readonly<Record<string, unknown>>;
}

interface SocketLog extends FaultLog {
  warn(facts: object, message: string): void;
}

export interface SocketOptions {
  readonly log: SocketLog;
  readonly addressOf: AddressOf;
  readonly introspection: Introspection;
  readonly schemaAnswers: SchemaAnswers;
  /** Pages of other origins that may connect. */
  readonly origins: readonly string[];
  readonly gate: Gate;
}

export interface ServedSockets {
  counts(): SocketCounts;
  close(): Promise<void>;
}

/** GraphQL over WebSocket on the server's own port. Returns how to close it. */
export function serveWebSockets(
  server: Server,
  complexity: Complexity,
  means: Means,
  options: SocketOptions,
): ServedSockets {
  const { log, schemaAnswers } = options;
  const { schema, limits } = complexity;
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.webSocketMessageBytes });
  const silent = new SilentSockets();
  acceptUpgrades(server, sockets, silent, { ...options, limits, onFlood: closeFlooding });
  const peers = new Map<WebSocket, Peer>();
  const greet = greeter({ ...options, limits, means, peers });
  const served = useServer<Record<string, unknown>>(
    {
      schema,
      connectionInitWaitTimeout: limits.initSeconds * 1000,
      async onConnect({ connectionParams, extra, subscriptions }) {
        silent.remove(extra.socket);
        return greet(extra, connectionParams, subscriptions);
      },
      onDisconnect: ({ extra }) => void peers.delete(extra.socket),
      execute(args) {
        const { viewer, address } = args.contextValue as Context;
        const answer = schemaAnswers.answerTo(args, payerOf(viewer, address).key);
        return answer?.then(({ text }) => JSON.parse(text) as ExecutionResult) ?? execute(args);
      },
      // What goes wrong in here is not for strangers.
      isProd: true,
      ...operationHooks({ ...options, complexity, means, peers }),
    },
    sockets,
    limits.pingSeconds * 1000,
  );
  const checks = keepChecking(peers, means, log, limits);
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

interface OperationOptions extends SocketOptions {
  readonly complexity: Complexity;
  readonly means: Means;
  readonly peers: ReadonlyMap<WebSocket, Peer>;
}

type Hooks = ServerOptions<Record<string, unknown>, Extra>;

/** From the operation that is asked for to its end. */
function operationHooks(
  options: OperationOptions,
): Pick<Hooks, 'onSubscribe' | 'onNext' | 'onError'> {
  const { complexity, means, peers, log } = options;
  const { limits } = complexity;
  return {
    async onSubscribe({ extra, subscriptions }, id, payload) {
      const peer = peers.get(extra.socket);
      if (!peer || isEnding(extra.socket)) return [ending()];
      // Before the wait: what it is counted with begins at once.
      const running = Object.keys(subscriptions).length;
      await options.gate.turns.next(peer.payer.key);
      const expiry = expiryOf(peer.viewer);
      if (expiry) refuse(extra.socket, expiry);
      if (isEnding(extra.socket)) return [ending()];
      if (running > limits.operationsPerSocket) {
        return [tooMany('operationsPerSocket', limits, 'operations')];
      }
      const { viewer, payer } = peer;
      const ticket = new Ticket(options.gate, payer);
      const address = options.addressOf(extra.request);
      const context = new Context(means, viewer, randomUUID(), address, ticket);
      const prepared = prepare(options, payload, context);
      if (!('document' in prepared) || !isSubscription(prepared)) return prepared;
      return subscribe(peer, id, limits) ?? prepared;
    },
    onNext({ extra }, _id, _payload, { contextValue }, result) {
      const peer = peers.get(extra.socket);
      if (peer && extra.socket.bufferedAmount > limits.socketWaitingBytes) {
        closeSlow(extra.socket, peer, log);
      }
      if (!result.errors) return;
      const { requestId } = contextValue as Context;
      return { ...result, errors: result.errors.map((error) => tell(error, requestId, log)) };
    },
    onError: ({ extra }, _id, _payload, errors) =>
      refusals(errors, options, peers.get(extra.socket)?.viewer, randomUUID()),
  };
}

interface Greeting extends SocketOptions {
  readonly limits: Limits;
  readonly means: Means;
  readonly peers: Map<WebSocket, Peer>;
}

/** Finds out who connects; closes with why, when he may not. */
function greeter({ limits, means, peers, gate, addressOf }: Greeting) {
  const byPayer = new Counts();
  return async (
    { socket, request }: { readonly socket: WebSocket; readonly request: IncomingMessage },
    parameters: Record<string, unknown> | undefined,
    operations: Peer['operations'],
  ): Promise<boolean> => {
    const address = addressOf(request);
    try {
      const token = tokenOf(parameters, request);
      const { viewer, ticket } = await gate.admit(token, address, () =>
        means.identity.authenticate(token, address),
      );
      if (isEnding(socket)) return false;
      // Over HTTP clocks may differ a little; here it would be closed at once.
      const expiry = expiryOf(viewer);
      if (expiry) throw expiry;
      const { payer } = ticket;
      const most = limits.socketsPerPrincipal;
      if (byPayer.of(payer.key) >= most) {
        const why = `${payer.name} has ${most} WebSockets: close one, or try again later`;
        throw rateLimited('socketsPerPrincipal', most, why);
      }
      socket.once('close', byPayer.add(payer.key));
      const state = { waitingBytes: 0, idleChecks: 0, subscriptions: new Set<string>() };
      peers.set(socket, { token, viewer, payer, operations, ...state });
      means.trail.answered(connectionOf(viewer, address));
      return true;
    } catch (error) {
      noteRefusal(means, address, error);
      refuse(socket, error);
      return false;
    }
  };
}

/** One subscription more; says why not, if there are too many. */
function subscribe(
  { subscriptions, operations }: Peer,
  id: string,
  limits: Limits,
): readonly GraphQLError[] | undefined {
  for (const known of subscriptions) if (!(known in operations)) subscriptions.delete(known);
  if (subscriptions.size >= limits.subscriptionsPerSocket) {
    return [tooMany('subscriptionsPerSocket', limits, 'subscriptions')];
  }
  subscriptions.add(id);
  return undefined;
}

function operationsOf(peers: Iterable<Peer>): number {
  let sum = 0;
  for (const peer of peers) sum += Object.keys(peer.operations).length;
  return sum;
}

function keepChecking(
  peers: ReadonlyMap<WebSocket, Peer>,
  means: Means,
  log: SocketLog,
  { socketStallSeconds }: Limits,
): { stop(): Promise<void> } {
  const mostIdleChecks = (socketStallSeconds * 1000) / checkMs;
  let checking: Promise<void> | undefined;
  const timer = setInterval(() => {
    closeStuck(peers, mostIdleChecks, log);
    closeExpired(peers);
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
function closeStuck(
  peers: ReadonlyMap<WebSocket, Peer>,
  mostIdleChecks: number,
  log: SocketLog,
): void {
  for (const [socket, peer] of peers) {
    countIdle(socket, peer);
    if (peer.idleChecks >= mostIdleChecks) closeSlow(socket, peer, log);
  }
}

function closeSlow(socket: WebSocket, { viewer }: Peer, log: SocketLog): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  const facts = { principal: viewer.principal, waitingBytes: socket.bufferedAmount };
  log.warn(facts, 'websocket: slow reader closed');
  socket.close(
    closeCodes.slowReader,
    'too slow a reader: connect again with your last cursor as after',
  );
  leaveUnread(socket);
}

/** Who floods is not read any further, not even his farewell. */
function closeFlooding(socket: WebSocket): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.close(closeCodes.tooManyMessages, 'too many messages: send less at once');
  leaveUnread(socket);
}

/** Ends the connections of tokens that are over by the clock, whatever the database does. */
function closeExpired(peers: ReadonlyMap<WebSocket, Peer>): void {
  for (const [socket, { viewer }] of peers) {
    const expiry = expiryOf(viewer);
    if (expiry) refuse(socket, expiry);
  }
}

/** Ends the connections of tokens that have ended since, here or by another server. */
async function closeEnded(peers: ReadonlyMap<WebSocket, Peer>, means: Means): Promise<void> {
  const sockets = new Map<Peer, WebSocket>();
  for (const [socket, peer] of peers) {
    if (peer.token !== undefined && !isEnding(socket)) sockets.set(peer, socket);
  }
  try {
    for (const [peer, error] of await means.identity.ended([...sockets.keys()])) {
      const socket = sockets.get(peer);
      if (socket) refuse(socket, error);
    }
    await means.identity.touch([...sockets.keys()]);
  } catch {
    // A database that is away says nothing about tokens.
  }
}

function noteRefusal({ trail }: Means, address: string | undefined, error: unknown): void {
  // A flood of them is not to fill the database.
  if (!(error instanceof SweepbookError) || error.code === 'RATE_LIMITED') return;
  const viewer = error instanceof KnownRefusal ? error.viewer : unknownViewer;
  trail.refused(connectionOf(viewer, address), error.code);
}

function countIdle(socket: WebSocket, peer: Peer): void {
  const waiting = socket.bufferedAmount;
  peer.idleChecks =
    waiting > 0 && waiting >= peer.waitingBytes && peer.waitingBytes > 0 ? peer.idleChecks + 1 : 0;
  peer.waitingBytes = waiting;
}

const passing: ReadonlySet<string> = new Set(['UNAVAILABLE', 'RATE_LIMITED']);

function refuse(socket: WebSocket, error: unknown): void {
  const reason = error instanceof SweepbookError ? error.message : 'try again';
  const isRefusal = error instanceof SweepbookError && !passing.has(error.code);
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
