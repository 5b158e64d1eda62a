import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import Fastify, {
  LogController,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { Logger } from 'pino';
import { anonymous, type Viewer } from '../access/policy.ts';
import type { Means } from '../api/context.ts';
import { badInput, SweepbookError, systemCode } from '../errors.ts';
import { limitFacts, limitSetting, type Limits } from '../limits.ts';
import { visible } from '../text.ts';
import { networkOf, type AddressOf } from './address.ts';
import { bearerToken } from './authorization.ts';
import { Bodies, isLong } from './bodies.ts';
import { turnAway } from './connections.ts';
import { httpStatus, retryAfter, toRefusal } from './errors.ts';
import type { Gate, Ticket } from './gate.ts';
import { InFlight, type Place } from './in-flight.ts';
import type { Readers } from './readers.ts';
import { refuseUnroutable } from './unroutable.ts';

/** Who asks, and how it is paid for. */
export interface Caller {
  readonly viewer: Viewer;
  readonly ticket: Ticket;
}

export type Callers = WeakMap<FastifyRequest, Caller>;

export const isGraphql = ({ url }: FastifyRequest): boolean => url.split('?')[0] === '/graphql';

export interface AppOptions {
  readonly limits: Limits;
  readonly log: Logger;
  readonly means: Means;
  readonly gate: Gate;
  readonly callers: Callers;
  readonly addressOf: AddressOf;
  readonly readers: Readers;
}

/** The application without its routes: what holds for every request. */
export function makeApp(options: AppOptions): FastifyInstance {
  const { limits, log } = options;
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestSeconds * 1000,
    keepAliveTimeout: limits.keepAliveSeconds * 1000,
    http: {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: Math.min(limits.headersSeconds, limits.requestSeconds) * 1000,
      connectionsCheckingInterval: Math.min(limits.headersSeconds * 500, 5000),
    },
    clientErrorHandler: (error, socket) => refuseUnread(error, socket, limits),
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: refuseUnroutable,
    forceCloseConnections: 'idle',
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID();
    },
  }) as unknown as FastifyInstance;
  app.server.maxHeadersCount = limits.headers;
  const bodies = new Bodies(limits);
  admitRequests(app, options, bodies);
  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (!request.raw.complete && isLong(request.raw)) {
      // Fastify would close while it is still being sent, and the refusal would be lost.
      void reply.removeHeader('connection');
      bodies.leaveUnread(request.raw, senderOf(request, options));
    }
    refuse(error, request, reply, options);
  });
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({
      code: 'NOT_FOUND',
      message: `nothing at ${visible(request.url.slice(0, 200))}: there are /graphql, /graphiql, /export, /imports, /healthz, /readyz and /metrics`,
      facts: {},
    }),
  );
  return app;
}

/** Who asks and how much: before anything is read or done. */
function admitRequests(
  app: FastifyInstance,
  { limits, means, gate, callers, addressOf, readers }: AppOptions,
  bodies: Bodies,
): void {
  const inFlight = new InFlight(limits);
  const places = new WeakMap<FastifyRequest, Place>();
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id);
    demandOnce(request);
    demandHost(request.headers.host);
    demandFitting(request, limits);
    demandUnpacked(request);
    // Whoever watches over the server must not take it for dead because of others.
    if (request.routeOptions.url === '/healthz') return;
    const token = bearerToken(request.headers.authorization);
    const address = addressOf(request.raw);
    try {
      const caller = await gate.admit(token, address, () =>
        means.identity.authenticate(token, address),
      );
      callers.set(request, caller);
      caller.ticket.isGone = () => reply.raw.destroyed;
      if (caller.viewer === anonymous) demandSmall(request, limits);
      const place = inFlight.enter(caller.ticket.payer, bodyBytesOf(request, limits));
      places.set(request, place);
      reply.raw.once('close', () => place.leave());
    } catch (error) {
      await slowly(error, limits);
    }
  });
  app.addHook('preParsing', async (request, _reply, payload) => {
    const payer = callers.get(request)?.ticket.payer;
    if (!payer || !isJson(request) || !isLong(request.raw)) return payload;
    return bodies.paced(request.raw, payer.key);
  });
  app.addHook('onSend', async (request, reply, payload) => {
    readers.watchAnswer(reply.raw, limits.answerStallSeconds);
    if (typeof payload !== 'string' && !Buffer.isBuffer(payload)) return payload;
    try {
      places.get(request)?.hold(payload.length);
      return payload;
    } catch (error) {
      if (!(error instanceof SweepbookError)) throw error;
      const { status, body } = refusalOf(error, request);
      void reply
        .code(status)
        .removeHeader('content-length')
        .header('content-type', 'application/json; charset=utf-8')
        .header('retry-after', retryAfter(error));
      return JSON.stringify(body);
    }
  });
}

/** Who does not wait between questions waits for refusals, and costs less. */
async function slowly(error: unknown, { refusalMilliseconds }: Limits): Promise<never> {
  const isTooMuch = error instanceof SweepbookError && error.code === 'RATE_LIMITED';
  if (isTooMuch) await pause(refusalMilliseconds);
  throw error;
}

/** As JSON in memory; what is received as a stream holds none. */
const isJson = ({ routeOptions }: FastifyRequest): boolean => routeOptions.url !== '/imports';

function bodyBytesOf(request: FastifyRequest, limits: Limits): number {
  if (!isJson(request)) return 0;
  const { headers } = request;
  if (headers['transfer-encoding'] !== undefined) return limits.bodyBytes;
  return Math.min(Number(headers['content-length'] ?? 0), limits.bodyBytes);
}

function refuse(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
  { log, limits }: AppOptions,
): void {
  const isOfTheCaller = error.statusCode !== undefined && error.statusCode < 500;
  const refusal =
    error instanceof SweepbookError || !isOfTheCaller
      ? toRefusal(error, request.id, log)
      : ofTheCaller(error, limits);
  const { status, body } = refusalOf(refusal, request);
  if (status === 401) void reply.header('www-authenticate', 'Bearer');
  if (status === 503 || status === 429) void reply.header('retry-after', retryAfter(refusal));
  void reply.code(isOfTheCaller ? (error.statusCode ?? status) : status).send(body);
}

/** Whose it is to send so many bytes in a time; until it is known who asks, his address. */
const senderOf = (request: FastifyRequest, { callers, addressOf }: AppOptions): string =>
  callers.get(request)?.ticket.payer.key ?? `address ${networkOf(addressOf(request.raw))}`;

function refusalOf(refusal: SweepbookError, request: FastifyRequest) {
  const { code, message, facts } = refusal;
  return {
    status: isGraphql(request) && code === 'QUERY_TOO_COMPLEX' ? 400 : httpStatus(code),
    body: isGraphql(request)
      ? { errors: [{ message, extensions: { code, facts } }] }
      : { code, message, facts },
  };
}

function ofTheCaller({ statusCode, message }: FastifyError, limits: Limits): SweepbookError {
  return statusCode === 413 ? tooLong(limits) : new SweepbookError('BAD_USER_INPUT', message);
}

function tooLong(limits: Limits): SweepbookError {
  const facts = limitFacts('bodyBytes', limits);
  const why = `the body is too long, ${limits.bodyBytes} bytes are the limit: send less at once`;
  return Object.assign(new SweepbookError('BAD_USER_INPUT', why, facts), { statusCode: 413 });
}

/** What came is no request, or did not come to its end in time. */
function refuseUnread(error: Error, socket: Socket, limits: Limits): void {
  const code = systemCode(error);
  if (code === 'ECONNRESET' || socket.destroyed) return;
  if (!socket.writable) {
    socket.destroy(error);
    return;
  }
  const refused = (status: string, message: string) =>
    turnAway(socket, status, 'BAD_USER_INPUT', message);
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    const { headersSeconds, requestSeconds } = limits;
    refused(
      '408 Request Timeout',
      `the request came too slowly: its header has ${headersSeconds} s, the whole of it ${requestSeconds} s (${limitSetting('headersSeconds')}, ${limitSetting('requestSeconds')})`,
    );
  } else if (code === 'HPE_HEADER_OVERFLOW') {
    const { headers, headerBytes } = limits;
    const why = `the header is too long: ${headers} fields and ${headerBytes} bytes are the limits (${limitSetting('headers')}, ${limitSetting('headerBytes')})`;
    refused('431 Request Header Fields Too Large', why);
  } else {
    refused('400 Bad Request', 'this is no HTTP request');
  }
}

/** Of two, a proxy may have looked at the other one; RFC 9112 (3.2) has 400 for two hosts. */
function demandOnce({ raw }: FastifyRequest): void {
  for (const name of ['Host', 'Authorization']) {
    const { length } = raw.headersDistinct[name.toLowerCase()] ?? [];
    if (length > 1)
      throw badInput(name, `${length} times`, 'once, or nobody knows which one counts');
  }
}

/** What is in no address cannot be where a request came to; what reads addresses further in would stumble over it. */
function demandHost(host: string | undefined): void {
  if (host === undefined || URL.canParse(`http://${host}/`)) return;
  throw badInput('Host', host, 'the name or address of this server, and its port');
}

/** A body that tells its length is not even begun to be read. */
function demandFitting(request: FastifyRequest, limits: Limits): void {
  if (isJson(request) && Number(request.headers['content-length'] ?? 0) > limits.bodyBytes)
    throw tooLong(limits);
}

/** What comes packed would be told to be no JSON. */
function demandUnpacked(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding'];
  if (!isJson(request) || encoding === undefined || encoding === 'identity') return;
  const refusal = badInput('Content-Encoding', encoding, 'none: bodies are sent as they are');
  throw Object.assign(refusal, { statusCode: 415 });
}

/** Who shows no token only asks; bulk calls need one. */
function demandSmall(request: FastifyRequest, limits: Limits): void {
  const length = Number(request.headers['content-length'] ?? 0);
  const isUnbounded = request.headers['transfer-encoding'] !== undefined;
  if (length <= limits.anonymousBodyBytes && !isUnbounded) return;
  throw new SweepbookError(
    'UNAUTHENTICATED',
    `without a token a request has at most ${limits.anonymousBodyBytes} bytes, told by Content-Length: send a token`,
    limitFacts('anonymousBodyBytes', limits),
  );
}
