import { createHash } from 'node:crypto';
import { SweepbookError } from '../errors.ts';

export type CursorValue = string | number;

/**
 * An opaque cursor: the order it belongs to and the values of the last row,
 * with a check so that a cut-off or foreign one is refused, not misread.
 */
export function writeCursor(order: string, values: readonly CursorValue[]): string {
  const body = JSON.stringify([order, ...values]);
  return Buffer.from(check(body) + body).toString('base64url');
}

/** The values of a cursor of this order; INVALID_CURSOR for anything else. */
export function readCursor(
  order: string,
  cursor: string,
  forms: readonly ('string' | 'number')[],
): CursorValue[] {
  const text = cursor.length <= 4096 ? Buffer.from(cursor, 'base64url').toString('utf8') : '';
  const body = text.slice(checkLength);
  if (body !== '' && text.slice(0, checkLength) === check(body)) {
    const [of, ...values] = valuesIn(body);
    if (of === order && values.length === forms.length) {
      if (values.every((value, i) => isOf(forms[i], value))) return values as CursorValue[];
    }
  }
  throw invalidCursor(order);
}

export function invalidCursor(order: string): SweepbookError {
  return new SweepbookError(
    'INVALID_CURSOR',
    `after: not a cursor of this list (${order}); take one that the same query returned, or leave it out`,
    { order },
  );
}

/** The check is no secret: whoever makes a cursor by hand must not get further than this. */
function valuesIn(body: string): unknown[] {
  try {
    const found: unknown = JSON.parse(body);
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

const isOf = (form: 'string' | 'number' | undefined, value: unknown) =>
  form === 'number'
    ? Number.isSafeInteger(value)
    : form === typeof value && !String(value).includes('\0');

const checkLength = 8;
const check = (body: string) =>
  createHash('sha256').update(body).digest('hex').slice(0, checkLength);
