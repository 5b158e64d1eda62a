import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { askAndJudge } from '../../src/storage/judge.ts';
import { selfTest } from '../../src/storage/self-test.ts';
import { webdavSettings } from '../../src/storage/webdav-settings.ts';
import { WebDavStore } from '../../src/storage/webdav-store.ts';
import { makeFile } from '../support/files.ts';
import { isInstalled } from '../support/installed.ts';
import { startTapeSite, type Lies } from '../support/tape-site.ts';
import { XrootdForTests } from '../support/xrootd.ts';
import { codeOf, storeContract, type StoreUnderTest } from './contract.ts';
import { temporaryKey } from '../../src/storage/incoming.ts';

const isHere = isInstalled('xrootd');
const folder = mkdtempSync(join(tmpdir(), 'sweepbook-webdav-'));
let started: Promise<XrootdForTests> | undefined;
const startedXrootd = () => (started ??= XrootdForTests.start());
afterAll(async () => {
  await (await started)?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const storeAt = (root: string, more: object = {}) =>
  new WebDavStore(webdavSettings.parse({ name: 'door', kind: 'webdav', root, ...more }));

async function openDoor(): Promise<StoreUnderTest> {
  const server = await startedXrootd();
  const store = storeAt(`${server.door}/store/mass`);
  await store.prepare();
  const backDoor = server.massBackDoor();
  const { write, read } = backDoor;
  return {
    store,
    backDoor,
    halfPublished: [
      ['nothing done', () => undefined],
      ['the same file is there', (from, to) => write(to, read(from))],
    ],
    refusedNames: [
      ' two  spaces ',
      `quotes'"\`back\\slash $HOME ; & | > .root`,
      'Größe-データ-🚀\u2028.root',
      '*?[x]{y}.root',
      'a?b=c',
      'a#b&c=d+e%20f%:b@c,d~.meta4',
      'a'.repeat(255),
    ],
    namesOfFolders: 'a.folder',
    mayReplaceInARace: true,
    close: () => undefined,
  };
}

if (isHere) {
  storeContract('the HTTP door of XRootD', openDoor, {
    freeze: async () => {
      const server = await startedXrootd();
      server.signal('SIGSTOP');
      const impatient = storeAt(`${server.door}/store/mass`, { askSeconds: 1 });
      return { store: impatient, thaw: () => server.signal('SIGCONT') };
    },
  });
}

describe.runIf(isHere)('the HTTP door of XRootD', () => {
  let server: XrootdForTests;
  let store: WebDavStore;
  beforeAll(async () => {
    server = await startedXrootd();
    store = storeAt(`${server.door}/store/other`);
    await store.prepare();
  });

  test('it passes the self-test; what URLs may hold goes through it as it is', async () => {
    expect(await selfTest(store, 1)).toMatchObject({ passed: true, isConclusive: true });
    const file = await makeFile(join(folder, 'plain'), 'plain');
    const name = "run+1,a=b:c;d@e/$x&y!(z)*~'.root";
    await store.put(file.path, temporaryKey(1, 1), file);
    await store.publish(temporaryKey(1, 1), store.finalKey(`/${name}`));
    expect(readFileSync(server.path(`other/${name}`), 'utf8')).toBe('plain');
    expect((await askAndJudge(store, name, file, 'READ_BACK')).doubt).toBeUndefined();
    const empty = await makeFile(join(folder, 'empty'), '');
    await store.put(empty.path, temporaryKey(2, 1), empty);
    const said = await askAndJudge(store, temporaryKey(2, 1), empty, 'SAYS');
    expect(said.doubt).toBeUndefined();
    const jobs = storeAt(store.placeOf(''), { accessUrlPrefix: 'root://door//store/other/' });
    expect(jobs.accessUrl(name)).toBe(`root://door//store/other/${name}`);
    expect(store.accessUrl('a+b')).toBe(`${server.door}/store/other/a%2Bb`);
  });

  test('a server that dies amid a copy leaves half a file, that is never taken for one', async () => {
    const file = await makeFile(join(folder, 'dies'), 'dies', 100_000_000);
    const key = temporaryKey(3, 1);
    const put = codeOf(store.put(file.path, key, file));
    while (!existsSync(server.path(`other/${key}`))) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await server.kill();
    expect(await put).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(store.says(key, file))).toBe('STORE_UNAVAILABLE');
    await server.start();
    for (const asking of ['SAYS', 'READ_BACK'] as const) {
      const { doubt } = await askAndJudge(store, key, file, asking);
      expect(doubt?.code).toMatch(/CHECKSUM_MISMATCH|NOT_CONFIRMED/);
    }
    await store.removeTemporary(key);
    expect((await store.listTemporary()).map((found) => found.key)).not.toContain(key);
  });
});

describe('a door that lies', () => {
  let site: Awaited<ReturnType<typeof startTapeSite>>;
  let store: WebDavStore;
  let count = 0;
  beforeAll(async () => {
    site = await startTapeSite(folder);
    store = storeAt(site.url, { askSeconds: 2 });
    await store.prepare();
  });
  afterEach(() => {
    site.state.lies = {};
  });
  afterAll(() => site.close());

  test.each<[string, string, Lies]>([
    ['it tells the truth', 'confirmed', {}],
    [
      'size, and no checksum',
      'NOT_CONFIRMED',
      { head: ({ 'content-length': length = '' }) => ({ 'content-length': length }) },
    ],
    [
      'a size in its word that is not that of its listing',
      'NOT_CONFIRMED',
      { head: (honest) => honest, found: (xml) => xml.replaceAll('>9</D:getc', '>8</D:getc') },
    ],
    ['201, and the file is elsewhere', 'STORE_UNAVAILABLE', { moves: 'elsewhere' }],
    [
      'an answer about another file',
      'STORE_UNAVAILABLE',
      { found: (xml) => xml.replace('/b', '/c') },
    ],
    ['half an answer', 'STORE_UNAVAILABLE', { found: (xml) => xml.slice(0, -9) }],
    [
      'one name twice',
      'STORE_UNAVAILABLE',
      { found: (xml) => xml.replace(/<D:response>.*<\/D:response>/, '$&$&') },
    ],
    ['a file without a size', 'STORE_UNAVAILABLE', { found: (xml) => xml.replace('>9<', '><') }],
  ])('%s: %s', async (_, end, lies) => {
    const file = await makeFile(join(folder, `lie${++count}`), 'nine long');
    const key = temporaryKey(count, 1);
    await store.put(file.path, key, file);
    site.state.lies = lies;
    const work = async () => {
      const { doubt } = await askAndJudge(store, key, file, 'SAYS');
      if (doubt) throw doubt;
      await store.publish(key, `lies/${count}`);
      return 'confirmed';
    };
    expect(await codeOf(work())).toBe(end === 'confirmed' ? 'nothing was refused' : end);
  });

  test('half a listing is none, and neither is one without the marker', async () => {
    const listed = async () => {
      const keys = [];
      for await (const { key } of store.list()) keys.push(key);
      return keys;
    };
    expect(await listed()).toContain('lies/1');
    site.state.lies = { found: (xml) => xml.replace(/(lies\/1<.*?)getcontentlength/s, '$1size') };
    expect(await codeOf(listed())).toBe('STORE_UNAVAILABLE');
    site.state.lies = {};
    rmSync(join(site.root, '.sweepbook-store'));
    expect(await codeOf(listed())).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(store.says('lies/none', await makeFile(join(folder, 'no'), 'no')))).toBe(
      'STORE_UNAVAILABLE',
    );
  });
});
