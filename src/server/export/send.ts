import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Viewer } from '../../access/policy.ts';
import { messageOf } from '../../errors.ts';
import type { LimitName, Limits } from '../../limits.ts';
import type { AddressOf } from '../address.ts';
import { payerOf, rateLimited } from '../gate.ts';
import type { Readers } from '../readers.ts';
import { packer, type Encoding } from './encoding.ts';

interface RunningExport {
  readonly signal: AbortSignal;
  /** Cuts the list off when its reader is too slow. */
  watch(response: ServerResponse): void;
  leave(): void;
}

/** Lists that are under way, so that none of them takes all, and so that none holds up the end. */
export class RunningExports {
  private readonly running = new Map<AbortController, string>();

  constructor(
    private readonly limits: Limits,
    private readonly addressOf: AddressOf,
    private readonly readers: Readers,
  ) {}

  /** RATE_LIMITED when there are too many already. */
  enter(viewer: Viewer, { raw }: FastifyRequest): RunningExport {
    const { key, name } = payerOf(viewer, this.addressOf(raw));
    const own = [...this.running.values()].filter((of) => of === key).length;
    const refused = (limit: LimitName, whose: string) => {
      const most = this.limits[limit];
      const why = `${most} lists${whose} are being read already: wait until one has ended`;
      return rateLimited(limit, most, why);
    };
    if (own >= this.limits.exports) throw refused('exports', ` of ${name}`);
    if (this.running.size >= this.limits.exportsInAll) throw refused('exportsInAll', '');
    const controller = new AbortController();
    this.running.set(controller, key);
    return {
      signal: controller.signal,
      watch: (response) => this.readers.watchAnswer(response, this.limits.exportStallSeconds),
      leave: () => void this.running.delete(controller),
    };
  }

  /** Ends those that do not end by themselves. */
  async end(): Promise<void> {
    const timer = setTimeout(() => {
      for (const controller of this.running.keys()) controller.abort();
    }, this.limits.exportGraceSeconds * 1000);
    timer.unref();
  }
}

export interface SentList {
  /** Only of the list: a refusal goes without them. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: AsyncGenerator<string, void, void>;
  readonly encoding: Encoding;
  readonly running: RunningExport;
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
  { headers, text, encoding, running, count }: SentList,
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
  running.watch(response);
  response.writeHead(200);
  const source = Readable.from(body(), { objectMode: false, highWaterMark: 65_536 });
  try {
    await (encoding === 'identity'
      ? pipeline(source, response, { signal: running.signal })
      : pipeline(source, packer(encoding), response, { signal: running.signal }));
  } catch (error) {
    response.destroy();
    request.log.warn({ requestId: request.id, error: messageOf(error) }, 'a list was cut off');
  }
}
