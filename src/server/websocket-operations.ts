import {
  execute,
  getOperationAST,
  GraphQLError,
  OperationTypeNode,
  specifiedRules,
  validate,
  type ExecutionArgs,
  type ExecutionResult,
} from 'graphql';
import type { SubscribePayload } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { Viewer } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { isTooComplex, messageOf, SweepbookError } from '../errors.ts';
import { limitFacts, type LimitName, type Limits } from '../limits.ts';
import type { Complexity } from './complexity.ts';
import { readDocument } from './document.ts';
import { asGraphQL, toGraphQL, type FaultLog } from './errors.ts';
import { payerOf } from './gate.ts';
import { demandIntrospection, hintsFor, type Introspection } from './introspection.ts';
import type { SchemaAnswers } from './schema-answers.ts';

export interface Preparing {
  readonly complexity: Complexity;
  readonly introspection: Introspection;
  readonly log: FaultLog;
}

/** The same steps as over HTTP: limits, then rules, then how much would come back. */
export function prepare(
  { complexity, introspection, log }: Preparing,
  payload: SubscribePayload,
  contextValue: Context,
): ExecutionArgs | readonly GraphQLError[] {
  const { schema, limits } = complexity;
  try {
    contextValue.purse.pay(0);
    const document = readDocument(payload.query, limits);
    const faults = validate(schema, document, specifiedRules, { maxErrors: 20 });
    if (faults.length > 0) return faults;
    const operation = getOperationAST(document, payload.operationName);
    if (!operation)
      return [new GraphQLError('name one of the operations of the document (operationName)')];
    demandIntrospection(introspection, contextValue.viewer, document);
    const variableValues = payload.variables ?? {};
    const operationName = payload.operationName ?? undefined;
    contextValue.purse.pay(
      complexity.demand({ document, variables: variableValues, operationName }),
    );
    return { schema, document, operationName, variableValues, contextValue };
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    if (error instanceof SweepbookError) {
      if (isTooComplex(error)) contextValue.purse.fine();
      return [asGraphQL(error)];
    }
    log.error(
      { requestId: contextValue.requestId, error: messageOf(error) },
      'websocket: preparation failed',
    );
    return [new GraphQLError('the operation cannot be prepared')];
  }
}

/** When there is room for it, as over HTTP. */
export async function executeInTurn(
  args: ExecutionArgs,
  answers: SchemaAnswers,
): Promise<ExecutionResult> {
  const { viewer, address, purse } = args.contextValue as Context;
  let leave = () => {};
  try {
    leave = await purse.begin();
    const answer = await answers.answerTo(args, payerOf(viewer, address).key);
    return answer ? (JSON.parse(answer.text) as ExecutionResult) : await execute(args);
  } catch (error) {
    return { errors: [asGraphQL(error)] };
  } finally {
    setImmediate(leave);
  }
}

/** Who is told to go may take his time with it, and is not served any more meanwhile. */
export const isEnding = ({ readyState }: WebSocket) => readyState !== WebSocket.OPEN;
export const ending = () => new GraphQLError('this connection is being closed');

export function isSubscription({ document, operationName }: ExecutionArgs): boolean {
  return getOperationAST(document, operationName)?.operation === OperationTypeNode.SUBSCRIPTION;
}

/** The refusal of one operation more than a WebSocket may have. */
export function tooMany(limit: LimitName, limits: Limits, what: string): GraphQLError {
  const most = limits[limit];
  const why = `a connection has at most ${most} ${what} at once: end one, or open another connection`;
  const facts = { ...limitFacts(limit, limits), retryAfterSeconds: 5 };
  return new GraphQLError(why, { extensions: { code: 'RATE_LIMITED', facts } });
}

function tell(error: Error, requestId: string, log: FaultLog): GraphQLError {
  const found = asGraphQL(error);
  const told = toGraphQL(found, requestId, log);
  return new GraphQLError(told.message, {
    nodes: found.nodes,
    path: found.path,
    extensions: told.extensions ?? {},
  });
}

/** Why an operation was not begun, or did not come to its end. */
export const refusals = (
  errors: readonly GraphQLError[],
  { introspection, log }: Preparing,
  viewer: Viewer | undefined,
  requestId: string,
): GraphQLError[] =>
  errors.map((error) => tell(hintsFor(introspection, viewer, error), requestId, log));
