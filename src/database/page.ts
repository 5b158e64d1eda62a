import { SweepbookError } from '../errors.ts';
import { invalidCursor, readCursor, writeCursor } from './cursor.ts';
import { Late } from './late.ts';
import type { Db } from './orm.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from './sql.ts';

/** One key of an order: its SQL, what the cursor holds, and its direction. */
export interface OrderKey {
  readonly sql: RawBuilder<unknown>;
  /** PostgreSQL type that the cursor's value is cast back to. */
  readonly type: 'text' | 'bigint' | 'timestamptz';
  readonly descending?: boolean;
}

export interface PageQuery {
  /** Name of the list and its order; cursors are bound to it. */
  readonly order: string;
  /** The last key must be unique. */
  readonly keys: readonly OrderKey[];
  readonly select: RawBuilder<unknown>;
  readonly from: RawBuilder<unknown>;
  readonly where: RawBuilder<unknown>;
}

export interface PageArguments {
  readonly first: number;
  readonly after?: string | null | undefined;
}

/** A page of rows, each with its cursor; `total` counts only when it is called. */
export interface Page<Row> {
  readonly edges: { readonly cursor: string; readonly node: Row }[];
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  readonly total: () => Promise<number>;
}

/** Page sizes: more than the limit is refused, never cut in silence. */
export const pageLimits = { files: 1000, others: 200 } as const;

const defaultFirst = 50;

export function checkedFirst(asked: number | null, limit: number): number {
  const first = asked ?? defaultFirst;
  if (Number.isInteger(first) && first >= 1 && first <= limit) return first;
  throw new SweepbookError(
    'BAD_USER_INPUT',
    `first ${first}: ask for 1 to ${limit}, and for more with after`,
    { field: 'first', limit },
  );
}

/** What stands beside the columns of a row: the keys of its place, as its cursor holds them. */
export const keyColumn = (at: number): string => `__key${at}`;

/** The rows of a page, with their keys; one more when it is asked whether there is more. INVALID_CURSOR. */
export function pageStatement(
  query: PageQuery,
  after: string | Late<string> | null | undefined,
  limit: number | Late<number>,
): RawBuilder<Record<string, unknown>> {
  const place = after ? behind(query, after) : undefined;
  const keyColumns = sql.join(
    query.keys.map((key, i) =>
      key.type === 'timestamptz'
        ? // Microseconds survive: a Date would lose them, and the cursor with them its place.
          sql`to_char(${key.sql} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${sql.ref(keyColumn(i))}`
        : sql`${key.sql} as ${sql.ref(keyColumn(i))}`,
    ),
  );
  const order = sql.join(
    query.keys.map((key) => (key.descending ? sql`${key.sql} desc` : key.sql)),
  );
  return sql<Record<string, unknown>>`
    select ${query.select}, ${keyColumns} from ${query.from}
    where ${allOf([query.where, place])} order by ${order} limit ${limit}`;
}

/** How many rows the list has in all. */
export const countStatement = ({ from, where }: PageQuery): RawBuilder<{ n: number }> =>
  sql<{ n: number }>`select count(*) as n from ${from} where ${where}`;

/** Reads one page by keyset: its cost does not grow with how far one has come. */
export async function readPage<Row>(
  db: Db,
  query: PageQuery,
  page: PageArguments,
): Promise<Page<Row>> {
  const found = await rows(db, pageStatement(query, page.after, page.first + 1));
  const hasNextPage = found.length > page.first;
  return {
    edges: found.slice(0, page.first).map((row) => ({
      cursor: writeCursor(
        query.order,
        query.keys.map((_, i) => row[keyColumn(i)] as string | number),
      ),
      node: row as Row,
    })),
    hasNextPage,
    hasPreviousPage: Boolean(page.after),
    total: async () => (await firstRow(db, countStatement(query)))?.n ?? 0,
  };
}

/** As to_char wrote it, to the microsecond, and a day of the calendar. */
function isMoment(text: string): boolean {
  if (!/^\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{6}Z$/.test(text)) return false;
  const toMilliseconds = `${text.slice(0, 23)}Z`;
  const time = new Date(toMilliseconds);
  return !Number.isNaN(time.getTime()) && time.toISOString() === toMilliseconds;
}

function valuesOf(query: PageQuery, cursor: string): (string | number)[] {
  const forms = query.keys.map((key) => (key.type === 'bigint' ? 'number' : 'string'));
  const values = readCursor(query.order, cursor, forms);
  if (query.keys.some((key, i) => key.type === 'timestamptz' && !isMoment(`${values[i]}`))) {
    throw invalidCursor(query.order);
  }
  return values;
}

/** "Comes after the cursor's row", key by key, so that directions may differ. */
function behind(query: PageQuery, cursor: string | Late<string>): RawBuilder<unknown> {
  const values =
    cursor instanceof Late
      ? query.keys.map((_, i) => cursor.map((text) => valuesOf(query, text)[i]))
      : valuesOf(query, cursor);
  const cast = (i: number) => sql`${values[i]}::${sql.raw(query.keys[i]?.type ?? 'text')}`;
  const alternatives = query.keys.map((key, i) => {
    const equal = query.keys.slice(0, i).map((before, j) => sql`${before.sql} = ${cast(j)}`);
    const beyond = key.descending ? sql`${key.sql} < ${cast(i)}` : sql`${key.sql} > ${cast(i)}`;
    return allOf([...equal, beyond]);
  });
  return sql`(${sql.join(alternatives, sql` or `)})`;
}
