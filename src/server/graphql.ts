import {
  ApolloServer,
  HeaderMap,
  type ApolloServerPlugin,
  type GraphQLRequestContextResponseForOperation,
  type GraphQLResponse,
} from '@apollo/server';
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginLandingPageDisabled,
} from '@apollo/server/plugin/disabled';
import { GraphQLError, type GraphQLSchema } from 'graphql';
import type { Context } from '../api/context.ts';
import { isTooComplex, SweepbookError } from '../errors.ts';
import type { Complexity } from './complexity.ts';
import { asGraphQL, httpStatus, retryAfter, toGraphQL, type FaultLog } from './errors.ts';
import { payerOf } from './gate.ts';
import { demandIntrospection, hintsFor, type Introspection } from './introspection.ts';
import type { SchemaAnswers } from './schema-answers.ts';

/** A fault of the question is no fault of the server: 400, as when the executor finds it; 429 of who asks too much. */
function asBadRequest(error: unknown): unknown {
  const isRefusal = error instanceof SweepbookError;
  if (!isRefusal && !(error instanceof GraphQLError)) return error;
  const isLater = isRefusal && error.code === 'RATE_LIMITED';
  const headers = new HeaderMap(isLater ? [['retry-after', retryAfter(error)]] : []);
  const http = { status: isLater ? httpStatus(error.code) : 400, headers };
  if (isRefusal) {
    return new GraphQLError(error.message, { originalError: error, extensions: { http } });
  }
  const { message, nodes, source, positions, path, originalError, extensions } = error;
  const place = { nodes, source, positions, path };
  return new GraphQLError(message, {
    ...place,
    originalError,
    extensions: { ...extensions, http },
  });
}

/**
 * A document that does not parse or is not valid, or values that do not fit it. GraphQL over HTTP (6.4.1) has 200 for it
 * in application/json, where a status may be that of a proxy, and 400 in application/graphql-response+json.
 */
function isRefusedDocument({ http, body }: GraphQLResponse): boolean {
  return (
    http.status === 400 &&
    body.kind === 'single' &&
    !('data' in body.singleResult) &&
    body.singleResult.errors?.[0]?.extensions?.['code'] === 'BAD_USER_INPUT'
  );
}

const takesResponseType = (headers: HeaderMap | undefined): boolean =>
  headers?.get('accept')?.includes('application/graphql-response+json') === true;

interface ApolloOptions {
  readonly schema: GraphQLSchema;
  readonly complexity: Complexity;
  readonly introspection: Introspection;
  readonly schemaAnswers: SchemaAnswers;
  readonly log: FaultLog;
}

/** One at a time, and none is kept for later. */
const plainQuestions = { allowBatchedHttpRequests: false, persistedQueries: false } as const;

type AskedOperation = GraphQLRequestContextResponseForOperation<Context>;

/** null: it asks for more than the schema. */
async function answerOfSchema(
  answers: SchemaAnswers,
  { document, operationName, contextValue: { viewer, address, requestId } }: AskedOperation,
  log: FaultLog,
): Promise<GraphQLResponse | null> {
  const headers = new HeaderMap();
  try {
    const payer = payerOf(viewer, address).key;
    const answer = await answers.answerTo({ document, operationName }, payer);
    if (!answer) return null;
    const http = { status: undefined, headers };
    return { http, body: { kind: 'single', singleResult: answer.standIn } };
  } catch (error) {
    // What fails here ends as Apollo's own fault, else.
    const told = toGraphQL(asGraphQL(error), requestId, log);
    return {
      http: { status: 503, headers },
      body: { kind: 'single', singleResult: { errors: [told] } },
    };
  }
}

/** Apollo, with the same limits and the same errors as the WebSocket road; documents are within them already. */
export function makeApollo({
  schema,
  complexity,
  introspection,
  schemaAnswers,
  log,
}: ApolloOptions): ApolloServer<Context> {
  const contexts = new WeakMap<Error, Context>();
  const errorsAndLimits: ApolloServerPlugin<Context> = {
    async requestDidStart() {
      let leave = () => {};
      return {
        async didResolveOperation({ document, request, operationName, contextValue }) {
          try {
            demandIntrospection(introspection, contextValue.viewer, document);
            const variables = request.variables ?? {};
            const asked = { document, variables, operationName: operationName ?? undefined };
            contextValue.purse.pay(complexity.demand(asked));
            leave = await contextValue.purse.begin();
          } catch (error) {
            if (isTooComplex(error)) contextValue.purse.fine();
            throw asBadRequest(error);
          }
        },
        responseForOperation: (asked) => answerOfSchema(schemaAnswers, asked, log),
        async didEncounterErrors({ errors, contextValue }) {
          // formatError is not told whose error it is.
          for (const error of errors) contexts.set(error, contextValue);
        },
        async willSendResponse({ request, response, contextValue }) {
          // After the answer was written: others come before the next one.
          setImmediate(leave);
          const isAsked = typeof request.query === 'string';
          if (isAsked && isRefusedDocument(response) && !takesResponseType(request.http?.headers)) {
            response.http.status = 200;
          }
          response.http.headers.set('cache-control', 'no-store');
          response.http.headers.set('x-request-id', contextValue.requestId);
        },
      };
    },
  };
  return new ApolloServer<Context>({
    schema,
    introspection: true,
    // Stack traces are for the log.
    includeStacktraceInErrorResponses: false,
    parseOptions: { maxTokens: complexity.limits.tokens },
    plugins: [
      ApolloServerPluginLandingPageDisabled(),
      // It would look at each field of each answer, to come to no-store.
      ApolloServerPluginCacheControlDisabled(),
      errorsAndLimits,
    ],
    stringifyResult: (answer) => schemaAnswers.textOf(answer),
    ...plainQuestions,
    stopOnTerminationSignals: false,
    logger: {
      debug() {},
      info() {},
      warn: (m) => log.error({}, String(m)),
      error: (m) => log.error({}, String(m)),
    },
    formatError(formatted, error) {
      const found = error instanceof GraphQLError ? error : new GraphQLError(formatted.message);
      const context = contexts.get(found);
      const told = hintsFor(introspection, context?.viewer, found);
      return toGraphQL(told, context?.requestId ?? 'unknown', log);
    },
  });
}
