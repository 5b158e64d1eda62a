import { get, type IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportFiles } from '../../../src/datasets/datasets-export.queries.ts';
import { defaultLimits as limits } from '../../../src/limits.ts';
import { backUp, lastCursor, makeDataset, mutate, newFile, register } from '../../support/scene.ts';
import { startTestServer, type TestServer } from '../../support/server.ts';
import { until } from '../../support/until.ts';
import { byBytes, makeLarge } from './world.ts';

let server: TestServer;
let address: string;

beforeAll(async () => {
  server = await startTestServer();
  ({ address } = server);
});
afterAll(() => server.close());

const pathOf = (name: string, query = '') => `/export/datasets/${name}/files?format=jsonl${query}`;

interface Line {
  lfn: string;
  chunk?: number;
  events: number | null;
  runs: number[];
}

async function linesOf(name: string, query = '', client = server.operator): Promise<Line[]> {
  const response = await client.get(pathOf(name, query));
  const text = await response.text();
  expect(response.status, text.slice(0, 500)).toBe(200);
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line & { count?: number });
  expect(lines.pop()?.count).toBe(lines.length);
  return lines;
}
const namesOf = async (name: string, query?: string) =>
  (await linesOf(name, query)).map((line) => line.lfn);

describe('what is asked', () => {
  beforeAll(() => makeDataset(server.operator, 'asked', 'CLOSED'));

  test.each([
    ['format=xml', 'format'],
    ['format=txt&format=csv', 'format'],
    ['site=SLAC', 'parameter'],
    ['split=0', 'split'],
    ['split=1e3', 'split'],
    ['split=99999999999999999999', 'split'],
    ['chunk=1', 'chunk'],
    ['split=10&chunk=0', 'chunk'],
    ['format=coffea&tree=Events&split=10', 'split'],
    ['format=rdataframe', 'tree'],
    ['format=coffea&tree=', 'tree'],
    ['format=coffea&tree=a%0Ab', 'tree'],
    ['runs=5-3', 'runs'],
    ['runs=', 'runs'],
    ['goodRuns=yes', 'goodRuns'],
    ['since=yesterday', 'since'],
    ['since=2026-13-01T00:00:00Z', 'since'],
    ['asOf=2026-01-01', 'asOf'],
  ])('%s is refused by its name', async (query, field) => {
    const response = await server.anonymous.get(`/export/datasets/asked/files?${query}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field } });
  });

  test('too much of it is refused', async () => {
    for (const runs of [`${'1,'.repeat(1001)}1`, '1'.repeat(10_000)]) {
      const response = await server.anonymous.get(pathOf('asked', `&runs=${runs}`));
      expect(await response.json()).toMatchObject({
        code: 'BAD_USER_INPUT',
        facts: { field: 'runs' },
      });
    }
  });

  test('coffea names each file and its tree', async () => {
    const [file] = await makeDataset(server.operator, 'brewed', 'CLOSED');
    const response = await server.anonymous.get(
      '/export/datasets/brewed/files?format=coffea&tree=Events',
    );
    const path = `${server.folder}/home/store${file?.lfn}`;
    expect(JSON.parse(await response.text())).toEqual({
      brewed: {
        files: { [path]: { object_path: 'Events' } },
        metadata: { kind: 'PR', status: 'CLOSED', events: 10, files: 1 },
      },
    });
  });
});

describe('chunks', () => {
  const events = [5, 5, 5, 20, 0, 3, 0, 9, 1, 10];

  beforeAll(async () => {
    const files = await Promise.all(
      events.map((eventCount, i) => newFile(`/chunks/file${i}.root`, { eventCount })),
    );
    await register(server.operator, ...files);
    await makeDataset(server.operator, 'chunked', 'CLOSED', { files });
  });

  test('hold at most so many events; no file is cut', async () => {
    const chunksOf = async (query: string) =>
      (await linesOf('chunked', query)).map((line) => line.chunk);
    expect(await chunksOf('&split=10')).toEqual([1, 1, 2, 3, 4, 4, 4, 5, 5, 6]);
    expect(await chunksOf('&split=1000')).toEqual(events.map(() => 1));
    expect(await chunksOf('&split=10')).toEqual(await chunksOf('&split=10'));
  });

  test('each is a list of its own; together they are the whole', async () => {
    const parts: string[] = [];
    for (let chunk = 1; chunk <= 6; chunk++) {
      parts.push(...(await namesOf('chunked', `&split=10&chunk=${chunk}`)));
    }
    expect(parts).toEqual(await namesOf('chunked'));
    const beyond = await server.anonymous.get(
      '/export/datasets/chunked/files?format=txt&split=10&chunk=7',
    );
    expect(beyond.status).toBe(404);
    expect(beyond.headers.get('content-type')).toContain('application/json');
    expect(beyond.headers.get('etag')).toBeNull();
    expect(await beyond.json()).toMatchObject({ code: 'NOT_FOUND', facts: { chunks: 6 } });
  });

  test('stand under their numbers in tcl and txt', async () => {
    for (const format of ['tcl', 'txt']) {
      const response = await server.anonymous.get(
        `/export/datasets/chunked/files?format=${format}&split=10`,
      );
      const text = await response.text();
      const marks = text.split('\n').filter((line) => line.startsWith('# chunk '));
      expect(marks).toEqual([1, 2, 3, 4, 5, 6].map((n) => `# chunk ${n}`));
      expect(text.trimEnd().split('\n').at(-1)).toBe('# sweepbook: 10 files in 6 chunks');
    }
  });

  test('are refused where events are not counted, and it is said of how many files', async () => {
    const files = [
      await newFile('/uncounted/a.root', { eventCount: null }),
      await newFile('/uncounted/b.root'),
    ];
    await register(server.operator, ...files);
    await makeDataset(server.operator, 'uncounted', 'CLOSED', { files });
    const response = await server.anonymous.get(pathOf('uncounted', '&split=10'));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'BAD_USER_INPUT',
      facts: { field: 'split', count: 1, first: ['/uncounted/a.root'] },
    });
  });
});

test('files of good runs, of some runs, and which runs they are', async () => {
  const runs = [201, 202, 203].map((number) => ({
    number,
    source: 'DATA',
    luminosity: 1,
    endedAt: '2026-01-01T00:00:00Z',
  }));
  await mutate(server.operator, 'registerRuns', { runs }, 'results { outcome }');
  const file = (name: string, ...numbers: number[]) =>
    newFile(`/good/${name}.root`, { runs: numbers.map((number) => ({ number, source: 'DATA' })) });
  const files = [
    await file('a', 201),
    await file('b', 201, 202),
    await file('c', 203),
    await file('d'),
  ];
  await register(server.operator, ...files);
  await makeDataset(server.operator, 'good', 'CLOSED', { files, treeName: 'T' });
  await mutate(server.operator, 'setRunVerdict', { number: 202, verdict: 'GOOD' });
  await mutate(server.operator, 'setRunVerdict', { number: 203, verdict: 'BAD' });
  expect(await namesOf('good', '&goodRuns=true')).toEqual(['/good/b.root']);
  expect(await namesOf('good', '&runs=201')).toEqual(['/good/a.root', '/good/b.root']);
  expect(await namesOf('good', '&runs=201&goodRuns=true')).toEqual([]);
  expect(await namesOf('good', '&runs=201,202-2147483647')).toEqual([
    '/good/a.root',
    '/good/b.root',
    '/good/c.root',
  ]);
  expect((await linesOf('good', '&runs=202-203')).map((line) => line.runs)).toEqual([
    [201, 202],
    [203],
  ]);
  const maskOf = async (query: string) =>
    Object.keys(
      (await (
        await server.anonymous.get(`/export/datasets/good/files?format=runs${query}`)
      ).json()) as object,
    );
  expect(await maskOf('')).toEqual(['201', '202', '203']);
  expect(await maskOf('&goodRuns=true')).toEqual(['202']);
  const spec = await server.anonymous.get('/export/datasets/good/files?format=rdataframe');
  expect(await spec.json()).toMatchObject({ samples: { good: { metadata: { lumi: 3 } } } });
});

test('what was added after a marker or a time, and what was there then', async () => {
  const [a, b, c] = await Promise.all(
    ['a', 'b', 'c'].map((name) => newFile(`/moments/${name}.root`)),
  );
  if (!a || !b || !c) throw new Error('no files');
  await register(server.operator, a, b, c);
  await makeDataset(server.operator, 'moments', 'OPEN', { files: [b] });
  const first = await lastCursor(server);
  const time = new Date().toISOString();
  const add = (lfn: string) =>
    mutate(server.operator, 'addFilesToDataset', { dataset: 'moments', lfns: [lfn] });
  await add(a.lfn);
  const second = await lastCursor(server);
  await add(c.lfn);
  for (const moment of [first, time]) {
    const query = `=${encodeURIComponent(String(moment))}`;
    expect(await namesOf('moments', `&since${query}`)).toEqual([a.lfn, c.lfn]);
    expect(await namesOf('moments', `&asOf${query}`)).toEqual([b.lfn]);
  }
  expect(await namesOf('moments', `&since=${first}&asOf=${second}`)).toEqual([a.lfn]);
  expect(await namesOf('moments', `&since=${second}`)).toEqual([c.lfn]);
  const marked = await server.operator.get(pathOf('moments'));
  await marked.text();
  expect(await namesOf('moments', `&since=${marked.headers.get('x-sweepbook-marker')}`)).toEqual(
    [],
  );
});

test('a marker misses no file of a transaction that began earlier and came in later', async () => {
  const files = await Promise.all(
    ['early', 'late'].map((name) => newFile(`/overtaken/${name}.root`)),
  );
  await register(server.operator, ...files);
  await makeDataset(server.operator, 'overtaken', 'OPEN', { files: [] });
  const insert = (lfn: string) =>
    `insert into dataset_files (dataset_id, file_id) select d.id, f.id from datasets d, files f
     where d.name = 'overtaken' and f.lfn = '${lfn}'`;
  const [older, younger] = [await server.database.client(), await server.database.client()];
  await older.query('begin');
  await older.query('select pg_current_xact_id()');
  await younger.query(insert('/overtaken/early.root'));
  const event = await server.database.sql<{ xid: string; id: string }>(
    `select e.xid::text, e.id::text from events e join datasets d on d.id = e.dataset_id
     where d.name = 'overtaken' and e.kind = 'DATASET_FILES_ADDED' order by e.xid desc, e.id desc limit 1`,
  );
  await older.query(insert('/overtaken/late.root'));
  await older.query('commit');
  // The place of the younger one, as its reader has it.
  const { writePlace, readEpoch } = await import('../../../src/events/events.queries.ts');
  const cursor = writePlace(await readEpoch(server.database.db), {
    xid: event[0]?.xid ?? '',
    id: Number(event[0]?.id),
  });
  expect(await namesOf('overtaken', `&since=${cursor}`)).toEqual(['/overtaken/late.root']);
  expect(await namesOf('overtaken', `&asOf=${cursor}`)).toEqual(['/overtaken/early.root']);
});

test('a union of datasets: by name, each file once, whatever the lists look like', async () => {
  const { database } = server;
  const sql = database.sql.bind(database);
  await sql(`insert into files (lfn, kind, site_id, size_bytes, adler32)
    select format('/union/%s', lpad(n::text, 5, '0')), 'MERGED_FILE', (select min(id) from sites), 1, '00000001'
    from generate_series(0, 2999) n`);
  await sql(
    `insert into datasets (name, kind, owner) select 'union-' || n, 'PR', 'x' from generate_series(0, 39) n`,
  );
  const ids = (
    await sql<{ id: string }>(`select id from datasets where name like 'union-%' order by id`)
  ).map((row) => Number(row.id));
  // Some lists lie side by side, some are interleaved, some share files; two are empty.
  await sql(`insert into dataset_files (dataset_id, file_id)
    select d.id, f.id from datasets d, lateral (select split_part(d.name, '-', 2)::int as k) x, files f, lateral (
      select substr(f.lfn, 8)::int as n) y
    where d.name like 'union-%' and f.lfn like '/union/%' and case
      when k < 10 then n / 300 = k
      when k < 30 then n % 20 = k - 10
      when k < 38 then n % 7 = 0 and n > 1000 else false end`);
  const members = await sql<{ id: string; lfn: string }>(
    'select d.dataset_id as id, f.lfn from dataset_files d join files f on f.id = d.file_id where d.dataset_id = any ($1)',
    [ids],
  );
  const of = new Map(
    ids.map((id) => [id, members.filter((row) => Number(row.id) === id).map((row) => row.lfn)]),
  );
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 40 }), async (chosen) => {
      const found: string[] = [];
      const content = { filter: { goodRuns: false }, detail: 'none', defaultStoreId: 1 } as const;
      for await (const page of exportFiles(database.db, chosen, content))
        found.push(...page.map((row) => row.lfn));
      expect(found).toEqual(
        [...new Set(chosen.flatMap((id) => of.get(id) ?? []))].toSorted(byBytes),
      );
    }),
    { numRuns: Number(process.env['MODEL_RUNS'] ?? 15) },
  );
});

describe('a large list', () => {
  beforeAll(() => makeLarge(server, 'large', 60_000));

  /** Takes the head and the first bytes, and then nothing. */
  const stalled = async (token?: string) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      get(
        `${address}${pathOf('large')}`,
        { headers, agent: false, highWaterMark: 1 } as object,
        (response) => {
          response.once('readable', () => resolve(response));
        },
      ).on('error', reject);
    });
  const restOf = async (response: IncomingMessage) => {
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += String(part);
    return text;
  };

  test('comes whole', async () => {
    expect(await linesOf('large')).toHaveLength(60_000);
  });

  test('holds no transaction while its reader is slow', async () => {
    const response = await stalled();
    await until('the server waits for the reader', async () => {
      const [row] = await server.database.sql<{
        n: string;
      }>(`select count(*) as n from pg_stat_activity
        where datname = current_database() and application_name = 'sweepbook' and xact_start is not null`);
      return Number(row?.n) === 0;
    });
    response.destroy();
  });

  test('ends in the middle when its dataset turns bad, for who may not see it any more', async () => {
    const response = await stalled();
    await mutate(server.operator, 'markDatasetBad', {
      dataset: 'large',
      reason: 'the disk is gone',
    });
    await expect(restOf(response)).rejects.toThrow(/aborted/);
    await mutate(server.operator, 'clearDatasetBad', { dataset: 'large', reason: 'it was not' });
  });

  test('is refused to whom reads too many at once', async () => {
    const token = await server.tokenOf('greedy', 'USER');
    const open = await Promise.all(Array.from({ length: limits.exports }, () => stalled(token)));
    const one = await fetch(`${address}${pathOf('large')}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(one.status).toBe(429);
    expect(one.headers.get('retry-after')).toBe('5');
    expect(await one.json()).toMatchObject({
      code: 'RATE_LIMITED',
      facts: { most: limits.exports },
    });
    const other = await server.anonymous.get(pathOf('large'));
    expect(other.status).toBe(200);
    await other.body?.cancel();
    for (const response of open) response.destroy();
    await until('the places are free again', async () => {
      const again = await fetch(`${address}${pathOf('large')}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      await again.body?.cancel();
      return again.status === 200;
    });
  });
});

test('a path with a line break never comes in: not by the API, not by SQL', async () => {
  const { description } = await newFile('/lines/a.root', { path: '/data/two\nlines.root' });
  const answer = await mutate<{ results: { error: { code: string } }[] }>(
    server.operator,
    'registerFiles',
    { files: [description] },
    'results { error { code message } }',
  );
  expect(answer.results[0]?.error.code).toBe('BAD_USER_INPUT');
  const file = await newFile('/lines/b.root');
  await register(server.operator, file);
  await backUp(server.operator, file);
  await expect(
    server.database.sql(`insert into volumes (site_id, name) select min(id), 'v' from sites;
      insert into replicas (file_id, volume_id, path) select min(f.id), min(v.id), E'/a\nb' from files f, volumes v`),
  ).rejects.toThrow(/replicas_path_is_one_line/);
});
