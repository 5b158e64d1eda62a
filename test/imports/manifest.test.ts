import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGzip, gzipSync } from 'node:zlib';
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, expect, test } from 'vitest';
import { SweepbookError } from '../../src/errors.ts';
import { readManifest } from '../../src/imports/manifest-reader.ts';
import { readableAt, type ImportSource } from '../../src/storage/import-sources.ts';
import { ended, file, head, run } from './manifest-text.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-manifest-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;
async function read(content: string | Buffer): Promise<number> {
  const path = join(folder, `m${made++}`);
  writeFileSync(path, content);
  let lines = 0;
  for await (const _ of readManifest(path)) lines++;
  return lines;
}

async function refusalOf(content: string | Buffer): Promise<SweepbookError> {
  const error = await read(content).catch((thrown: unknown) => thrown);
  if (error instanceof SweepbookError) return error;
  throw new Error(`not refused, but ${String(error)}`);
}

const good = [head(2), run(1), file('/a/1'), file('/a/2')];

test('a whole manifest is read, packed or not', async () => {
  const text = ended(good);
  expect(await read(text)).toBe(5);
  expect(await read(gzipSync(text))).toBe(5);
});

const traversals = [
  '/../etc/passwd',
  '/a/../../b',
  '/a//b',
  'a/b',
  '/a/.',
  '/.incoming/x',
  '/a\n/b',
  '/a\u0000',
  `/${'x'.repeat(300)}`,
];
const deep = `${'['.repeat(400_000)}${']'.repeat(400_000)}`;

test.each<[string, string | Buffer, string, number | undefined]>([
  ['no manifest', '{"hello":1}\n', 'BAD_USER_INPUT', 1],
  ['no JSON', 'hello\n', 'BAD_USER_INPUT', 1],
  ['no UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a]), 'BAD_USER_INPUT', 1],
  ['nothing', '', 'BAD_USER_INPUT', 0],
  ['an unknown version', ended([head(0, { version: 2 })]), 'BAD_USER_INPUT', 1],
  ['an unknown field', ended([head(1, { more: 1 }), run(1), file('/a/1')]), 'BAD_USER_INPUT', 1],
  ['a prototype', ended([head(1), '{"run":{"__proto__":{"number":1}}}']), 'BAD_USER_INPUT', 2],
  ['a cut-off end', ended(good).split('\n').slice(0, -2).join('\n') + '\n', 'BAD_USER_INPUT', 4],
  ['half a line', ended(good).slice(0, -30), 'BAD_USER_INPUT', 5],
  ['something behind the end', `${ended(good)}{}\n`, 'BAD_USER_INPUT', 6],
  ['a changed byte', ended(good).replace('"o"', '"p"'), 'CHECKSUM_MISMATCH', 5],
  [
    'a line taken out',
    ended(good).replace(`${JSON.stringify(file('/a/1'))}\n`, ''),
    'CHECKSUM_MISMATCH',
    4,
  ],
  [
    'a run file',
    ended([head(1), run(1), file('/a/1', { kind: 'RUN_FILE', stream: 's' })]),
    'NOT_MERGED',
    3,
  ],
  ['a file twice', ended([head(2), run(1), file('/a/1'), file('/a/1')]), 'DUPLICATE', 4],
  ['files out of order', ended([head(2), run(1), file('/a/2'), file('/a/1')]), 'DUPLICATE', 4],
  ['a run twice', ended([head(1), run(1), run(1), file('/a/1')]), 'DUPLICATE', 3],
  ['a run behind the files', ended([head(1), run(1), file('/a/1'), run(2)]), 'BAD_USER_INPUT', 4],
  ['a run that is not told', ended([head(1), run(2), file('/a/1')]), 'NOT_FOUND', 3],
  [
    'a run that ends before it starts',
    ended([
      head(1),
      run(1, { startedAt: '2026-01-02T00:00:00Z', endedAt: '2026-01-01T00:00:00Z' }),
    ]),
    'BAD_USER_INPUT',
    2,
  ],
  [
    'a run that ends half a second before it starts',
    ended([
      head(1),
      run(1, { startedAt: '2026-01-01T00:00:00.5Z', endedAt: '2026-01-01T00:00:00Z' }),
    ]),
    'BAD_USER_INPUT',
    2,
  ],
  [
    'a run before the year 1',
    ended([head(1), run(1, { startedAt: '0000-12-31T00:00:00Z' })]),
    'BAD_USER_INPUT',
    2,
  ],
  ['fewer files than told', ended([head(3), run(1), file('/a/1')]), 'BAD_USER_INPUT', 4],
  [
    'other bytes than told',
    ended([head(1, {}, { sizeBytes: 11 }), run(1), file('/a/1')]),
    'BAD_USER_INPUT',
    4,
  ],
  ['an empty file', ended([head(1), run(1), file('/a/1', { sizeBytes: 0 })]), 'BAD_USER_INPUT', 3],
  [
    'more bytes than a number holds',
    ended([head(1), run(1), file('/a/1', { sizeBytes: 2 ** 60 })]),
    'BAD_USER_INPUT',
    3,
  ],
  [
    'half a character',
    ended([head(1), '{"run":{"source":"DATA","number":1,"conditions":"\\ud800"}}']),
    'BAD_USER_INPUT',
    2,
  ],
  [
    'a huge line',
    ended([head(1), run(1, { conditions: 'x'.repeat(2_000_000) })]),
    'BAD_USER_INPUT',
    2,
  ],
  [
    'a huge line without end',
    `${JSON.stringify(head(1))}\n{"run":"${'x'.repeat(2_000_000)}`,
    'BAD_USER_INPUT',
    2,
  ],
  ['deep nesting', `${JSON.stringify(head(1))}\n{"run":${deep}}\n`, 'BAD_USER_INPUT', 2],
  ['damaged packing', gzipSync(ended(good)).subarray(0, 100), 'BAD_USER_INPUT', 0],
  ...traversals.map((lfn): [string, string, string, number] => [
    `the LFN ${JSON.stringify(lfn).slice(0, 30)}`,
    ended([head(1), run(1), file(lfn)]),
    'BAD_USER_INPUT',
    3,
  ]),
])('%s is refused, with its line', async (_what, content, code, line) => {
  const refusal = await refusalOf(content);
  expect([refusal.code, refusal.facts['line']]).toEqual([code, line]);
  expect(refusal.message.length).toBeLessThan(1000);
});

test('a bomb of packed zeros is left alone as soon as a line is too long', async () => {
  const path = join(folder, 'bomb');
  const zeros = Buffer.alloc(1024 * 1024);
  await pipeline(
    Readable.from(Array.from({ length: 300 }, () => zeros)),
    createGzip(),
    createWriteStream(path),
  );
  const before = process.memoryUsage().rss;
  const reading = (async () => {
    for await (const _ of readManifest(path));
  })();
  await expect(reading).rejects.toMatchObject({ code: 'BAD_USER_INPUT', facts: { line: 1 } });
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
});

const source: ImportSource = {
  site: 'SLAC',
  server: undefined,
  token: undefined,
  keys: [],
  read: ['https://door.example/data/', '/mnt/slac', 'root://xrd.example/store/'].map((prefix) => ({
    prefix,
    token: undefined,
    redirects: false,
  })),
};

test.each([
  ['https://door.example/data/a.root', 'http'],
  ['/mnt/slac/a.root', 'path'],
  ['file:///mnt/slac/a.root', 'path'],
  ['file://localhost/mnt/slac/a%20b.root', 'path'],
  ['root://xrd.example/store/a.root', 'root'],
  ['xroot://xrd.example:1094/store/a b%20ü.root', 'root'],
  // Whatever is not named is not touched.
  ['http://door.example/data/a.root', undefined],
  ['https://door.example:444/data/a.root', undefined],
  ['https://door.example.evil.org/data/a.root', undefined],
  ['https://door.example@evil.org/data/a.root', undefined],
  ['https://user:password@door.example/data/a.root', undefined],
  ['https://door.example/database/a.root', undefined],
  ['https://door.example/data/../secret', undefined],
  ['https://door.example/data/%2e%2e/secret', undefined],
  ['https://door.example/data/..%2fsecret', undefined],
  ['http://127.0.0.1/data/a.root', undefined],
  ['http://169.254.169.254/latest/meta-data', undefined],
  ['/mnt/slac/../../etc/passwd', undefined],
  ['/mnt/slacker/a.root', undefined],
  ['file:///etc/passwd', undefined],
  ['file://evil.example/mnt/slac/a', undefined],
  ['file:///mnt/slac/..%2f..%2fetc/passwd', undefined],
  ['roots://xrd.example/store/a.root', undefined],
  ['root://xrd.example:1095/store/a.root', undefined],
  ['root://user@xrd.example/store/a.root', undefined],
  ['root://xrd.example/store/../etc/passwd', undefined],
  ['root://xrd.example/store/a\t/../../x', undefined],
  ['root://xrd.example/store/a.root?authz=x', undefined],
  ['root://xrd.example/store/a.root#x', undefined],
  ['gopher://door.example/data/a', undefined],
  ['no address', undefined],
])('a source that names three places: %s is %s', (url, kind) => {
  expect(readableAt(source, url)?.kind).toBe(kind);
});
