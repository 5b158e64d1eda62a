import {
  buildSchema,
  execute,
  getIntrospectionQuery,
  parse,
  specifiedRules,
  validate,
} from 'graphql';
import { expect, test } from 'vitest';
import { defaultLimits } from '../../src/limits.ts';
import { Complexity } from '../../src/server/complexity.ts';

const schema = buildSchema(`
  "A thing."
  interface Thing { id: ID! parts(first: Int = 10, of: Kind): [Part!] }
  type Part implements Thing { id: ID! parts(first: Int = 10, of: Kind): [Part!] whole: Thing }
  type Lot implements Thing { id: ID! parts(first: Int = 10, of: Kind): [Part!] all: [Thing!]! }
  union Any = Part | Lot
  enum Kind { SMALL LARGE }
  input Wish { kind: Kind! = SMALL, more: [Wish!] }
  type Query { any(wish: Wish): Any things: [Thing!]! }
  type Mutation { take(id: ID!): Part }
`);

const times = (count: number, part: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => part(at)).join(' ');
const bomb = (outer: number, inner: number) =>
  `{ __schema { types { ${times(outer, (a) => `a${a}: fields { type { ${times(inner, (b) => `b${b}: fields { name }`)} } }`)} } } }`;

/** Fields of an answer, those of lists once for each line. */
function fieldsOf(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, part) => sum + fieldsOf(part), 0);
  if (typeof value !== 'object' || value === null) return 0;
  return Object.values(value).reduce<number>((sum, part) => sum + 1 + fieldsOf(part), 0);
}

const complexity = (limits: Partial<typeof defaultLimits> = {}) =>
  new Complexity(schema, { ...defaultLimits, ...limits });

test.each([
  ['all of it', getIntrospectionQuery({ inputValueDeprecation: true, oneOf: true }), {}],
  ['nothing but itself', '{ __schema { __typename } }', {}],
  [
    'one type',
    '{ __type(name: "Part") { name fields { args { defaultValue type { name } } } } }',
    {},
  ],
  ['no type', '{ __type(name: "Nothing") { name } }', {}],
  [
    'a type by variable',
    'query ($of: String!) { __type(name: $of) { fields { name } } }',
    { of: 'Lot' },
  ],
  ['by aliases', bomb(3, 4), {}],
  [
    'by fragments',
    `fragment t on __Type { kind ...on __Type { possibleTypes { name } } ofType { ...n } }
     fragment n on __Type { name enumValues { name isDeprecated } }
     { a: __schema { types { ...t ...n } } b: __type(name: "Kind") { ...t } }`,
    {},
  ],
])('the schema is counted as it answers: %s', (_, query, variables) => {
  const document = parse(query);
  expect(validate(schema, document, specifiedRules)).toEqual([]);
  const answer = execute({ schema, document, variableValues: variables });
  const found = complexity().demand({ document, variables, operationName: undefined });
  expect(found).toBe(fieldsOf('data' in answer ? answer.data : {}));
});

test('beyond the limit the counting ends, and the name of another type is counted anew', () => {
  const few = complexity({ complexity: 20 });
  const demand = (query: string, variables: Record<string, unknown> = {}) => {
    const document = parse(query);
    return () => few.demand({ document, variables, operationName: undefined });
  };
  // Of millions.
  expect(demand(bomb(60, 60))).toThrow(/the query has \d\d fields to answer, the limit is 20/);
  const document = parse(
    'query ($of: String!) { __type(name: $of) { fields { name args { name } } } }',
  );
  const ask = (of: string) => () =>
    few.demand({ document, variables: { of }, operationName: undefined });
  expect(ask('Mutation')()).toBe(5);
  expect(ask('Part')()).toBe(10);
  const fewer = complexity({ complexity: 8 });
  const askFewer = (of: string) => () =>
    fewer.demand({ document, variables: { of }, operationName: undefined });
  expect(askFewer('Mutation')()).toBe(5);
  expect(askFewer('Part')).toThrow('the query has');
});
