import type { Viewer } from '../access/policy.ts';
import { base64urlSql } from '../database/cursor.ts';
import { Late } from '../database/late.ts';
import { checkedFirst, type PageQuery } from '../database/page.ts';
import { sql, type RawBuilder } from '../database/sql.ts';
import type { OpenStores } from '../storage/open.ts';
import type { NodeName } from './node.ts';

/**
 * How a type of the API stands in the database, so that a whole query can be answered by one statement. What is not
 * told here is answered by the resolvers. The rules (who sees what, which filter means what) are those of `*.queries.ts`.
 */
export interface ReadModel {
  /** Fields that are a column of its rows, under the same name. */
  readonly columns: readonly string[];
  /** Fields that are read from elsewhere. */
  readonly fields: Readonly<Record<string, Reader>>;
}

/** Who asks, and what is needed beside the database. */
export interface Reading {
  readonly viewer: Viewer;
  readonly stores: OpenStores;
}

/** The row that a field belongs to. */
export interface RowAt {
  /** One of its columns. */
  column(name: string): RawBuilder<unknown>;
}

/** Where a field is read; throws a SweepbookError for arguments that the resolver refuses, too. */
export type Reader = (row: RowAt, args: ReadArguments, reading: Reading) => Source;

/**
 * Arguments that come as Late when they are variables of their own. Readers use them as parameters and for nothing else;
 * texts among them hold no NUL.
 */
export const lateArguments: ReadonlySet<string> = new Set([
  'name',
  'lfn',
  'number',
  'first',
  'after',
]);

// As GraphQL has coerced them for this field; each reader knows the types of its own.
// eslint-disable-next-line typescript/no-explicit-any
export type ReadArguments = Readonly<Record<string, any>>;

export interface Rows {
  readonly select: RawBuilder<unknown>;
  readonly from: RawBuilder<unknown>;
  readonly where: RawBuilder<unknown>;
  readonly orderBy?: RawBuilder<unknown>;
}

export type Source =
  /** A value that is written as the type of its field says. */
  | { readonly value: RawBuilder<unknown> }
  /** JSON text; null = only the resolver can tell. */
  | { readonly json: RawBuilder<unknown> }
  /** The first row, or null; `of` is the name of its type. */
  | { readonly one: Rows; readonly of: string; readonly orResolver?: boolean }
  | { readonly list: Rows; readonly of: string }
  /** A page of a Relay connection. */
  | { readonly page: PageQuery; readonly of: string; readonly asked: AskedPage };

/** By the names of their GraphQL types. */
export type ReadModels = Readonly<Record<string, ReadModel>>;

export interface AskedPage {
  readonly first: number | Late<number>;
  readonly after: string | Late<string> | null | undefined;
}

/** The arguments of a connection; BAD_USER_INPUT for a page that is too long, or none. */
export function askedPage({ first, after }: ReadArguments, limit: number): AskedPage {
  const size =
    first instanceof Late
      ? first.map((asked) => checkedFirst(asked as number, limit))
      : checkedFirst(first as number | null, limit);
  return { first: size, after: after as AskedPage['after'] };
}

/** For readers of lists that are empty for this viewer. */
export const noRows: Rows = {
  select: sql`null`,
  from: sql`(values (1)) as nothing`,
  where: sql`false`,
};

/** The id of a Node, as writeNodeId makes it, written by the database; `id` is a column. */
export const nodeIdSql = (name: NodeName, id: RawBuilder<unknown>): RawBuilder<string> =>
  base64urlSql(sql`${sql.lit(`${name}:`)} || ${id}`);
