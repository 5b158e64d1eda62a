import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { limitFacts, limitSetting, type LimitName, type Limits } from '../limits.ts';
import { networkOf } from './address.ts';

/** Counts by address; nothing is kept of whom there is none of. */
export class Counts {
  private readonly counts = new Map<string, number>();

  of(key: string): number {
    return this.counts.get(key) ?? 0;
  }

  /** One more; returns how to take it back. */
  add(key: string): () => void {
    this.counts.set(key, this.of(key) + 1);
    let isThere = true;
    return () => {
      if (!isThere) return;
      isThere = false;
      const left = this.of(key) - 1;
      if (left > 0) this.counts.set(key, left);
      else this.counts.delete(key);
    };
  }
}

/** Says no where there is no request yet, or none that is answered, and goes: nobody keeps a connection by being silent. */
export function turnAway(
  socket: Duplex,
  status: string,
  code: string,
  message: string,
  facts: object = {},
): void {
  const body = JSON.stringify({ code, message, facts });
  const head = [
    `HTTP/1.1 ${status}`,
    'Connection: close',
    ...(/^(429|503)/.test(status) ? ['Retry-After: 5'] : []),
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}

/** "… are the limit (SETTING)": what an operator would look for. */
export const limitText = (limit: LimitName, limits: Limits): string =>
  `${limits[limit]} are the limit (${limitSetting(limit)})`;

/** Keeps the connections of all, and those of one address, within their limits; proxies that are trusted stand for many. */
export function limitConnections(
  server: Server,
  limits: Limits,
  isTrusted: (address: string) => boolean,
): void {
  let open = 0;
  const byAddress = new Counts();
  server.on('connection', (socket) => {
    const peer = socket.remoteAddress;
    const network = networkOf(peer);
    const isProxy = peer !== undefined && isTrusted(peer);
    if (open >= limits.connections) {
      const why = `too many connections, ${limitText('connections', limits)}: try again in a moment`;
      const facts = limitFacts('connections', limits);
      turnAway(socket, '503 Service Unavailable', 'UNAVAILABLE', why, facts);
    } else if (!isProxy && byAddress.of(network) >= limits.connectionsPerAddress) {
      const why = `too many connections from ${network}, ${limitText('connectionsPerAddress', limits)}: close some`;
      const facts = limitFacts('connectionsPerAddress', limits);
      turnAway(socket, '429 Too Many Requests', 'RATE_LIMITED', why, facts);
    }
    open++;
    const leave = byAddress.add(network);
    socket.once('close', () => {
      open--;
      leave();
    });
  });
}

type Asked = readonly [IncomingMessage, ServerResponse];

/** A connection with a request under way: what else was asked on it, in order. */
interface Pipeline {
  readonly waiting: Asked[];
  isCutOff: boolean;
}

/**
 * Answers the requests of a connection one by one, as HTTP has them answered in order anyway. Who asks on without
 * waiting for answers is cut off after the one that is under way: for what waits nothing has been done yet.
 */
export function limitPipelines(server: Server, limits: Limits): void {
  const [handle] = server.listeners('request') as RequestListener[];
  if (!handle) throw new Error('there is nobody who answers yet');
  const pipelines = new WeakMap<Duplex, Pipeline>();
  const answer = (pipeline: Pipeline, [request, response]: Asked) => {
    response.once('close', () => {
      const next = request.socket.destroyed ? undefined : pipeline.waiting.shift();
      if (!next) pipelines.delete(request.socket);
      else if (pipeline.isCutOff) cutOff(next, limits);
      else answer(pipeline, next);
    });
    handle(request, response);
  };
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    const { socket } = request;
    const pipeline = pipelines.get(socket);
    if (!pipeline) {
      const first = { waiting: [], isCutOff: false };
      pipelines.set(socket, first);
      answer(first, [request, response]);
    } else if (!pipeline.isCutOff) {
      pipeline.waiting.push([request, response]);
      if (pipeline.waiting.length < limits.requestsPerConnection) return;
      pipeline.isCutOff = true;
      pipeline.waiting.length = 1;
      socket.pause();
    }
  });
}

function cutOff([, response]: Asked, limits: Limits): void {
  const why = `too many requests at once on a connection, ${limitText('requestsPerConnection', limits)}: wait for answers`;
  response.writeHead(429, {
    connection: 'close',
    'retry-after': '5',
    'content-type': 'application/json; charset=utf-8',
  });
  const facts = limitFacts('requestsPerConnection', limits);
  response.end(JSON.stringify({ code: 'RATE_LIMITED', message: why, facts }));
}
