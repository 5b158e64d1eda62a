import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { judge } from '../../src/storage/judge.ts';
import { XrootdStore } from '../../src/storage/xrootd.ts';
import { xrootdSettings } from '../../src/storage/xrootd-settings.ts';
import { reservationFor } from '../../src/storage/xrootd-server.ts';
import { parseAdler32, parseListed, parseStat } from '../../src/storage/xrootd-tools.ts';
import { makeFile } from '../support/files.ts';
import { isInstalled } from '../support/installed.ts';
import { canMountSmallDisk, mountSmallDisk, unmount } from '../support/small-disk.ts';
import { XrootdForTests } from '../support/xrootd.ts';
import { codeOf, storeContract, type StoreUnderTest } from './contract.ts';
import { sweepInto } from './sweep.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

const isHere = isInstalled('xrootd');
let started: Promise<XrootdForTests> | undefined;
const startedXrootd = () => (started ??= XrootdForTests.start());
afterAll(async () => (await started)?.stop());

const settingsOf = (server: { url: string }, more: object = {}) =>
  xrootdSettings.parse({
    name: 'pool',
    kind: 'xrootd',
    url: server.url,
    root: '/store/mass',
    askSeconds: 20,
    ...more,
  });

async function openStore(server: XrootdForTests, root = '/store/mass'): Promise<XrootdStore> {
  const settings = settingsOf(server, { root });
  const store = new XrootdStore(settings);
  await store.prepare();
  return store;
}

if (isHere) {
  const openPool = async (): Promise<StoreUnderTest> => {
    const server = await startedXrootd();
    const store = await openStore(server);
    const backDoor = server.massBackDoor();
    const { write, read } = backDoor;
    return {
      store,
      backDoor,
      halfPublished: [
        ['nothing done', () => undefined],
        [
          'name reserved by this attempt',
          (from, to) => write(to, Buffer.from(reservationFor(from))),
        ],
        [
          'name reserved by an attempt of which nothing else is left',
          (_from, to) => write(to, Buffer.from(reservationFor('.incoming/b77.a1'))),
        ],
        ['the same file is there', (from, to) => write(to, read(from))],
      ],
      refusedNames: ['*?[x]{y}.root', 'a?b=c', 'a'.repeat(255)],
      close: () => undefined,
    };
  };
  storeContract('XRootD', openPool, {
    freeze: async () => {
      const server = await startedXrootd();
      server.signal('SIGSTOP');
      const impatient = new XrootdStore(settingsOf(server, { askSeconds: 1 }));
      return { store: impatient, thaw: () => server.signal('SIGCONT') };
    },
    ...(canMountSmallDisk() ? { openSmall: openSmallPool } : {}),
  });
}

async function openSmallPool() {
  let disk = '';
  const full = await XrootdForTests.start((data) => {
    disk = join(data, 'store');
    mountSmallDisk(disk);
  });
  const close = async () => {
    await full.kill();
    unmount(disk);
    await full.stop();
  };
  return { store: await openStore(full), close };
}

describe.runIf(isHere)('an XRootD store', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-xrootd-test-'));
  let server: XrootdForTests;
  let store: XrootdStore;
  const at = (key: string) => server.path(`other/${key}`);

  beforeAll(async () => {
    server = await startedXrootd();
    store = await openStore(server, '/store/other');
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  test('a sweep ends there; a name that it cannot hold fails for good, and says why', async () => {
    const { check } = await sweepInto(
      `  - { name: pool, kind: xrootd, url: '${server.url}', root: /store/swept }\n`,
      folder,
      'a?b=c.root',
    );
    expect(check).toMatchObject({ code: 0, stderr: '' });
    const lines = check.stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^pool is up: XRootD root:/);
    // The store's word and its bytes, each of five times.
    expect(lines.filter((line) => /^ {2}right {2}/.test(line))).toHaveLength(10);
    expect(readFileSync(server.path('swept/sweep/two.root')).length).toBe(6_000_000);
  });

  test('a byte that flips while the time stays is not in what it says, only in what is read', async () => {
    const file = await makeFile(join(folder, 'flip'), 'right', 100_000);
    await store.put(file.path, temporaryKey(1, 1), file);
    await store.publish(temporaryKey(1, 1), 'flip.root');
    const { atime, mtime } = statSync(at('flip.root'));
    const bytes = readFileSync(at('flip.root'));
    bytes[50_000] = 1;
    writeFileSync(at('flip.root'), bytes);
    utimesSync(at('flip.root'), atime, mtime);
    // Its memory is right, its bytes are not: the reason for READ_BACK.
    expect(judge({ ...file, sha256: null }, await store.says('flip.root', file))).toBeUndefined();
    expect(judge(file, await store.ask('flip.root'))?.code).toBe('CHECKSUM_MISMATCH');
  });

  test('a copy whose checksum does not fit leaves nothing, and it is told whose fault it is', async () => {
    const file = await makeFile(join(folder, 'sum'), 'sum', 100_000);
    const key = temporaryKey(2, 1);
    const wrong = { ...file, adler32: '00000001' };
    expect(await codeOf(store.put(file.path, key, wrong))).toBe('SOURCE_CHANGED');
    expect(existsSync(at(key))).toBe(false);
  });

  test('a server that dies amid a copy leaves what is never taken for a file', async () => {
    const file = await makeFile(join(folder, 'dies'), 'dies', 100_000_000);
    const key = temporaryKey(3, 1);
    const put = codeOf(store.put(file.path, key, file));
    while (!existsSync(at(key))) await new Promise((resolve) => setTimeout(resolve, 2));
    await server.kill();
    expect(await put).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(store.says(key, file))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(store.ask(key))).toBe('STORE_UNAVAILABLE');
    expect((await store.probe()).isUp).toBe(false);
    await server.start();
    if (existsSync(at(key))) {
      expect(statSync(at(key)).size).toBeLessThan(file.sizeBytes);
      expect(judge({ ...file, sha256: null }, await store.says(key, file))?.code).toBe(
        'NOT_CONFIRMED',
      );
      expect(judge(file, await store.ask(key))?.code).toBe('NOT_CONFIRMED');
      expect(await codeOf(store.publish(key, 'dies.root'))).toBe('STORE_UNAVAILABLE');
      expect(await store.sizeOf('dies.root')).toBeUndefined();
    }
    await store.removeTemporary(key);
    expect(await store.listTemporary()).toEqual([]);
  });

  test('a folder that cannot be read, and a name of two lines, make no listing', async () => {
    const all = async () => {
      const keys: string[] = [];
      for await (const { key } of store.list()) keys.push(key);
      return keys;
    };
    mkdirSync(at('closed'));
    writeFileSync(at('closed/file'), 'x');
    expect(await all()).toContain('closed/file');
    chmodSync(at('closed'), 0);
    expect(await codeOf(all())).toBe('STORE_UNAVAILABLE');
    chmodSync(at('closed'), 0o755);
    writeFileSync(at('closed/two\nlines'), 'x');
    expect(await codeOf(all())).toBe('STORE_UNAVAILABLE');
    rmSync(at('closed/two\nlines'));
    writeFileSync(at(`closed/${'a'.repeat(255)}`), 'x');
    expect(await codeOf(all())).toBe('STORE_UNAVAILABLE');
    rmSync(at('closed'), { recursive: true });
    expect(await all()).not.toContain('closed/file');
  });

  test('a name that is reserved by a publish that died counts as free', async () => {
    const text = reservationFor(temporaryKey(999_999_999_999_999, 999_999_999));
    writeFileSync(at('reserved.root'), text);
    expect(await store.sizeOf('reserved.root')).toBeUndefined();
    for await (const { key } of store.list()) expect(key).not.toBe('reserved.root');
    // As long as it, and something else.
    writeFileSync(at('reserved.root'), text.toUpperCase());
    expect(await store.sizeOf('reserved.root')).toBe(text.length);
  });

  test('a store without checksums of its own says the size only', async () => {
    const file = await makeFile(join(folder, 'plain'), 'plain');
    const plain = new XrootdStore(settingsOf(server, { root: '/store/other', checksum: 'none' }));
    const key = temporaryKey(5, 1);
    await plain.put(file.path, key, file);
    const said = await plain.says(key, file);
    expect(said.sizeBytes).toBe(5);
    expect(judge(file, said)?.code).toBe('NOT_CONFIRMED');
    expect(judge(file, await plain.ask(key))).toBeUndefined();
    await plain.removeTemporary(key);
  });

  test('the tools are started a few times for many files, and each name is taken once', async () => {
    const log = join(folder, 'starts');
    const counted = (tool: string) => {
      const path = join(folder, `counted ${tool}`);
      writeFileSync(path, `#!/bin/sh\necho ${tool} >> '${log}'\nexec ${tool} "$@"\n`, {
        mode: 0o755,
      });
      return path;
    };
    const tools = { xrdfs: counted('xrdfs'), xrdcp: counted('xrdcp') };
    const many = new XrootdStore(settingsOf(server, { root: '/store/other', ...tools }));
    const files = await Promise.all(
      ['a/1', 'a/2', 'b', 'b/below', 'a/1'].map(async (key, nth) => {
        const file = await makeFile(join(folder, `many${nth}`), `of ${nth}`);
        const temporary = temporaryKey(600 + nth, 1);
        await many.put(file.path, temporary, file);
        return { ...file, temporary, key: `many/${key}` };
      }),
    );
    writeFileSync(log, '');
    const codes = await Promise.all(
      files.map(({ temporary, key }) => codeOf(many.publish(temporary, key))),
    );
    // Of two that want one name, or one below the other, one has it.
    expect(codes.filter((code) => code === 'nothing was refused')).toHaveLength(3);
    for (const [nth, { temporary, key, ...file }] of files.entries()) {
      const isPublished = codes[nth] === 'nothing was refused';
      const doubt = judge(file, await many.ask(isPublished ? key : temporary));
      expect(doubt, key).toBeUndefined();
      if (!isPublished) await many.removeTemporary(temporary);
    }
    const starts = readFileSync(log, 'utf8').trimEnd().split('\n');
    // Each file is read back once here.
    expect(starts.filter((tool) => tool === 'xrdcp').length).toBeLessThan(files.length + 5);
    expect(starts.filter((tool) => tool === 'xrdfs').length).toBeLessThan(12);
  });

  test('jobs get a URL, of another door too; nothing of this host goes to the tools but PATH and HOME', async () => {
    expect(store.accessUrl('a b/c')).toBe(`${server.url}//store/other/a b/c`);
    const door = new XrootdStore(settingsOf(server, { accessUrlPrefix: 'root://door//' }));
    expect(door.accessUrl('x')).toBe('root://door//x');
    expect(await codeOf(store.keyOf('root://127.0.0.1:1//store/other/flip.root'))).toBe(
      'BAD_USER_INPUT',
    );
    const tool = join(folder, 'xrdfs');
    const told = join(folder, 'told');
    writeFileSync(tool, `#!/bin/sh\nenv > '${told}'\nexit 0\n`, { mode: 0o755 });
    process.env['TEST_SECRET'] = 'secret';
    const spied = new XrootdStore(settingsOf(server, { xrdfs: tool, tokenFile: '/tmp/token' }));
    // It ended well and said nothing: that is no yes.
    expect(await codeOf(spied.sizeOf('flip.root'))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(spied.says('flip.root', { sizeBytes: 1, adler32: '', sha256: null }))).toBe(
      'STORE_UNAVAILABLE',
    );
    const env = readFileSync(told, 'utf8');
    expect(env).toContain('BEARER_TOKEN_FILE=/tmp/token');
    expect(env).not.toContain('secret');
    const missing = new XrootdStore(settingsOf(server, { xrdfs: join(folder, 'no such tool') }));
    expect(await codeOf(missing.sizeOf('flip.root'))).toBe('STORE_UNAVAILABLE');
    expect((await missing.probe()).detail).toContain('is not installed here');
    copyFileSync(tool, join(folder, 'not to be run'));
    chmodSync(join(folder, 'not to be run'), 0o644);
  });
});

describe('an "xrdfs" that stays', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-xrdfs-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const statOf = (size: number) =>
    `Size:   ${size}\\nMTime:  2026-11-26 01:09:08\\nFlags:  48 (IsReadable)\\n`;
  let nth = 0;
  /** Asked alone it says 7 bytes; by its standard input it answers a stat with what is given here. */
  const talking = (answer: string, afterwards = '') => {
    const tool = join(folder, `xrdfs${++nth}`);
    const text = [
      '#!/bin/sh',
      `[ $# -gt 1 ] && { printf '${statOf(7)}'; exit 0; }`,
      `printf '[h] / > '`,
      'while read line; do',
      '  echo "$line"',
      `  case $line in sweepbook-*) echo '[ERROR] Command not found' >&2;; *) ${answer};; esac`,
      `  printf '[h] / > '`,
      `  case $line in sweepbook-*-1) ;; sweepbook-*) ${afterwards || ':'};; esac`,
      'done',
    ];
    writeFileSync(tool, `${text.join('\n')}\n`, { mode: 0o755 });
    const server = { url: 'root://127.0.0.1:1' };
    return new XrootdStore(settingsOf(server, { xrdfs: tool, askSeconds: 1 }));
  };

  test.for([
    ['its answer is taken', `printf '${statOf(5)}'`, '', [5, 5]],
    ['one that answers nothing is asked alone', 'exit 0', '', [7, 7]],
    [
      'what came unasked is no answer',
      `printf '${statOf(5)}'`,
      `sleep 0.05; printf '${statOf(6)}'`,
      [5, 7],
    ],
    ['words that were not its own are no answer', `printf '\\r<'`, '', ['STORE_UNAVAILABLE']],
    [
      'an error is no size',
      `printf '${statOf(5)}'; echo '[ERROR] [3012] no' >&2`,
      '',
      ['STORE_UNAVAILABLE'],
    ],
    [
      'that it is not there is one',
      `echo '[ERROR] Server responded with an error: [3011] no such file' >&2`,
      '',
      ['STORE_UNAVAILABLE'],
    ],
  ] as const)('%s', async ([, answer, afterwards, wanted]) => {
    const store = talking(answer, afterwards);
    const said: unknown[] = [];
    for (const _ of wanted) {
      said.push(await store.sizeOf('file').catch((error: { code: string }) => error.code));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(said).toEqual(wanted);
  });
});

describe('what the tools of XRootD print', () => {
  test('only eight lower-case digits are an adler32', () => {
    expect(parseAdler32('adler32 39cad0bf\n')).toBe('39cad0bf');
    for (const text of [
      '',
      'adler32',
      'adler32 39cad0b',
      'adler32 39CAD0BF',
      'adler32 39cad0bf0',
      'md5 39cad0bf',
      'adler32 39cad0bf\nadler32 00000001',
      ' adler32 39cad0bf',
      'adler32  39cad0bf',
      '39cad0bf',
    ]) {
      expect(parseAdler32(text), text).toBeUndefined();
    }
  });

  test('a stat without its size, time or flags is none', () => {
    const lines = [
      'Size:   5',
      'MTime:  2026-11-26 01:09:08',
      'Flags:  48 (IsReadable|IsWritable)',
    ];
    expect(parseStat(lines.join('\n'))).toEqual({
      sizeBytes: 5,
      modified: '2026-11-26 01:09:08',
      flags: ['IsReadable', 'IsWritable'],
    });
    for (let left = 0; left < 3; left++) {
      expect(parseStat(lines.filter((_, at) => at !== left).join('\n'))).toBeUndefined();
    }
  });

  test('a line of a listing, as new and as old servers have it', () => {
    const file = { name: ' a  b ', isFolder: false, sizeBytes: 5 };
    const time = '2026-11-26 01:09:08';
    const changedAt = new Date('2026-11-26T01:09:08Z');
    expect(parseListed(`-rw-r--r-- xrootd xrootd    5 ${time} /s/ a  b `, '/s')).toEqual({
      ...file,
      changedAt,
    });
    expect(parseListed(`-rw- ${time}            5 /s/ a  b `, '/s')).toEqual({
      ...file,
      changedAt,
    });
    expect(parseListed(`drwxr-xr-x x x 4096 ${time} /s/d`, '/s')?.isFolder).toBe(true);
    for (const line of [
      '',
      'x',
      `-rw-r--r-- x x 5 ${time} /other/a`,
      `-rw-r--r-- x x 5 ${time} /s/a/b`,
      `-rw-r--r-- x x five ${time} /s/a`,
      `-rw-r--r-- x x 5 ${time} /s/`,
    ]) {
      expect(parseListed(line, '/s'), line).toBeUndefined();
    }
  });
});
