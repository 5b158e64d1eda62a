import { GraphQLError, type GraphQLFormattedError } from 'graphql';
import { asRefusal, isPassing } from '../database/transaction.ts';
import { errorCodes, messageOf, SweepbookError, type ErrorCode } from '../errors.ts';
import { visible } from '../text.ts';

export interface FaultLog {
  error(facts: object, message: string): void;
}

/** What of an error may be told to a stranger: refusals as they are, all else as UNAVAILABLE or INTERNAL. */
export function toRefusal(error: unknown, requestId: string, log: FaultLog): SweepbookError {
  const refusal = asRefusal(error);
  if (refusal instanceof SweepbookError) return refusal;
  if (isPassing(error)) {
    log.error({ requestId, error: messageOf(error) }, 'the database cannot be reached');
    return new SweepbookError(
      'UNAVAILABLE',
      'the database cannot be reached right now: try again in a moment',
      {
        requestId,
      },
    );
  }
  log.error({ requestId, err: error }, 'a fault of the program');
  return new SweepbookError(
    'INTERNAL',
    `something went wrong inside the server: tell its operators the request id ${requestId}`,
    { requestId },
  );
}

/** Whatever was thrown, in the form of GraphQL. */
export const asGraphQL = (error: unknown): GraphQLError =>
  error instanceof GraphQLError
    ? error
    : new GraphQLError(messageOf(error), {
        originalError: error instanceof Error ? error : new Error(messageOf(error)),
      });

/** The one place that turns errors into GraphQL: `extensions` has the code and the facts, nothing else. */
export function toGraphQL(
  error: GraphQLError,
  requestId: string,
  log: FaultLog,
): GraphQLFormattedError {
  const { message, locations, path } = error;
  const place = { ...(locations ? { locations } : {}), ...(path ? { path } : {}) };
  const cause = originalOf(error);
  const code = codeOf(error);
  if (cause === undefined || code !== undefined) {
    // Of GraphQL itself: a query that does not parse or fit the schema, a variable of the wrong form.
    const facts = error.extensions['facts'] ?? {};
    return {
      message: visible(message),
      ...place,
      extensions: { code: code ?? 'BAD_USER_INPUT', facts },
    };
  }
  const refusal = toRefusal(cause, requestId, log);
  return {
    message: refusal.message,
    ...place,
    extensions: { code: refusal.code, facts: refusal.facts },
  };
}

/** The error below the GraphQL ones; undefined when GraphQL itself found fault. */
function originalOf(error: GraphQLError): Error | undefined {
  let at: Error | undefined = error;
  while (at instanceof GraphQLError) at = at.originalError ?? undefined;
  return at;
}

/** Our own code, also under the one that Apollo lays over a refusal of a validation rule. */
function codeOf(error: GraphQLError): ErrorCode | undefined {
  for (let at: Error | undefined = error; at instanceof GraphQLError; at = at.originalError) {
    const said = at.extensions['code'];
    const code = errorCodes.find((known) => known === said && known !== 'INTERNAL');
    if (code) return code;
  }
  return undefined;
}

const statuses: Partial<Record<ErrorCode, number>> = {
  NOT_FOUND: 404,
  BAD_USER_INPUT: 400,
  INVALID_CURSOR: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  SOURCE_NOT_ALLOWED: 403,
  RATE_LIMITED: 429,
  UNAVAILABLE: 503,
  STORE_UNAVAILABLE: 503,
  INTERNAL: 500,
};

/** The HTTP status of a refusal, for roads that are not GraphQL. */
export function httpStatus(code: ErrorCode): number {
  return statuses[code] ?? 409;
}

/** Seconds after which what was refused may be asked again, as a header has them. */
export const retryAfter = ({ facts }: SweepbookError): string => {
  const seconds = facts['retryAfterSeconds'];
  return String(typeof seconds === 'number' ? seconds : 5);
};
