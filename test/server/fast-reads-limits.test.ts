import { beforeEach, describe, expect, test } from 'vitest';
import type { Viewer } from '../../src/access/policy.ts';
import { parametersFor } from '../../src/database/late.ts';
import { defaultLimits } from '../../src/limits.ts';
import { Complexity } from '../../src/server/complexity.ts';
import { FastReads } from '../../src/server/fast-reads.ts';
import { makeSchema } from '../../src/server/schema.ts';
import { OpenStores } from '../../src/storage/open.ts';

/** What was sent to the database. */
let sent = 0;
beforeEach(() => {
  sent = 0;
});

const reads = new FastReads(
  new Complexity(makeSchema(), defaultLimits),
  new OpenStores(),
  {
    async text({ parameters }, given) {
      parametersFor(parameters, given);
      sent++;
      return '{}';
    },
    close: async () => undefined,
  },
  {
    warn(facts) {
      throw new Error(JSON.stringify(facts));
    },
  },
);
const operator: Viewer = { principal: 'olga', roles: ['OPERATOR'] };
const user: Viewer = { principal: 'otto', roles: ['USER'] };

const ask = (query: string, variables = {}, viewer = operator) =>
  reads.answer({ query, operationName: undefined, variables }, viewer);

const repeated = (count: number, part: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => part(at)).join(' ');
const deep = (levels: number) =>
  `{ files { nodes { ${'mergedInto { '.repeat(levels)} lfn ${'}'.repeat(levels)} } } }`;
const nested = (n: number) =>
  `{ datasets(first: ${n}) { nodes { files(first: ${n}) { nodes { lfn } } } } }`;
const page =
  'query ($first: Int, $after: String) { files(first: $first, after: $after) { nodes { lfn } } }';

describe('within the limits it is sent', () => {
  test.each<[string, string, object?]>([
    ['deep', deep(9)],
    ['many aliases', `{ run(number: 1) { ${repeated(200, (at) => `a${at}: number`)} } }`],
    ['many root fields', `{ ${repeated(50, (at) => `r${at}: run(number: ${at}) { number }`)} }`],
    ['many lines', nested(100)],
    ['a page of the largest size', page, { first: 1000 }],
  ])('%s', async (_, query, variables) => {
    expect(await ask(query, variables)).toBe('{"data":{}}\n');
    expect(sent).toBe(1);
  });
});

describe('beyond them nothing is sent, and the resolvers say why', () => {
  test.each<[string, string, object?, Viewer?]>([
    ['too deep', deep(10)],
    ['too many aliases', `{ run(number: 1) { ${repeated(201, (at) => `a${at}: number`)} } }`],
    [
      'too many root fields',
      `{ ${repeated(51, (at) => `r${at}: run(number: ${at}) { number }`)} }`,
    ],
    [
      'too many directives',
      `{ run(number: 1) { ${repeated(51, () => 'number @include(if: true)')} } }`,
    ],
    ['too many tokens', `{ run(number: 1) { ${'id '.repeat(5000)} } }`],
    ['too long a document', `{ run(number: 1) { id } } #${'x'.repeat(16 * 1024)}`],
    ['too many lines', nested(200)],
    [
      'too many lines by variables',
      'query ($n: Int) { datasets(first: $n) { nodes { files(first: $n) { nodes { lfn } } } } }',
      { n: 200 },
    ],
    ['too long a page', '{ files(first: 1001) { nodes { lfn } } }'],
    ['too long a page by a variable', page, { first: 1001 }],
    ['no page', page, { first: 0 }],
    [
      'too long a page within another',
      'query ($first: Int) { dataset(name: "x") { runs(first: $first) { nodes { number } } } }',
      { first: 201 },
    ],
    ['a cursor of nothing', page, { after: 'garbage' }],
    ['a variable of another type', page, { first: 'many' }],
    [
      'a name with a NUL',
      'query ($name: String!) { dataset(name: $name) { name } }',
      { name: '\0' },
    ],
    ['an unknown field', '{ files { nodes { password } } }'],
    ['a change', 'mutation { revokeToken(prefix: "x") { changed } }'],
    ['what is not for this viewer', '{ backupRecords { nodes { status } } }', {}, user],
    ['a filter that is refused', '{ files(filter: { lfn: { glob: "*x" } }) { nodes { lfn } } }'],
  ])('%s', async (_, query, variables, viewer) => {
    // Once more: what is kept of a document must not let it pass.
    for (let time = 0; time < 2; time++) {
      expect(await ask(query, variables, viewer)).toBeUndefined();
    }
    expect(sent).toBe(0);
  });

  test('allowed once, with other variables it is counted anew', async () => {
    const query =
      'query ($n: Int) { datasets(first: $n) { nodes { files(first: $n) { nodes { lfn } } } } }';
    expect(await ask(query, { n: 100 })).toBeDefined();
    expect(await ask(query, { n: 150 })).toBeDefined();
    expect(await ask(query, { n: 200 })).toBeUndefined();
    expect(sent).toBe(2);
  });

  test('a statement that was written for one viewer is not run for another', async () => {
    const query = '{ backupRecords { nodes { status } } }';
    expect(await ask(query, {}, operator)).toBeDefined();
    expect(await ask(query, {}, user)).toBeUndefined();
    expect(sent).toBe(1);
  });
});
