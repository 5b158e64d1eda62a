import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { SweepbookError } from '../../src/errors.ts';
import { checkSource, withOpened } from '../../src/storage/check-source.ts';
import { makeComposite } from '../../src/storage/make-composite.ts';
import type { TestClient } from '../support/client.ts';
import { runProgram } from '../support/program.ts';
import { rootFile, type RootTree } from '../support/root-file.ts';
import { lastCursor, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { listed, look, reaches, request, writeFiles, writePublishFile } from './site.ts';

let folder: string;
let server: TestServer;
let alice: TestClient;
let bob: TestClient;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-publish-'));
  server = await startTestServer({ SWEEPBOOK_PUBLISH: writePublishFile(folder) });
  alice = await server.as('alice', 'USER');
  bob = await server.as('bob', 'USER');
});
afterAll(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

const home = (user: string) => join(folder, 'users', user);
const area = (id: number) => join(folder, 'area', `p${id}`);
/** Whether all that it has left is gone. */
async function isTidy(id: number): Promise<boolean> {
  const sql = 'select 1 from publications where id = $1 and cleaned_at is not null';
  return (await server.database.sql(sql, [id])).length > 0;
}

interface Published {
  dataset: {
    owner: string;
    kind: string;
    description: string;
    files: {
      nodes: { lfn: string; eventCount: number | null; replicas: { path: string }[] }[];
    };
  };
}
const published = async (name: string) =>
  (
    await server.operator.call<Published>(
      `query ($name: String!) { dataset(name: $name) {
        owner kind description files { nodes { lfn eventCount replicas { path } } } } }`,
      { name },
    )
  ).dataset;

/** Names that something might take for an option, a pattern, a placeholder, a list, or several names. */
const hostile = [
  '-rf',
  '--checkpoint-action=exec=id',
  '{inputs}',
  '*',
  'a b',
  `q'"`,
  '$(id)',
  'x\ny',
  '@list',
  'run#1.root?a=b',
  'ü'.repeat(120),
  'deep/-/{output}',
];

test('files of any name are published as archives, from which each can be read back', async () => {
  const files = writeFiles(home('alice'), hostile, 700);
  const made = await request(alice, 'hostile', listed(home('alice'), files, 7), {
    compositeBytes: 5000,
  });
  await reaches(alice, made.number, 'PUBLISHED');
  const dataset = await published('hostile');
  expect(dataset).toMatchObject({
    owner: 'alice',
    kind: 'USER',
    description: 'all about hostile',
    files: { nodes: [{ eventCount: 7 * 7 }, { eventCount: 7 * 5 }] },
  });
  const archives = dataset.files.nodes.map((file) => file.replicas[0]?.path ?? '');
  const found = new Map<string, string>();
  for (const archive of archives) {
    // What everybody has can read it, too.
    expect(() => execFileSync('tar', ['-tf', archive])).not.toThrow();
    const listing = await runProgram(['publish', 'members', archive, '--json']);
    for (const line of listing.stdout.trimEnd().split('\n')) {
      const { name, offset } = JSON.parse(line) as { name: string; offset: number };
      found.set(name, archive);
      const bytes = readFileSync(archive).subarray(offset, offset + 700);
      expect(bytes.equals(files[name] ?? Buffer.alloc(0)), name).toBe(true);
    }
  }
  expect([...found.keys()].toSorted()).toEqual(Object.keys(files).toSorted());
  const archive = found.get('x\ny') ?? '';
  const copy = join(folder, 'copy');
  const extract = ['publish', 'extract', '--output', copy, '--', archive, 'x\ny'];
  expect(await runProgram(extract)).toMatchObject({ code: 0 });
  expect(readFileSync(copy).equals(files['x\ny'] ?? Buffer.alloc(0))).toBe(true);
  // Without its index an archive is read through; a damaged one is not believed.
  rmSync(copy);
  const index = readFileSync(`${archive}.idx`);
  rmSync(`${archive}.idx`);
  expect(await runProgram(extract)).toMatchObject({ code: 0 });
  writeFileSync(`${archive}.idx`, index);
  rmSync(copy);
  const bytes = readFileSync(archive);
  bytes.fill(0, 512, bytes.length - 1024);
  const damaged = join(folder, 'damaged.tar');
  writeFileSync(damaged, bytes);
  writeFileSync(`${damaged}.idx`, index);
  const refused = await runProgram(['publish', 'extract', damaged, '-o', copy, '--', 'x\ny']);
  expect(refused.code).not.toBe(0);
  expect(existsSync(copy)).toBe(false);
});

test('each file that cannot be published is told, and nothing is left', async () => {
  const base = join(home('alice'), 'bad');
  const files = writeFiles(base, ['good', 'twin']);
  writeFileSync(join(base, 'empty'), '');
  mkdirSync(join(base, 'folder'));
  writeFiles(home('bob'), ['secret']);
  symlinkSync(join(home('bob'), 'secret'), join(base, 'link'));
  const names = ['empty', 'folder', 'gone', 'link'];
  const asked = [...listed(base, files), ...names.map((name) => ({ path: join(base, name) }))];
  const { number } = await request(alice, 'faulty', asked);
  const over = await reaches(alice, number, 'FAILED');
  expect(over).toMatchObject({ lastErrorCode: 'SOURCE_UNREADABLE' });
  expect(over.lastError).toMatch(/^4 of 6 files cannot be published: .*empty/);
  const faults = async (of: number) => {
    const { publication } = await alice.call<{
      publication: { files: { nodes: { name: string; faultCode: string }[] } };
    }>(`{ publication(id: "${of}") { files(isFaulty: true) { nodes { name faultCode } } } }`);
    return publication.files.nodes.map((file) => [file.name, file.faultCode]);
  };
  expect(await faults(number)).toEqual([
    ['empty', 'BAD_USER_INPUT'],
    ['folder', 'BAD_USER_INPUT'],
    ['gone', 'SOURCE_UNREADABLE'],
    ['link', 'SOURCE_NOT_ALLOWED'],
  ]);
  writeFileSync(join(base, 'twin'), files['good'] ?? '');
  const again = await request(alice, 'faulty', listed(base, files));
  const twice = await reaches(alice, again.number, 'FAILED');
  expect(twice).toMatchObject({ lastErrorCode: 'DUPLICATE' });
  expect(await faults(again.number)).toEqual([['twin', 'DUPLICATE']]);
  await until('all is tidy', () => !existsSync(area(number)) && !existsSync(area(again.number)));
  expect(await published('faulty')).toBeNull();
});

test.each<[string, string, (base: string) => object[]]>([
  ['a file of somebody else', 'SOURCE_NOT_ALLOWED', () => [{ path: join(home('bob'), 'secret') }]],
  ['a way out', 'SOURCE_NOT_ALLOWED', (base) => [{ path: `${base}/../bob/secret` }]],
  ['a relative path', 'BAD_USER_INPUT', () => [{ path: 'x' }]],
  ['a name that leads away', 'BAD_USER_INPUT', (base) => [{ path: `${base}/x`, name: '../x' }]],
  ['the same file twice', 'DUPLICATE', (base) => [{ path: `${base}/x` }, { path: `${base}/./x` }]],
  ['two of one name', 'DUPLICATE', (base) => [{ path: `${base}/x` }, { path: `${base}/d/x` }]],
  ['nothing', 'BAD_USER_INPUT', () => []],
])('%s is refused at once', async (_, code, files) => {
  const refusal = await refusalOf(request(alice, 'refused', files(home('alice'))));
  expect(refusal.code, refusal.message).toBe(code);
});

async function totalsOf(client: TestClient): Promise<string> {
  const totals = `a: totals { fileCount eventCount sizeBytes } b: totals(by: [SITE, STATUS]) { site status fileCount }
    c: totals(by: [STORE]) { store fileCount sizeBytes }`;
  return JSON.stringify(await client.call(`{ ${totals} }`));
}

/** Everything that a viewer can get about a file or a dataset, as one text. */
async function everythingOf(client: TestClient, lfn: string, name: string): Promise<string> {
  const asked = [
    '{ publications { totalCount nodes { datasetName } } }',
    `{ publication(id: "1") { datasetName } }`,
    `{ file(lfn: ${JSON.stringify(lfn)}) { lfn } }`,
    '{ files(first: 100) { nodes { lfn } } }',
    `{ files(filter: { lfn: { eq: ${JSON.stringify(lfn)} } }) { totalCount nodes { lfn } } }`,
    '{ backupRecords(first: 100) { nodes { file { lfn } lastError } } }',
    '{ events(first: 200) { nodes { kind facts file { lfn } reason } } }',
    '{ events(first: 200, filter: { kind: [PUBLICATION_STATUS] }) { totalCount nodes { facts } } }',
    `{ dataset(name: ${JSON.stringify(name)}) { name } }`,
    '{ totals(by: [STREAM, STATUS]) { stream status fileCount eventCount sizeBytes } }',
    '{ totals(by: [STREAM, STORE]) { stream store fileCount eventCount sizeBytes } }',
    '{ totals(by: [STREAM]) { stream fileCount } }',
    '{ stuck { waitingBackups(olderThanSeconds: 0) { exampleLfn lastError } failedBackups { exampleLfn } } }',
  ];
  const answers = await Promise.all(asked.map((query) => client.raw(query)));
  return JSON.stringify(answers.map((answer) => answer.data ?? null));
}

test('until it is published only its owner and operators see it, by any road; then it is withdrawn', async () => {
  const store = join(folder, 'store-away');
  const base = join(home('alice'), 'private');
  const files = writeFiles(base, ['a', 'b']);
  const root = join(server.folder, 'home', 'store');
  renameSync(root, store);
  const asked = listed(base, files, 3);
  const producer = await server.as('other-PRODUCER', 'PRODUCER');
  const before = [await totalsOf(producer), await totalsOf(server.operator)];
  const { number } = await request(alice, 'hushhush', asked, { stream: 'hushhush' });
  await reaches(alice, number, 'BACKING_UP');
  const [composite] = await server.database.sql<{ lfn: string; path: string }>(
    'select lfn, path from publication_composites where publication_id = $1',
    [number],
  );
  const { lfn, path } = composite ?? { lfn: '', path: '' };
  await lastCursor(server);
  for (const role of ['USER', 'DQM', 'PRODUCER', 'IMPORTER']) {
    const other = await server.as(`other-${role}`, role);
    expect(await everythingOf(other, lfn, 'hushhush'), role).not.toContain('hushhush');
    expect(await look(other, number), role).toBeNull();
    const withdraw = mutate(other, 'withdrawPublication', { publication: String(number) });
    expect((await refusalOf(withdraw)).code, role).toBe('NOT_FOUND');
  }
  expect(await totalsOf(producer)).toBe(before[0]);
  expect(await totalsOf(server.operator)).not.toBe(before[1]);
  expect(await everythingOf(server.operator, lfn, 'hushhush')).toContain(lfn);
  expect(await look(alice, number)).toMatchObject({ status: 'BACKING_UP' });
  expect(existsSync(path)).toBe(true);
  await mutate(alice, 'withdrawPublication', { publication: String(number), reason: 'not yet' });
  renameSync(store, root);
  await until('nothing is left on disk', () => !existsSync(area(number)));
  const [copies] = await server.database.sql<{ n: string }>(
    'select count(*) as n from incoming_copies',
  );
  expect(copies).toEqual({ n: '0' });
  // The name is free again, and the source as it was.
  const again = await request(alice, 'hushhush', asked, { stream: 'hushhush' });
  await reaches(alice, again.number, 'PUBLISHED');
  expect(await everythingOf(bob, lfn, 'hushhush')).toContain('{"dataset":{"name":"hushhush"}}');
  const late = mutate(alice, 'withdrawPublication', { publication: String(again.number) });
  expect((await refusalOf(late)).code).toBe('ILLEGAL_TRANSITION');
  // What is published stays as it is, and nothing else of it.
  await until('all is tidy', () => isTidy(again.number));
  const [attempt = ''] = readdirSync(area(again.number));
  expect(readdirSync(join(area(again.number), attempt))).toHaveLength(2);
});

test('one that fails at the end is taken back from the mass store, but for what somebody else wants', async () => {
  const { database, operator } = server;
  const base = join(home('alice'), 'back');
  const root = join(server.folder, 'home', 'store');
  renameSync(root, `${root}-away`);
  const asked = listed(base, writeFiles(base, ['a', 'b'], 700), 3);
  const { number } = await request(alice, 'back', asked, { compositeBytes: 1000 });
  await reaches(alice, number, 'BACKING_UP');
  const copies = () =>
    database.sql<{ lfn: string; status: string; lastError: string | null; path: string }>(
      `select f.lfn, b.status, b.last_error as "lastError", $2 || '/' || b.store_key as path
       from publication_composites c join files f on f.id = c.file_id join backup_records b on b.file_id = f.id
       where c.publication_id = $1 order by c.number`,
      [number, root],
    );
  const [wanted, unwanted] = (await copies()).map((copy) => copy.lfn);
  const child = await newFile('/user/of-a-private-one', { parents: [wanted] });
  await register(operator, child);
  const producer = await server.as('third-PRODUCER', 'PRODUCER');
  const before = await totalsOf(producer);
  await mutate(operator, 'createDataset', { name: 'back', kind: 'USER' });
  renameSync(`${root}-away`, root);
  await alice.call(`mutation { retryPublication(publication: "${number}") { changed } }`);
  const over = await reaches(alice, number, 'FAILED');
  expect(over).toMatchObject({ lastErrorCode: 'DUPLICATE' });
  await until('all is tidy', () => isTidy(number));
  // Also the copy that stays is no business of production.
  expect(await totalsOf(producer)).toBe(before);
  const left = await copies();
  expect(left).toMatchObject([
    { lfn: wanted, status: 'CONFIRMED', lastError: null },
    {
      lfn: unwanted,
      status: 'LOST',
      lastError: `publication ${number} was given up: what it left is removed`,
    },
  ]);
  const stored = () => left.map((copy) => existsSync(copy.path));
  expect([...stored(), existsSync(area(number))]).toEqual([true, false, false]);
  // A worker that died when the books said so, and the bytes were there still.
  writeFileSync(left[1]?.path ?? '', 'left');
  await database.sql('update publications set cleaned_at = null where id = $1', [number]);
  await until('it is done once more', () => isTidy(number));
  expect(stored()).toEqual([true, false]);
  expect(await copies()).toEqual(left);
});

test('a quota refuses what is beyond it, of a user and of a group', async () => {
  const base = join(home('carol'), 'q');
  const carol = await server.as('carol', 'USER');
  const files = writeFiles(base, ['a', 'b', 'c']);
  const quota = (more: object) =>
    mutate(
      server.operator,
      'setPublicationQuota',
      { files: 2, bytes: 1000, running: 9, ...more },
      'isSet',
    );
  await quota({ kind: 'USER', name: 'carol' });
  const beyond = await refusalOf(request(carol, 'q1', listed(base, files)));
  expect(beyond).toMatchObject({
    code: 'QUOTA_EXCEEDED',
    facts: { what: 'files', limit: 2, used: 0, asked: 3 },
  });
  // The tongue may lie about bytes: they are counted when they are read.
  await quota({ kind: 'USER', name: 'carol', files: 9, bytes: 250 });
  const lied = listed(base, files).map((file) => ({ ...file, sizeBytes: 1 }));
  const { number } = await request(carol, 'q2', lied);
  expect(await reaches(carol, number, 'FAILED')).toMatchObject({ lastErrorCode: 'QUOTA_EXCEEDED' });
  // A group has its own.
  const asGroup = () => request(carol, 'q3', listed(base, files), { group: 'taus' });
  expect((await refusalOf(asGroup())).code).toBe('FORBIDDEN');
  await mutate(server.operator, 'changeGroup', { name: 'taus', add: ['carol'] });
  await quota({ kind: 'GROUP', name: 'taus', running: 0 });
  expect(await refusalOf(asGroup())).toMatchObject({
    code: 'QUOTA_EXCEEDED',
    facts: { what: 'running', holder: { kind: 'GROUP', name: 'taus' } },
  });
  await quota({ kind: 'GROUP', name: 'taus', files: 3 });
  await reaches(carol, (await asGroup()).number, 'PUBLISHED');
  const { publicationQuota } = await carol.call<{ publicationQuota: object }>(
    '{ publicationQuota(kind: GROUP, name: "taus") { used { files bytes running } } }',
  );
  expect(publicationQuota).toEqual({ used: { files: 3, bytes: 300, running: 0 } });
  const other = bob.call('{ publicationQuota(kind: GROUP, name: "taus") { isSet } }');
  expect((await refusalOf(other)).code).toBe('FORBIDDEN');
});

test('two requests at once do not take the last room twice', async () => {
  const dave = await server.as('dave', 'USER');
  const limit = { kind: 'USER', name: 'dave', files: 1, bytes: 1000, running: 5 };
  await mutate(server.operator, 'setPublicationQuota', limit, 'isSet');
  const files = writeFiles(home('dave'), ['a', 'b', 'c', 'd']);
  const all = await Promise.allSettled(
    listed(home('dave'), files).map((file, at) => request(dave, `race${at}`, [file])),
  );
  expect(all.filter((one) => one.status === 'fulfilled')).toHaveLength(1);
});

test('a file that grows while it is published is found out', async () => {
  const files = writeFiles(join(home('alice'), 'grows'), ['a']);
  // Between the check and the merge, as seen by the tables: the stamp is an older one.
  const path = join(home('alice'), 'grows', 'a');
  const found = await withOpened([home('alice')], path, (source) => checkSource(source, {}));
  appendFileSync(path, 'more');
  const input = { ...found, id: 1, given: path, name: 'a' };
  await expect(makeComposite(undefined, [input], making('grows'))).rejects.toMatchObject({
    code: 'SOURCE_CHANGED',
  });
  expect(existsSync(join(folder, 'grows', 'x.tar'))).toBe(false);
  expect(Object.keys(files)).toEqual(['a']);
});

const making = (name: string) => ({
  roots: [home('alice')],
  folder: join(folder, name),
  name: 'x.tar',
  signal: new AbortController().signal,
  onProgress: () => undefined,
});

/** Puts a link to the files of somebody else in the place of a folder, and takes it away again, as fast as it can. */
const swapper = `const { renameSync, symlinkSync, unlinkSync } = require('node:fs');
  const { folder, other } = require('node:worker_threads').workerData;
  for (;;) {
    renameSync(folder, folder + '2'); symlinkSync(other, folder); unlinkSync(folder); renameSync(folder + '2', folder);
  }`;

test('who swaps links while his files are looked at gets nothing read that is not his', async () => {
  const own = join(home('alice'), 'swap');
  writeFiles(own, ['x']);
  writeFiles(home('bob'), ['x']);
  const mine = readFileSync(join(own, 'x'), 'latin1');
  const worker = new Worker(swapper, {
    eval: true,
    workerData: { folder: own, other: home('bob') },
  });
  const seen = { mine: 0, other: 0, SOURCE_NOT_ALLOWED: 0, SOURCE_UNREADABLE: 0 };
  const end = Date.now() + 4_000;
  try {
    while (Math.min(seen.mine, seen.SOURCE_NOT_ALLOWED) < 100 && Date.now() < end) {
      const what = await withOpened([home('alice')], join(own, 'x'), ({ place }) =>
        readFile(place, 'latin1'),
      ).catch((error: SweepbookError) => error.code as keyof typeof seen);
      seen[what in seen ? (what as keyof typeof seen) : what === mine ? 'mine' : 'other']++;
    }
  } finally {
    await worker.terminate();
  }
  expect(seen).toMatchObject({ other: 0 });
  expect(Math.min(seen.mine, seen.SOURCE_NOT_ALLOWED), JSON.stringify(seen)).toBeGreaterThan(0);
});

test('a tool merges what was checked, also when its path leads elsewhere meanwhile', async () => {
  const own = join(home('alice'), 'merge');
  const path = join(own, 'x.txt');
  writeFiles(own, ['x.txt']);
  const theirs = writeFiles(home('bob'), ['x.txt'])['x.txt'];
  const found = await withOpened([home('alice')], path, (source) => checkSource(source, {}));
  const input = { ...found, id: 1, given: path, name: 'x.txt' };
  const tool = `mv ${own} ${own}2; ln -s ${home('bob')} ${own}; cat "$1" ${path} > "$0"; rm ${own}; mv ${own}2 ${own}`;
  const merge = {
    argv: ['sh', '-c', tool, '{output}', '{inputs}'],
    extension: '.txt',
    seconds: 60,
  };
  await makeComposite(merge, [input], making('merged'));
  // The second half shows that the path led elsewhere.
  const made = readFileSync(join(folder, 'merged', 'x.tar'));
  expect(made.equals(Buffer.concat([readFileSync(path), theirs ?? Buffer.alloc(0)]))).toBe(true);
});

test('ROOT files tell their events themselves; what a tool made of them must hold as many', async () => {
  const base = join(home('alice'), 'root');
  mkdirSync(base, { recursive: true });
  const write = (name: string, ...trees: RootTree[]) => {
    writeFileSync(join(base, name), rootFile(...trees));
    return { path: join(base, name), name };
  };
  const a = write('a.root', { name: 'Events', entries: 3 }, { name: 'Runs', entries: 1 });
  const b = write('b.root', { name: 'Events', entries: 4 });
  const half = join(base, 'half.root');
  writeFileSync(half, readFileSync(b.path).subarray(0, 900));
  const asked: [string, object[], string | undefined, RegExp | undefined][] = [
    ['root-tar', [{ ...b, eventCount: 4 }, a], undefined, undefined],
    ['root-tree', [a, b], 'Events', undefined],
    ['root-told', [{ ...b, eventCount: 5 }], undefined, /has 4 events, and 5 were told/],
    ['root-half', [b, { path: half, name: 'half' }], undefined, /half.root: is no whole ROOT file/],
  ];
  await Promise.all(
    asked.map(async ([name, files, treeName, fault]) => {
      const { number } = await request(alice, name, files, { treeName });
      const { lastError } = await reaches(alice, number, fault ? 'FAILED' : 'PUBLISHED');
      expect(lastError ?? '', name).toMatch(fault ?? /^$/);
    }),
  );
  expect([await published('root-tar'), await published('root-tree')]).toMatchObject([
    { files: { nodes: [{ eventCount: null }] } },
    { files: { nodes: [{ eventCount: 7 }] } },
  ]);
  // A site whose tool, as it happens, makes the same of everything.
  const merged = join(folder, 'merged.root');
  const place = writePublishFile(join(folder, 'merging'), {
    roots: [join(folder, 'users/{user}')],
    merge: {
      argv: ['sh', '-c', `cat ${merged} > "$0"`, '{output}', '{inputs}'],
      extension: '.root',
    },
    countEvents: { tree: 'Events' },
  });
  writeFileSync(merged, rootFile({ name: 'Events', entries: 7 }));
  const other = await startTestServer({ SWEEPBOOK_PUBLISH: place, SWEEPBOOK_RETRY_BASE_MS: '1' });
  try {
    const user = await other.as('alice', 'USER');
    const whole = await request(user, 'whole', [a, b]);
    const less = await request(user, 'less', [a]);
    await reaches(user, whole.number, 'PUBLISHED');
    expect(await reaches(user, less.number, 'FAILED')).toMatchObject({
      lastErrorCode: 'EVENT_COUNT_MISMATCH',
      lastError: expect.stringMatching(/has 7 events, the 1 files that went in have 3/) as string,
    });
  } finally {
    await other.close();
  }
});
