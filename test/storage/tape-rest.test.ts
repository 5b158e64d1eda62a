import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SweepbookError } from '../../src/errors.ts';
import { askAndJudge } from '../../src/storage/judge.ts';
import { bringIntoPool, preparePool } from '../../src/storage/pool-volume.ts';
import { selfTest } from '../../src/storage/self-test.ts';
import { TapeRestStore, tapeRestSettings } from '../../src/storage/tape-rest.ts';
import { describeFile, makeFile } from '../support/files.ts';
import { startTapeSite, type Lies } from '../support/tape-site.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-tape-'));
let site: Awaited<ReturnType<typeof startTapeSite>>;
let store: TapeRestStore;
beforeAll(async () => {
  site = await startTapeSite(folder);
  store = new TapeRestStore(
    tapeRestSettings.parse({ name: 'cta', kind: 'tape-rest', root: site.url, askSeconds: 2 }),
  );
});
afterEach(() => {
  site.state.lies = {};
  site.state.isDown = false;
});
afterAll(async () => {
  await site.close();
  rmSync(folder, { recursive: true, force: true });
});

let count = 0;
async function put(bytes = 100_000) {
  const source = await makeFile(join(folder, `source${++count}`), `bytes of ${count}`, bytes);
  const key = temporaryKey(1000 + count, 1);
  await store.put(source.path, key, source);
  return { source, key };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'nothing was refused',
    (error: unknown) => (error instanceof SweepbookError ? error.code : String(error)),
  );
}

test.each(['plain.root', 'with space #?&%.root', 'Größe-データ.root', `quotes'".root`])(
  'a file named %j is copied, asked for, published, listed and fetched',
  async (name) => {
    const { source, key } = await put();
    const said = await askAndJudge(store, key, source, 'SAYS');
    expect(said.doubt).toBeUndefined();
    expect(said.answer.sha256).toBeUndefined();
    expect(said.answer.evidence.answer).toContain(source.adler32);
    const read = await askAndJudge(store, key, source, 'READ_BACK');
    expect(read.doubt).toBeUndefined();
    expect(read.answer.sha256).toBe(source.sha256);
    const final = store.finalKey(`/odd/${count}/${name}`);
    await store.publish(key, final);
    expect(await store.sizeOf(key)).toBeUndefined();
    const listed = [];
    for await (const file of store.list()) listed.push(file.key);
    expect(listed).toContain(final);
    expect(await store.keyOf(store.placeOf(final))).toBe(final);
    const target = join(folder, `fetched${count}`);
    await store.fetch(final, target, source);
    expect((await describeFile(target)).sha256).toBe(source.sha256);
  },
);

test('nothing is replaced, and what is not there is not there', async () => {
  const one = await put();
  await store.publish(one.key, 'taken/one.root');
  const other = await put();
  expect(await codeOf(store.publish(other.key, 'taken/one.root'))).toBe('DUPLICATE');
  expect(site.sha256('taken/one.root')).toBe(one.source.sha256);
  expect((await store.ask('no/such')).isPresent).toBe(false);
  expect((await store.says('no/such', one.source)).isPresent).toBe(false);
  expect((await store.listTemporary()).map((file) => file.key)).toContain(other.key);
  await store.removeTemporary(other.key);
  await store.removeTemporary(other.key);
  expect(await codeOf(store.keyOf('../outside'))).toBe('BAD_USER_INPUT');
  expect(await codeOf(store.keyOf(`${site.url}/%2e%2e/outside`))).toBe('BAD_USER_INPUT');
});

test('tape says what it has, for the paths that were asked for', async () => {
  const keys = [];
  for (let at = 0; at < 4; at++) {
    const { key } = await put(1000);
    await store.publish(key, `tape/${at}`);
    keys.push(`tape/${at}`);
  }
  site.archive('tape/1');
  site.lose('tape/2');
  site.refuse('tape/3', 'no space in this storage class');
  const said = await store.residencyOf([...keys, 'tape/none']);
  expect(
    [...keys, 'tape/none'].map((key) => [said.get(key)?.residency, said.get(key)?.refusal]),
  ).toEqual([
    ['DISK', undefined],
    ['DISK_AND_TAPE', undefined],
    ['LOST', undefined],
    ['UNKNOWN', 'no space in this storage class'],
    ['UNKNOWN', 'USER ERROR: file does not exist'],
  ]);
});

test('a store that is down or silent is unavailable, never empty', async () => {
  const { source, key } = await put();
  site.state.isDown = true;
  expect((await store.probe()).isUp).toBe(false);
  expect(await codeOf(store.says(key, source))).toBe('STORE_UNAVAILABLE');
  expect(await codeOf(store.ask(key))).toBe('STORE_UNAVAILABLE');
  expect(await codeOf(store.sizeOf(key))).toBe('STORE_UNAVAILABLE');
  expect(await codeOf(store.residencyOf([key]))).toBe('STORE_UNAVAILABLE');
});

test('an honest store passes its self-test', async () => {
  const told = await selfTest(store, 1);
  expect(told).toMatchObject({ passed: true, isConclusive: true });
  expect(told.findings).toHaveLength(10);
  site.state.isDown = true;
  expect(await selfTest(store, 2)).toMatchObject({ passed: false, isConclusive: false });
});

let remembered: Record<string, string> | undefined;
test.each<[string, Lies]>([
  ['a checksum that it remembers', { head: (honest) => (remembered ??= honest) }],
  ['a file that it does not delete', { deletesNothing: true, head: (honest) => honest }],
])('%s fails the self-test', async (_, lies) => {
  remembered = undefined;
  site.state.lies = lies;
  const told = await selfTest(store, 3);
  expect(told.passed).toBe(false);
  site.state.lies = {};
  await store.removeTemporary(temporaryKey(0, 3));
});

const flipped = (bytes: Buffer) => {
  const other = Buffer.from(bytes);
  other[5] = (other[5] ?? 0) ^ 1;
  return other;
};
const digest = (value: string) => ({
  head: (honest: Record<string, string>) => ({ ...honest, digest: value }),
});

describe('none of these is a confirmation', () => {
  /** What the store does; the honest HEAD is { content-length, digest: adler32=… }. */
  test.each<[string, Lies]>([
    ['200 without a word', { head: () => ({}) }],
    [
      'the size alone',
      { head: ({ 'content-length': length }) => ({ 'content-length': length ?? '' }) },
    ],
    [
      'the checksum alone',
      { head: ({ digest: sum }) => ({ digest: sum ?? '', 'content-length': '' }) },
    ],
    ['right size, wrong bytes', { stored: flipped }],
    ['cut short', { stored: (bytes) => bytes.subarray(0, -1) }],
    ['one byte more', { stored: (bytes) => Buffer.concat([bytes, Buffer.from('x')]) }],
    ['nothing in it', { stored: () => Buffer.alloc(0) }],
    ['201, and nothing is kept', { forgets: true }],
    ['another file’s checksum', digest('adler32=11e60398')],
    [
      'upper-case hex',
      {
        head: ({ digest: sum, ...rest }) => ({
          ...rest,
          digest: `adler32=${sum?.slice(8).toUpperCase()}X`,
        }),
      },
    ],
    ['a checksum without its leading zeros', digest('adler32=1e60398')],
    ['base64 for hex', digest('adler32=EeYDmA==')],
    ['another algorithm', digest('md5=CY9rzUYh03PK3k6DJie09g==')],
    [
      'two checksums',
      { head: (honest) => ({ ...honest, digest: `${honest['digest']},adler32=11e60398` }) },
    ],
    [
      'a checksum of the wrong algorithm’s name',
      {
        head: (honest) => ({
          ...honest,
          digest: (honest['digest'] ?? '').replace('adler32', 'crc32'),
        }),
      },
    ],
    [
      'a checksum with something after it',
      { head: (honest) => ({ ...honest, digest: `${honest['digest']}0` }) },
    ],
    ['a size in words', { head: (honest) => ({ ...honest, 'content-length': '' }) }],
    ['202: later', { head: () => ({ status: 202 }) }],
    ['404', { head: () => ({ status: 404 }) }],
    ['500', { head: () => ({ status: 500 }) }],
  ])('%s', async (_, lies) => {
    site.state.lies = lies;
    const { source, key } = await put();
    const told = await askAndJudge(store, key, source, 'SAYS').then(
      ({ doubt, answer }) => ({ code: doubt?.code, evidence: answer.evidence }),
      (error: unknown) => ({ code: (error as SweepbookError).code, evidence: undefined }),
    );
    expect(['NOT_CONFIRMED', 'CHECKSUM_MISMATCH', 'STORE_UNAVAILABLE']).toContain(told.code);
    if (told.code !== 'STORE_UNAVAILABLE')
      expect(told.evidence?.asked).toMatch(/^(HEAD|PROPFIND) /);
  });

  test.each<[string, Lies]>([
    ['an empty answer', { archiveInfo: () => [] }],
    ['no JSON', { archiveInfo: () => 'DISK_AND_TAPE' }],
    ['half an answer', { archiveInfo: (honest) => JSON.stringify(honest).slice(0, -5) }],
    ['10 MB', { archiveInfo: (honest) => JSON.stringify(honest) + ' '.repeat(10_000_000) }],
    ['another path', { archiveInfo: () => [{ path: '/store/other', locality: 'TAPE' }] }],
    [
      'the path of a sibling',
      {
        archiveInfo: (honest) =>
          honest.map((e) => ({ ...e, path: `${e.path}2`, locality: 'TAPE' })),
      },
    ],
    [
      'a word that is not in the standard',
      { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'ARCHIVED' })) },
    ],
    [
      'a word in lower case',
      { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'tape' })) },
    ],
    ['NONE', { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'NONE' })) }],
    [
      'UNAVAILABLE',
      { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'UNAVAILABLE' })) },
    ],
    [
      'TAPE with an error',
      {
        archiveInfo: (honest) =>
          honest.map((e) => ({ ...e, locality: 'TAPE', error: 'migration failed' })),
      },
    ],
    ['LOST', { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'LOST' })) }],
    [
      'two answers that differ',
      {
        archiveInfo: (honest) =>
          honest.flatMap((e) => [
            { ...e, locality: 'TAPE' },
            { ...e, locality: 'DISK' },
          ]),
      },
    ],
    [
      'a number for the word',
      { archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 1 })) },
    ],
    ['an object for the list', { archiveInfo: (honest) => ({ files: honest }) }],
    [
      'TAPE with HTTP 500',
      {
        archiveStatus: 500,
        archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'TAPE' })),
      },
    ],
    [
      'TAPE with HTTP 202',
      {
        archiveStatus: 202,
        archiveInfo: (honest) => honest.map((e) => ({ ...e, locality: 'TAPE' })),
      },
    ],
  ])('of tape: %s', async (_, lies) => {
    mkdirSync(join(site.root, 'lies'), { recursive: true });
    writeFileSync(join(site.root, 'lies/file'), 'x');
    site.state.lies = lies;
    const said = await store
      .residencyOf(['lies/file'])
      .catch((error: unknown) => error as SweepbookError);
    if (said instanceof SweepbookError) expect(said.code).toBe('STORE_UNAVAILABLE');
    else {
      const { residency, refusal } = said.get('lies/file') ?? {};
      expect(refusal === undefined && ['TAPE', 'DISK_AND_TAPE'].includes(residency ?? '')).toBe(
        false,
      );
    }
  });
});

describe('from tape into a pool', () => {
  const pool = { name: 'reading', path: join(folder, 'pool') };
  const key = 'recalled/wanted.root';
  let wanted: Awaited<ReturnType<typeof makeFile>>;
  beforeAll(async () => {
    await preparePool(pool);
    for (const name of ['wanted', 'other']) {
      const file = await put(20_000);
      await store.publish(file.key, `recalled/${name}.root`);
      if (name === 'wanted') wanted = file.source;
    }
  });
  afterEach(() => rmSync(join(pool.path, 'wanted.root'), { force: true }));

  /** One file all the way, as workers do it: asked for, looked after, brought, read. */
  async function bring(): Promise<string> {
    const id = await store.recalling.recall([key], 3600);
    const said = await store.recalling.recalled(id, [key]);
    const { state, evidence } = said?.get(key) ?? {};
    if (state !== undefined) expect(evidence?.answer).toContain(key);
    if (state !== 'ONLINE') return said ? (state ?? 'says nothing') : 'forgotten';
    const expected = wanted;
    const path = join(pool.path, 'wanted.root');
    await bringIntoPool({ pool, store, key, path, expected, copyId: 1, attempt: 1, options: {} });
    return 'in the pool';
  }
  const ended = () =>
    bring().catch((error: unknown) =>
      error instanceof SweepbookError ? error.code : String(error),
    );
  const filesIn = (path: string) => readdirSync(path, { recursive: true }).toSorted();
  const other = (path: string) => path.replace('wanted', 'other');
  type Staged = NonNullable<Lies['staged']>;
  const each = (change: (entry: Parameters<Staged>[0][number]) => object): Lies => ({
    staged: (honest) => honest.map((entry) => change(entry)),
  });

  test.each<[string, string, Lies]>([
    [
      '200 with a page of a proxy',
      'STORE_UNAVAILABLE',
      { stageBegun: () => '<html>come in</html>' },
    ],
    ['no name for the request', 'STORE_UNAVAILABLE', { stageBegun: () => ({}) }],
    ['an empty name', 'STORE_UNAVAILABLE', { stageBegun: () => ({ requestId: '' }) }],
    [
      'a name that leads elsewhere',
      'STORE_UNAVAILABLE',
      { stageBegun: () => ({ requestId: '..' }) },
    ],
    ['a number for a name', 'STORE_UNAVAILABLE', { stageBegun: () => ({ requestId: 7 }) }],
    [
      '10 MB with the name',
      'STORE_UNAVAILABLE',
      { stageBegun: (honest) => JSON.stringify(honest) + ' '.repeat(10_000_000) },
    ],
    ['a name that it does not know', 'forgotten', { stageBegun: () => ({ requestId: 'nobody' }) }],
    ['503', 'STORE_UNAVAILABLE', { stageStatus: 503 }],
    ['404 after a restart', 'forgotten', { stagedStatus: 404 }],
    ['COMPLETED with HTTP 500', 'STORE_UNAVAILABLE', { stagedStatus: 500 }],
    ['COMPLETED with HTTP 202', 'STORE_UNAVAILABLE', { stagedStatus: 202 }],
    ['no JSON', 'STORE_UNAVAILABLE', { stagedAnswer: () => 'COMPLETED' }],
    ['an empty answer', 'STORE_UNAVAILABLE', { stagedAnswer: () => '' }],
    [
      'half an answer',
      'STORE_UNAVAILABLE',
      { stagedAnswer: (honest) => JSON.stringify(honest).slice(0, -5) },
    ],
    [
      '10 MB',
      'STORE_UNAVAILABLE',
      { stagedAnswer: (honest) => JSON.stringify(honest) + ' '.repeat(10_000_000) },
    ],
    [
      'the answer to another request',
      'STORE_UNAVAILABLE',
      { stagedAnswer: (honest) => ({ ...honest, id: 'req-of-another' }) },
    ],
    ['the list without its object', 'STORE_UNAVAILABLE', { stagedAnswer: ({ files }) => files }],
    ['no entry for it', 'says nothing', { staged: () => [] }],
    ['another file', 'says nothing', each((e) => ({ ...e, path: other(e.path) }))],
    [
      'onDisk of another file',
      'says nothing',
      each((e) => ({ path: other(e.path), onDisk: true })),
    ],
    [
      'its path in other letters',
      'says nothing',
      each((e) => ({ ...e, path: e.path.toUpperCase() })),
    ],
    ['only its key', 'says nothing', each((e) => ({ ...e, path: `/${key}` }))],
    ['neither state nor onDisk', 'says nothing', each(({ path }) => ({ path }))],
    ['a state that is not in the standard', 'says nothing', each((e) => ({ ...e, state: 'DONE' }))],
    ['a state in lower case', 'says nothing', each((e) => ({ ...e, state: 'completed' }))],
    ['COMPLETED, and not on disk', 'says nothing', each((e) => ({ ...e, onDisk: false }))],
    ['COMPLETED with an error', 'FAILED', each((e) => ({ ...e, error: 'no tape drive' }))],
    [
      'onDisk with an error',
      'FAILED',
      each(({ path }) => ({ path, onDisk: true, error: 'bad tape' })),
    ],
    ['CANCELLED, and on disk', 'FAILED', each((e) => ({ ...e, state: 'CANCELLED', onDisk: true }))],
    ['STARTED, and on disk', 'WAITING', each((e) => ({ ...e, state: 'STARTED', onDisk: true }))],
    ['onDisk in words', 'STORE_UNAVAILABLE', each(({ path }) => ({ path, onDisk: 'true' }))],
    [
      'two answers that differ',
      'says nothing',
      { staged: (honest) => honest.flatMap((e) => [e, { ...e, state: 'STARTED' }]) },
    ],
    ['COMPLETED, and the bytes are others', 'CHECKSUM_MISMATCH', { served: flipped }],
    [
      'COMPLETED, and it is cut short',
      'SOURCE_CHANGED',
      { served: (bytes) => bytes.subarray(0, -1) },
    ],
    [
      'COMPLETED, and it is longer',
      'SOURCE_CHANGED',
      { served: (bytes) => Buffer.concat([bytes, bytes]) },
    ],
    ['COMPLETED, and nothing is in it', 'SOURCE_CHANGED', { served: () => Buffer.alloc(0) }],
  ])('%s: %s', async (_, end, lies) => {
    site.state.lies = lies;
    expect(await ended()).toBe(end);
    expect(filesIn(pool.path)).toEqual(['.sweepbook-pool']);
  });

  test('COMPLETED of what it does not give out is no file either', async () => {
    site.purge(key);
    site.state.lies = each(({ path }) => ({ path, state: 'COMPLETED' }));
    expect(await ended()).toBe('SOURCE_UNREADABLE');
    expect(filesIn(pool.path)).toEqual(['.sweepbook-pool']);
    site.bring(key);
  });

  test('answers in any order, with what was not asked for among them, bring it', async () => {
    const stranger = (path: string) => ({ path: other(path), state: 'FAILED', error: 'bad tape' });
    site.state.lies = { staged: (honest) => honest.flatMap((e) => [stranger(e.path), e]) };
    expect(await ended()).toBe('in the pool');
    expect(filesIn(pool.path)).toEqual(['.sweepbook-pool', 'wanted.root']);
  });
});
