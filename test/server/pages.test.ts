import { afterAll, beforeAll, expect, test } from 'vitest';
import { allTold } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
const fileCount = 130;

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  const files = Array.from({ length: fileCount }, (_, at) => ({
    lfn: `/pages/${at}.root`,
    kind: 'MERGED_FILE',
    sizeBytes: 1 + at,
    adler32: '00000001',
    runs: [{ number: 1 + (at % 70), source: 'DATA' }],
  }));
  const runs = Array.from({ length: 70 }, (_, at) => ({ number: at + 1, source: 'DATA' }));
  await server.operator.call(
    'mutation ($runs: [RegisterRunInput!]!) { registerRuns(input: { runs: $runs }) { registeredCount } }',
    { runs },
  );
  await server.operator.call(
    'mutation ($files: [RegisterFileInput!]!) { registerFiles(input: { files: $files }) { registeredCount } }',
    { files },
  );
  const lfns = files.map((file) => file.lfn);
  for (let at = 0; at < 65; at++) {
    await server.operator.call(
      'mutation ($name: String!, $files: [String!]) { createDataset(input: { name: $name, kind: PR, files: $files }) { changed } }',
      { name: `pages-${at}`, files: at === 0 ? lfns : [] },
    );
  }
  await server.operator.call(
    'mutation ($lfns: [String!]!) { requestBackup(input: { lfns: $lfns, direct: true }) { requestedCount } }',
    { lfns },
  );
  await allTold(server.database);
});
afterAll(() => server.close());

interface Page {
  edges: { cursor: string; node: object }[];
  nodes: object[];
  pageInfo: {
    hasNextPage: boolean;
    hasPreviousPage: boolean;
    startCursor: string | null;
    endCursor: string | null;
  };
  totalCount: number;
}

const isPage = (found: Page | Record<string, Page>): found is Page => 'edges' in found;

/** All pages of a list, and that they fit together. */
async function readAll(
  list: (page: string) => string,
  first: number,
  fields: string,
): Promise<object[]> {
  const found: object[] = [];
  let after: string | null = null;
  let total: number | undefined;
  for (;;) {
    const page = `first: ${first}${after === null ? '' : `, after: ${JSON.stringify(after)}`}`;
    const query = `{ ${list(page)} { edges { cursor node { ${fields} } } nodes { ${fields} }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } ${list(page).includes('dataset(') ? '}' : ''} }`;
    const data: Record<string, Page | Record<string, Page>> = await server.operator.call(query);
    const outer = Object.values(data)[0]!;
    const answer = isPage(outer) ? outer : Object.values(outer)[0]!;
    expect(answer.nodes).toEqual(answer.edges.map((edge) => edge.node));
    expect(answer.pageInfo.hasPreviousPage).toBe(after !== null);
    expect(answer.pageInfo.startCursor).toBe(answer.edges[0]?.cursor ?? null);
    expect(answer.pageInfo.endCursor).toBe(answer.edges.at(-1)?.cursor ?? null);
    total ??= answer.totalCount;
    expect(answer.totalCount).toBe(total);
    found.push(...answer.nodes);
    after = answer.pageInfo.endCursor;
    if (!answer.pageInfo.hasNextPage) break;
    expect(answer.nodes).toHaveLength(first);
  }
  expect(found).toHaveLength(total ?? -1);
  expect(new Set(found.map((node) => JSON.stringify(node))).size).toBe(found.length);
  return found;
}

test.each<[string, (page: string) => string, string, number]>([
  ['files', (page) => `files(${page})`, 'lfn', fileCount],
  ['files of a dataset', (page) => `dataset(name: "pages-0") { files(${page})`, 'lfn', fileCount],
  ['runs of a dataset', (page) => `dataset(name: "pages-0") { runs(${page})`, 'number source', 70],
  ['history of a dataset', (page) => `dataset(name: "pages-0") { history(${page})`, 'cursor', 2],
  ['datasets by name', (page) => `datasets(filter: { status: [OPEN] }, ${page})`, 'name', 65],
  [
    'datasets, newest first',
    (page) => `datasets(filter: { status: [OPEN] }, orderBy: CREATED_AT_DESC, ${page})`,
    'name createdAt',
    65,
  ],
  [
    'datasets, last closed first',
    (page) => `datasets(filter: { status: [OPEN] }, orderBy: CLOSED_AT_DESC, ${page})`,
    'name',
    65,
  ],
  ['runs', (page) => `runs(filter: { productionStatus: IN_PRODUCTION }, ${page})`, 'number', 70],
  ['backup records', (page) => `backupRecords(${page})`, 'id', fileCount],
  ['events', (page) => `events(${page})`, 'cursor', 70 + fileCount + 65 + 1 + fileCount],
])('%s come page by page, each once', async (_what, list, fields, count) => {
  for (const first of [7, 64, 200]) {
    expect(await readAll(list, first, fields)).toHaveLength(count);
  }
});

test('a cursor of one order is refused by another', async () => {
  const data = await server.operator.call<{ datasets: { pageInfo: { endCursor: string } } }>(
    '{ datasets(filter: { status: [OPEN] }, first: 1) { pageInfo { endCursor } } }',
  );
  await expect(
    server.operator.call(
      'query ($after: String) { datasets(orderBy: CREATED_AT_DESC, after: $after) { nodes { name } } }',
      {
        after: data.datasets.pageInfo.endCursor,
      },
    ),
  ).rejects.toMatchObject({ code: 'INVALID_CURSOR' });
});

test('every node is found again by its id, and by no other', async () => {
  const data = await server.operator.call<{
    datasets: { nodes: { id: string; name: string }[] };
    files: { nodes: { id: string }[] };
  }>(
    '{ datasets(filter: { status: [OPEN] }, first: 1) { nodes { id name } } files(first: 1) { nodes { id } } }',
  );
  const id = data.datasets.nodes[0]?.id;
  const query = 'query ($id: ID!) { node(id: $id) { __typename id ... on Dataset { name } } }';
  expect(await server.operator.call(query, { id })).toEqual({
    node: { __typename: 'Dataset', id, name: data.datasets.nodes[0]?.name },
  });
  expect(await server.anonymous.call(query, { id })).toEqual({ node: null });
  for (const strange of [
    '',
    'x',
    Buffer.from('Token:1').toString('base64url'),
    'A'.repeat(10_000),
  ]) {
    expect(await server.operator.call(query, { id: strange })).toEqual({ node: null });
  }
});
