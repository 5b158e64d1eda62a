import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  renameSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DirectoryStore, prepareDirectoryStore } from '../../src/storage/directory.ts';
import { makeFile } from '../support/files.ts';
import { canMountSmallDisk, mountSmallDisk, unmount } from '../support/small-disk.ts';
import { codeOf, storeContract, type StoreUnderTest } from './contract.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

async function openFolder(): Promise<StoreUnderTest> {
  const place = mkdtempSync(join(tmpdir(), 'sweepbook-folder-'));
  const at = (key: string) => join(place, 'store', key);
  await prepareDirectoryStore(at(''));
  const write = (key: string, bytes: Buffer) => {
    mkdirSync(dirname(at(key)), { recursive: true });
    rmSync(at(key), { force: true });
    writeFileSync(at(key), bytes);
  };
  return {
    store: new DirectoryStore({ name: 'folder', kind: 'directory', root: at('') }),
    backDoor: {
      write,
      remove: (key) => rmSync(at(key)),
      unmount: async () => {
        renameSync(at('.'), join(place, 'away'));
        mkdirSync(at(''));
        return () => {
          rmSync(at(''), { recursive: true });
          renameSync(join(place, 'away'), at('.'));
        };
      },
    },
    halfPublished: [
      ['nothing done', () => undefined],
      [
        'linked, and the old name still there',
        (from, to) => {
          mkdirSync(dirname(at(to)), { recursive: true });
          linkSync(at(from), at(to));
        },
      ],
    ],
    close: () => rmSync(place, { recursive: true, force: true }),
  };
}

async function openSmallFolder() {
  const root = mkdtempSync(join(tmpdir(), 'sweepbook-small-folder-'));
  mountSmallDisk(root);
  await prepareDirectoryStore(root);
  const store = new DirectoryStore({ name: 'small', kind: 'directory', root });
  const close = () => {
    unmount(root);
    rmSync(root, { recursive: true });
  };
  return { store, root, close };
}

const hasSmallDisk = canMountSmallDisk();
storeContract('a folder', openFolder, hasSmallDisk ? { openSmall: openSmallFolder } : {});

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-store-'));
const root = join(folder, 'store');
const store = new DirectoryStore({ name: 'test', kind: 'directory', root });
const temporaryFiles = () => readdirSync(join(root, '.incoming'));

beforeAll(() => prepareDirectoryStore(root));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
async function stored(text: string): Promise<{ key: string; temporary: string }> {
  const source = await makeFile(join(folder, `source${++count}`), text);
  const temporary = temporaryKey(1000 + count, 1);
  await store.put(source.path, temporary, source);
  return { temporary, key: `stored/${count}.root` };
}

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
  const { key, temporary: coming } = await stored('fine');
  expect(await store.keyOf(join(root, coming))).toBe(coming);
  await store.publish(coming, key);
  expect(await store.keyOf(join(root, key))).toBe(key);
  expect(await store.keyOf(key)).toBe(key);
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
  const temporary = temporaryKey(8, 1);
  expect(await codeOf(store.put(source.path, temporary, source, { onProgress }))).toBe(
    'SOURCE_CHANGED',
  );
  expect(isChanged).toBe(true);
  expect(temporaryFiles()).toEqual([]);
});

test('a source of another size, a missing one, a folder and a FIFO are refused and leave nothing', async () => {
  const source = await makeFile(join(folder, 'right'), 'right');
  const put = (path: string, sizeBytes = source.sizeBytes) =>
    codeOf(store.put(path, temporaryKey(9, 1), { ...source, sizeBytes }));
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

test.runIf(hasSmallDisk)('a full disk is told as such, and leaves nothing', async () => {
  const { store: small, root: mount, close } = await openSmallFolder();
  try {
    const big = await makeFile(join(folder, 'big'), 'x', manyChunks);
    expect(await codeOf(small.put(big.path, temporaryKey(1, 1), big))).toBe('NO_SPACE');
    // Fits by what was free at the start, and not by what is free when it comes to it.
    const half = await makeFile(join(folder, 'half'), 'x', 5_500_000);
    let isFilled = false;
    const onProgress = () => {
      if (isFilled) return;
      isFilled = true;
      writeFileSync(join(mount, 'filler'), Buffer.alloc(1_200_000));
    };
    expect(await codeOf(small.put(half.path, temporaryKey(2, 1), half, { onProgress }))).toBe(
      'NO_SPACE',
    );
    expect(readdirSync(join(mount, '.incoming'))).toEqual([]);
  } finally {
    close();
  }
});
