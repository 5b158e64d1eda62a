import { getNamedType, isListType, isNonNullType, type GraphQLOutputType } from 'graphql';
import { sql, type RawBuilder } from '../database/sql.ts';

type Sql = RawBuilder<unknown>;
export type Parts = (string | Sql)[];

/** What stands for a row that only the resolvers can tell: a sign that no JSON text holds unescaped. */
export const notReadable = '\u0001';
export const orNotReadable = (text: Sql): Sql => sql`coalesce(${text}, ${sql.lit(notReadable)})`;

/** The lines of a list; their order is that of the rows. */
export const list = (member: Sql, which?: Sql): Sql =>
  sql`coalesce(string_agg(${orNotReadable(member)}, ',')${which ? sql` filter (where ${which})` : sql``}, '')`;

/** A text of signs that need no escape. */
export const quoted = (text: Sql): Sql => sql`'"' || (${text}) || '"'`;

/** Texts put together; null when one of them is. */
export function joined(parts: Parts): Sql {
  const merged: Parts = [];
  for (const part of parts) {
    const last = merged.at(-1);
    if (typeof part === 'string' && typeof last === 'string')
      merged[merged.length - 1] = last + part;
    else merged.push(part);
  }
  const pieces = merged.map((part) =>
    typeof part === 'string' ? sql`${sql.lit(part)}::text` : sql`(${part})`,
  );
  return sql.join(pieces, sql` || `);
}

/** A value as JSON text, as the resolvers' scalars write it; null = not readable. */
export function scalar(value: Sql, kind: GraphQLOutputType): Sql {
  const isRequired = isNonNullType(kind);
  const inner = isNonNullType(kind) ? kind.ofType : kind;
  const text = isListType(inner) ? sql`to_json(${value})::text` : written(value, inner);
  return isRequired ? text : sql`case when ${value} is null then 'null' else ${text} end`;
}

function written(value: Sql, kind: GraphQLOutputType): Sql {
  switch (getNamedType(kind).name) {
    case 'Int':
    case 'Float':
    case 'SafeInt':
    case 'Boolean':
    case 'JSON':
      return sql`(${value})::text`;
    case 'DateTime':
      return quoted(timeText(value));
    default:
      return sql`to_json(${value})::text`;
  }
}

/** As Date.toISOString writes it; null for a year that has not four digits: that one is for the resolvers. */
const timeText = (value: Sql): Sql => sql`case
  when ${value} >= timestamptz '0001-01-01 00:00:00+00' and ${value} < timestamptz '10000-01-01 00:00:00+00'
  then to_char(${value} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end`;
