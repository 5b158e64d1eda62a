import { GraphQLError, GraphQLScalarType, Kind, type ValueNode } from 'graphql';
import { GraphQLDateTimeISO, GraphQLJSON, GraphQLSafeInt } from 'graphql-scalars';

/** Whole numbers up to 2^53−1, always JSON numbers. */
export const SafeInt: GraphQLScalarType = GraphQLSafeInt;
/** Any JSON value. */
export const Json: GraphQLScalarType = GraphQLJSON;

const form = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)$/;

function parseTime(value: unknown): Date {
  const time = typeof value === 'string' && form.test(value) ? new Date(value) : undefined;
  // In UTC, years of four digits: what RFC 3339 can write, and PostgreSQL keeps as it was told.
  if (time && time.getUTCFullYear() >= 1 && time.getUTCFullYear() <= 9999) return time;
  throw new GraphQLError(
    `${JSON.stringify(value)} is not a time: write it as 2026-01-31T12:00:00Z (RFC 3339, with the zone)`,
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
