import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { fetchImport, type Fetched } from '../../src/storage/fetch-import.ts';
import type { ImportSource } from '../../src/storage/import-sources.ts';
import { openDoor, type Door } from '../imports/sites.ts';
import { describeFile } from '../support/files.ts';
import { isInstalled } from '../support/installed.ts';
import { until } from '../support/until.ts';
import { XrootdForTests } from '../support/xrootd.ts';

let folder: string;
let door: Door;
let source: ImportSource;
let next = 1;
let told = '';
const mounted: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-fetch-'));
  mkdirSync(join(folder, 'data'));
  mkdirSync(join(folder, 'mounted'));
  door = await openDoor(folder);
  source = {
    site: 'SLAC',
    server: undefined,
    token: undefined,
    keys: [],
    read: [`${door.address}/data/`, join(folder, 'mounted')].map((prefix) => ({
      prefix,
      token: undefined,
      redirects: false,
    })),
  };
});
afterEach(() => {
  door.trick = undefined;
});
afterAll(async () => {
  for (const mount of mounted) execFileSync('umount', [mount]);
  await door.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Wanted {
  source?: ImportSource;
  xrootd?: { xrdcp: string; xrdfs: string };
  area?: string;
  id?: number;
  attempt?: number;
  lfn?: string;
  url?: string;
  isBrought?: boolean;
  sizeBytes?: number;
}

/** Fetches a file of random bytes, or says the code of why not. */
async function fetched(
  name: string,
  bytes: Buffer,
  wanted: Wanted = {},
): Promise<Fetched | string> {
  writeFileSync(join(folder, 'data', name), bytes);
  const { sizeBytes, adler32, sha256 } = await describeFile(join(folder, 'data', name));
  const { url, ...given } = wanted;
  return fetchImport({
    source,
    area: join(folder, 'area'),
    xrootd: { xrdcp: 'xrdcp', xrdfs: 'xrdfs' },
    lfn: `/x/${name}`,
    expected: { sizeBytes: wanted.sizeBytes ?? sizeBytes, adler32, sha256 },
    urls: [url ?? `${door.address}/data/${name}`],
    id: next++,
    attempt: 1,
    isBrought: false,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    announce: async () => undefined,
    ...given,
  }).catch((error: { code?: string; message: string }) => {
    told = error.message;
    return error.code ?? error.message;
  });
}

const parts = (area = join(folder, 'area')) => readdirSync(join(area, '.incoming'));

test('redirects are followed to where the source may be read, and nowhere else', async () => {
  const bytes = randomBytes(1000);
  let to = `${door.address}/data/moved`;
  door.trick = (request, response) => {
    if (!request.url?.endsWith('redirected')) return false;
    response.writeHead(302, { location: to }).end();
    return true;
  };
  writeFileSync(join(folder, 'data', 'moved'), bytes);
  expect(await fetched('redirected', bytes)).toMatchObject({
    path: join(folder, 'area/x/redirected'),
  });
  const asked: string[] = [];
  const inner = await openDoor(folder);
  inner.trick = (request) => {
    asked.push(request.url ?? '');
    return false;
  };
  for (to of [
    `${inner.address}/data/moved`,
    `${door.address}/secret`,
    'file:///etc/passwd',
    'http://[::1]:1/',
  ]) {
    expect(await fetched(`redirected`, bytes, { lfn: `/x/${next}` }), to).toBe(
      'SOURCE_NOT_ALLOWED',
    );
  }
  expect(asked).toEqual([]);
  await inner.close();
});

test('a door without ranges is read from the beginning, a part of another file once more', async () => {
  const bytes = randomBytes(5000);
  mkdirSync(join(folder, 'area', '.incoming'), { recursive: true });
  writeFileSync(join(folder, 'area', '.incoming', 'i900.a1'), bytes.subarray(0, 2000));
  door.trick = (_request, response) => {
    response.writeHead(200).end(bytes);
    return true;
  };
  expect(await fetched('norange', bytes, { id: 900, attempt: 2 })).toMatchObject({
    from: expect.any(String),
  });
  door.trick = undefined;
  writeFileSync(join(folder, 'area', '.incoming', 'i901.a3'), Buffer.alloc(2000));
  const at = door.log.length;
  expect(await fetched('stale', bytes, { id: 901, attempt: 5 })).toMatchObject({
    from: expect.any(String),
  });
  expect(door.log.slice(at)).toEqual(['bytes=2000-', 'all']);
  expect(readFileSync(join(folder, 'area/x/stale')).equals(bytes)).toBe(true);
  expect(parts().filter((name) => name.startsWith('i90'))).toEqual([]);
});

test('an answer that never ends is cut at the size that was told', async () => {
  const bytes = randomBytes(1000);
  door.trick = (_request, response) => {
    response.writeHead(200);
    const pour = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536)));
    };
    response.on('drain', pour);
    pour();
    return true;
  };
  expect(await fetched('endless', bytes)).toBe('SOURCE_CHANGED');
  expect(existsSync(join(folder, 'area/x/endless'))).toBe(false);
});

test('paths are read below the folder that was named, whatever links say; nothing is replaced', async () => {
  const bytes = randomBytes(1000);
  writeFileSync(join(folder, 'mounted', 'file'), bytes);
  expect(await fetched('file', bytes, { url: join(folder, 'mounted', 'file') })).toMatchObject({
    from: join(folder, 'mounted', 'file'),
  });
  symlinkSync(join(folder, 'data', 'file'), join(folder, 'mounted', 'link'));
  expect(
    await fetched('file', bytes, { url: join(folder, 'mounted', 'link'), lfn: '/x/link' }),
  ).toBe('SOURCE_NOT_ALLOWED');
  const file = join(folder, 'area/x/file');
  writeFileSync(file, 'another');
  expect(await fetched('file', bytes)).toBe('DUPLICATE');
  expect(readFileSync(file, 'utf8')).toBe('another');
  // Ours, and broken: fetched anew.
  expect(await fetched('file', bytes, { isBrought: true })).toMatchObject({ path: file });
  // A link in the area that leads out of it.
  mkdirSync(join(folder, 'outside'));
  symlinkSync(join(folder, 'outside'), join(folder, 'area', 'out'));
  expect(await fetched('file', bytes, { lfn: '/out/file' })).toBe('FORBIDDEN');
  expect(readdirSync(join(folder, 'outside'))).toEqual([]);
});

/** A program that notes how much of its last argument there is, and copies slowly. */
function slowXrdcp(log: string): string {
  const path = join(folder, 'slow-xrdcp');
  const script = `#!/bin/sh\nfor last; do :; done\nstat -c %s "$last" >> ${log}\nXRD_CPCHUNKSIZE=65536 exec xrdcp --xrate 3m "$@"\n`;
  writeFileSync(path, script, { mode: 0o755 });
  return path;
}

test.runIf(isInstalled('xrootd'))(
  'root:// is read by xrdcp; cut off, it goes on where it ended',
  async () => {
    const bytes = randomBytes(2_000_000);
    const name = 'ü b%20.root';
    const xrootd = await XrootdForTests.start((data) => {
      mkdirSync(join(data, 'store'));
      writeFileSync(join(data, 'store', name), bytes);
    });
    const from = (url: string, redirects: boolean): ImportSource => ({
      ...source,
      read: [{ prefix: `${url}//store/`, token: undefined, redirects }],
    });
    const wanted = { source: from(xrootd.url, false), url: `x${xrootd.url}//store/${name}` };
    const log = join(folder, 'sizes');
    const slow = { xrdcp: slowXrdcp(log), xrdfs: 'xrdfs' };
    const part = (attempt: number) =>
      statSync(join(folder, `area/.incoming/i800.a${attempt}`), { throwIfNoEntry: false })?.size ??
      0;
    let sender: XrootdForTests | undefined;
    try {
      const cut = fetched(name, bytes, { ...wanted, id: 800, xrootd: slow });
      await until('some of it is here', () => part(1) > 500_000);
      await xrootd.kill();
      expect(await cut, told).toBe('UNAVAILABLE');
      const here = part(1);
      expect(here).toBeLessThan(bytes.length);
      await xrootd.start();
      // A beginning of other bytes shows that it goes on behind them, and then, once more, from the beginning.
      const file = openSync(join(folder, 'area/.incoming/i800.a1'), 'r+');
      writeSync(file, Buffer.alloc(1000));
      closeSync(file);
      const again = { ...wanted, id: 800, attempt: 2, xrootd: { ...slow } };
      expect(await fetched(name, bytes, again), told).toMatchObject({ from: wanted.url });
      expect(readFileSync(log, 'utf8')).toBe(`0\n${here}\n0\n`);
      expect(readFileSync(join(folder, 'area/x', name)).equals(bytes)).toBe(true);

      sender = await XrootdForTests.start(
        (data) => mkdirSync(join(data, 'store')),
        [
          `xrootd.redirect ${xrootd.url.slice(7)} all`,
          `xrootd.redirect ${xrootd.url.slice(7)} /store`,
        ],
      );
      const sent = { url: `${sender.url}//store/${name}` };
      const cases: [Wanted, string | object, RegExp][] = [
        [{ ...wanted, sizeBytes: 10 }, 'SOURCE_CHANGED', /2000000 bytes, the manifest tells 10/],
        [{ ...wanted, url: `${wanted.url}x` }, 'SOURCE_UNREADABLE', /no such file/],
        [{ ...wanted, url: `${xrootd.url}//other/x` }, 'SOURCE_NOT_ALLOWED', /may read/],
        [{ ...sent, source: from(sender.url, false) }, 'SOURCE_NOT_ALLOWED', /sends readers on/],
        [{ ...sent, source: from(sender.url, true) }, { from: sent.url }, /./],
        [
          { ...wanted, xrootd: { xrdcp: '/no/xrdcp', xrdfs: '/no/xrdfs' } },
          'UNAVAILABLE',
          /xrdfs is not installed here: install it/,
        ],
      ];
      for (const [more, outcome, message] of cases) {
        const found = await fetched(name, bytes, { ...more, lfn: `/x/root${next}` });
        if (typeof outcome === 'string') expect(found, told).toBe(outcome);
        else expect(found, told).toMatchObject(outcome);
        expect(told).toMatch(message);
      }
    } finally {
      await sender?.stop();
      await xrootd.stop();
    }
  },
);

test('on a full disk it stops, and goes on where it stopped when there is room', async () => {
  const area = join(folder, 'small');
  mkdirSync(area);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', area], { stdio: 'ignore' });
  } catch {
    console.warn('NOT TRIED: a full disk; this account cannot mount a small one');
    return;
  }
  mounted.push(area);
  const bytes = randomBytes(400_000);
  expect(await fetched('big', bytes, { area, id: 950 })).toBe('NO_SPACE');
  expect(parts(area)).toEqual(['i950.a1']);
  execFileSync('mount', ['-o', 'remount,size=1m', area]);
  expect(await fetched('big', bytes, { area, id: 950, attempt: 2 })).toMatchObject({
    path: join(area, 'x/big'),
  });
  expect(door.log.at(-1)).toMatch(/^bytes=\d+-$/);
  expect(readFileSync(join(area, 'x/big')).equals(bytes)).toBe(true);
});
