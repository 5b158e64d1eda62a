import type { IncomingMessage, Server } from 'node:http';
import { randomUUID } from 'node:crypto';
import type { GraphQLError } from 'graphql';
import {
  handleProtocols,
  makeServer,
  type Server as SpokenServer,
  type ServerOptions,
} from 'graphql-ws';
import type { Extra } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import { connectionOf, unknownViewer, upgradeOf } from '../access/audit-trail.ts';
import { expiryOf, type Standing } from '../access/identity.ts';
import { anonymous, KnownRefusal, type Viewer } from '../access/policy.ts';
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
import type { Readers } from './readers.ts';
import type { SchemaAnswers } from './schema-answers.ts';
import { closeCodes, piecesOf, shortened, speak, WaitingBytes } from './websocket-connection.ts';
import {
  ending,
  executeInTurn,
  isEnding,
  isSubscription,
  prepare,
  refusals,
  tooMany,
} from './websocket-operations.ts';
import { acceptUpgrades, leaveUnread, SilentSockets } from './websocket-upgrades.ts';

const checkMs = 2000;
interface Peer extends Standing {
  readonly payer: Payer;
  /** Ids of subscriptions; those that have ended stay until another one begins. */
  readonly subscriptions: Set<string>;
  /** Operations under way. */
  running: number;
  /** Those that somebody waits for, by id: graphql-ws keeps them. */
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
  readonly readers: Readers;
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
  const { schemaAnswers } = options;
  const { schema, limits } = complexity;
  const sockets = new WebSocketServer({ noServer: true, handleProtocols, ...piecesOf(limits) });
  const silent = new SilentSockets();
  acceptUpgrades(server, sockets, silent, {
    ...options,
    limits,
    onForeignPage(request) {
      const asked = upgradeOf(request.headers.origin, options.addressOf(request));
      means.trail.refused(asked, 'FORBIDDEN');
    },
    onFlood: closeFlooding,
  });
  const peers = new Map<WebSocket, Peer>();
  const greet = greeter({ ...options, limits, means, peers });
  const spoken = makeServer<Record<string, unknown>, Extra>({
    schema,
    connectionInitWaitTimeout: limits.initSeconds * 1000,
    async onConnect({ connectionParams, extra, subscriptions }) {
      silent.remove(extra.socket);
      return greet(extra, connectionParams, subscriptions);
    },
    onDisconnect: ({ extra }) => void peers.delete(extra.socket),
    execute: (args) => executeInTurn(args, schemaAnswers),
    ...operationHooks({ ...options, complexity, means, peers }),
  });
  speakOnEach(sockets, spoken, peers, { ...options, limits, silent });
  const checks = keepChecking(peers, means);
  return {
    counts: () => ({ sockets: sockets.clients.size, operations: operationsOf(peers.values()) }),
    async close() {
      await checks.stop();
      for (const socket of sockets.clients) {
        socket.close(closeCodes.goingAway, 'the server is going down: connect again');
      }
      await new Promise((resolve) => sockets.close(resolve));
    },
  };
}

function speakOnEach(
  sockets: WebSocketServer,
  spoken: SpokenServer<Extra>,
  peers: ReadonlyMap<WebSocket, Peer>,
  options: SocketOptions & { readonly limits: Limits; readonly silent: SilentSockets },
): void {
  const { limits, log, addressOf, silent } = options;
  const waiting = new WaitingBytes(limits);
  sockets.on('connection', (socket, request) => {
    const stranger = payerOf(anonymous, addressOf(request)).key;
    const count = waiting.counter(() => peers.get(socket)?.payer.key ?? stranger);
    const tooMuch = () => closeSlow(socket, peers.get(socket)?.viewer ?? unknownViewer, log);
    const isSilent = () => silent.has(socket);
    const refuseMessage = (code: number, why: string) => closeUnread(socket, code, why);
    speak(spoken, socket, request, { limits, log, count, isSilent, tooMuch, refuseMessage });
  });
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
): Pick<Hooks, 'onSubscribe' | 'onNext' | 'onError' | 'onComplete'> {
  const { complexity, means, peers } = options;
  const { limits } = complexity;
  return {
    async onSubscribe({ extra }, id, payload) {
      const peer = peers.get(extra.socket);
      if (!peer || isEnding(extra.socket)) return [ending()];
      // Of those that the client has given up, too, until they end.
      if (peer.running >= limits.operationsPerSocket) {
        return [tooMany('operationsPerSocket', limits, 'operations')];
      }
      peer.running++;
      let isBegun = false;
      try {
        await options.gate.turns.next(peer.payer.key);
        const expiry = expiryOf(peer.viewer);
        if (expiry) refuse(extra.socket, expiry);
        if (isEnding(extra.socket)) return [ending()];
        const { viewer, payer } = peer;
        const address = options.addressOf(extra.request);
        const ticket = new Ticket(options.gate, payer);
        ticket.isGone = () => isEnding(extra.socket);
        const context = new Context(means, viewer, randomUUID(), address, ticket);
        const prepared = prepare(options, payload, context);
        if (!('document' in prepared)) return prepared;
        const refused = isSubscription(prepared) && subscribe(peer, id, limits);
        isBegun = !refused;
        return refused || prepared;
      } finally {
        if (!isBegun) peer.running--;
      }
    },
    onComplete({ extra }) {
      const peer = peers.get(extra.socket);
      if (peer) peer.running--;
    },
    onNext(_context, _id, _payload, { contextValue }, result) {
      if (!result.errors) return;
      const { viewer, requestId } = contextValue as Context;
      return { ...result, errors: refusals(result.errors, options, viewer, requestId) };
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
function greeter({ limits, means, peers, gate, addressOf, readers, log }: Greeting) {
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
      const counts = { subscriptions: new Set<string>(), running: 0 };
      const peer: Peer = { token, viewer, payer, operations, ...counts };
      peers.set(socket, peer);
      const cutOff = () => closeSlow(socket, viewer, log);
      socket.once('close', readers.watch(request.socket, limits.socketStallSeconds, cutOff));
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
  return [...peers].reduce((sum, { running }) => sum + running, 0);
}

function keepChecking(
  peers: ReadonlyMap<WebSocket, Peer>,
  means: Means,
): { stop(): Promise<void> } {
  let checking: Promise<void> | undefined;
  const timer = setInterval(() => {
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

function closeSlow(socket: WebSocket, { principal }: Viewer, log: SocketLog): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  const facts = { principal, waitingBytes: socket.bufferedAmount };
  const isSlow = socket.bufferedAmount > 0;
  log.warn(facts, `websocket: ${isSlow ? 'slow reader' : 'sender of too much at once'} closed`);
  const why = isSlow
    ? 'too slow a reader: connect again with your last cursor as after'
    : 'too many bytes of messages at once: send less, and on fewer WebSockets';
  closeUnread(socket, closeCodes.slowReader, why);
}

const closeFlooding = (socket: WebSocket): void =>
  closeUnread(socket, closeCodes.tooManyMessages, 'too many messages: send less at once');

/** Who sends what is not taken is not read any further, not even his farewell. */
function closeUnread(socket: WebSocket, code: number, why: string): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.close(code, shortened(why));
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

const passing: ReadonlySet<string> = new Set(['UNAVAILABLE', 'RATE_LIMITED']);

function refuse(socket: WebSocket, error: unknown): void {
  const reason = error instanceof SweepbookError ? error.message : 'try again';
  const isRefusal = error instanceof SweepbookError && !passing.has(error.code);
  const code = isRefusal ? closeCodes.forbidden : closeCodes.tryLater;
  socket.close(code, shortened(reason));
}
