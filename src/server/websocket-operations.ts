import {
  getOperationAST,
  GraphQLError,
  parse,
  specifiedRules,
  validate,
  type ExecutionArgs,
  type GraphQLSchema,
} from 'graphql';
import type { SubscribePayload } from 'graphql-ws';
import type { Viewer } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { messageOf } from '../errors.ts';
import { toGraphQL, type FaultLog } from './errors.ts';
import { demandIntrospection, hintsFor, type Introspection } from './introspection.ts';
import { demandComplexity, limits, shapeRule } from './limits.ts';

export interface Preparing {
  readonly schema: GraphQLSchema;
  readonly introspection: Introspection;
  readonly log: FaultLog;
}

/** The same steps as Apollo takes: limits, then rules, then how much would come back. */
export function prepare(
  { schema, introspection, log }: Preparing,
  payload: SubscribePayload,
  contextValue: Context,
): ExecutionArgs | readonly GraphQLError[] {
  try {
    const document = parse(payload.query, { maxTokens: limits.tokens });
    const faults = validate(schema, document, [...specifiedRules, shapeRule], { maxErrors: 20 });
    if (faults.length > 0) return faults;
    const operation = getOperationAST(document, payload.operationName);
    if (!operation)
      return [new GraphQLError('name one of the operations of the document (operationName)')];
    demandIntrospection(introspection, contextValue.viewer, document);
    const variableValues = payload.variables ?? {};
    demandComplexity(schema, document, variableValues, payload.operationName ?? undefined);
    return { schema, document, operationName: payload.operationName, variableValues, contextValue };
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    log.error(
      { requestId: contextValue.requestId, error: messageOf(error) },
      'websocket: preparation failed',
    );
    return [new GraphQLError('the operation cannot be prepared')];
  }
}

export const tooMany = () =>
  new GraphQLError(
    `a connection has at most ${limits.operationsPerSocket} operations at once: end one, or open another connection`,
    { extensions: { code: 'RATE_LIMITED', facts: { most: limits.operationsPerSocket } } },
  );

const asGraphQL = (error: Error) =>
  error instanceof GraphQLError ? error : new GraphQLError(error.message);

export function tell(error: Error, requestId: string, log: FaultLog): GraphQLError {
  const found = asGraphQL(error);
  const told = toGraphQL(found, requestId, log);
  return new GraphQLError(told.message, {
    nodes: found.nodes,
    path: found.path,
    extensions: told.extensions ?? {},
  });
}

/** Why an operation was not begun. */
export const refusals = (
  errors: readonly GraphQLError[],
  { introspection, log }: Preparing,
  viewer: Viewer | undefined,
  requestId: string,
): GraphQLError[] =>
  errors.map((error) => tell(hintsFor(introspection, viewer, error), requestId, log));
