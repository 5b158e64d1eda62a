import { visible, visibleJson } from './text.ts';

/**
 * The codes a refusal can carry. Clients branch on them, so a code is never
 * renamed; each is documented in docs/errors.md.
 */
export const errorCodes = [
  'NOT_FOUND',
  'ILLEGAL_TRANSITION',
  'FILES_NOT_BACKED_UP',
  'DATASET_SEALED',
  'DATASET_EMPTY',
  'DATASET_BAD',
  'DATASET_NOT_CLOSED',
  'NOT_MERGED',
  'ALREADY_MERGED',
  'EVENT_COUNT_MISMATCH',
  'CHECKSUM_MISMATCH',
  'NOT_CONFIRMED',
  'DUPLICATE',
  'STALE_VERSION',
  'IDEMPOTENCY_KEY_REUSED',
  'INVALID_CURSOR',
  'CURSOR_TOO_OLD',
  'BAD_USER_INPUT',
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'QUERY_TOO_COMPLEX',
  'RATE_LIMITED',
  'LIMIT_REACHED',
  'LEASE_LOST',
  'STORE_UNAVAILABLE',
  'SOURCE_UNREADABLE',
  'SOURCE_CHANGED',
  'SOURCE_NOT_ALLOWED',
  'FILE_LOST',
  'NO_SPACE',
  'POOL_FULL',
  'NOT_ONLINE',
  'QUOTA_EXCEEDED',
  'MERGE_FAILED',
  'UNAVAILABLE',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** Facts a caller needs to act on a refusal; plain JSON. */
export type Facts = Record<string, unknown>;

/**
 * The one error of the program that is meant for people: a code from the
 * documented list, a sentence that says what happened and what to do, and facts.
 * Whatever else is thrown is a fault of ours and reaches nobody outside. The sentence is one line that moves no cursor,
 * whatever names stand in it; the facts have them as they are.
 */
export class SweepbookError extends Error {
  override readonly name = 'SweepbookError';
  readonly code: ErrorCode;
  readonly facts: Facts;

  constructor(code: ErrorCode, message: string, facts: Facts = {}, options?: ErrorOptions) {
    super(visible(message), options);
    this.code = code;
    this.facts = facts;
  }
}

/** Whether a question was refused because it asks for too much. */
export const isTooComplex = (error: unknown): boolean =>
  error instanceof SweepbookError && error.code === 'QUERY_TOO_COMPLEX';

/** The refusal for input that breaks a rule of form: names the field, the value and the way out. */
export function badInput(field: string, value: unknown, wayOut: string): SweepbookError {
  return new SweepbookError('BAD_USER_INPUT', `${field} ${shown(value)}: ${wayOut}`, {
    field,
    value: shown(value),
  });
}

/** A value as it may stand in a message: quoted, one line, at most 120 characters. */
export function shown(value: unknown): string {
  const text = visibleJson(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117).toWellFormed()}…` : text;
}

/** The error's code as the operating system gave it (ENOENT …), if it has one. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}

/** What an unknown thrown thing says, in one line. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
