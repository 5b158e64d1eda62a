import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadDrivers, OpenStores } from '../../src/storage/open.ts';
import { readStoreFile } from '../../src/storage/store-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-store-file-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const stores = (text: string) => {
  const path = join(folder, 'stores.yaml');
  writeFileSync(path, text);
  return readStoreFile(path).stores;
};

const all = `
stores:
  - { name: disk, kind: directory, root: /mass }
  - name: pool
    kind: xrootd
    url: xroot://eos.example:1094
    root: /store
    confirm: COPIED
  - name: bucket
    kind: s3
    endpoint: https://s3.example
    bucket: mass-store
    accessKey: { env: S3_ACCESS }
    secretKey: { file: /run/secrets/s3 }
  - { name: door, kind: webdav, root: https://door.example/store/, confirm: COPIED }
`;

test('a store of each kind is read, and opened by its name', async () => {
  const read = stores(all);
  await loadDrivers(read);
  const open = new OpenStores(read);
  const of = (name: string, kind: string, id: number) =>
    open.of({ id, name, kind, root: '/anywhere' });
  expect(of('disk', 'directory', 1).placeOf('a')).toBe('/mass/a');
  expect(of('pool', 'xrootd', 2).placeOf('a')).toBe('root://eos.example:1094//store/a');
  expect(of('bucket', 's3', 3).placeOf('a')).toBe('s3://mass-store/a');
  expect(of('bucket', 's3', 3)).toBe(of('bucket', 's3', 3));
  expect(of('door', 'webdav', 7).placeOf('a b')).toBe('https://door.example/store/a%20b');
  // A folder that only the table knows.
  expect(of('old', 'directory', 4).placeOf('a')).toBe('/anywhere/a');
  for (const [name, kind, id, why] of [
    ['tape', 'hpss', 5, 'name it in the store file'],
    ['pool', 'directory', 6, 'is of the kind xrootd there'],
  ] as const) {
    const away = of(name, kind, id);
    expect((await away.probe()).isUp).toBe(false);
    await expect(away.sizeOf('a')).rejects.toThrow(why);
    expect(away.accessUrl('a')).toBe('/anywhere/a');
  }
});

test.each([
  ['a secret in the file', all.replace('{ env: S3_ACCESS }', 'AKIA123'), /accessKey/],
  ['a word that is not known', all.replace('confirm:', 'confirms:'), /confirms/],
  ['a URL with a path', all.replace(':1094', ':1094/store'), /url: root:/],
  [
    'a root with an option',
    all.replace('root: /store', 'root: /store?x'),
    /root: an absolute path/,
  ],
  [
    'a level that a bucket cannot give',
    all.replace('kind: s3', 'kind: s3\n    confirm: COPIED'),
    /bucket cannot give COPIED: .* gives READ_BACK$/,
  ],
  [
    'tape behind a door that has no word for it',
    all.replace('store/, confirm: COPIED', 'store/, confirm: ARCHIVED'),
    /door cannot give ARCHIVED: .* gives COPIED, READ_BACK$/,
  ],
  [
    'the word of a door that says none',
    all.replace('store/, confirm', 'store/, checksum: none, confirm'),
    /door cannot give COPIED: .* gives READ_BACK$/,
  ],
  [
    'a first wait beyond the longest',
    all.replace('kind: xrootd', 'kind: xrootd\n    retry: { firstSeconds: 900 }'),
    /retry\.firstSeconds: at most longestSeconds: lower it, .* \(it is 900\)/,
  ],
  [
    'waits that shrink',
    all.replace('kind: xrootd', 'kind: xrootd\n    retry: { factor: 0.5 }'),
    /retry\.factor: .*>=1 \(it is 0\.5\)/,
  ],
  ['two of one name', all.replace('name: pool', 'name: disk'), /two stores are called disk/],
  ['no YAML', 'stores: [', /store file/],
])('%s is refused, and told', (_what, text, why) => {
  expect(() => stores(text)).toThrow(why);
});
