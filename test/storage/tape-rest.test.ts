import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SweepbookError } from '../../src/errors.ts';
import { askAndJudge } from '../../src/storage/judge.ts';
import { selfTest } from '../../src/storage/self-test.ts';
import { TapeRestStore, tapeRestSettings } from '../../src/storage/tape-rest.ts';
import { describeFile, makeFile } from '../support/files.ts';
import { startTapeSite, type Lies } from '../support/tape-site.ts';

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
  const key = store.temporaryKey(1000 + count, 1);
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
  await store.removeTemporary(store.temporaryKey(0, 3));
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
    if (told.code !== 'STORE_UNAVAILABLE') expect(told.evidence?.asked).toContain('HEAD');
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
