import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { CloseCode, type Server } from 'graphql-ws';
import type { Extra } from 'graphql-ws/use/ws';
import type { WebSocket } from 'ws';
import { messageOf } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { FaultLog } from './errors.ts';
import { UnfinishedMessage } from './unfinished-message.ts';

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

/** Bytes of messages that come or are under way, and of answers that wait for their reader, on all WebSockets and by payer. */
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
  /** Whether it has not said yet who it is. */
  readonly isSilent: () => boolean;
  /** More waits than may. */
  readonly tooMuch: () => void;
  /** What comes is not taken. */
  readonly refuseMessage: (code: number, why: string) => void;
}

/**
 * Speaks graphql-transport-ws on a WebSocket. The library's own way writes the faults of strangers to the console, lets
 * any number of pongs wait, and takes who has not read so far as its ping for dead.
 */
export function speak(
  server: Server<Extra>,
  socket: WebSocket,
  request: IncomingMessage,
  speaking: Speaking,
): void {
  const { limits, log, count, tooMuch } = speaking;
  let underWay = 0;
  let unfinished = 0;
  /** With so many more. */
  const fits = (bytes: number) =>
    count(unfinished + underWay + socket.bufferedAmount + bytes) &&
    socket.bufferedAmount + bytes <= limits.socketWaitingBytes;
  const stopWatching = watchUnfinished(request.socket, speaking, (bytes) => {
    const isMore = bytes > unfinished;
    unfinished = bytes;
    if (fits(0) || !isMore) return;
    if (socket.readyState === socket.OPEN) tooMuch();
    else socket.terminate();
  });
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
          if (socket.readyState !== socket.OPEN) return;
          const text = data.toString();
          if (!fits(text.length)) {
            tooMuch();
            return;
          }
          underWay += text.length;
          take(text)
            .catch((error: unknown) => endFailed(socket, error, log))
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
    stopWatching();
    count(0);
    closed(code, String(reason)).catch((error: unknown) =>
      log.error({ error: messageOf(error) }, 'websocket: an end failed'),
    );
  });
}

/**
 * Watches over what has come of a message that is not yet whole; `onHeld` is told how much memory it holds. Pings do not
 * end it: they can be answered between its fragments.
 */
function watchUnfinished(
  connection: Socket,
  { limits, isSilent, refuseMessage }: Speaking,
  onHeld: (bytes: number) => void,
): () => void {
  const { silentMessageBytes, webSocketMessageSeconds } = limits;
  const message = new UnfinishedMessage();
  let late: NodeJS.Timeout | undefined;
  const tooLate = () =>
    refuseMessage(
      closeCodes.tooManyMessages,
      `a message has ${webSocketMessageSeconds} s to come whole: send it at once`,
    );
  const read = (piece: Buffer) => {
    const { longestBytes, isWholeWithin } = message.read(piece);
    const { heldBytes } = message;
    if (isWholeWithin) {
      clearTimeout(late);
      late = undefined;
    }
    if (heldBytes > 0) late ??= setTimeout(tooLate, webSocketMessageSeconds * 1000);
    // In small pieces it holds several times its bytes.
    const isTooLong = longestBytes > silentMessageBytes || heldBytes > 4 * silentMessageBytes;
    if (isTooLong && isSilent()) {
      refuseMessage(
        closeCodes.tooLongMessage,
        `before connection_init a message has at most ${silentMessageBytes} bytes`,
      );
    }
    onHeld(heldBytes);
  };
  // Before the library, so that what is whole is not counted here any more when it is told.
  connection.prependListener('data', read);
  return () => {
    clearTimeout(late);
    connection.off('data', read);
  };
}

/** Messages that only servers send are none that can be taken; whatever else fails here is our fault. */
function endFailed(socket: WebSocket, error: unknown, log: FaultLog): void {
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
