import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { commandSettings, CommandTool } from '../../src/storage/command.ts';
import { askAndJudge } from '../../src/storage/judge.ts';
import { selfTest } from '../../src/storage/self-test.ts';
import { ToolStore } from '../../src/storage/tool-store.ts';
import { makeFile, type MadeFile } from '../support/files.ts';
import { codeOf } from './contract.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

/** An archive of somebody's: one program, which keeps its files in a folder and answers as it is told. */
const folder = mkdtempSync(join(tmpdir(), 'sweepbook-command-'));
const root = join(folder, 'archive');
const arc = join(folder, 'arc');
const said = join(folder, 'said');
const exit = join(folder, 'exit');
let file: MadeFile;
let store: ToolStore;

const commands = {
  size: {
    argv: [arc, 'size', '{path}'],
    present: '^size (?<size>\\d+)$',
    absent: '^no such file$',
  },
  put: { argv: [arc, 'put', '{local}', '{path}'] },
  get: { argv: [arc, 'get', '{path}', '{local}'] },
  move: { argv: [arc, 'move', '{from}', '{to}'] },
  remove: { argv: [arc, 'remove', '{path}'] },
  makeFolder: { argv: [arc, 'folder', '{path}'] },
  checksum: {
    argv: [arc, 'say', '{path}'],
    said: '^adler32 of .*/right\\.root: (?<adler32>\\S+)$',
  },
  list: {
    argv: [arc, 'list', '{path}'],
    file: '^f (?<size>\\d+) (?<name>.+)$',
    folder: '^d (?<name>.+)$',
  },
  tape: { argv: [arc, 'say', '{path}'], onTape: '^on tape$', lost: '^lost$' },
};

const openStore = (more: object = {}) => {
  const settings = commandSettings.parse({
    name: 'arc',
    kind: 'command',
    root,
    scratch: folder,
    commands: { ...commands, ...more },
  });
  return new ToolStore(settings, new CommandTool(settings));
};

const say = (text: string, code = 0) => {
  writeFileSync(said, text);
  writeFileSync(exit, String(code));
};

beforeAll(async () => {
  mkdirSync(root);
  writeFileSync(
    arc,
    `#!/bin/sh
case $1 in
  size) [ -f "$2" ] && echo "size $(($(wc -c <"$2")))" || { echo 'no such file' >&2; exit 3; } ;;
  put) cp "$2" "$3" ;;
  get) cp "$2" "$3" ;;
  move) mv "$2" "$3" ;;
  remove) rm "$2" ;;
  folder) mkdir -p "$2" ;;
  list) cd "$2" && for n in * .incoming; do [ -d "$n" ] && echo "d $n"; [ -f "$n" ] && echo "f $(($(wc -c <"$n"))) $n"; done; exit 0 ;;
  say) cat '${said}'; exit "$(cat '${exit}')" ;;
esac
`,
    { mode: 0o755 },
  );
  store = openStore();
  await store.prepare();
  file = await makeFile(join(folder, `odd $HOME "name"`), 'truth', 3000);
  await store.put(file.path, temporaryKey(1, 1), file);
  await store.publish(temporaryKey(1, 1), 'some/where/right.root');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const key = 'some/where/right.root';

test('a file goes in, is read back, listed, fetched, and never replaced', async () => {
  expect(await store.probe()).toMatchObject({ isUp: true });
  expect((await askAndJudge(store, key, file, 'READ_BACK')).doubt).toBeUndefined();
  const target = join(folder, 'fetched');
  await store.fetch(key, target, file);
  expect(readFileSync(target)).toEqual(readFileSync(file.path));
  const keys = [];
  for await (const found of store.list()) keys.push([found.key, found.sizeBytes]);
  expect(keys).toEqual([[key, 3000]]);
  await store.put(file.path, temporaryKey(1, 2), file);
  expect((await store.listTemporary()).map(({ attempt }) => attempt)).toEqual([2]);
  writeFileSync(join(root, 'other.root'), 'other');
  expect(await codeOf(store.publish(temporaryKey(1, 2), 'other.root'))).toBe('DUPLICATE');
  expect(readFileSync(join(root, 'other.root'), 'utf8')).toBe('other');
  await store.removeTemporary(temporaryKey(1, 2));
  rmSync(join(root, 'other.root'));
  expect(() => store.finalKey('/a b')).toThrow('only letters');
  expect(await codeOf(store.sizeOf('-rf'))).toBe('BAD_USER_INPUT');
});

test('a store that says nothing itself passes its self-test by its bytes', async () => {
  const mute = openStore({ checksum: undefined });
  expect(await selfTest(mute, 5)).toMatchObject({ passed: true });
  expect((await askAndJudge(mute, key, file, 'SAYS')).doubt?.code).toBe('NOT_CONFIRMED');
  const silent = openStore({ list: undefined });
  const all = async () => {
    for await (const found of silent.list()) expect(found).toBeUndefined();
  };
  expect(await codeOf(all())).toBe('STORE_UNAVAILABLE');
});

test('what it was told to say confirms, whole and once', async () => {
  const right = `adler32 of ${root}/${key}: ${file.adler32}`;
  say(`hello\n${right}\n`);
  expect((await askAndJudge(store, key, file, 'SAYS')).doubt).toBeUndefined();
  for (const [text, code] of [
    ['', 0],
    [right, 1],
    [`${right}\n${right}`, 0],
    [`adler32 of /other.root: ${file.adler32}`, 0],
    [right.replace(file.adler32, file.adler32.toUpperCase().replace('0', 'O')), 0],
    [right.replace(file.adler32, '1'), 0],
    [`${right}\n${'x'.repeat(100_000)}`, 0],
  ] as const) {
    say(text, code);
    const { doubt } = await askAndJudge(store, key, file, 'SAYS');
    expect(doubt?.code, text.slice(0, 80)).toBe('NOT_CONFIRMED');
  }
});

test('tape is its word, said without contradiction', async () => {
  for (const [text, code, word] of [
    ['on tape', 0, 'TAPE'],
    ['on tape', 1, 'UNKNOWN'],
    ['lost', 0, 'LOST'],
    ['on tape\nlost', 0, 'UNKNOWN'],
    ['not on tape', 0, 'UNKNOWN'],
    ['', 0, 'UNKNOWN'],
  ] as const) {
    say(text, code);
    expect((await store.residencyOf([key])).get(key)?.residency, text).toBe(word);
  }
});

test('an answer that was not foreseen is no answer, and a missing mark is a store that is away', async () => {
  const odd = openStore({ size: { ...commands.size, argv: [arc, 'say', '{path}'] } });
  for (const text of ['', 'size', 'size 3000\nsize 3000', 'size 3000\nno such file', 'size -1']) {
    say(text);
    expect(await codeOf(odd.sizeOf(key)), text).toBe('STORE_UNAVAILABLE');
  }
  rmSync(join(root, '.sweepbook-store'));
  expect(await codeOf(store.sizeOf('never/there'))).toBe('STORE_UNAVAILABLE');
  expect((await store.probe()).isUp).toBe(false);
});
