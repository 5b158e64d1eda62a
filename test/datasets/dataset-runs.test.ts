import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let operator: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
});
afterAll(() => server.close());

const tellRuns = (...runs: object[]) =>
  mutate(operator, 'registerRuns', { runs }, 'registeredCount');

/** A merged file with so many events of each run. */
async function fileOf(lfn: string, events: Record<number, number | null>) {
  const runs = Object.entries(events).map(([number, eventCount]) => ({
    number: Number(number),
    eventCount,
  }));
  const eventCount = Object.values(events).reduce<number>((sum, n) => sum + (n ?? 0), 0);
  const file = await newFile(lfn, { runs, eventCount });
  await register(operator, file);
  return file;
}

interface Summary {
  luminosity: number | null;
  runRange: { first: number; last: number } | null;
  runCount: number;
  eventCount: number;
  version: number;
}
const summary = async (name: string) =>
  (
    await operator.call<{ dataset: Summary }>(
      'query ($name: String!) { dataset(name: $name) { luminosity runRange { first last } runCount eventCount version } }',
      { name },
    )
  ).dataset;

const change = (
  field: 'addFilesToDataset' | 'removeFilesFromDataset',
  dataset: string,
  ...lfns: string[]
) => mutate(operator, field, { dataset, lfns }, 'changed');

test('luminosity and run range follow the files, each run once, and the luminosity that is told late', async () => {
  await tellRuns({ number: 10, luminosity: 0.1 }, { number: 20, luminosity: 0.2 }, { number: 30 });
  await fileOf('/sum/a', { 10: 5, 20: 6 });
  await fileOf('/sum/b', { 20: 7 });
  await fileOf('/sum/c', { 30: 8 });
  await mutate(operator, 'createDataset', { name: 'sum', kind: 'PR' });
  expect(await summary('sum')).toMatchObject({ luminosity: null, runRange: null, runCount: 0 });

  await change('addFilesToDataset', 'sum', '/sum/c');
  expect(await summary('sum')).toMatchObject({
    luminosity: null,
    runRange: { first: 30, last: 30 },
  });
  await change('addFilesToDataset', 'sum', '/sum/a', '/sum/b');
  const whole = await summary('sum');
  // Not 0.30000000000000004.
  expect(whole).toMatchObject({ luminosity: 0.3, runRange: { first: 10, last: 30 }, runCount: 3 });

  await change('removeFilesFromDataset', 'sum', '/sum/a');
  expect(await summary('sum')).toMatchObject({
    luminosity: 0.2,
    runRange: { first: 20, last: 30 },
  });
  await change('removeFilesFromDataset', 'sum', '/sum/b');
  expect(await summary('sum')).toMatchObject({
    luminosity: null,
    runRange: { first: 30, last: 30 },
  });

  const { version } = await summary('sum');
  await tellRuns({ number: 30, luminosity: 0.7 });
  // Nobody who holds a version has to look again.
  expect(await summary('sum')).toMatchObject({ luminosity: 0.7, version });
});

test('a closed dataset learns the luminosity of its runs, and its events of a run from the merge', async () => {
  await tellRuns({ number: 40 }, { number: 41 });
  const inputs = await Promise.all(
    [40, 41].map((number) =>
      newFile(`/late/run${number}`, {
        kind: 'RUN_FILE',
        stream: 'A',
        runs: [{ number }],
        eventCount: number,
      }),
    ),
  );
  await register(operator, ...inputs);
  const merged = await newFile('/late/merged', {
    runs: [{ number: 40 }, { number: 41 }],
    eventCount: 81,
  });
  await register(operator, merged);
  await makeDataset(operator, 'late', 'CLOSED', { files: [merged] });
  const perRun = async () =>
    (
      await operator.call<{
        datasetRuns: { nodes: { eventCount: number; luminosity: number | null }[] };
      }>('{ datasetRuns(datasets: ["late"]) { nodes { eventCount luminosity } } }')
    ).datasetRuns.nodes;
  expect(await perRun()).toEqual([
    { eventCount: 0, luminosity: null },
    { eventCount: 0, luminosity: null },
  ]);
  const lfns = inputs.map((input) => input.lfn);
  await mutate(operator, 'recordMerge', { outputLfn: '/late/merged', inputs: lfns });
  await tellRuns({ number: 41, luminosity: 1.5 });
  expect(await perRun()).toEqual([
    { eventCount: 40, luminosity: null },
    { eventCount: 41, luminosity: 1.5 },
  ]);
  expect(await summary('late')).toMatchObject({ luminosity: 1.5 });
});

test('events and luminosity run by run, of several datasets, good runs only, with sums', async () => {
  await tellRuns(
    ...[51, 52, 53].map((number) => ({
      number,
      luminosity: number / 100,
      endedAt: '2026-01-01T00:00:00Z',
    })),
  );
  const first = await fileOf('/several/a', { 51: 10, 52: 20 });
  const second = await fileOf('/several/b', { 52: 5, 53: 500 });
  await makeDataset(operator, 'several-b', 'CLOSED', { files: [second] });
  await makeDataset(operator, 'several-a', 'CLOSED', { files: [first, second] });
  await mutate(operator, 'setRunVerdict', { number: 52, verdict: 'GOOD' });
  await mutate(operator, 'setRunVerdict', { number: 53, verdict: 'BAD' });
  interface Answer {
    datasetRuns: {
      totalCount: number;
      totals: object[];
      pageInfo: { endCursor: string; hasNextPage: boolean };
      nodes: {
        dataset: { name: string };
        run: { number: number };
        eventCount: number;
        fileCount: number;
        sizeBytes: number;
      }[];
    };
  }
  const ask = async (more: string, pageSize = 50, after?: string) =>
    (
      await server.anonymous.call<Answer>(
        `query ($first: Int, $after: String) { datasetRuns(datasets: ["several-b", "several-a", "several-a"] ${more} first: $first, after: $after) {
          totalCount totals { dataset runCount eventCount luminosity } pageInfo { endCursor hasNextPage }
          nodes { dataset { name } run { number } eventCount fileCount sizeBytes } } }`,
        { first: pageSize, after },
      )
    ).datasetRuns;
  const all = await ask('');
  const lines = (answer: Answer['datasetRuns']) =>
    answer.nodes.map(({ dataset, run, eventCount, fileCount }) => [
      dataset.name,
      run.number,
      eventCount,
      fileCount,
    ]);
  expect(lines(all)).toEqual([
    ['several-a', 51, 10, 1],
    ['several-a', 52, 25, 2],
    ['several-a', 53, 500, 1],
    ['several-b', 52, 5, 1],
    ['several-b', 53, 500, 1],
  ]);
  expect(all.totalCount).toBe(5);
  expect(all.totals).toEqual([
    { dataset: 'several-a', runCount: 3, eventCount: 535, luminosity: 1.56 },
    { dataset: 'several-b', runCount: 2, eventCount: 505, luminosity: 1.05 },
  ]);

  const pages: unknown[] = [];
  for (let after: string | undefined, more = true; more;) {
    const page = await ask('', 2, after);
    pages.push(...lines(page));
    after = page.pageInfo.endCursor;
    more = page.pageInfo.hasNextPage;
  }
  expect(pages).toEqual(lines(all));

  expect(lines(await ask('goodRunsOnly: true'))).toEqual([
    ['several-a', 52, 25, 2],
    ['several-b', 52, 5, 1],
  ]);
  const many = await ask('minEvents: 25, runs: "52-60"');
  expect(lines(many).map(([name, number]) => [name, number])).toEqual([
    ['several-a', 52],
    ['several-a', 53],
    ['several-b', 53],
  ]);
  expect(many.totalCount).toBe(3);

  const runs = await operator.call<{
    dataset: { runs: { totalCount: number; nodes: { number: number }[] } };
  }>(
    '{ dataset(name: "several-a") { runs(minEvents: 20, verdict: GOOD) { totalCount nodes { number } } } }',
  );
  expect(runs.dataset.runs).toEqual({ totalCount: 1, nodes: [{ number: 52 }] });
  const of = await server.anonymous.call<{ run: { datasets: { nodes: { name: string }[] } } }>(
    '{ run(number: 52) { datasets { totalCount nodes { name } } } }',
  );
  expect(of.run.datasets).toEqual({
    totalCount: 2,
    nodes: [{ name: 'several-a' }, { name: 'several-b' }],
  });
});

test('a dataset that is missing, bad or hidden is missing from no sum: the question is refused', async () => {
  await makeDataset(operator, 'torn', 'BAD');
  await makeDataset(operator, 'unfinished', 'OPEN');
  const ask = (names: string[]) =>
    refusalOf(
      server.anonymous.call(
        'query ($names: [String!]!) { datasetRuns(datasets: $names) { totalCount } }',
        { names },
      ),
    );
  expect((await ask(['several-a', 'torn'])).code).toBe('DATASET_BAD');
  expect((await ask(['unfinished'])).code).toBe('NOT_FOUND');
  expect((await ask(['no\0name'])).code).toBe('NOT_FOUND');
  expect((await ask(Array.from({ length: 201 }, (_, at) => `d${at}`))).code).toBe('BAD_USER_INPUT');
});

test('adding to a dataset looks at what is added, and not at what is in it', async () => {
  const { database } = server;
  await tellRuns({ number: 60, luminosity: 1 });
  await database.sql(`insert into files (lfn, kind, site_id, size_bytes, adler32, event_count)
    select '/grow/' || n, 'MERGED_FILE', (select min(id) from sites), 1, '00000001', 1 from generate_series(1, 20000) n`);
  await database.sql(`insert into file_runs (file_id, run_id, event_count)
    select f.id, r.id, 1 from files f, runs r where f.lfn like '/grow/%' and r.number = 60`);
  await mutate(operator, 'createDataset', { name: 'grow', kind: 'PR' });
  const add = (from: number, to: number) =>
    database.sql(`insert into dataset_files (dataset_id, file_id)
      select (select id from datasets where name = 'grow'), id from files
      where lfn in (select '/grow/' || n from generate_series(${from}, ${to}) n)`);
  const client = await database.client();
  const touched = async (work: () => Promise<unknown>) => {
    const seen = async () => {
      await client.query('select pg_stat_clear_snapshot()');
      const { rows } = await client.query<{ n: string }>(
        `select sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) as n from pg_stat_user_tables
         where relname in ('dataset_files', 'dataset_runs')`,
      );
      return Number(rows[0]?.n);
    };
    await database.sql('select pg_stat_force_next_flush()');
    const before = await seen();
    await work();
    for (let at = 0; at < 4; at++) await database.sql('select pg_stat_force_next_flush()');
    return (await seen()) - before;
  };
  await add(1, 19_000);
  expect(await touched(() => add(19_001, 19_100))).toBeLessThan(5000);
  expect(await summary('grow')).toMatchObject({ luminosity: 1, eventCount: 19_100, runCount: 1 });
});

test('files come and go while luminosities are told and merges counted: nothing is lost', async () => {
  const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e6));
  console.log(`TEST_SEED=${seed}`);
  let state = seed;
  const random = (most: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * most);
  };
  const numbers = Array.from({ length: 12 }, (_, at) => 70 + at);
  await tellRuns(...numbers.map((number) => ({ number })));
  const files = await Promise.all(
    Array.from({ length: 24 }, (_, at) =>
      fileOf(`/race/${at}`, { [70 + random(12)]: random(100), [70 + random(12)]: random(100) }),
    ),
  );
  await mutate(operator, 'createDataset', { name: 'race-a', kind: 'PR' });
  await mutate(operator, 'createDataset', { name: 'race-b', kind: 'PR' });
  const steps = Array.from({ length: 60 }, (_, at) => {
    if (at % 5 === 0)
      return () => tellRuns({ number: 70 + ((at / 5) % 12), luminosity: random(1000) / 7 });
    const field = random(3) === 0 ? 'removeFilesFromDataset' : 'addFilesToDataset';
    const lfns = Array.from({ length: 1 + random(5) }, () => files[random(24)]?.lfn ?? '');
    const dataset = random(2) === 0 ? 'race-a' : 'race-b';
    return () => change(field, dataset, ...lfns);
  });
  // What is told twice differently is refused; the checker looks at the rest when the server closes.
  await Promise.allSettled(steps.map((step) => step()));
  expect((await summary('race-a')).runCount).toBeGreaterThan(0);
});
