import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import {
  allTold,
  backUp,
  makeDataset,
  mutate,
  newFile,
  refusalOf,
  register,
} from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let operator: TestClient;
/** Three datasets: alpha (run 1, old), beta (runs 1 and 2), gamma_x (run 3, simulation; bad). */
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  const ended = { endedAt: '2026-02-01T00:00:00Z' };
  await mutate(
    operator,
    'registerRuns',
    {
      runs: [
        {
          number: 1,
          startedAt: '2026-01-01T00:00:00Z',
          eventCount: 10,
          conditions: 'ON_PEAK',
          ...ended,
        },
        {
          number: 2,
          startedAt: '2026-01-02T00:00:00Z',
          eventCount: 20,
          conditions: 'OFF_PEAK',
          ...ended,
        },
        {
          number: 3,
          source: 'SIMULATION',
          startedAt: '2026-01-03T00:00:00Z',
          eventCount: 30,
          ...ended,
        },
        { number: 2147483647 },
      ],
    },
    'registeredCount',
  );
  const file = (lfn: string, more: Record<string, unknown>) => newFile(lfn, { ...more });
  const alpha = await file('/f/a%b/one', {
    stream: 'A',
    release: '1.0',
    runs: [{ number: 1 }],
    eventCount: 5,
  });
  const beta = await file('/f/ab/two', {
    stream: 'B',
    release: '1.0',
    runs: [{ number: 1 }, { number: 2 }],
    eventCount: 50,
  });
  const gamma = await file('/f/é\u{1F600}/three', {
    stream: 'A',
    release: '2.0',
    runs: [{ number: 3, source: 'SIMULATION' }],
    eventCount: 500,
  });
  await register(
    operator,
    alpha,
    beta,
    gamma,
    await file('/f/free', { stream: 'A', eventCount: 7 }),
  );
  await makeDataset(operator, 'alpha', 'CLOSED', { files: [alpha], stream: 'A', release: '1.0' });
  await makeDataset(operator, 'beta', 'CLOSED', { files: [beta], kind: 'SKIM', owner: 'bob' });
  await makeDataset(operator, 'gamma_x', 'BAD', { files: [gamma], kind: 'SP' });
  await makeDataset(operator, 'delta', 'OPEN', { fileCount: 0 });
  await mutate(operator, 'setRunVerdict', { number: 1, verdict: 'GOOD' });
});
afterAll(() => server.close());

async function found(
  field: string,
  filter: string,
  key: string,
  client = operator,
): Promise<string[]> {
  const data = await client.call<
    Record<string, { totalCount: number; nodes: Record<string, unknown>[] }>
  >(`{ ${field}(filter: ${filter}) { totalCount nodes { ${key} } } }`);
  const page = data[field];
  expect(page?.totalCount).toBe(page?.nodes.length);
  return (page?.nodes ?? []).map((node) => String(node[key]));
}

const future = '"2999-01-01T00:00:00Z"';
const past = '"2000-01-01T00:00:00Z"';
const three = '/f/é\u{1F600}/three';

describe('datasets', () => {
  test.each<[string, string[]]>([
    ['{ name: { glob: "*a" } }', ['alpha', 'beta']],
    ['{ name: { glob: "?eta" } }', ['beta']],
    ['{ name: { glob: "gamma_*" }, isBad: true }', ['gamma_x']],
    ['{ name: { glob: "gamma?x" }, isBad: true }', ['gamma_x']],
    ['{ name: { glob: "gammaXx" }, isBad: true }', []],
    ['{ name: { glob: "alpha" } }', ['alpha']],
    ['{ name: { glob: "" } }', []],
    ['{ name: { in: [] } }', []],
    ['{ name: { in: ["beta", "alpha", "beta", "a\\u0000"] } }', ['alpha', 'beta']],
    ['{ name: { eq: "alpha\\u0000" } }', []],
    ['{ name: { startsWith: "al", glob: "*pha" } }', ['alpha']],
    ['{ kind: [SKIM] }', ['beta']],
    ['{ kind: [] }', []],
    ['{ status: [OPEN] }', ['delta']],
    ['{ status: [] }', []],
    ['{ owner: "" }', []],
    ['{ owner: "bob" }', ['beta']],
    ['{ stream: "A", release: "1.0" }', ['alpha']],
    ['{ holdsRun: { number: 1 } }', ['alpha', 'beta']],
    ['{ holdsRun: { number: 3, source: SIMULATION }, isBad: true }', ['gamma_x']],
    ['{ holdsRun: { number: 3 } }', []],
    ['{ holdsRun: { number: 2147483647 } }', []],
    ['{ holdsRun: { number: -1 } }', []],
    ['{ runs: "2-9" }', ['beta']],
    ['{ runs: "1, 5-2147483647" }', ['alpha', 'beta']],
    ['{ minEvents: 50 }', ['beta']],
    ['{ minEvents: 9007199254740991 }', []],
    ['{ sizeBytes: { gte: 64, lt: 65 }, fileCount: { lt: 2 } }', ['alpha', 'beta']],
    ['{ sizeBytes: { lt: -5 } }', []],
    [`{ createdAt: { gte: ${past}, lt: ${future} } }`, ['alpha', 'beta']],
    [`{ closedAt: { gte: ${future} } }`, []],
    ['{ createdAt: { gte: "0001-01-01T00:00:00Z" } }', ['alpha', 'beta']],
    ['{ createdAt: { lt: "0001-01-01T00:00:00Z" } }', []],
    ['{ backupWaived: true }', []],
    ['{ backupWaived: false }', ['alpha', 'beta']],
  ])('%s', async (filter, names) => {
    expect(await found('datasets', filter, 'name')).toEqual(names);
  });
});

describe('files', () => {
  test.each<[string, string[]]>([
    ['{ lfn: { startsWith: "/f/a%" } }', ['/f/a%b/one']],
    ['{ lfn: { startsWith: "/f/é" } }', [three]],
    ['{ lfn: { startsWith: "/f/é😀" }, stream: "A" }', [three]],
    ['{ lfn: { glob: "/f/*/t*" } }', ['/f/ab/two', three]],
    ['{ lfn: { glob: "/f/a?b/one" } }', ['/f/a%b/one']],
    ['{ lfn: { glob: "/f/a%b/*" } }', ['/f/a%b/one']],
    ['{ lfn: { glob: "/f/?/nothing" } }', []],
    ['{ kind: RUN_FILE }', []],
    ['{ stream: "A" }', ['/f/a%b/one', '/f/free', three]],
    ['{ stream: "A", release: "1.0", site: "local" }', ['/f/a%b/one']],
    ['{ site: "nowhere" }', []],
    ['{ site: "a\\u0000" }', []],
    ['{ release: "2\\u0000.0" }', []],
    ['{ runs: "1-2" }', ['/f/a%b/one', '/f/ab/two']],
    ['{ runs: "1-2147483647" }', ['/f/a%b/one', '/f/ab/two', three]],
    ['{ holdsRun: { number: 2 } }', ['/f/ab/two']],
    ['{ holdsRun: { number: 3, source: SIMULATION } }', [three]],
    ['{ dataset: "beta" }', ['/f/ab/two']],
    ['{ dataset: "beta", minEvents: 51 }', []],
    ['{ dataset: "beta", lfn: { startsWith: "/f/ab" } }', ['/f/ab/two']],
    ['{ dataset: "none" }', []],
    ['{ minEvents: 500 }', [three]],
    ['{ isBackedUp: false }', ['/f/free']],
    ['{ isBackedUp: true, stream: "A" }', ['/f/a%b/one', three]],
    [`{ createdAt: { gte: ${future} } }`, []],
    [`{ createdAt: { lt: ${future} }, minEvents: 50 }`, [three, '/f/ab/two']],
  ])('%s', async (filter, names) => {
    const lfns = await found('files', filter, 'lfn');
    // Registered in one call: of the same moment, and in any order.
    expect(filter.includes('createdAt') ? lfns.toSorted() : lfns).toEqual(
      filter.includes('createdAt') ? names.toSorted() : names,
    );
  });

  test('DQM and users find what they see, and count it once', async () => {
    const dora = await server.as('dora', 'DQM');
    for (const client of [dora, server.anonymous]) {
      expect(await found('files', '{}', 'lfn', client)).toEqual([
        '/f/a%b/one',
        '/f/ab/two',
        ...(client === dora ? [three] : []),
      ]);
      expect(await found('files', '{ isBackedUp: false }', 'lfn', client)).toEqual([]);
      expect(await found('files', '{ kind: RUN_FILE }', 'lfn', client)).toEqual([]);
      expect(await found('files', '{ holdsRun: { number: 2 } }', 'lfn', client)).toEqual([
        '/f/ab/two',
      ]);
    }
  });
});

test.each<[string, string[]]>([
  ['{ numbers: "1-3" }', ['1', '2', '3']],
  ['{ numbers: "2,3", source: DATA }', ['2']],
  ['{ numbers: "2147483647", productionStatus: IN_PRODUCTION }', ['2147483647']],
  ['{ verdict: GOOD }', ['1']],
  ['{ conditions: "OFF_PEAK" }', ['2']],
  ['{ minEvents: 20 }', ['2', '3']],
  ['{ startedAt: { gte: "2026-01-02T00:00:00Z", lt: "2026-01-03T00:00:00Z" } }', ['2']],
  ['{ endedAt: { lt: "2026-02-01T00:00:00Z" } }', []],
  [`{ availableAt: { gte: ${past} }, stream: "B", minEvents: 20 }`, ['2']],
  ['{ stream: "B" }', ['1', '2']],
  ['{ inDataset: "beta" }', ['1', '2']],
  ['{ inDataset: "delta" }', []],
])('runs %s', async (filter, numbers) => {
  expect(await found('runs', filter, 'number')).toEqual(numbers);
});

test('backup records by state, time, store, file and error', async () => {
  const failed = await newFile('/f/failed');
  await register(operator, failed);
  await mutate(operator, 'requestBackup', { lfns: ['/f/failed'], direct: true }, 'requestedCount');
  await server.database
    .sql(`update backup_records set status = 'FAILED', last_error = 'full', last_error_code = 'NO_SPACE'
    where status = 'REQUESTED'`);
  const statuses = (filter: string) => found('backupRecords', filter, 'status');
  const confirmed = ['CONFIRMED', 'CONFIRMED', 'CONFIRMED'];
  expect(await statuses('{}')).toEqual([...confirmed, 'FAILED']);
  expect(await statuses('{ status: [] }')).toEqual([]);
  expect(await statuses('{ status: [FAILED, REQUESTED] }')).toEqual(['FAILED']);
  expect(await statuses(`{ status: [FAILED], updatedAt: { lt: ${future} } }`)).toEqual(['FAILED']);
  expect(await statuses(`{ status: [FAILED], updatedAt: { lt: ${past} } }`)).toEqual([]);
  expect(await statuses(`{ requestedAt: { gte: ${past} }, store: "default" }`)).toEqual([
    ...confirmed,
    'FAILED',
  ]);
  expect(await statuses('{ store: "none" }')).toEqual([]);
  expect(await statuses('{ errorCode: "NO_\\u0000SPACE" }')).toEqual([]);
  expect(await statuses('{ errorCode: "NO_SPACE" }')).toEqual(['FAILED']);
  expect(await statuses('{ errorCode: "NO_SPACE", status: [CONFIRMED] }')).toEqual([]);
  expect(await statuses('{ dataset: "beta", status: [CONFIRMED] }')).toEqual(['CONFIRMED']);
  expect(await statuses('{ lfn: { startsWith: "/f/f" } }')).toEqual(['FAILED']);
  expect(await statuses('{ lfn: { eq: "/f/failed" } }')).toEqual(['FAILED']);
});

test('the log by kind, actor and time, forwards and backwards with one kind of cursor', async () => {
  await allTold(server.database);
  interface Page {
    events: {
      totalCount: number;
      pageInfo: { hasNextPage: boolean; endCursor: string };
      nodes: { cursor: string; kind: string }[];
    };
  }
  const read = async (filter: string, orderBy: string, after?: string, first = 200) =>
    (
      await operator.call<Page>(
        `query ($after: String, $first: Int) { events(filter: ${filter}, orderBy: ${orderBy}, after: $after, first: $first) {
          totalCount pageInfo { hasNextPage endCursor } nodes { cursor kind } } }`,
        { after, first },
      )
    ).events;
  for (const filter of [
    '{}',
    '{ kind: [DATASET_STATUS, FILE_REGISTERED] }',
    '{ actor: "operator" }',
    '{ dataset: "beta", kind: [DATASET_STATUS] }',
    `{ occurredAt: { gte: ${past}, lt: ${future} }, kind: [RUN_STATUS] }`,
  ]) {
    const forwards = await read(filter, 'OLDEST_FIRST');
    const backwards = await read(filter, 'NEWEST_FIRST');
    expect(forwards.nodes.length, filter).toBeGreaterThan(2);
    expect(forwards.totalCount).toBe(forwards.nodes.length);
    expect(backwards.nodes).toEqual(forwards.nodes.toReversed());
    // Two a page, and from the middle the other way.
    const pages: string[] = [];
    for (let after: string | undefined, more = true; more;) {
      const page = await read(filter, 'NEWEST_FIRST', after, 2);
      pages.push(...page.nodes.map((node) => node.cursor));
      after = page.pageInfo.endCursor;
      more = page.pageInfo.hasNextPage;
    }
    expect(pages).toEqual(backwards.nodes.map((node) => node.cursor));
    const middle = forwards.nodes[1]?.cursor;
    expect((await read(filter, 'NEWEST_FIRST', middle)).nodes).toEqual(forwards.nodes.slice(0, 1));
  }
  expect((await read(`{ occurredAt: { gte: ${future} } }`, 'OLDEST_FIRST')).nodes).toEqual([]);
  expect((await read(`{ occurredAt: { lt: ${past} } }`, 'NEWEST_FIRST')).nodes).toEqual([]);
  expect((await read('{ kind: [] }', 'OLDEST_FIRST')).nodes).toEqual([]);
  expect((await read('{ actor: "oper\\u0000ator" }', 'OLDEST_FIRST')).nodes).toEqual([]);
  const hidden = await server.anonymous.call<Page>(
    '{ events(filter: { kind: [FILE_REGISTERED, BACKUP_STATUS] }) { totalCount nodes { kind } } }',
  );
  expect(hidden.events).toMatchObject({ totalCount: 0, nodes: [] });
});

describe('bad input is refused, and says what to do', () => {
  const millions = Array.from({ length: 1_000_000 }, (_, at) => `n${at}`);
  test.each<[string, string, Record<string, unknown>, string]>([
    [
      'a glob of LFNs that begins with anything',
      'files(filter: { lfn: { glob: "*x" } })',
      {},
      'BAD_USER_INPUT',
    ],
    [
      'a pattern that is too long',
      `datasets(filter: { name: { glob: "${'*a'.repeat(600)}" } })`,
      {},
      'BAD_USER_INPUT',
    ],
    ['a range that runs backwards', 'files(filter: { runs: "9-1" })', {}, 'BAD_USER_INPUT'],
    [
      'a range beyond all numbers',
      'datasets(filter: { runs: "1-2147483648" })',
      {},
      'BAD_USER_INPUT',
    ],
    ['an empty range', 'runs(filter: { numbers: "" })', {}, 'BAD_USER_INPUT'],
    ['too many ranges', `runs(filter: { numbers: "${'1,'.repeat(1000)}1" })`, {}, 'BAD_USER_INPUT'],
    [
      'a run beyond all numbers',
      'datasets(filter: { holdsRun: { number: 2147483648 } })',
      {},
      'BAD_USER_INPUT',
    ],
    [
      'a size that is no number',
      'files(filter: { sizeBytes: { gte: 1e300 } })',
      {},
      'BAD_USER_INPUT',
    ],
    [
      'a time without its zone',
      'files(filter: { createdAt: { gte: "2026-01-01T00:00:00" } })',
      {},
      'BAD_USER_INPUT',
    ],
    [
      'a time before the year 1, where it is UTC',
      'files(filter: { createdAt: { gte: "0001-01-01T00:00:00+23:59" } })',
      {},
      'BAD_USER_INPUT',
    ],
    [
      'a million names',
      'files(filter: { lfn: { in: $names } })',
      { names: millions },
      'BAD_USER_INPUT',
    ],
    ['a page of nothing', 'files(first: 0)', {}, 'BAD_USER_INPUT'],
    ['a page of too much', 'files(first: 1001)', {}, 'BAD_USER_INPUT'],
    ['a cursor of nothing', 'files(after: "x")', {}, 'INVALID_CURSOR'],
    [
      'runs in production by the time they left it',
      'runs(filter: { productionStatus: IN_PRODUCTION }, orderBy: AVAILABLE_AT_DESC)',
      {},
      'BAD_USER_INPUT',
    ],
  ])('%s', async (_, field, variables, code) => {
    const declared = 'names' in variables ? 'query ($names: [String!])' : 'query';
    const refused = await refusalOf(
      operator.call(`${declared} { ${field} { totalCount nodes { id } } }`, variables),
    );
    expect(refused.code).toBe(code);
  });

  test('a cursor of another order', async () => {
    const page = async (orderBy: string, after?: string) =>
      operator.call<{ datasets: { pageInfo: { endCursor: string } } }>(
        `query ($after: String) { datasets(orderBy: ${orderBy}, first: 1, after: $after) { pageInfo { endCursor } } }`,
        { after },
      );
    const { endCursor } = (await page('SIZE_DESC')).datasets.pageInfo;
    await page('SIZE_DESC', endCursor);
    for (const order of ['NAME', 'EVENTS_DESC', 'CREATED_AT_DESC']) {
      expect((await refusalOf(page(order, endCursor))).code).toBe('INVALID_CURSOR');
    }
  });

  test('what takes too long is broken off, and a change never is', async () => {
    const short = await startTestServer({
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_QUERY_SECONDS: '1',
    });
    try {
      const client = await short.database.client();
      await makeDataset(short.operator, 'locked', 'OPEN');
      await client.query('begin; lock table datasets in access exclusive mode');
      const refused = await refusalOf(
        short.operator.call('{ datasets { totalCount nodes { name } } }'),
      );
      expect(refused.code).toBe('QUERY_TOO_COMPLEX');
      const changing = mutate(short.operator, 'sweepDataset', { dataset: 'locked' });
      // Longer than a question may take; waits for the lock, not for the time.
      await client.query('select pg_sleep(1.5)');
      await client.query('commit');
      expect(await changing).toEqual({ changed: true });
    } finally {
      await short.close();
    }
  });
});

test('names are ordered byte by byte, by all lists alike', async () => {
  const files = await Promise.all(
    ['/o/Z', '/o/a', '/o/É', '/o/_', '/o/ab', '/o/A'].map((lfn) => newFile(lfn)),
  );
  await register(operator, ...files);
  await mutate(operator, 'createDataset', {
    name: 'ordered',
    kind: 'PR',
    files: files.map((file) => file.lfn),
  });
  const sorted = files
    .map((file) => file.lfn)
    .toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  expect(await found('files', '{ lfn: { startsWith: "/o/" } }', 'lfn')).toEqual(sorted);
  expect(await found('files', '{ dataset: "ordered" }', 'lfn')).toEqual(sorted);
  await backUp(operator, ...files.slice(0, 1));
});
