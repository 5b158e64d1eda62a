import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { fastifyApolloHandler } from '@as-integrations/fastify';
import Fastify, {
  LogController,
  type FastifyError,
  type FastifyInstance,
  type FastifyRequest,
} from 'fastify';
import type { Logger } from 'pino';
import { unknownViewer, type Asked } from '../access/audit-trail.ts';
import { anonymous, type Viewer } from '../access/policy.ts';
import { Context, type Means } from '../api/context.ts';
import type { ReadPool } from '../database/read-pool.ts';
import { badInput, SweepbookError, systemCode } from '../errors.ts';
import { visible } from '../text.ts';
import { addressReader, type AddressOf } from './address.ts';
import { audited } from './audited.ts';
import { bearerToken } from './authorization.ts';
import { httpStatus, toRefusal } from './errors.ts';
import { serveExports } from './export/routes.ts';
import { serveGraphiql } from './graphiql.ts';
import { makeApollo } from './graphql.ts';
import { fastHeader, fastRoad } from './fast-road.ts';
import { FastReads, type AskedQuery } from './fast-reads.ts';
import { guarded } from './guarded.ts';
import { serveHealth } from './health.ts';
import { serveManifests } from './imports/routes.ts';
import type { Introspection } from './introspection.ts';
import { limits } from './limits.ts';
import { serveMetrics } from './metrics.ts';
import { makeSchema } from './schema.ts';
import { serveWebSockets, type ServedSockets } from './websocket.ts';
import { refuseUnroutable } from './unroutable.ts';
import { wellFormed } from './well-formed.ts';

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly graphiql: boolean;
  readonly introspection: Introspection;
  readonly origins: readonly string[];
  readonly trustedProxies: readonly string[];
  /** For the fast road; undefined = the resolvers answer everything. */
  readonly reads: ReadPool | undefined;
  readonly log: Logger;
  /** How long requests under way may take when the server goes down. */
  readonly shutdownSeconds: number;
}

export interface RunningServer {
  /** As people open it. */
  readonly address: string;
  close(): Promise<void>;
}

/** Starts listening; all roads in stand here. */
export async function serveHttp(means: Means, options: HttpOptions): Promise<RunningServer> {
  const { log } = options;
  const schema = audited(wellFormed(guarded(makeSchema())));
  const apollo = makeApollo(schema, options.introspection, log);
  await apollo.start();
  const viewers = new WeakMap<FastifyRequest, Viewer>();
  const viewerOf = (request: FastifyRequest): Viewer => viewers.get(request) ?? anonymous;

  const addressOf = addressReader(options.trustedProxies);
  const app = makeApp(options, means, viewers, addressOf);
  serveHealth(app, means);
  let sockets: ServedSockets | undefined;
  serveMetrics(app, means, viewerOf, () => sockets?.counts() ?? { sockets: 0, operations: 0 });
  serveExports(app, means, viewerOf);
  await serveManifests(app, means, viewerOf, addressOf);
  if (options.graphiql) await serveGraphiql(app);
  if (options.graphiql) app.get('/', async (_request, reply) => reply.redirect('/graphiql', 302));
  const plainRoad = fastifyApolloHandler(apollo, {
    context: async (request) =>
      new Context(means, viewerOf(request), request.id, addressOf(request.raw)),
  });
  app.route({ url: '/graphql', method: ['GET', 'OPTIONS'], handler: plainRoad });
  const fast = options.reads && new FastReads(schema, means.stores, options.reads, log);
  const answered = (request: FastifyRequest, asked: AskedQuery) => {
    if (!fast || !means.trail.reads) return;
    const { fields, operation } = fast.fieldsOf(asked);
    const base = askedOf(request, viewerOf(request), addressOf(request.raw));
    for (const field of fields) means.trail.answered({ ...base, kind: 'QUERY', field, operation });
  };
  app.post('/graphql', fast ? fastRoad(fast, viewerOf, plainRoad, answered) : plainRoad);
  await app.ready();
  const served = serveWebSockets(app.server, schema, means, { ...options, addressOf });
  sockets = served;
  const address = await app
    .listen({ host: options.host, port: options.port })
    .catch(async (error: unknown) => {
      await served.close();
      throw cannotListen(options, error);
    });
  return {
    address,
    async close() {
      await served.close();
      // A connection that is silent, or a request that never ends, must not keep the server.
      const late = setTimeout(
        () => app.server.closeAllConnections(),
        options.shutdownSeconds * 1000,
      );
      await app.close();
      clearTimeout(late);
      await apollo.stop();
    },
  };
}

function cannotListen({ host, port }: HttpOptions, error: unknown): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  const why =
    code === 'EADDRINUSE' ? 'something listens there already, perhaps another Sweepbook' : code;
  return new SweepbookError(
    'UNAVAILABLE',
    `cannot listen on ${host} port ${port} (${why}): stop it, or set SWEEPBOOK_PORT`,
    { host, port, code },
    { cause: error },
  );
}

function makeApp(
  { log }: HttpOptions,
  means: Means,
  viewers: WeakMap<FastifyRequest, Viewer>,
  addressOf: AddressOf,
): FastifyInstance {
  const app = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    requestTimeout: 120_000,
    keepAliveTimeout: 65_000,
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: refuseUnroutable,
    forceCloseConnections: 'idle',
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : randomUUID();
    },
  }) as unknown as FastifyInstance;

  const inFlight = new Map<string, number>();
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id);
    demandHost(request.headers.host);
    const token = bearerToken(request.headers.authorization);
    const viewer = await means.identity.authenticate(token, addressOf(request.raw));
    viewers.set(request, viewer);
    if (viewer === anonymous) demandSmall(request);
    enter(inFlight, viewer, reply.raw);
  });
  logRequests(app, log, viewers);
  auditRequests(app, means, viewers, addressOf);
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const isOfTheCaller = error.statusCode !== undefined && error.statusCode < 500;
    const refusal =
      isOfTheCaller && !(error instanceof SweepbookError)
        ? new SweepbookError('BAD_USER_INPUT', error.message)
        : toRefusal(error, request.id, log);
    const status = isOfTheCaller ? (error.statusCode ?? 400) : httpStatus(refusal.code);
    const { code, message, facts } = refusal;
    const body = isGraphql(request)
      ? { errors: [{ message, extensions: { code, facts } }] }
      : { code, message, facts };
    if (status === 401) void reply.header('www-authenticate', 'Bearer');
    if (status === 503 || status === 429) void reply.header('retry-after', '5');
    return reply.code(status).send(body);
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

function logRequests(
  app: FastifyInstance,
  log: Logger,
  viewers: WeakMap<FastifyRequest, Viewer>,
): void {
  app.addHook('onResponse', async (request, reply) => {
    log.info(
      {
        requestId: request.id,
        method: request.method,
        // Without the query string: it may carry a whole GraphQL query.
        path: request.url.split('?')[0],
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        principal: viewers.get(request)?.principal,
        ...(reply.hasHeader(fastHeader) ? { road: 'fast' } : {}),
      },
      'request',
    );
  });
}

/** GraphQL tells of its own fields; other roads, and what came not so far, are told here. */
function auditRequests(
  app: FastifyInstance,
  { trail }: Means,
  viewers: WeakMap<FastifyRequest, Viewer>,
  addressOf: AddressOf,
): void {
  app.addHook('onResponse', async (request, reply) => {
    const asked = askedOf(request, viewers.get(request), addressOf(request.raw));
    if (reply.statusCode === 401 || reply.statusCode === 403) {
      if (!viewers.has(request) || !(isGraphql(request) || asked.field === 'POST /imports')) {
        trail.refused(asked, reply.statusCode === 401 ? 'UNAUTHENTICATED' : 'FORBIDDEN');
      }
    } else if (reply.statusCode < 400 && /^GET \/(export|metrics)/.test(asked.field)) {
      trail.answered(asked);
    }
  });
}

const isGraphql = ({ url }: FastifyRequest) => url.split('?')[0] === '/graphql';

/** A request as the audit trail has it: method and route, and the path without its query. */
const askedOf = (
  request: FastifyRequest,
  viewer: Viewer | undefined,
  address: string | undefined,
): Asked => ({
  viewer: viewer ?? unknownViewer,
  requestId: request.id,
  address,
  kind: 'REQUEST',
  field: `${request.method} ${request.routeOptions.url ?? '(nothing)'}`,
  operation: request.url.split('?')[0],
});

/** Counts the requests that a principal has under way, until their answers are out or given up. */
function enter(
  inFlight: Map<string, number>,
  { principal }: Viewer,
  response: ServerResponse,
): void {
  const most = limits.requestsInFlight;
  const now = inFlight.get(principal) ?? 0;
  if (now >= most) {
    throw new SweepbookError(
      'RATE_LIMITED',
      `${principal} has ${most} requests under way: wait for answers before you ask more`,
      { most },
    );
  }
  inFlight.set(principal, now + 1);
  response.once('close', () => {
    const left = (inFlight.get(principal) ?? 1) - 1;
    if (left > 0) inFlight.set(principal, left);
    else inFlight.delete(principal);
  });
}

/** What is in no address cannot be where a request came to; what reads addresses further in would stumble over it. */
function demandHost(host: string | undefined): void {
  if (host === undefined || URL.canParse(`http://${host}/`)) return;
  throw badInput('Host', host, 'the name or address of this server, and its port');
}

/** Who shows no token only asks; bulk calls need one. */
function demandSmall(request: FastifyRequest): void {
  const length = Number(request.headers['content-length'] ?? 0);
  const isUnbounded = request.headers['transfer-encoding'] !== undefined;
  if (length <= limits.anonymousBodyBytes && !isUnbounded) return;
  throw new SweepbookError(
    'UNAUTHENTICATED',
    `without a token a request has at most ${limits.anonymousBodyBytes} bytes, told by Content-Length: send a token`,
    { most: limits.anonymousBodyBytes },
  );
}
