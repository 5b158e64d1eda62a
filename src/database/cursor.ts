import { createHash } from 'node:crypto';
import { SweepbookError } from '../errors.ts';
import { isKept } from '../text.ts';
import { sql, type RawBuilder } from './sql.ts';

export type CursorValue = string | number;

/**
 * An opaque cursor: the order it belongs to and the values of the last row,
 * with a check so that a cut-off or foreign one is refused, not misread.
 */
export function writeCursor(order: string, values: readonly CursorValue[]): string {
  const body = JSON.stringify([order, ...values]);
  return Buffer.from(check(body) + body).toString('base64url');
}

/** The same cursor, written by the database; `values` are columns. Null when one of them is. */
export function cursorSql(
  order: string,
  values: readonly RawBuilder<unknown>[],
): RawBuilder<string> {
  const written = values.map((value) => sql` || ',' || to_json(${value})::text`);
  // JSON.stringify and to_json escape the same signs in the same way.
  const body = sql`(${sql.lit(`[${JSON.stringify(order)}`)}${sql.join(written, sql``)} || ']')`;
  return sql<string>`(select ${base64urlSql(sql`left(encode(sha256(convert_to(body, 'UTF8')), 'hex'), ${sql.lit(checkLength)}) || body`)}
    from (select ${body} as body) c)`;
}

/** A text as base64url, as Buffer writes it: in one line, without "=". */
export const base64urlSql = (text: RawBuilder<unknown>): RawBuilder<string> =>
  sql<string>`translate(encode(convert_to(${text}, 'UTF8'), 'base64'), E'+/=\\n', '-_')`;

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
  form === 'number' ? Number.isSafeInteger(value) : form === typeof value && isKept(String(value));

const checkLength = 8;
const check = (body: string) =>
  createHash('sha256').update(body).digest('hex').slice(0, checkLength);
