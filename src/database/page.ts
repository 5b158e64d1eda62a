import { SweepbookError } from '../errors.ts';
import { invalidCursor, readCursor, writeCursor, type CursorValue } from './cursor.ts';
import { Late } from './late.ts';
import type { Db } from './orm.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from './sql.ts';

/** One key of an order: its SQL, what the cursor holds, and its direction, which is the same for all keys of it. */
export interface OrderKey {
  readonly sql: RawBuilder<unknown>;
  /** PostgreSQL type that the cursor's value is cast back to. */
  readonly type: 'text' | 'bigint' | 'timestamptz' | 'xid8';
  readonly descending?: boolean;
}

/**
 * One walk through an index that has the columns of `pins` before the keys of the order. The planner believes that
 * what is rare lies evenly among the rest, and would rather walk the whole list in order and pass by millions; so a
 * pin is written as a bound and not as an equality, and stands in the order: only its own index serves both.
 */
export interface Walk {
  readonly pins?: readonly {
    readonly sql: RawBuilder<unknown>;
    readonly is: RawBuilder<unknown>;
  }[];
  /** The first key begins and ends here (both included): what `where` says of it, for the index. */
  readonly from?: RawBuilder<unknown> | undefined;
  readonly to?: RawBuilder<unknown> | undefined;
  readonly where?: RawBuilder<unknown> | undefined;
}

export interface PageQuery {
  /** Name of the list and its order; cursors are bound to it. */
  readonly order: string;
  /** The last key must be unique. */
  readonly keys: readonly OrderKey[];
  readonly select: RawBuilder<unknown>;
  readonly from: RawBuilder<unknown>;
  readonly where: RawBuilder<unknown>;
  /** In place of `from`, for a list made of lists, each of which needs only its own page. */
  readonly pageFrom?: (
    place: RawBuilder<unknown>,
    limit: number | Late<number>,
  ) => RawBuilder<unknown>;
  /** What counting adds to `where`, if `pageFrom` or `walks` have it inside. */
  readonly countWhere?: RawBuilder<unknown> | undefined;
  /** "Of this state or of that one": a page of each is read, and the pages are merged. None = one plain walk. */
  readonly walks?: readonly Walk[] | undefined;
  /** A row may be met by several walks; it is listed once. Then `countWhere` says what the walks say together. */
  readonly overlap?: boolean;
  /** Cursors of a form of their own: the keys of the last row in and out. */
  readonly cursors?: {
    readonly read: (cursor: string) => readonly CursorValue[];
    readonly write: (keys: readonly CursorValue[]) => string;
  };
  /** How many there are in all, where that is known without counting: a number or a column. */
  readonly total?: number | RawBuilder<unknown> | undefined;
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

/** Reads one page by keyset: its cost does not grow with how far one has come. */
export async function readPage<Row>(
  db: Db,
  query: PageQuery,
  page: PageArguments,
): Promise<Page<Row>> {
  const found = await rows(db, pageStatement(query, page.after, page.first + 1));
  const hasNextPage = found.length > page.first;
  const write =
    query.cursors?.write ?? ((keys: readonly CursorValue[]) => writeCursor(query.order, keys));
  return {
    edges: found.slice(0, page.first).map((row) => ({
      cursor: write(query.keys.map((_, i) => row[keyColumn(i)] as CursorValue)),
      node: row as Row,
    })),
    hasNextPage,
    hasPreviousPage: Boolean(page.after),
    total: async () =>
      typeof query.total === 'number'
        ? query.total
        : ((await firstRow(db, countStatement(query)))?.n ?? 0),
  };
}

type Place = readonly RawBuilder<unknown>[];

/** The rows of a page, with their keys; one more when it is asked whether there is more. INVALID_CURSOR. */
export function pageStatement(
  query: PageQuery,
  after: string | Late<string> | null | undefined,
  limit: number | Late<number>,
): RawBuilder<Record<string, unknown>> {
  const place = after ? placeOf(query, after) : undefined;
  const keyColumns = sql.join(
    query.keys.map((key, i) =>
      key.type === 'timestamptz'
        ? // Microseconds survive: a Date would lose them, and the cursor with them its place.
          sql`to_char(${key.sql} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${sql.ref(keyColumn(i))}`
        : sql`${key.sql} as ${sql.ref(keyColumn(i))}`,
    ),
  );
  const behind = place && isBehind(query.keys, [], place);
  const from = query.pageFrom?.(behind ?? sql`true`, limit) ?? query.from;
  const one = (walk: Walk) => sql<Record<string, unknown>>`
    select ${query.select}, ${keyColumns} from ${from}
    where ${allOf([query.where, walk.where, ...boundsOf(query.keys, walk, place)])}
    order by ${orderOf(query.keys, walk)} ${atMost(limit)}`;
  const walks = query.walks ?? [];
  if (walks.length < 2) return one(walks[0] ?? {});
  const order = query.keys.map((key, i) =>
    key.descending ? sql`${sql.ref(`p.${keyColumn(i)}`)} desc` : sql.ref(`p.${keyColumn(i)}`),
  );
  return sql<Record<string, unknown>>`
    select * from (${sql.join(
      walks.map((walk) => sql`(${one(walk)})`),
      query.overlap ? sql` union ` : sql` union all `,
    )}) as p order by ${sql.join(order)} ${atMost(limit)}`;
}

/** A size that is known stands in the text: plans that are kept are made for it. */
const atMost = (limit: number | Late<number>): RawBuilder<unknown> =>
  sql`limit ${typeof limit === 'number' ? sql.lit(limit) : limit}`;

function orderOf(keys: readonly OrderKey[], { pins = [] }: Walk): RawBuilder<unknown> {
  const parts = [
    ...pins.map((pin) => ({ sql: pin.sql, descending: keys[0]?.descending })),
    ...keys,
  ];
  return sql.join(parts.map((key) => (key.descending ? sql`${key.sql} desc` : key.sql)));
}

/** Where the walk begins and ends; of two bounds on one side the index would take either, so there is one. */
function boundsOf(
  keys: readonly OrderKey[],
  { pins = [], from, to }: Walk,
  place: Place | undefined,
): (RawBuilder<unknown> | undefined)[] {
  const first = keys[0]?.sql ?? sql`true`;
  const bound = (sign: RawBuilder<unknown>, value: RawBuilder<unknown> | undefined) => {
    const columns = [...pins.map((pin) => pin.sql), ...(value === undefined ? [] : [first])];
    const values = [...pins.map((pin) => pin.is), ...(value === undefined ? [] : [value])];
    return columns.length === 0
      ? undefined
      : sql`(${sql.join(columns)}) ${sign} (${sql.join(values)})`;
  };
  const behind = place && isBehind(keys, pins, place);
  const isDescending = keys[0]?.descending === true;
  return [
    behind !== undefined && !isDescending ? behind : bound(sql`>=`, from),
    behind !== undefined && isDescending ? behind : bound(sql`<=`, to),
  ];
}

/** How many rows the list has in all. */
export function countStatement(query: PageQuery): RawBuilder<{ n: number }> {
  if (query.total !== undefined) return sql<{ n: number }>`select ${query.total}::bigint as n`;
  const walks = query.overlap || query.walks === undefined ? [{}] : query.walks;
  const counts = walks.map(
    (walk: Walk) =>
      sql`(select count(*) from ${query.from} where ${allOf([
        query.where,
        query.countWhere,
        walk.where,
        ...(walk.pins ?? []).map((pin) => sql`${pin.sql} = ${pin.is}`),
      ])})`,
  );
  return sql<{ n: number }>`select ${sql.join(counts, sql` + `)} as n`;
}

/** As to_char wrote it, to the microsecond, and a day of the calendar. */
function isMoment(text: string): boolean {
  if (!/^\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{6}Z$/.test(text)) return false;
  const toMilliseconds = `${text.slice(0, 23)}Z`;
  const time = new Date(toMilliseconds);
  return !Number.isNaN(time.getTime()) && time.toISOString() === toMilliseconds;
}

function valuesOf(query: PageQuery, cursor: string): readonly CursorValue[] {
  const forms = query.keys.map((key) => (key.type === 'bigint' ? 'number' : 'string'));
  const values = query.cursors?.read(cursor) ?? readCursor(query.order, cursor, forms);
  if (query.keys.some((key, i) => key.type === 'timestamptz' && !isMoment(`${values[i]}`))) {
    throw invalidCursor(query.order);
  }
  return values;
}

/** The keys of the cursor's row. */
function placeOf(query: PageQuery, cursor: string | Late<string>): Place {
  const values =
    cursor instanceof Late
      ? query.keys.map((_, i) => cursor.map((text) => valuesOf(query, text)[i]))
      : valuesOf(query, cursor);
  // By way of text: PostgreSQL then takes every parameter as it is sent.
  return query.keys.map(({ type }, i) => sql`${values[i]}::text::${sql.raw(type)}`);
}

/** "Comes after the cursor's row", as one comparison of rows: the index is entered there. All keys go one way. */
function isBehind(
  keys: readonly OrderKey[],
  pins: NonNullable<Walk['pins']>,
  place: Place,
): RawBuilder<unknown> {
  const row = sql`(${sql.join([...pins, ...keys].map((key) => key.sql))})`;
  const at = sql`(${sql.join([...pins.map((pin) => pin.is), ...place])})`;
  return keys[0]?.descending ? sql`${row} < ${at}` : sql`${row} > ${at}`;
}
