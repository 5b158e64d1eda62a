import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SweepbookError } from '../../src/errors.ts';
import { DirectoryStore, prepareDirectoryStore } from '../../src/storage/directory.ts';
import { judge } from '../../src/storage/judge.ts';
import { describeFile, makeFile } from '../support/files.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-store-'));
const root = join(folder, 'store');
const store = new DirectoryStore({ name: 'test', kind: 'directory', root });
const temporaryFiles = () => readdirSync(join(root, '.incoming'));

beforeAll(() => prepareDirectoryStore(root));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing was refused';
  } catch (error) {
    return error instanceof SweepbookError ? error.code : String(error);
  }
}

let count = 0;
async function stored(text: string): Promise<{ key: string; temporary: string }> {
  const source = await makeFile(join(folder, `source${++count}`), text);
  const temporary = store.temporaryKey(1000 + count, 1);
  await store.put(source.path, temporary, source);
  return { temporary, key: `stored/${count}.root` };
}

test.each([
  'plain.root',
  'with space.root',
  `quotes'"\`.root`,
  '-rf',
  '--help',
  'back\\slash $HOME ; & | > .root',
  'Größe-データ-🚀.root',
  'a'.repeat(255),
  '*?[x]{y}.root',
])('a file named %j is copied, asked for and published byte by byte', async (name) => {
  const source = await makeFile(join(folder, 'odd', name), `content of ${name}`, 3_000_000);
  const key = store.finalKey(`/odd/${name}`);
  const temporary = store.temporaryKey(7, 1);
  await store.put(source.path, temporary, source);
  const answer = await store.ask(temporary);
  expect(judge(source, answer)).toBeUndefined();
  expect(answer.evidence.answer).toContain(source.adler32);
  await store.publish(temporary, key);
  expect((await describeFile(join(root, key))).sha256).toBe(source.sha256);
  expect(await store.sizeOf(key)).toBe(3_000_000);
  expect(temporaryFiles()).toEqual([]);
});

test('what is not there is not there, and a folder is no file', async () => {
  expect((await store.ask('nothing/here')).isPresent).toBe(false);
  mkdirSync(join(root, 'a folder'), { recursive: true });
  expect((await store.ask('a folder')).isPresent).toBe(false);
});

test('a store that is not mounted is unavailable, never empty', async () => {
  const { key, temporary } = await stored('mounted');
  await store.publish(temporary, key);
  const marker = join(root, '.sweepbook-store');
  const text = readFileSync(marker);
  unlinkSync(marker);
  try {
    expect(await codeOf(store.ask(key))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(store.sizeOf(key))).toBe('STORE_UNAVAILABLE');
    expect((await store.probe()).isUp).toBe(false);
  } finally {
    writeFileSync(marker, text);
  }
  expect((await store.probe()).isUp).toBe(true);
});

test('a published file is never replaced, and may not be written by accident', async () => {
  const one = await stored('one');
  await store.publish(one.temporary, 'taken.root');
  const other = await stored('other');
  expect(await codeOf(store.publish(other.temporary, 'taken.root'))).toBe('DUPLICATE');
  expect(readFileSync(join(root, 'taken.root'), 'utf8')).toBe('one');
  expect(await codeOf(store.publish(other.temporary, 'taken.root/below'))).toBe('DUPLICATE');
  expect(await codeOf(store.publish(other.temporary, 'stored'))).toBe('DUPLICATE');
  await store.removeTemporary(other.temporary);
});

test('publishing goes on where a crash left it, between the new name and the end of the old one', async () => {
  const { key, temporary } = await stored('twice');
  mkdirSync(join(root, 'stored'), { recursive: true });
  linkSync(join(root, temporary), join(root, key));
  await store.publish(temporary, key);
  expect(existsSync(join(root, temporary))).toBe(false);
  expect(readFileSync(join(root, key), 'utf8')).toBe('twice');
});

test('a symbolic link leads nowhere out of the store', async () => {
  symlinkSync(folder, join(root, 'out'));
  const { temporary } = await stored('escape');
  expect(await codeOf(store.publish(temporary, 'out/escaped.root'))).toBe('STORE_UNAVAILABLE');
  expect(existsSync(join(folder, 'escaped.root'))).toBe(false);
  await store.removeTemporary(temporary);
  symlinkSync('/etc/passwd', join(root, 'link.root'));
  expect((await store.ask('link.root')).isPresent).toBe(false);
  for (const place of [
    'out/source1',
    'link.root',
    '/etc/passwd',
    '../source1',
    '.sweepbook-store',
    'none',
    '',
  ]) {
    expect(await codeOf(store.keyOf(place)), place).toBe('BAD_USER_INPUT');
  }
  expect(await codeOf(store.keyOf('/etc/passwd\0'))).toBe('BAD_USER_INPUT');
  const { key } = await stored('fine');
  const temporaryKey = store.temporaryKey(1000 + count, 1);
  expect(await store.keyOf(join(root, temporaryKey))).toBe(temporaryKey);
  await store.publish(temporaryKey, key);
  expect(await store.keyOf(join(root, key))).toBe(key);
  expect(await store.keyOf(key)).toBe(key);
});

test('only temporary keys can be removed', async () => {
  await expect(store.removeTemporary('taken.root')).rejects.toThrow('no temporary key');
  await expect(store.removeTemporary('.incoming/../taken.root')).rejects.toThrow(
    'no temporary key',
  );
  await expect(store.removeTemporary('.incoming/other')).rejects.toThrow('no temporary key');
  expect(existsSync(join(root, 'taken.root'))).toBe(true);
});

const manyChunks = 24_000_000;

test.each([
  ['grows', (path: string) => appendFileSync(path, 'more')],
  ['shrinks', (path: string) => truncateSync(path, manyChunks - 1)],
  [
    'is written over',
    (path: string) => {
      writeFileSync(path, 'x', { flag: 'r+' });
      // A file system may keep times to the second.
      utimesSync(path, new Date(), new Date(Date.now() + 5000));
    },
  ],
])('a source that %s while it is copied is refused, and leaves nothing', async (_how, change) => {
  const source = await makeFile(join(folder, 'changing'), 'first', manyChunks);
  let isChanged = false;
  const onProgress = () => {
    if (isChanged) return;
    isChanged = true;
    change(source.path);
  };
  const temporary = store.temporaryKey(8, 1);
  expect(await codeOf(store.put(source.path, temporary, source, { onProgress }))).toBe(
    'SOURCE_CHANGED',
  );
  expect(isChanged).toBe(true);
  expect(temporaryFiles()).toEqual([]);
});

test('a source of another size, a missing one, a folder and a FIFO are refused and leave nothing', async () => {
  const source = await makeFile(join(folder, 'right'), 'right');
  const put = (path: string, sizeBytes = source.sizeBytes) =>
    codeOf(store.put(path, store.temporaryKey(9, 1), { ...source, sizeBytes }));
  expect(await put(source.path, 4)).toBe('SOURCE_CHANGED');
  expect(await put(join(folder, 'missing'))).toBe('SOURCE_UNREADABLE');
  expect(await put(folder)).toBe('SOURCE_UNREADABLE');
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  expect(await put(fifo)).toBe('SOURCE_UNREADABLE');
  if (process.getuid?.() === 0) {
    console.warn('root reads every file: the source without permission is not tried');
  } else {
    chmodSync(source.path, 0);
    expect(await put(source.path)).toBe('SOURCE_UNREADABLE');
  }
  expect(temporaryFiles()).toEqual([]);
});

test('a copy that is called off leaves nothing', async () => {
  const source = await makeFile(join(folder, 'called off'), 'x', manyChunks);
  const abort = new AbortController();
  const onProgress = () => abort.abort(new Error('called off'));
  const put = store.put(source.path, store.temporaryKey(10, 1), source, {
    signal: abort.signal,
    onProgress,
  });
  await expect(put).rejects.toThrow('called off');
  expect(temporaryFiles()).toEqual([]);
});

test('a full disk is told as such, and leaves nothing', async () => {
  const mount = join(folder, 'small');
  mkdirSync(mount);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'none', mount], { stdio: 'ignore' });
  } catch {
    console.warn('NOT TRIED: a full disk; this account cannot mount a small one');
    return;
  }
  try {
    await prepareDirectoryStore(mount);
    const small = new DirectoryStore({ name: 'small', kind: 'directory', root: mount });
    const big = await makeFile(join(folder, 'big'), 'x', manyChunks);
    expect(await codeOf(small.put(big.path, small.temporaryKey(1, 1), big))).toBe('NO_SPACE');
    // Fits by what was free at the start, and not by what is free when it comes to it.
    const half = await makeFile(join(folder, 'half'), 'x', 5_500_000);
    let isFilled = false;
    const onProgress = () => {
      if (isFilled) return;
      isFilled = true;
      writeFileSync(join(mount, 'filler'), Buffer.alloc(1_200_000));
    };
    expect(await codeOf(small.put(half.path, small.temporaryKey(2, 1), half, { onProgress }))).toBe(
      'NO_SPACE',
    );
    expect(readdirSync(join(mount, '.incoming'))).toEqual([]);
  } finally {
    execFileSync('umount', [mount]);
  }
});

test('temporary files tell their record and attempt; other names are left alone', async () => {
  const source = await makeFile(join(folder, 'listed'), 'listed');
  await store.put(source.path, store.temporaryKey(41, 3), source);
  writeFileSync(join(root, store.uploadKey(42)), 'by the producer');
  writeFileSync(join(root, '.incoming', 'notes.txt'), 'of a person');
  const listed = (await store.listTemporary()).map(({ backupId, attempt }) => ({
    backupId,
    attempt,
  }));
  expect(listed.toSorted((a, b) => a.backupId - b.backupId)).toEqual([
    { backupId: 41, attempt: 3 },
    { backupId: 42, attempt: undefined },
  ]);
  for (const name of temporaryFiles()) rmSync(join(root, '.incoming', name));
});
