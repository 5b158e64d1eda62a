import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { messageOf, SweepbookError } from '../../errors.ts';
import { limits } from '../limits.ts';
import { packer, type Encoding } from './encoding.ts';

/** Lists that are under way, so that none of them takes all, and so that none holds up the end. */
export class RunningExports {
  private readonly running = new Map<AbortController, string>();

  /** RATE_LIMITED when there are too many already. */
  enter(principal: string): { readonly signal: AbortSignal; leave(): void } {
    const own = [...this.running.values()].filter((of) => of === principal).length;
    if (own >= limits.exports || this.running.size >= limits.exportsInAll) {
      const most = own >= limits.exports ? limits.exports : limits.exportsInAll;
      throw new SweepbookError(
        'RATE_LIMITED',
        `${most} lists are being read already: wait until one has ended`,
        { most },
      );
    }
    const controller = new AbortController();
    this.running.set(controller, principal);
    return { signal: controller.signal, leave: () => this.running.delete(controller) };
  }

  /** Ends those that do not end by themselves. */
  async end(): Promise<void> {
    const timer = setTimeout(() => {
      for (const controller of this.running.keys()) controller.abort();
    }, limits.exportGraceMs);
    timer.unref();
  }
}

export interface SentList {
  /** Only of the list: a refusal goes without them. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: AsyncGenerator<string, void, void>;
  readonly encoding: Encoding;
  readonly signal: AbortSignal;
  /** Of the files that are out. */
  readonly count: () => number;
}

/**
 * Sends a list as its reader takes it, with the count in the trailer. Headers go out with the first lines, so that
 * what fails before is a proper refusal; what fails later ends the connection, and nobody takes it for complete.
 */
export async function sendList(
  request: FastifyRequest,
  reply: FastifyReply,
  { headers, text, encoding, signal, count }: SentList,
): Promise<void> {
  const first = await text.next();
  const response = reply.raw;
  async function* body(): AsyncGenerator<string, void, void> {
    if (!first.done) yield first.value;
    yield* text;
    response.addTrailers({ 'X-Sweepbook-Count': String(count()) });
  }
  reply.hijack();
  for (const [name, value] of Object.entries({ ...reply.getHeaders(), ...headers })) {
    if (value !== undefined) response.setHeader(name, value);
  }
  response.setHeader('trailer', 'X-Sweepbook-Count');
  if (encoding !== 'identity') response.setHeader('content-encoding', encoding);
  response.setTimeout(limits.exportStallMs, () => response.destroy());
  response.writeHead(200);
  const source = Readable.from(body(), { objectMode: false, highWaterMark: 65_536 });
  try {
    await (encoding === 'identity'
      ? pipeline(source, response, { signal })
      : pipeline(source, packer(encoding), response, { signal }));
  } catch (error) {
    response.destroy();
    request.log.warn({ requestId: request.id, error: messageOf(error) }, 'a list was cut off');
  }
}
