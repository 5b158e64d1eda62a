import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { commandWords, countEvents, type CountOptions } from '../../src/formats/event-count.ts';
import { rootFile, rootFileOf } from '../support/root-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-events-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A name that no shell would leave as it is. */
const path = join(folder, `a "file" $HOME;'x'\n.root`);
const count = (bytes: Buffer | string, options?: CountOptions) => {
  writeFileSync(path, bytes);
  return countEvents(path, options);
};

const inFolders = rootFileOf({
  trees: [{ name: 'Runs', entries: 1 }],
  folders: { a: { folders: { b: { trees: [{ name: 'hits', entries: 7 }] } } } },
});

test.each([
  ['a tree', rootFile({ name: 'Events', entries: 12 }), undefined, 'Events', 12],
  ['packed by zlib', rootFile({ name: 'E', entries: 2 ** 40, packed: 'zlib' }), 'E', 'E', 2 ** 40],
  ['packed by zstd', rootFile({ name: 'E', entries: 3, packed: 'zstd' }), 'E', 'E', 3],
  ['an RNTuple', rootFile({ name: 'E', entries: 15, isTuple: true }), undefined, 'E', 15],
  ['an empty RNTuple', rootFile({ name: 'E', entries: 0, isTuple: true }), undefined, 'E', 0],
  ['a name with a quote', rootFile({ name: "it's", entries: 4 }), "it's", "it's", 4],
  ['a tree in folders', inFolders, 'a/b/hits', 'a/b/hits', 7],
  [
    'the last state of a tree',
    rootFile({ name: 'E', entries: 5, cycle: 2 }, { name: 'E', entries: 4, cycle: 1 }),
    undefined,
    'E',
    5,
  ],
])('%s is counted', async (_what, bytes, tree, told, events) => {
  expect(await count(bytes, { tree })).toEqual({ events, tree: told });
});

const whole = rootFile({ name: 'Events', entries: 12 });
const byNode = (code: string) => [process.execPath, '-e', code, '{file}'];

test.each([
  ['several trees', inFolders, {}, 'BAD_USER_INPUT', /2 trees .* Runs, a\/b\/hits$/],
  ['another tree', inFolders, { tree: 'hits' }, 'BAD_USER_INPUT', /no tree named hits .* a\/b\/h/],
  ['no tree', rootFile(), { tree: 'E' }, 'BAD_USER_INPUT', /no tree in it at all$/],
  ['half a file', whole.subarray(0, 900), {}, 'SOURCE_UNREADABLE', /no whole ROOT file/],
  ['only a head', whole.subarray(0, 50), {}, 'SOURCE_UNREADABLE', /no whole ROOT file/],
  ['words', 'x', { command: byNode('console.log("5 x")') }, 'SOURCE_UNREADABLE', /printed "5 x/],
  ['a failure', 'x', { command: byNode('throw "oh"') }, 'SOURCE_UNREADABLE', /not count .*oh/],
  ['no program', 'x', { command: ['/no/such', '{file}'] }, 'UNAVAILABLE', /ENOENT/],
])('%s is told as it is', async (_what, bytes, options, code, message) => {
  const refusal: unknown = await count(bytes, options).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code, message: expect.stringMatching(message) as string });
});

test('no ROOT file: not known; a command counts it, and gets the name as it is', async () => {
  expect(await count('text')).toEqual({ events: null, tree: null });
  const words = byNode('console.log(require("node:fs").readFileSync(process.argv[1]).length)');
  expect(await count('text', { command: words })).toEqual({ events: 4, tree: null });
});

test('a damaged file never hangs or ends the program', { timeout: 60_000 }, async () => {
  // Each byte of what describes the file, turned around.
  const places = Array.from({ length: 60 }, (_, at) => Math.floor((at * whole.length) / 60));
  for (const place of places) {
    const bytes = Buffer.from(whole);
    bytes[place] = (bytes[place] ?? 0) ^ 0xff;
    const answer = await count(bytes).catch((error: unknown) => error);
    const what = answer instanceof Error ? answer.name : 'a count';
    expect(['SweepbookError', 'a count'], `byte ${place}: ${String(answer)}`).toContain(what);
  }
});

test('a command is words, and no shell', () => {
  expect(commandWords(`  prog "a b" 'c "d"' --in={file} `)).toEqual([
    'prog',
    'a b',
    'c "d"',
    '--in={file}',
  ]);
  for (const wrong of ['', 'prog', '{file}', 'prog "a {file}', 'prog a"b" {file}']) {
    expect(() => commandWords(wrong), wrong).toThrow('command');
  }
});
