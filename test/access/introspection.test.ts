import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientOf } from '../support/client.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { overSocket } from '../support/socket.ts';

let server: TestServer;
let user: string;
let producer: string;
beforeAll(async () => {
  server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_INTROSPECTION: 'PRODUCER, ADMIN',
  });
  user = await server.tokenOf('schemaless', 'USER');
  producer = await server.tokenOf('schemaful', 'PRODUCER');
});
afterAll(() => server.close());

describe.each(['http', 'websocket'] as const)('over %s', (road) => {
  const ask = (query: string, token?: string, variables: Record<string, unknown> = {}) =>
    road === 'http'
      ? clientOf(server.address, token).raw(query, variables)
      : overSocket(server.address, query, variables, token);

  test.each([
    '{ __schema { queryType { name } } }',
    '{ ...on Query { a: __type(name: "Run") { name } } }',
  ])('the schema is told to some roles only: %s', async (query) => {
    expect((await ask(query)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    expect((await ask(query, user)).errors?.[0]?.extensions.code).toBe('FORBIDDEN');
    expect(await ask(query, producer)).toMatchObject({ data: expect.any(Object) });
    expect(await ask('{ __typename }')).toMatchObject({ data: { __typename: 'Query' } });
  });

  const create = 'mutation ($i: CreateDatasetInput!) { createDataset(input: $i) { changed } }';
  /** Document, what of it does not fit, and a word of the schema that GraphQL itself would tell. */
  test.each<[string, string, RegExp, Record<string, unknown>?]>([
    ['{ dataset(name: "x") { nam } }', '"nam"', /Dataset.*name/],
    ['{ dataset(nam: "x") { id } }', '"nam: \\"x\\""', /Did you mean "name"/],
    ['{ dataset(name: "x") }', '"dataset(name: \\"x\\")"', /type "Dataset" must have/],
    ['{ viewer { name { x } } }', '"{ x }"', /type "String!"/],
    ['{ node { id } }', '"node { id }"', /argument "id" of type "ID!" is required/],
    ['{ datasets(filter: { kind: PQ }) { totalCount } }', '"PQ"', /"DatasetKind" enum.*"PR"/],
    ['{ datasets(filter: { kid: PR }) { totalCount } }', '"kid: PR"', /"DatasetFilter".*"kind"/],
    ['{ datasets(first: "a") { totalCount } }', '"\\"a\\""', /Int cannot represent/],
    [
      'mutation { createDataset(input: {}) { changed } }',
      '"{}"',
      /"CreateDatasetInput.name" of required type/,
    ],
    ['{ ...on Datase { id } }', '"Datase"', /Did you mean.*Dataset/],
    ['query ($k: DatasetKin) { viewer { name } }', '"DatasetKin"', /Did you mean.*DatasetKind/],
    ['{ viewer @skp(if: true) { name } }', '"@skp(if: true)"', /Unknown directive/],
    [create, '"$i: CreateDatasetInput!"', /Field "kind" of required type/, { i: {} }],
    [
      create,
      '"$i: CreateDatasetInput!", at i.kind,',
      /"DatasetKind" enum/,
      { i: { name: 'x', kind: 'PQ' } },
    ],
    [
      'query ($n: Int!) { datasets(first: $n) { totalCount } }',
      '"$n: Int!"',
      /required type "Int!"/,
    ],
  ])('%s', async (query, what, hint, variables) => {
    const said = async (token?: string) => {
      const { errors = [] } = await ask(query, token, variables);
      expect(errors.map(({ extensions }) => extensions.code)).toContain('BAD_USER_INPUT');
      return errors.map(({ message }) => message);
    };
    expect((await said(producer)).join()).toMatch(hint);
    const told = `${what} does not fit the schema, which is told to PRODUCER, ADMIN here`;
    expect(await said(user)).toContain(told);
    expect(await said()).toContain(`${told}: send a token`);
    for (const message of [...(await said(user)), ...(await said())]) {
      expect(message).not.toMatch(hint);
    }
  });
});
