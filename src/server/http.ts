import type { ApolloServer } from '@apollo/server';
import { fastifyApolloHandler } from '@as-integrations/fastify';
import type {
  FastifyInstance,
  FastifyRequest,
  onSendAsyncHookHandler,
  RouteHandlerMethod,
} from 'fastify';
import { GraphQLError } from 'graphql';
import type { Logger } from 'pino';
import { unknownViewer, type Asked } from '../access/audit-trail.ts';
import { anonymous, KnownRefusal, type Viewer } from '../access/policy.ts';
import { Context, free, type Means, type Purse } from '../api/context.ts';
import type { ReadPool } from '../database/read-pool.ts';
import { badInput, SweepbookError, systemCode } from '../errors.ts';
import type { Limits } from '../limits.ts';
import { addressReader, trustIn, type AddressOf } from './address.ts';
import { isGraphql, makeApp, type Callers } from './app.ts';
import { audited } from './audited.ts';
import { Complexity } from './complexity.ts';
import { limitConnections, limitPipelines } from './connections.ts';
import { readDocument } from './document.ts';
import { serveExports } from './export/routes.ts';
import { RunningExports } from './export/send.ts';
import { serveGraphiql } from './graphiql.ts';
import { makeApollo } from './graphql.ts';
import { fastHeader, fastRoad } from './fast-road.ts';
import { FastReads, type AskedQuery } from './fast-reads.ts';
import { Gate } from './gate.ts';
import { guarded } from './guarded.ts';
import { serveHealth } from './health.ts';
import { serveManifests } from './imports/routes.ts';
import type { Introspection } from './introspection.ts';
import { serveMetrics } from './metrics.ts';
import { Readers } from './readers.ts';
import { SchemaAnswers } from './schema-answers.ts';
import { makeSchema } from './schema.ts';
import { serveWebSockets, type ServedSockets } from './websocket.ts';
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
  readonly limits: Limits;
}

export interface RunningServer {
  /** As people open it. */
  readonly address: string;
  close(): Promise<void>;
}

/** Starts listening; all roads in stand here. */
export async function serveHttp(means: Means, options: HttpOptions): Promise<RunningServer> {
  const { log, limits } = options;
  const schema = audited(wellFormed(guarded(makeSchema())));
  const complexity = new Complexity(schema, limits);
  const schemaAnswers = new SchemaAnswers(schema, limits);
  const apollo = makeApollo({ ...options, schema, complexity, schemaAnswers });
  await apollo.start();
  const callers: Callers = new WeakMap();
  const viewerOf = (request: FastifyRequest): Viewer => callers.get(request)?.viewer ?? anonymous;
  const isTrusted = trustIn(options.trustedProxies);
  const addressOf = addressReader(isTrusted);
  const gate = new Gate(limits);
  const readers = new Readers(limits.answerRate);
  const app = makeApp({ limits, log, means, gate, callers, addressOf, readers });
  app.addHook('onClose', async () => readers.stop());
  logRequests(app, log, callers);
  auditRequests(app, means, callers, addressOf);
  limitConnections(app.server, limits, isTrusted);
  limitPipelines(app.server, limits);
  serveHealth(app, means);
  let sockets: ServedSockets | undefined;
  serveMetrics(app, means, viewerOf, () => sockets?.counts() ?? { sockets: 0, operations: 0 });
  const lists = new RunningExports(limits, addressOf, readers);
  app.addHook('preClose', () => lists.end());
  serveExports(app, means, viewerOf, lists);
  await serveManifests(app, { means, viewerOf, addressOf, lists, limits });
  if (options.graphiql) await serveGraphiql(app);
  if (options.graphiql) app.get('/', async (_request, reply) => reply.redirect('/graphiql', 302));
  const fast = options.reads && new FastReads(complexity, means.stores, options.reads, log);
  serveGraphql(app, { means, apollo, schemaAnswers, fast, gate, callers, addressOf });
  await app.ready();
  const served = serveWebSockets(app.server, complexity, means, {
    ...options,
    addressOf,
    gate,
    schemaAnswers,
    readers,
  });
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
      await schemaAnswers.close();
    },
  };
}

interface Roads {
  readonly means: Means;
  readonly apollo: ApolloServer<Context>;
  readonly schemaAnswers: SchemaAnswers;
  readonly fast: FastReads | undefined;
  readonly gate: Gate;
  readonly callers: Callers;
  readonly addressOf: AddressOf;
}

/** /graphql over HTTP: by the fast road if it knows the answer, else by the plain one. */
function serveGraphql(app: FastifyInstance, roads: Roads): void {
  const { means, apollo, schemaAnswers, fast, gate, callers, addressOf } = roads;
  const viewerOf = (request: FastifyRequest) => callers.get(request)?.viewer ?? anonymous;
  const purseOf = (request: FastifyRequest) => callers.get(request)?.ticket ?? free;
  const handler = fastifyApolloHandler(apollo, {
    context: async (request) => {
      const address = addressOf(request.raw);
      return new Context(means, viewerOf(request), request.id, address, purseOf(request));
    },
  });
  // Apollo asks all rules at once: what is too much for them must not come so far.
  const plainRoad: RouteHandlerMethod = async function plain(request, reply) {
    if (Array.isArray(request.body)) {
      throw badInput('body', request.body, 'one operation in a request: batches are not taken');
    }
    for (const { query } of [request.body, request.query].filter(isRecord)) {
      if (typeof query === 'string') demandDocument(query, gate.limits, purseOf(request));
    }
    const caller = callers.get(request);
    if (caller) await gate.turns.next(caller.ticket.payer.key);
    return handler.call(this, request, reply);
  };
  const onSend: onSendAsyncHookHandler = async (_request, _reply, payload) =>
    (typeof payload === 'string' && schemaAnswers.bytesOf(payload)) || payload;
  app.route({ url: '/graphql', method: ['GET', 'OPTIONS'], handler: plainRoad, onSend });
  const answered = (request: FastifyRequest, asked: AskedQuery) => {
    if (!fast || !means.trail.reads) return;
    const { fields, operation } = fast.fieldsOf(asked);
    const base = askedOf(request, viewerOf(request), addressOf(request.raw));
    for (const field of fields) means.trail.answered({ ...base, kind: 'QUERY', field, operation });
  };
  const handle = fast
    ? fastRoad({ reads: fast, viewerOf, purseOf, plainRoad, answered })
    : plainRoad;
  app.post('/graphql', { onSend }, handle);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

/** Throws QUERY_TOO_COMPLEX. What cannot be read is told by Apollo. */
function demandDocument(text: string, limits: Limits, purse: Purse): void {
  try {
    readDocument(text, limits);
  } catch (error) {
    if (error instanceof GraphQLError) return;
    purse.fine();
    throw error;
  }
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

function logRequests(app: FastifyInstance, log: Logger, callers: Callers): void {
  app.addHook('onResponse', async (request, reply) => {
    log.info(
      {
        requestId: request.id,
        method: request.method,
        // Without the query string: it may carry a whole GraphQL query.
        path: request.url.split('?')[0],
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        principal: callers.get(request)?.viewer.principal,
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
  callers: Callers,
  addressOf: AddressOf,
): void {
  const refused = new WeakMap<FastifyRequest, KnownRefusal>();
  app.addHook('onError', async (request, _reply, error) => {
    if (error instanceof KnownRefusal) refused.set(request, error);
  });
  app.addHook('onResponse', async (request, reply) => {
    const viewer = callers.get(request)?.viewer ?? refused.get(request)?.viewer;
    const asked = askedOf(request, viewer, addressOf(request.raw));
    if (reply.statusCode === 401 || reply.statusCode === 403) {
      if (!callers.has(request) || !(isGraphql(request) || asked.field === 'POST /imports')) {
        trail.refused(asked, reply.statusCode === 401 ? 'UNAUTHENTICATED' : 'FORBIDDEN');
      }
    } else if (reply.statusCode < 400 && /^GET \/(export|metrics)/.test(asked.field)) {
      trail.answered(asked);
    }
  });
}

/** A request as the audit trail has it: method and route, and the path without its query. */
const askedOf = (
  request: FastifyRequest,
  viewer: Asked['viewer'] | undefined,
  address: string | undefined,
): Asked => ({
  viewer: viewer ?? unknownViewer,
  requestId: request.id,
  address,
  kind: 'REQUEST',
  field: `${request.method} ${request.routeOptions.url ?? '(nothing)'}`,
  operation: request.url.split('?')[0],
});
