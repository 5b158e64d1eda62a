import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adler32 } from 'hash-wasm';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { askAndJudge } from '../../src/storage/judge.ts';
import { HpssTool, hpssSettings } from '../../src/storage/hpss.ts';
import { parseExtended, parseLine, residencyOf } from '../../src/storage/hpss-answers.ts';
import { ToolStore } from '../../src/storage/tool-store.ts';
import { selfTest } from '../../src/storage/self-test.ts';
import { makeFile, type MadeFile } from '../support/files.ts';
import { startHpssSite, type HsiAnswer } from '../support/hpss-site.ts';
import { storeContract, type StoreUnderTest } from './contract.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-hpss-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function openSite(name: string) {
  const site = await startHpssSite(join(folder, name));
  const openStore = (more: object = {}) => {
    const settings = hpssSettings.parse({
      name: 'hpss',
      kind: 'hpss',
      root: '/home/babar',
      hsi: [site.hsi],
      scratch: folder,
      askSeconds: 20,
      ...more,
    });
    return new ToolStore(settings, new HpssTool(settings));
  };
  const store = openStore();
  await store.prepare();
  return { site, store, openStore };
}

let contractSite: Awaited<ReturnType<typeof openSite>>;

async function openContractSite(): Promise<StoreUnderTest> {
  contractSite = await openSite('contract');
  const { site, store } = contractSite;
  const at = (key: string) => `/home/babar/${key}`;
  const write = async (key: string, bytes: Buffer) => {
    const levels = [bytes.length, 0];
    // Its own checksum is of the file that was put: a memory.
    const sum = site.held.get(at(key))?.sum ?? (await adler32(bytes));
    site.held.set(at(key), { bytes, sum, levels, changedAt: new Date() });
  };
  return {
    store,
    backDoor: {
      write,
      remove: (key) => void site.held.delete(at(key)),
      unmount: async () => {
        const away = new Map(site.held);
        site.held.clear();
        return () => {
          for (const [path, file] of away) site.held.set(path, file);
        };
      },
    },
    halfPublished: [
      ['nothing done', () => undefined],
      [
        'the same file is there',
        (from, to) => {
          const file = site.held.get(at(from));
          site.folders.add(at(to.slice(0, to.lastIndexOf('/'))));
          if (file) site.held.set(at(to), { ...file });
        },
      ],
    ],
    refusedNames: [
      ' two  spaces ',
      `quotes'"\`back\\slash $HOME ; & | > .root`,
      '--help',
      'Größe-データ-🚀\u2028.root',
      '*?[x]{y}.root',
      'a?b=c',
      'a#b&c=d+e%20f%:b@c,d~.meta4',
    ],
    namesOfFolders: 'a-folder',
    mayReplaceInARace: true,
    close: () => site.close(),
  };
}

storeContract('HPSS (hsi)', openContractSite, {
  freeze: async () => {
    const { site, openStore } = contractSite;
    site.state.isFrozen = true;
    const impatient = openStore({ askSeconds: 1 });
    return { store: impatient, thaw: () => void (site.state.isFrozen = false) };
  },
});

describe('an HPSS store', () => {
  let open: Awaited<ReturnType<typeof openSite>>;
  let file: MadeFile;
  let key: string;
  let path: string;
  beforeAll(async () => {
    open = await openSite('lies');
    file = await makeFile(join(folder, 'source'), 'truth', 4000);
    key = 'lie.root';
    path = `/home/babar/${key}`;
    const temporary = temporaryKey(1, 1);
    await open.store.put(file.path, temporary, file);
    await open.store.publish(temporary, key);
  });
  afterEach(() => {
    open.site.state.lie = undefined;
  });
  afterAll(() => open.site.close());

  test('the truth is believed: measured, not remembered', async () => {
    const { answer, doubt } = await askAndJudge(open.store, key, file, 'SAYS');
    expect(doubt).toBeUndefined();
    expect(answer.evidence.asked).toMatch(/ls -aldDN .*hashlist .*hashverify -A /);
    expect(answer.evidence.answer).toContain('(adler32) OK');
    const quick = await askAndJudge(open.openStore({ verify: false }), key, file, 'SAYS');
    expect(quick.doubt).toBeUndefined();
    expect(quick.answer.evidence.asked).not.toContain('hashverify');
  });

  test('it passes its self-test; a source of any name is put by its open file', async () => {
    expect(await selfTest(open.store, 7)).toMatchObject({ passed: true, isConclusive: true });
    const odd = await makeFile(join(folder, `odd ; rm * "'`), 'odd');
    await open.store.put(odd.path, temporaryKey(2, 1), odd);
    const said = await askAndJudge(open.store, temporaryKey(2, 1), odd, 'READ_BACK');
    expect(said.doubt).toBeUndefined();
    await open.store.removeTemporary(temporaryKey(2, 1));
  });

  const out = (text: string, code = 0): HsiAnswer => ({ code, out: text });
  const changed = (honest: HsiAnswer, from: string | RegExp, to: string): HsiAnswer => ({
    code: honest.code,
    out: honest.out.replace(from, to),
  });

  test.each<[string, string, (honest: HsiAnswer) => HsiAnswer]>([
    ['an empty stored checksum, exit code 0', 'hashlist', () => out('')],
    ['no stored checksum', 'hashlist', () => out(`(none) /home/babar/lie.root\n`)],
    ['of another file', 'hashlist', (honest) => changed(honest, 'lie.root', 'lie2.root')],
    ['of another kind', 'hashlist', (honest) => changed(honest, 'adler32', 'md5')],
    ['without its leading zero', 'hashlist', (honest) => changed(honest, /^./, '')],
    ['in capitals', 'hashlist', (honest) => out(honest.out.toUpperCase())],
    ['another one', 'hashlist', (honest) => changed(honest, /^.{8}/, '00000001')],
    ['two answers', 'hashlist', (honest) => out(honest.out + honest.out)],
    ['right words, exit code 74', 'hashlist', (honest) => out(honest.out, 74)],
    ['an error, exit code 0', 'hashlist', () => out('*** hashlist: internal error\n')],
    [
      'right words and an error, exit code 0',
      'hashlist',
      (honest) => out(`${honest.out}*** oops\n`),
    ],
    ['base64', 'hashlist', (honest) => changed(honest, /^.{8}/, 'AAAAAQ==')],
    ['ten megabytes', 'hashlist', (honest) => out(honest.out.repeat(150_000))],
    ['FAILED, exit code 0', 'hashverify', (honest) => changed(honest, 'OK', 'FAILED')],
    ['not a word, exit code 0', 'hashverify', () => out('')],
    ['OK of another file', 'hashverify', (honest) => changed(honest, 'lie.root', 'lie')],
    ['OK by another kind', 'hashverify', (honest) => changed(honest, 'adler32', 'crc32')],
    ['OK and a remark', 'hashverify', (honest) => changed(honest, 'OK', 'OK (skipped)')],
    ['OK, exit code 65', 'hashverify', (honest) => out(honest.out, 65)],
    ['a byte less', 'ls', (honest) => changed(honest, ' 4000 ', ' 3999 ')],
    ['no size', 'ls', (honest) => changed(honest, ' 4000 ', ' ')],
    ['another path', 'ls', (honest) => changed(honest, 'lie.root', 'lie')],
    ['a folder', 'ls', (honest) => changed(honest, /^-/, 'd')],
    ['nothing, exit code 0', 'ls', () => out('')],
    ['two lines', 'ls', (honest) => out(honest.out + honest.out)],
    ['try again (75)', 'ls', () => out('*** hsi: HPSS is busy\n', 75)],
    ['try again (75) of the checksum', 'hashverify', () => out('*** hsi: HPSS is busy\n', 75)],
    ['not allowed (77)', 'ls', () => out('*** ls: permission denied\n', 77)],
    ['absent by exit code alone', 'ls', () => out('', 72)],
  ])('%s from %s confirms nothing', async (_what, command, lie) => {
    open.site.state.lie = (asked, honest) => (asked === command ? lie(honest) : undefined);
    const got = await askAndJudge(open.store, key, file, 'SAYS').then(
      ({ answer, doubt }) => {
        expect(answer.evidence.asked).toContain('hsi');
        return doubt?.code;
      },
      (error: { code: string }) => error.code,
    );
    expect(got).toMatch(/^(NOT_CONFIRMED|CHECKSUM_MISMATCH|STORE_UNAVAILABLE)$/);
  });

  test('bytes that turned: its memory is right, what it reads is not', async () => {
    const held = open.site.held.get(path);
    if (!held) throw new Error('not there');
    const right = held.bytes;
    held.bytes = Buffer.from(right.toString().replace('truth', 'lying'));
    const remembered = await askAndJudge(open.openStore({ verify: false }), key, file, 'SAYS');
    expect(remembered.doubt).toBeUndefined();
    expect((await askAndJudge(open.store, key, file, 'SAYS')).doubt?.code).toBe('NOT_CONFIRMED');
    const read = await askAndJudge(open.store, key, file, 'READ_BACK');
    expect(read.doubt?.code).toBe('CHECKSUM_MISMATCH');
    held.bytes = right;
  });

  test.each<[string, number[], string, number]>([
    ['on disk only', [4000, 0], 'DISK', 1],
    ['on both', [4000, 4000], 'DISK_AND_TAPE', 1],
    ['on tape only', [0, 4000], 'TAPE', 1],
    ['half migrated', [4000, 2000], 'DISK', 1],
    ['nowhere', [0, 0], 'UNKNOWN', 1],
    ['more than there is', [4000, 4001], 'UNKNOWN', 1],
    ['one of two copies', [4000, 4000, 0], 'DISK', 2],
    ['both copies', [0, 4000, 4000], 'TAPE', 2],
  ])('a file %s is where its levels say', async (_what, levels, residency, tapeCopies) => {
    open.site.migrate(path, ...levels);
    const store = open.openStore({ tapeCopies });
    const said = await store.residencyOf(['none.root', key]);
    expect([...said.keys()]).toEqual([key]);
    expect(said.get(key)?.residency).toBe(residency);
    expect(said.get(key)?.evidence.answer).toContain('(tape)');
  });

  test.each<[string, (honest: HsiAnswer) => HsiAnswer]>([
    ['empty', () => out('')],
    ['of another file', (honest) => out(honest.out.replaceAll('lie.root', 'other.root'))],
    ['twice', (honest) => out(honest.out + honest.out)],
    ['without its levels', (honest) => out(honest.out.split('\n')[0] ?? '')],
    ['in other words', (honest) => out(honest.out.replaceAll('(tape)', '(vault)'))],
    ['without a size', (honest) => changed(honest, ' 4000 ', ' ')],
  ])('an answer about tape that is %s archives nothing', async (_what, lie) => {
    open.site.migrate(path, 0, 4000);
    open.site.state.lie = (_asked, honest) => lie(honest);
    const said = await open.store.residencyOf([key]);
    expect(said.get(key)?.residency ?? 'UNKNOWN').toBe('UNKNOWN');
  });

  test('no more sessions are open at once than the site allows', async () => {
    const store = open.openStore({ sessions: 2 });
    open.site.state.mostOpen = 0;
    await Promise.all(Array.from({ length: 6 }, () => store.sizeOf(key)));
    expect(open.site.state.mostOpen).toBeLessThanOrEqual(2);
    expect(open.site.state.mostOpen).toBeGreaterThan(0);
  });
});

test('what hsi prints is understood, or not at all', () => {
  const size = (line: string) => parseLine(line)?.sizeBytes;
  expect(size('-rw-r-----   1 a b 7 0 DISK 100 Wed Nov 26 01:09:08 2026 /x')).toBe(100);
  expect(size('-rw-r--r--   1 a b 100 Nov 26 01:09 /x')).toBe(100);
  for (const line of [
    '',
    'x',
    '-rw-r--r-- 1 a b Nov 26 01:09 /x',
    '-rw- 1 a b 100 Nov 26 01:09 /x',
  ]) {
    expect(parseLine(line), line).toBeUndefined();
  }
  const [one] = parseExtended(
    '-rw-r-----   1 a b 100 Nov 26 01:09 2026 /x\n 1 (tape)  1  1  100\n',
  );
  expect(one && residencyOf(one, 1)).toBe('TAPE');
  expect(one && residencyOf({ ...one, levels: [] }, 1)).toBe('UNKNOWN');
});
