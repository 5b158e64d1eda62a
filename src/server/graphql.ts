import { ApolloServer, type ApolloServerPlugin } from '@apollo/server';
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginLandingPageDisabled,
} from '@apollo/server/plugin/disabled';
import { GraphQLError, type GraphQLSchema } from 'graphql';
import type { Context } from '../api/context.ts';
import { toGraphQL, type FaultLog } from './errors.ts';
import { demandComplexity, limits, shapeRule } from './limits.ts';

/** Apollo, with the same limits and the same errors as the WebSocket road. */
export function makeApollo(schema: GraphQLSchema, log: FaultLog): ApolloServer<Context> {
  const requestIds = new WeakMap<Error, string>();
  const errorsAndLimits: ApolloServerPlugin<Context> = {
    async requestDidStart() {
      return {
        async didResolveOperation({ document, request, operationName }) {
          demandComplexity(schema, document, request.variables ?? {}, operationName ?? undefined);
        },
        async didEncounterErrors({ errors, contextValue }) {
          // formatError is not told whose error it is.
          for (const error of errors) requestIds.set(error, contextValue.requestId);
        },
        async willSendResponse({ response, contextValue }) {
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
    parseOptions: { maxTokens: limits.tokens },
    validationRules: [shapeRule],
    plugins: [
      ApolloServerPluginLandingPageDisabled(),
      // It would look at each field of each answer, to come to no-store.
      ApolloServerPluginCacheControlDisabled(),
      errorsAndLimits,
    ],
    allowBatchedHttpRequests: false,
    stopOnTerminationSignals: false,
    logger: {
      debug() {},
      info() {},
      warn: (m) => log.error({}, String(m)),
      error: (m) => log.error({}, String(m)),
    },
    formatError(formatted, error) {
      const found = error instanceof GraphQLError ? error : new GraphQLError(formatted.message);
      return toGraphQL(found, requestIds.get(found) ?? 'unknown', log);
    },
  });
}
