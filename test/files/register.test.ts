import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let producer: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  producer = await server.as('production', 'PRODUCER');
  await mutate(
    producer,
    'registerRuns',
    { runs: [{ number: 1 }, { number: 1, source: 'SIMULATION' }] },
    'registeredCount',
  );
});
afterAll(() => server.close());

interface Item {
  readonly index: number;
  readonly lfn: string;
  readonly outcome: string;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly file?: { readonly lfn: string } | null;
}
interface Answer {
  readonly registeredCount: number;
  readonly existingCount: number;
  readonly refusedCount: number;
  readonly results: Item[];
}
const registerFiles = (files: object[], more: object = {}, client = producer) =>
  mutate<Answer>(
    client,
    'registerFiles',
    { files, ...more },
    'registeredCount existingCount refusedCount results { index lfn outcome error { code message } file { lfn } }',
  );

const file = (lfn: string, more: object = {}) => ({
  lfn,
  kind: 'MERGED_FILE',
  sizeBytes: 5,
  adler32: '0000002a',
  ...more,
});

const name = (at: number) => `/bulk/${String(at).padStart(5, '0')}.root`;

test('10,000 files in one call: each gets its answer, and the bad ones hinder nobody', async () => {
  const known = Array.from({ length: 100 }, (_, at) => file(name(100 * at)));
  expect(await registerFiles(known)).toMatchObject({ registeredCount: 100 });
  const expected: string[] = [];
  const files = Array.from({ length: 10_000 }, (_, at) => {
    const lfn = name(at);
    if (at % 200 === 0) {
      expected.push('EXISTING');
      return file(lfn);
    }
    if (at % 100 === 0) {
      expected.push('DUPLICATE');
      return file(lfn, { sizeBytes: 6 });
    }
    if (at % 50 === 1) {
      expected.push('BAD_USER_INPUT');
      return file(lfn, { adler32: 'xyz' });
    }
    if (at % 50 === 2) {
      expected.push('NOT_FOUND');
      return file(lfn, { runs: [{ number: 99 }] });
    }
    if (at % 50 === 4) {
      expected.push('DUPLICATE');
      return file(name(at - 1));
    }
    expected.push('REGISTERED');
    return file(lfn);
  });
  const answer = await registerFiles(files);
  expect(answer.results.map((item) => item.error?.code ?? item.outcome)).toEqual(expected);
  expect(answer.results.map((item) => item.index)).toEqual(files.map((_, at) => at));
  expect(answer.results.map((item) => item.lfn)).toEqual(files.map((item) => item.lfn));
  const counted = Object.groupBy(expected, (outcome) => outcome);
  expect(answer).toMatchObject({
    registeredCount: counted['REGISTERED']?.length,
    existingCount: 50,
    refusedCount: 10_000 - 50 - (counted['REGISTERED']?.length ?? 0),
  });
  for (const item of answer.results)
    expect(item.file?.lfn, item.lfn).toBe(item.error ? undefined : item.lfn);
  const [row] = await server.database.sql<{ files: string; events: string }>(
    `select (select count(*) from files) as files,
      (select count(*) from events where kind = 'FILE_REGISTERED') as events`,
  );
  const total = String(100 + (counted['REGISTERED']?.length ?? 0));
  expect(row).toEqual({ files: total, events: total });
  const again = await registerFiles(files);
  expect(again).toMatchObject({ registeredCount: 0, existingCount: answer.registeredCount + 50 });
});

test('10,001 files in one call are refused as a whole', async () => {
  const files = Array.from({ length: 10_001 }, (_, at) => file(`/too-many/${at}`));
  expect(await refusalOf(registerFiles(files))).toMatchObject({
    code: 'BAD_USER_INPUT',
    message: expect.stringContaining('at most 10000 files in one call'),
    facts: { field: 'files', value: '10001' },
  });
  const { files: found } = await producer.call<{ files: { totalCount: number } }>(
    '{ files(filter: { lfn: { startsWith: "/too-many/" } }) { totalCount } }',
  );
  expect(found.totalCount).toBe(0);
  expect(await registerFiles([])).toEqual({
    registeredCount: 0,
    existingCount: 0,
    refusedCount: 0,
    results: [],
  });
});

const long = (length: number) => 'x'.repeat(length);
/** What is wrong, and what of field, value and way out its message must say. */
const wrong: [what: string, item: object, ...says: string[]][] = [
  ['a relative name', file('store/a'), 'lfn "store/a"', 'must start with "/"'],
  ['no name', file(''), 'lfn ""', 'must start with "/"'],
  ['a way out of the root', file('/a/../../etc/passwd'), 'lfn', 'no "." or ".." segment'],
  ['an empty segment', file('/a//b'), 'no empty segment'],
  ['a slash at the end', file('/a/'), 'no empty segment'],
  ['a hidden first segment', file('/.incoming/b1.a1'), 'must not start with "."'],
  ['a line break', file('/a\nb'), 'lfn "/a\\nb"', 'no line breaks'],
  ['a NUL', file('/a\0b'), 'no line breaks or control characters'],
  ['a line separator', file('/a\u2028b'), 'no line breaks'],
  ['half a character', file('/a\ud800b'), 'well-formed Unicode'],
  ['a segment of 256 bytes', file(`/${long(256)}`), 'at most 255 bytes'],
  [
    '1,025 bytes',
    file(`/${Array.from({ length: 5 }, () => long(204)).join('/')}x`),
    'at most 1024 bytes',
  ],
  ['an empty file', file('/w/1', { sizeBytes: 0 }), 'sizeBytes 0', 'do not register it'],
  ['a negative size', file('/w/2', { sizeBytes: -1 }), 'sizeBytes -1'],
  ['a short checksum', file('/w/3', { adler32: '2a' }), 'adler32 "2a"', '8 hexadecimal digits'],
  ['a wrong sha256', file('/w/4', { sha256: 'ff' }), 'sha256 "ff"', '64 hexadecimal digits'],
  ['a negative count', file('/w/5', { eventCount: -1 }), 'eventCount -1', 'from 0'],
  [
    'a run file of no run',
    file('/w/6', { kind: 'RUN_FILE', stream: 'A' }),
    'runs 0',
    'exactly one run',
  ],
  [
    'a run file of no stream',
    file('/w/7', { kind: 'RUN_FILE', runs: [{ number: 1 }] }),
    'names its stream',
  ],
  [
    'a run file of two runs',
    file('/w/8', {
      kind: 'RUN_FILE',
      stream: 'A',
      runs: [{ number: 1 }, { number: 1, source: 'SIMULATION' }],
    }),
    'runs 2',
  ],
  ['a relative path', file('/w/9', { path: 'a.root' }), 'path "a.root"', 'absolute'],
  ['a path with a NUL', file('/w/10', { path: '/a\0' }), 'path'],
  ['an empty stream', file('/w/11', { stream: '' }), 'stream ""', '1 to 200'],
  ['a release of two lines', file('/w/12', { release: 'a\nb' }), 'release "a\\nb"'],
  ['an unknown run', file('/w/13', { runs: [{ number: 77 }] }), 'no run 77 (DATA)', 'registerRuns'],
  [
    'a run number below all',
    file('/w/14', { runs: [{ number: -2147483648 }] }),
    'no run -2147483648',
  ],
  ['an unknown site', file('/w/15', { site: 'MARS' }), 'site MARS is not known here'],
  ['a site with a NUL', file('/w/16', { site: 'a\0' }), ''],
];

test.each(wrong)('%s is refused in words that say what to do', async (_what, item, ...says) => {
  const answer = await registerFiles([
    item,
    file(`/beside/${wrong.findIndex(([, other]) => other === item)}`),
  ]);
  expect(answer.results[1]?.outcome).toBe('REGISTERED');
  expect(answer.results[0]).toMatchObject({ outcome: 'REFUSED', file: null });
  for (const words of says) expect(answer.results[0]?.error?.message).toContain(words);
});

test('odd names that are no harm are taken as they are', async () => {
  const names = [
    '/a b/c d.root',
    '/quote\'"`$x/;rm -rf',
    '/-rf',
    '/ä/日本/🙂.root',
    `/${long(255)}`,
    '/a/.hidden',
    '/100%_\\',
    '/a/..b/c..',
    '/a/...',
  ];
  const answer = await registerFiles(names.map((lfn) => file(lfn)));
  expect(answer.results.map((item) => item.error?.message ?? item.file?.lfn)).toEqual(names);
  for (const lfn of names) {
    const found = await producer.call<{
      file: { lfn: string };
      files: { nodes: { lfn: string }[] };
    }>(
      'query ($lfn: String!) { file(lfn: $lfn) { lfn } files(filter: { lfn: { startsWith: $lfn } }) { nodes { lfn } } }',
      { lfn },
    );
    expect(found).toEqual({ file: { lfn }, files: { nodes: [{ lfn }] } });
  }
});

test('what is registered again must be the same; what was not told before is not held against it', async () => {
  const sha256 = 'AB'.repeat(32);
  await registerFiles([file('/again', { sha256, eventCount: 3 })]);
  expect((await registerFiles([file('/again', { adler32: '0000002A' })])).existingCount).toBe(1);
  expect(
    (await registerFiles([file('/again', { sha256: sha256.toLowerCase(), eventCount: 3 })]))
      .existingCount,
  ).toBe(1);
  for (const [field, value] of [
    ['sizeBytes', 6],
    ['adler32', '0000002b'],
    ['sha256', 'cd'.repeat(32)],
    ['eventCount', 4],
  ] as const) {
    const [item] = (await registerFiles([file('/again', { [field]: value })])).results;
    expect(item).toMatchObject({
      outcome: 'REFUSED',
      error: {
        code: 'DUPLICATE',
        message: expect.stringMatching(
          new RegExp(`registered with ${field} .*register other content under another LFN`),
        ),
      },
    });
  }
});

test('numbers that JSON cannot hold are refused before anything is written', async () => {
  for (const sizeBytes of [2 ** 53, 1.5, '5', true]) {
    expect(await refusalOf(registerFiles([file('/number', { sizeBytes })]))).toMatchObject({
      code: 'BAD_USER_INPUT',
    });
  }
  const largest = Number.MAX_SAFE_INTEGER;
  await registerFiles([file('/largest', { sizeBytes: largest, eventCount: largest })]);
  expect(await producer.call('{ file(lfn: "/largest") { sizeBytes eventCount } }')).toEqual({
    file: { sizeBytes: largest, eventCount: largest },
  });
});

test('the same new names in many calls at once are registered once', async () => {
  const files = Array.from({ length: 200 }, (_, at) => file(`/race/${at}`));
  const calls = Array.from({ length: 8 }, (_, at) =>
    registerFiles(at % 2 === 0 ? files : files.toReversed()),
  );
  const answers = await Promise.all(calls);
  const registered = answers.reduce((sum, answer) => sum + answer.registeredCount, 0);
  expect(registered).toBe(200);
  for (const item of answers.flatMap((answer) => answer.results)) {
    expect(['REGISTERED', 'EXISTING', 'DUPLICATE']).toContain(item.error?.code ?? item.outcome);
  }
});

test('with its key a call is answered as the first time, even where it quotes odd names', async () => {
  const files = [file('/keyed/1'), file('/keyed/a\0b'), file('/keyed/\ud800')];
  const first = await registerFiles(files, { idempotencyKey: 'files-1' });
  expect(first.results.map((item) => item.outcome)).toEqual(['REGISTERED', 'REFUSED', 'REFUSED']);
  expect(await registerFiles(files, { idempotencyKey: 'files-1' })).toEqual(first);
  expect(
    await refusalOf(registerFiles(files.slice(1), { idempotencyKey: 'files-1' })),
  ).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' });
});
