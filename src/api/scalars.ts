import { GraphQLError, GraphQLScalarType, Kind, type ValueNode } from 'graphql';
import { GraphQLDateTimeISO, GraphQLJSON, GraphQLSafeInt } from 'graphql-scalars';

/** Whole numbers up to 2^53−1, always JSON numbers. */
export const SafeInt: GraphQLScalarType = GraphQLSafeInt;
/** Any JSON value. */
export const Json: GraphQLScalarType = GraphQLJSON;

const form = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)$/;

/**
 * The time that an RFC 3339 text means; undefined when it is none, lacks its zone, or lies in UTC outside of the years
 * 0001 to 9999: what both RFC 3339 and the database can write.
 */
export function timeOf(text: string): Date | undefined {
  const time = form.test(text) ? new Date(text) : undefined;
  const year = time?.getUTCFullYear() ?? Number.NaN;
  return year >= 1 && year <= 9999 ? time : undefined;
}

function parseTime(value: unknown): Date {
  const time = typeof value === 'string' ? timeOf(value) : undefined;
  if (time) return time;
  throw new GraphQLError(
    `${JSON.stringify(value)} is not a time: write it as 2026-01-31T12:00:00Z (RFC 3339, with the zone; years 0001 to 9999)`,
    { extensions: { code: 'BAD_USER_INPUT' } },
  );
}

/** RFC 3339, UTC on the way out; a time without its zone is refused. */
export const DateTime = new GraphQLScalarType({
  name: 'DateTime',
  description: 'A moment, RFC 3339 with its zone; answers are in UTC.',
  specifiedByURL: 'https://www.rfc-editor.org/rfc/rfc3339',
  serialize: (value) => GraphQLDateTimeISO.serialize(value),
  parseValue: parseTime,
  parseLiteral: (node: ValueNode) =>
    parseTime(node.kind === Kind.STRING ? node.value : `${node.kind} value`),
});
