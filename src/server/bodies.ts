import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { Limits } from '../limits.ts';
import { Buckets } from './buckets.ts';

/** How long the sender of a body that is not wanted may go on before the connection is closed. */
const farewellMs = 3000;
/** Bodies that are shorter come with their request. */
const longBytes = 64 * 1024;

export const isLong = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > longBytes;

/** Reads long bodies as fast as who sends them may send, all of his together. */
export class Bodies {
  private readonly rates: Buckets;
  private readonly known = new WeakMap<IncomingMessage, Readable>();

  constructor({ bodyRate, bodyBytes }: Limits) {
    this.rates = new Buckets(bodyRate, bodyBytes);
  }

  paced(request: IncomingMessage, sender: string): Readable {
    const known = this.known.get(request);
    if (known) return known;
    const paced = Readable.from(this.chunks(request, sender), { objectMode: false });
    this.known.set(request, paced);
    // Whoever gives up in the middle has nobody left to be told.
    return paced.on('error', () => undefined);
  }

  /**
   * What is refused is taken and thrown away if it tells its end: who sends first and reads then shall come to see why.
   * Of what may have none nothing more is taken. Then the connection is closed, if it is not at its end.
   */
  leaveUnread(request: IncomingMessage, sender: string): void {
    const late = setTimeout(() => request.socket.destroy(), farewellMs).unref();
    // Else Node throws it away as fast as it comes.
    request.read(0);
    const rest = this.paced(request, sender).once('close', () => clearTimeout(late));
    if (request.headers['transfer-encoding'] === undefined) rest.resume();
    else rest.pause();
  }

  private async *chunks(request: IncomingMessage, sender: string): AsyncGenerator<Buffer> {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      let seconds = this.rates.take(sender, chunk.length);
      while (seconds > 0) {
        await pause(seconds * 1000);
        seconds = this.rates.take(sender, chunk.length);
      }
      yield chunk;
    }
  }
}
