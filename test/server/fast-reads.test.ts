import { join } from 'node:path';
import * as fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { diceOf, randomQuery, type Values } from '../support/random-query.ts';
import { backUp, makeDataset, mutate, newFile, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let fast: TestServer;
let plain: RunningSweepbook;
let viewers: Record<string, string | undefined>;

const hostile = [
  `/odd/quote".root`,
  `/odd/back\\slash'.root`,
  '/odd/ ünï çødé 🎉.root',
  '/odd/<b>&amp;%2F.root',
  '/odd/%_?*.root',
];

beforeAll(async () => {
  fast = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  plain = await openSweepbook(
    readConfig({
      SWEEPBOOK_HOME: join(fast.folder, 'plain'),
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: fast.database.url,
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_FAST_READS: 'false',
    }),
    pino({ level: 'silent' }),
  );
  viewers = {
    anonymous: undefined,
    otto: await fast.tokenOf('otto', 'USER'),
    dora: await fast.tokenOf('dora', 'DQM'),
    paul: await fast.tokenOf('paul', 'PRODUCER'),
    olga: await fast.tokenOf('olga', 'OPERATOR'),
  };
  await makeScene(fast);
}, 120_000);
afterAll(async () => {
  await plain.close();
  await fast.close();
});

async function makeScene({ operator }: TestServer): Promise<void> {
  await mutate(
    operator,
    'registerRuns',
    {
      runs: [
        {
          number: 1,
          startedAt: '2026-01-01T00:00:00.001Z',
          endedAt: '2026-01-01T01:00:00.999Z',
          luminosity: 0.1,
          eventCount: 20,
        },
        {
          number: 2,
          endedAt: '0001-01-01T00:00:00Z',
          luminosity: 1e21,
          expectedStreams: ['a"b', 'ü'],
        },
        {
          number: 3,
          startedAt: '9999-12-31T23:59:59.999Z',
          conditions: 'quote " and back\\slash',
        },
        { number: 4, source: 'SIMULATION', luminosity: 5e-324, eventCount: 9007199254740991 },
      ],
    },
    'registeredCount',
  );
  const runs = [{ number: 1 }, { number: 2 }];
  const odd = await Promise.all(hostile.map((lfn) => newFile(lfn, { runs, path: `/disk${lfn}` })));
  await register(operator, ...odd);
  await makeDataset(operator, 'closed', 'CLOSED', {
    files: odd,
    description: 'a\nb "c" \u0001 \\',
  });
  await makeDataset(operator, 'bad', 'BAD', { owner: 'otto' });
  await makeDataset(operator, 'open-of-otto', 'OPEN', {
    owner: 'otto',
    fileCount: 3,
    kind: 'USER',
  });
  await makeDataset(operator, 'backed', 'BACKED_UP', { owner: 'paul', stream: 'AllEvents' });
  await makeDataset(operator, 'second', 'CLOSED', { files: odd.slice(1, 3), kind: 'SKIM' });
  const inputs = await Promise.all(
    [1, 3].map((number) =>
      newFile(`/run/${number}.root`, { kind: 'RUN_FILE', stream: 's', runs: [{ number }] }),
    ),
  );
  const output = await newFile('/merged/13.root', {
    eventCount: 20,
    runs: [{ number: 1 }, { number: 3 }],
  });
  await register(operator, ...inputs, output);
  await mutate(operator, 'recordMerge', {
    outputLfn: output.lfn,
    inputs: inputs.map(({ lfn }) => lfn),
  });
  await mutate(operator, 'requestBackup', { lfns: [inputs[0]?.lfn] }, 'requestedCount');
  await backUp(operator, output);
  await makeDataset(operator, 'merged', 'OPEN', { files: [output] });
  await mutate(operator, 'setRunVerdict', { number: 1, verdict: 'GOOD', comment: 'so "far"' });
  await mutate(operator, 'setRunVerdict', { number: 1, verdict: 'BAD' });
  await mutate(operator, 'createContainer', { name: 'closed', datasets: ['closed', 'second'] });
}

/** More than two pages of the largest size. */
const many = 2300;

async function makeMany({ operator }: TestServer): Promise<void> {
  const files = await Promise.all(
    Array.from({ length: many }, (_, at) => newFile(`/many/${String(at).padStart(4, '0')}.root`)),
  );
  await register(operator, ...files);
  await makeDataset(operator, 'many', 'OPEN', { files, owner: 'otto' });
  const lfns = files.map(({ lfn }) => lfn);
  await mutate(operator, 'requestBackup', { lfns, direct: true }, 'requestedCount');
  await backUp(operator, ...files.slice(1000, 1003));
}

interface Answer {
  readonly status: number;
  readonly contentType: string | null;
  readonly cacheControl: string | null;
  readonly text: string;
  readonly isFast: boolean;
}

async function ask(
  address: string,
  token: string | undefined,
  body: object,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${address}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: JSON.stringify(body),
  });
  return {
    status: response.status,
    contentType: response.headers.get('content-type'),
    cacheControl: response.headers.get('cache-control'),
    // Parsed and written again: the same values, in the same order.
    text: JSON.stringify(JSON.parse(await response.text())),
    isFast: response.headers.has('server-timing'),
  };
}

/** Asks both, and says whether the fast road answered. */
async function same(
  token: string | undefined,
  body: object,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [here, there] = await Promise.all([
    ask(fast.address, token, body, headers),
    ask(plain.address, token, body, headers),
  ]);
  expect(there.isFast).toBe(false);
  expect({ ...here, isFast: false }).toEqual(there);
  return here;
}

/** Without places in the log: where it ends now moves on with whatever any server does. */
const settled = (text: string) =>
  text.replaceAll(/"[\w+/=-]{24,}"/g, (cursor) =>
    Buffer.from(cursor.slice(1, -1), 'base64').toString().includes('["events"')
      ? '"a place in the log"'
      : cursor,
  );

/**
 * Of several refusals in one query the resolvers report those that came first, which is another one each time. A query
 * that is refused is never answered by the fast road.
 */
async function sameOrRefused(
  token: string | undefined,
  body: object,
): Promise<'fast' | 'plain' | 'refused'> {
  const [here, there] = await Promise.all([
    ask(fast.address, token, body),
    ask(plain.address, token, body),
  ]);
  if (there.text.startsWith('{"errors"')) {
    expect([here.isFast, here.text.startsWith('{"errors"'), body]).toEqual([false, true, body]);
    return 'refused';
  }
  expect({ ...here, isFast: false, text: settled(here.text) }).toEqual({
    ...there,
    text: settled(there.text),
  });
  return here.isFast ? 'fast' : 'plain';
}

const cursors: string[] = [];

const values: Values = {
  name: ['closed', 'bad', 'open-of-otto', 'backed', 'second', 'merged', 'none', 'NUL \0', ''],
  lfn: [...hostile, '/merged/13.root', '/run/1.root', '/scene/open-of-otto/file000.root', '/none'],
  number: [1, 2, 3, 4, 99],
  source: ['DATA', 'SIMULATION', null],
  first: [1, 2, 3, 7, 50, 200, null, 5, 0, 1001],
  orderBy: ['NAME', 'CREATED_AT_DESC', 'CLOSED_AT_DESC'],
  verdict: ['GOOD', null],
  minEvents: [0, 10, null],
  format: ['TXT', 'JSONL'],
  id: ['UnVuOjE', 'nonsense'],
};

const filters: Record<string, readonly object[]> = {
  datasets: [
    {},
    { kind: ['PR'] },
    { status: ['OPEN', 'CLOSED'] },
    { isBad: true },
    { owner: 'otto' },
    { name: { glob: '*e*' } },
  ],
  files: [
    {},
    { lfn: { startsWith: '/odd/' } },
    { lfn: { glob: '/odd/%_?*.root' } },
    { kind: 'RUN_FILE' },
    { isBackedUp: true },
  ],
  runs: [
    {},
    { numbers: '1-2' },
    { numbers: 'x' },
    { productionStatus: 'IN_PRODUCTION' },
    { source: 'DATA' },
  ],
  backupRecords: [
    {},
    { status: ['CONFIRMED', 'REQUESTED'] },
    { store: 'default' },
    { dataset: 'merged' },
    { lfn: { startsWith: '/run/' } },
    { updatedAt: { gte: '2020-01-01T00:00:00Z' } },
  ],
  containers: [{}, { owner: 'operator' }, { holdsDataset: 'closed' }],
};

describe('the two roads answer alike', () => {
  test('random queries, by everybody', async () => {
    await collectCursors();
    const counts = { fast: 0, plain: 0, refused: 0 };
    const seed = Number(process.env['MODEL_SEED'] ?? Date.now() % 1_000_000);
    console.log(`fast reads: MODEL_SEED=${seed}`);
    await fc.assert(
      fc.asyncProperty(fc.gen(), async (g) => {
        const dice = diceOf(g);
        const root = dice.one([
          'dataset',
          'datasets',
          'file',
          'files',
          'run',
          'runs',
          'backupRecords',
          'container',
          'containers',
        ]);
        const roots = dice.chance(90) ? [root] : [root, 'viewer'];
        const random = randomQuery(dice, roots, {
          ...values,
          // Nested lists take no filter of another kind: those are refused on both roads.
          filter: filters[root] ?? filters['files'] ?? [],
          after: [...cursors, 'garbage', '', null],
        });
        const token = viewers[dice.one(Object.keys(viewers))];
        for (let time = 0; time < 3; time++) {
          const body = { query: random.query, variables: random.variables() };
          counts[await sameOrRefused(token, body)]++;
        }
      }),
      { seed, numRuns: Number(process.env['MODEL_RUNS'] ?? 150), endOnFailure: true },
    );
    const share = counts.fast / (counts.fast + counts.plain);
    console.log(
      `fast reads: ${JSON.stringify(counts)}, ${Math.round(share * 100)} % by the fast road`,
    );
    // Questions with much that has no read model come in streaks.
    expect(share).toBeGreaterThan(0.4);
  });

  test('what stands twice in a question is answered twice alike, and not twice as long', async () => {
    const query = `{ runs(first: 5) { nodes { a: verdicts { to } b: verdicts { to } } }
      again: runs(first: 5) { nodes { verdicts { to } } } }`;
    const { text } = await same(viewers['olga'], { query });
    type Told = { verdicts: unknown[]; a: unknown[]; b: unknown[] };
    const { data } = JSON.parse(text) as { data: Record<'runs' | 'again', { nodes: Told[] }> };
    const once = data.again.nodes.map((run) => run.verdicts.length);
    expect(once.some((count) => count > 0)).toBe(true);
    expect(data.runs.nodes.map((run) => run.a.length)).toEqual(once);
    expect(data.runs.nodes.map((run) => run.b.length)).toEqual(once);
  });

  test('what is asked all day goes by the fast road', async () => {
    const queries: [string, Record<string, unknown>][] = [
      [
        'query ($name: String!) { dataset(name: $name) { name kind status owner fileCount sizeBytes eventCount closedAt } }',
        { name: 'closed' },
      ],
      [
        'query ($name: String!, $first: Int!) { dataset(name: $name) { files(first: $first) { nodes { lfn sizeBytes backups { status storeKey } } pageInfo { hasNextPage endCursor } } } }',
        { name: 'closed', first: 2 },
      ],
      [
        'query ($kind: [DatasetKind!]) { datasets(filter: { kind: $kind, status: [CLOSED] }, first: 50) { totalCount nodes { name } edges { cursor } } }',
        { kind: ['PR', 'SKIM'] },
      ],
      [
        '{ dataset(name: "closed") { files { nodes { lfn accessUrl runs { nodes { number luminosity } } datasets { nodes { name } } } } } }',
        {},
      ],
      [
        '{ runs { nodes { id number startedAt endedAt luminosity verdictAt } } files(first: 3) { nodes { id lfn } } }',
        {},
      ],
    ];
    for (const [query, variables] of queries) {
      // The first time a mass store is looked up by a resolver.
      await same(undefined, { query, variables });
      for (const token of Object.values(viewers)) {
        const { isFast, text } = await same(token, { query, variables });
        expect({ query, isFast, isAnswer: !text.includes('"errors"') }).toEqual({
          query,
          isFast: true,
          isAnswer: true,
        });
      }
    }
  });

  test('pages through a list by its own cursors', async () => {
    const query = `query ($after: String) { dataset(name: "closed") {
      files(first: 2, after: $after) { nodes { lfn } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }`;
    const seen: string[] = [];
    for (let after: string | null = null; ;) {
      const { text, isFast } = await same(undefined, { query, variables: { after } });
      expect(isFast).toBe(true);
      const { files } = JSON.parse(text).data.dataset;
      seen.push(...files.nodes.map((node: { lfn: string }) => node.lfn));
      if (!files.pageInfo.hasNextPage) break;
      after = files.pageInfo.endCursor;
    }
    expect(seen).toHaveLength(hostile.length);
    expect(new Set(seen)).toEqual(new Set(hostile));
  });

  test('limits, refusals and forms of the request', async () => {
    const nested =
      'query ($n: Int, $m: Int) { datasets(first: $n) { nodes { files(first: $m) { nodes { lfn } } } } }';
    await same(undefined, { query: nested, variables: { n: 1, m: 1 } });
    const tooMuch = await same(undefined, { query: nested, variables: { n: 200, m: 1000 } });
    expect(tooMuch.text).toContain('QUERY_TOO_COMPLEX');
    expect(tooMuch.status).toBe(400);
    const bad = await same(undefined, { query: '{ dataset(name: "bad") { name } }' });
    expect(bad.text).toContain('DATASET_BAD');
    const dataset = 'query A { dataset(name: "closed") { name } } query B { runs { totalCount } }';
    const bodies = [
      { query: dataset, operationName: 'A' },
      { query: dataset, operationName: 'B', variables: null },
      { query: dataset, operationName: 'C' },
      { query: dataset },
      { query: dataset, operationName: 7 },
      { query: '{ dataset(name: "closed") { name } }', variables: [] },
      { query: '{ dataset(name: "closed") { name } }', extensions: {} },
      { query: '{ dataset(name: "closed") { name } }', variables: { unknown: 1 } },
      { query: 'query ($n: String!) { dataset(name: $n) { name } }', variables: { n: 7 } },
      { query: 'query ($n: String!) { dataset(name: $n) { name } }' },
      { query: '{ datasets { nodes { name } totalCount } __schema { queryType { name } } }' },
      { query: '{ dataset(name: "closed") { nonsense } }' },
    ];
    for (const body of bodies) await same(undefined, body);
  });

  test.each([
    '*/*',
    'application/json',
    'application/json, */*',
    'application/json, text/plain, */*',
    'application/graphql-response+json',
    'application/graphql-response+json, application/json',
    'application/graphql-response+json,application/json',
    'application/graphql-response+json; charset=utf-8, application/json; charset=utf-8',
    'application/json;q=0.5, application/graphql-response+json',
    'text/html',
  ])('to who accepts %s', async (accept) => {
    await same(undefined, { query: '{ dataset(name: "closed") { name } }' }, { accept });
  });
});

describe('page by page, as large as they may be', () => {
  beforeAll(() => makeMany(fast));

  test.each([
    { of: 'a dataset', first: 100, list: 'list: dataset(name: "many") { files(PAGE) NODES }' },
    { of: 'a dataset', first: 1000, list: 'list: dataset(name: "many") { files(PAGE) NODES }' },
    { of: 'all by name', first: 1000, list: 'list: files(PAGE) NODES' },
    { of: 'the newest', first: 1000, list: 'list: files(orderBy: CREATED_AT_DESC, PAGE) NODES' },
    {
      of: 'a directory',
      first: 100,
      list: 'list: files(filter: { lfn: { startsWith: "/many/1" } }, PAGE) NODES',
      size: 1000,
    },
  ])('each page of $of, $first a page', async ({ first, list: text, size = many }) => {
    const nodes = `{ totalCount edges { cursor } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      nodes { lfn sizeBytes adler32 eventCount createdAt isBackedUp accessUrl backups { status storeKey confirmedAt } } }`;
    const list = text.replace('PAGE', 'first: $first, after: $after').replace('NODES', nodes);
    const query = `query ($first: Int!, $after: String) { ${list} }`;
    for (const [token, backups] of [
      [viewers['otto'], 3],
      [viewers['olga'], undefined],
    ] as const) {
      const seen: string[] = [];
      let records = 0;
      for (let after: string | null = null; ;) {
        const answer = await same(token, { query, variables: { first, after } });
        expect(answer.isFast).toBe(true);
        const found = JSON.parse(answer.text).data.list;
        const page = 'files' in found ? found.files : found;
        for (const node of page.nodes) {
          if (!node.lfn.startsWith('/many/')) continue;
          seen.push(node.lfn);
          records += node.backups.length;
        }
        if (!page.pageInfo.hasNextPage) break;
        expect(page.nodes).toHaveLength(first);
        after = page.pageInfo.endCursor;
      }
      expect([new Set(seen).size, seen.length, records]).toEqual([size, size, backups ?? size]);
    }
  });
});

/** Cursors of each list, so that some fit where they are used. */
async function collectCursors(): Promise<void> {
  for (const query of [
    '{ list: datasets(first: 1) { edges { cursor } } }',
    '{ list: datasets(first: 1, orderBy: CREATED_AT_DESC) { edges { cursor } } }',
    '{ list: datasets(first: 1, orderBy: CLOSED_AT_DESC) { edges { cursor } } }',
    '{ list: files(first: 3) { edges { cursor } } }',
    '{ list: runs(first: 1) { edges { cursor } } }',
    '{ list: backupRecords(first: 1) { edges { cursor } } }',
    '{ list: containers(first: 1) { edges { cursor } } }',
  ]) {
    const { text } = await ask(plain.address, viewers['olga'], { query });
    const { list } = JSON.parse(text).data;
    cursors.push(...list.edges.map((edge: { cursor: string }) => edge.cursor));
  }
}
