import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readTar, writeTar } from '../../src/formats/tar-archive.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-tar-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bytes = Buffer.alloc(3_000_000, 'sweep');
const sha256 = createHash('sha256').update(bytes).digest('hex');
const inputs = (names: readonly string[]) =>
  names.map((name, at) => {
    const path = join(folder, `in${at}`);
    writeFileSync(path, bytes);
    return {
      path,
      open: () => open(path),
      name,
      sizeBytes: bytes.length,
      sha256,
      modifiedAt: new Date(1.7e12),
    };
  });

test('the same files make the same archive, and it says where each is', async () => {
  const names = ['a', 'x'.repeat(200), 'ä\nb'];
  const first = await writeTar(join(folder, 'a.tar'), inputs(names));
  const second = await writeTar(join(folder, 'b.tar'), inputs(names));
  expect(second).toEqual(first);
  const members = await readTar(join(folder, 'a.tar'));
  expect(members.map((member) => member.name)).toEqual(names);
  expect(members.every((member) => member.sha256 === sha256)).toBe(true);
});

test.each([0, 1, 2_000_000, 5_000_000])('it is given up after %i bytes, at once', async (most) => {
  const reason = new Error('enough');
  const files = inputs(['a', 'b', 'c']);
  const work = [
    (signal: AbortSignal, onProgress: (done: number) => void) =>
      writeTar(join(folder, `stopped${most}.tar`), files, { signal, onProgress }),
    (signal: AbortSignal, onProgress: (done: number) => void) =>
      readTar(join(folder, 'a.tar'), { signal, onProgress }),
  ];
  for (const begin of work) {
    const abort = new AbortController();
    if (most === 0) abort.abort(reason);
    await expect(begin(abort.signal, (done) => done >= most && abort.abort(reason))).rejects.toBe(
      reason,
    );
  }
});

test('what is cut off, or is none, is refused', async () => {
  const path = join(folder, 'b.tar');
  truncateSync(path, 4_000_000);
  await expect(readTar(path)).rejects.toMatchObject({ code: 'BAD_USER_INPUT' });
  writeFileSync(path, Buffer.alloc(10_000, 'no tar'));
  await expect(readTar(path)).rejects.toMatchObject({ code: 'BAD_USER_INPUT' });
  await expect(readTar(join(folder, 'none'))).rejects.toMatchObject({ code: 'SOURCE_UNREADABLE' });
});

test('a file that is another one by now is refused', async () => {
  const files = inputs(['a', 'b']);
  for (const [at, content] of [
    'short',
    Buffer.alloc(3_000_000, 'other'),
    Buffer.alloc(3_000_001),
  ].entries()) {
    writeFileSync(files[1]?.path ?? '', content);
    const output = join(folder, `changed${at}.tar`);
    await expect(writeTar(output, files)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
  }
});
