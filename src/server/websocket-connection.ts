import type { IncomingMessage } from 'node:http';
import { CloseCode, type Server } from 'graphql-ws';
import type { Extra } from 'graphql-ws/use/ws';
import type { WebSocket } from 'ws';
import { messageOf } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { FaultLog } from './errors.ts';

/** A close reason has at most 123 bytes. */
export const shortened = (reason: string): string =>
  Buffer.from(reason)
    .subarray(0, 120)
    .toString('utf8')
    .replace(/\uFFFD+$/, '');

/** How long a message may be, and in how many pieces it comes: each costs some hundred bytes, however short it is. */
export const piecesOf = ({ webSocketMessageBytes: maxPayload }: Limits) => ({
  maxPayload,
  maxFragments: 1024,
  maxBufferedChunks: Math.max(4096, maxPayload / 256),
});

/** Bytes of messages under way and of answers that wait for their reader, on all WebSockets and by payer. */
export class WaitingBytes {
  private readonly byPayer = new Map<string, number>();
  private all = 0;

  constructor(private readonly limits: Limits) {}

  /** Those of one WebSocket; says whether it was within the limits. Whose they are may become known on the way. */
  counter(payerKey: () => string): (bytes: number) => boolean {
    let counted = { key: '', bytes: 0 };
    return (bytes) => {
      this.add(counted.key, -counted.bytes);
      counted = { key: payerKey(), bytes };
      const own = this.add(counted.key, bytes);
      return own <= this.limits.bytesInFlight && this.all <= this.limits.bytesInAll;
    };
  }

  private add(key: string, bytes: number): number {
    const own = (this.byPayer.get(key) ?? 0) + bytes;
    if (own > 0) this.byPayer.set(key, own);
    else this.byPayer.delete(key);
    this.all += bytes;
    return own;
  }
}

export interface Speaking {
  readonly limits: Limits;
  readonly log: FaultLog;
  /** Of this WebSocket. */
  readonly count: (bytes: number) => boolean;
  /** More waits than may. */
  readonly tooMuch: () => void;
}

/**
 * Speaks graphql-transport-ws on a WebSocket. The library's own way writes the faults of strangers to the console, lets
 * any number of pongs wait, and takes who has not read so far as its ping for dead.
 */
export function speak(
  server: Server<Extra>,
  socket: WebSocket,
  request: IncomingMessage,
  { limits, log, count, tooMuch }: Speaking,
): void {
  let underWay = 0;
  /** With so many more. */
  const fits = (bytes: number) =>
    count(underWay + socket.bufferedAmount + bytes) &&
    socket.bufferedAmount + bytes <= limits.socketWaitingBytes;
  const closed = server.opened(
    {
      protocol: socket.protocol,
      send(data) {
        if (socket.readyState !== socket.OPEN) return;
        // What is longer than may wait is sent to who has nothing waiting.
        if (!fits(data.length) && socket.bufferedAmount > 0) {
          tooMuch();
          return;
        }
        return new Promise((resolve) =>
          // That it could not be sent is told by the end of the connection.
          socket.send(data, () => {
            fits(0);
            resolve();
          }),
        );
      },
      close: (code, reason) => socket.close(code, reason && shortened(reason)),
      onMessage(take) {
        socket.on('message', (data: Buffer) => {
          const text = data.toString();
          if (!fits(text.length)) {
            tooMuch();
            return;
          }
          underWay += text.length;
          take(text)
            .catch((error: unknown) => refuseMessage(socket, error, log))
            .finally(() => {
              underWay -= text.length;
              fits(0);
            });
        });
      },
    },
    { socket, request },
  );
  const stopPinging = keepPinging(socket, limits.pingSeconds * 1000);
  socket.once('close', (code, reason) => {
    stopPinging();
    count(0);
    closed(code, String(reason)).catch((error: unknown) =>
      log.error({ error: messageOf(error) }, 'websocket: an end failed'),
    );
  });
}

/** Messages that only servers send are none that can be taken; whatever else fails here is our fault. */
function refuseMessage(socket: WebSocket, error: unknown, log: FaultLog): void {
  const why = messageOf(error);
  if (why.startsWith('Unexpected message')) {
    socket.close(CloseCode.BadRequest, 'Invalid message received');
    return;
  }
  log.error({ error: why }, 'websocket: a message failed');
  socket.close(CloseCode.InternalServerError, 'Internal server error');
}

/** Ends a connection on whose other side nobody is. A ping waits behind what is not taken, and readers are watched over. */
function keepPinging(socket: WebSocket, everyMs: number): () => void {
  let isThere = true;
  socket.on('pong', () => (isThere = true));
  const timer = setInterval(() => {
    if (socket.readyState !== socket.OPEN || socket.bufferedAmount > 0) return;
    if (!isThere) {
      socket.terminate();
      return;
    }
    isThere = false;
    socket.ping();
  }, everyMs);
  return () => clearInterval(timer);
}
