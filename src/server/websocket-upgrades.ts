import type { IncomingMessage, Server } from 'node:http';
import type { WebSocket, WebSocketServer } from 'ws';
import { limitFacts, type LimitName, type Limits } from '../limits.ts';
import { networkOf, type AddressOf } from './address.ts';
import { Buckets } from './buckets.ts';
import { Counts, limitText, turnAway } from './connections.ts';

/** A close frame waits behind what its reader does not take. */
const farewellMs = 1000;

export interface UpgradeOptions {
  readonly limits: Limits;
  readonly addressOf: AddressOf;
  /** Pages of other origins that may connect. */
  readonly origins: readonly string[];
  /** An upgrade for a page that may not connect. */
  readonly onForeignPage: (request: IncomingMessage) => void;
  /** Too many messages on a WebSocket. */
  readonly onFlood: (socket: WebSocket) => void;
}

/** WebSockets that have not said yet who they are. */
export class SilentSockets {
  private readonly leaves = new Map<WebSocket, () => void>();
  readonly byAddress = new Counts();

  get size(): number {
    return this.leaves.size;
  }

  has(socket: WebSocket): boolean {
    return this.leaves.has(socket);
  }

  add(socket: WebSocket, network: string): void {
    this.leaves.set(socket, this.byAddress.add(network));
    socket.once('close', () => this.remove(socket));
  }

  /** It has spoken, or gone. */
  remove(socket: WebSocket): void {
    this.leaves.get(socket)?.();
    this.leaves.delete(socket);
  }
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

/** Takes upgrades to WebSockets, as many as there may be. */
export function acceptUpgrades(
  server: Server,
  sockets: WebSocketServer,
  silent: SilentSockets,
  { limits, addressOf, origins, onForeignPage, onFlood }: UpgradeOptions,
): void {
  const refusal = (
    request: IncomingMessage,
    network: string,
  ): [status: string, code: string, message: string, facts?: object] | undefined => {
    const facts = (limit: LimitName) => limitFacts(limit, limits);
    if (request.url?.split('?')[0] !== '/graphql') {
      return ['404 Not Found', 'NOT_FOUND', 'WebSockets are at /graphql'];
    }
    if (isForeignPage(request, origins)) {
      onForeignPage(request);
      const way = 'an operator names its origin in SWEEPBOOK_ORIGINS';
      return ['403 Forbidden', 'FORBIDDEN', `pages of this origin may not connect: ${way}`];
    }
    if (sockets.clients.size >= limits.sockets) {
      const why = `too many WebSockets, ${limitText('sockets', limits)}: try again in a moment`;
      return ['503 Service Unavailable', 'UNAVAILABLE', why, facts('sockets')];
    }
    if (silent.byAddress.of(network) >= limits.silentSocketsPerAddress) {
      const what = `too many WebSockets of ${network} have not said who they are`;
      const why = `${what}, ${limitText('silentSocketsPerAddress', limits)}: send connection_init`;
      return ['429 Too Many Requests', 'RATE_LIMITED', why, facts('silentSocketsPerAddress')];
    }
    if (silent.size >= limits.silentSockets) {
      const what = 'too many WebSockets have not said who they are';
      const why = `${what}, ${limitText('silentSockets', limits)}: try again in a moment`;
      return ['503 Service Unavailable', 'UNAVAILABLE', why, facts('silentSockets')];
    }
    return undefined;
  };
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    const network = networkOf(addressOf(request));
    const refused = refusal(request, network);
    if (refused) {
      turnAway(socket, ...refused);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      silent.add(webSocket, network);
      countMessages(webSocket, limits, onFlood);
      sockets.emit('connection', webSocket, request);
      // What cannot be read is closed by its own code.
      webSocket.on('error', () => leaveUnread(webSocket));
    });
  });
}

/** Ends a WebSocket that has been closed: what still comes is not read, so that nobody sends on and on. */
export function leaveUnread(socket: WebSocket): void {
  // The library resumes it, to wait for a farewell.
  setImmediate(() => socket.pause());
  setTimeout(() => socket.terminate(), farewellMs).unref();
}

/** Whatever they say, so many messages; control frames are answered by the library and are messages, too. */
function countMessages(
  socket: WebSocket,
  { messageRate, messageBurst }: Limits,
  onFlood: (socket: WebSocket) => void,
): void {
  const bucket = new Buckets(messageRate, messageBurst);
  const count = () => void (bucket.take('', 1) > 0 && onFlood(socket));
  socket.on('message', count).on('ping', count).on('pong', count);
}
