import { copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takeOverPolicies } from '../../src/backups/policies.service.ts';
import { makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import { runProgram } from '../support/program.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-policies-'));
const storeFile = join(folder, 'stores.yaml');
let server: TestServer;

beforeAll(async () => {
  writeFileSync(
    storeFile,
    `stores:
  - { name: near, kind: directory, root: ${folder}/near, default: true }
  - { name: far, kind: directory, root: ${folder}/far }
  - { name: third, kind: directory, root: ${folder}/third }
policies:
  - { kind: MERGED_FILE, minBytes: 1000, stores: [far, near] }
`,
  );
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function sweep(name: string, bytes: number): Promise<string> {
  const lfn = `/policy/${name}.root`;
  const file = await makeFile(join(folder, `${name}.root`), name, bytes);
  await registerMerged(server.operator, [{ ...file, lfn }]);
  await startSweep(server.operator, name, [lfn]);
  return lfn;
}

const storesOf = async (lfn: string) =>
  (
    await server.database.sql<{ name: string }>(
      `select s.name from backup_records b join files f on f.id = b.file_id join mass_stores s on s.id = b.store_id
       where f.lfn = $1 and b.status = 'CONFIRMED' order by s.name`,
      [lfn],
    )
  ).map((row) => row.name);

const closed = (name: string) =>
  until(`${name} is closed`, async () => (await statusOf(server.operator, name)) === 'CLOSED');

const lose = (lfn: string, store: string) =>
  server.database.sql(
    `update backup_records b set status = 'LOST' from files f, mass_stores s
     where f.id = b.file_id and s.id = b.store_id and f.lfn = $1 and s.name = $2`,
    [lfn, store],
  );

const isBackedUp = async (lfn: string) =>
  (
    await server.operator.call<{ file: { isBackedUp: boolean } }>(
      'query ($lfn: String!) { file(lfn: $lfn) { isBackedUp } }',
      { lfn },
    )
  ).file.isBackedUp;

/** Without its mark a store is away. */
function takeAway(store: string): () => void {
  renameSync(join(folder, store), join(folder, 'away'));
  mkdirSync(join(folder, store));
  return () => {
    rmSync(join(folder, store), { recursive: true });
    renameSync(join(folder, 'away'), join(folder, store));
  };
}

test('a dataset is closed when all the stores have confirmed that the policy names, and not before', async () => {
  const bringBack = takeAway('far');
  const lfn = await sweep('two', 5000);
  await until('near has it', async () => (await storesOf(lfn)).length === 1);
  expect(await storesOf(lfn)).toEqual(['near']);
  expect(await isBackedUp(lfn)).toBe(false);
  expect(await statusOf(server.operator, 'two')).toBe('OPEN');
  const { dataset } = await server.operator.call<{ dataset: { confirmedCount: number } }>(
    '{ dataset(name: "two") { confirmedCount } }',
  );
  expect(dataset.confirmedCount).toBe(0);
  // Nor by hand, in the tables.
  const byHand = server.database.sql(
    `update datasets set sealed = false, status = 'BACKED_UP' where name = 'two'`,
  );
  await expect(byHand).rejects.toThrow('0 of 1 files have a confirmed backup');
  bringBack();
  await closed('two');
  expect(await storesOf(lfn)).toEqual(['far', 'near']);
  expect(await isBackedUp(lfn)).toBe(true);
});

test('a request without a store asks for all that a file owes; who copies it himself is told where', async () => {
  const [owing, free, direct] = ['owing', 'free', 'direct'].map((name) => `/policy/${name}.root`);
  const files = await Promise.all(
    [owing, free, direct].map(async (lfn = '', at) => ({
      ...(await makeFile(join(folder, lfn.slice(1)), lfn, at === 1 ? 500 : 2000)),
      lfn,
    })),
  );
  await registerMerged(server.operator, files);
  const ask = (lfns: (string | undefined)[], isDirect = false) =>
    mutate<{ results: { outcome: string; upload: { store: string; path: string } | null }[] }>(
      server.operator,
      'requestBackup',
      { lfns, direct: isDirect },
      'results { outcome upload { store path } }',
    );
  const asked = await ask([owing, free]);
  expect(asked.results.map((item) => item.outcome)).toEqual(['REGISTERED', 'REGISTERED']);
  await until('both have it', async () => (await storesOf(owing ?? '')).length === 2);
  await until('one has it', async () => (await storesOf(free ?? '')).length === 1);
  expect(await storesOf(owing ?? '')).toEqual(['far', 'near']);
  expect(await storesOf(free ?? '')).toEqual(['near']);
  expect((await ask([owing])).results[0]?.outcome).toBe('EXISTING');
  await lose(owing ?? '', 'far');
  expect((await ask([owing])).results[0]?.outcome).toBe('REGISTERED');

  const upload = (await ask([direct], true)).results[0]?.upload;
  expect(upload?.store).toBe('near');
  copyFileSync(files[2]?.path ?? '', upload?.path ?? '');
  await mutate(server.operator, 'recordBackup', { lfn: direct, path: upload?.path });
  expect(await storesOf(direct ?? '')).toEqual(['near']);
  const records = await server.database.sql(
    `select b.id from backup_records b join files f on f.id = b.file_id where f.lfn = $1`,
    [direct],
  );
  expect(records).toHaveLength(2);
});

test('a file that fits no policy needs one copy; marking by hand needs all that the policy names', async () => {
  const small = await sweep('small', 500);
  await closed('small');
  expect(await storesOf(small)).toEqual(['near']);
  const lfn = '/policy/by-hand.root';
  const file = await makeFile(join(folder, 'by-hand.root'), 'by hand', 2000);
  await registerMerged(server.operator, [{ ...file, lfn }]);
  await mutate(server.operator, 'requestBackup', { lfns: [lfn], store: 'near' }, 'requestedCount');
  await until('near has it', async () => (await storesOf(lfn)).length === 1);
  await mutate(server.operator, 'createDataset', { name: 'by-hand', kind: 'PR', files: [lfn] });
  const refused = await refusalOf(
    mutate(server.operator, 'markDatasetBackedUp', { dataset: 'by-hand' }),
  );
  expect(refused.code).toBe('FILES_NOT_BACKED_UP');
  await mutate(
    server.operator,
    'requestBackup',
    { lfns: [lfn], store: 'far' },
    'results { outcome }',
  );
  await until('far has it', async () => (await storesOf(lfn)).length === 2);
  await mutate(server.operator, 'markDatasetBackedUp', { dataset: 'by-hand' });
});

test('a closed dataset stays while one copy is left; the loss of the last one needs a bad mark', async () => {
  const lfn = await sweep('loses', 3000);
  await closed('loses');
  await lose(lfn, 'far');
  expect(await statusOf(server.anonymous, 'loses')).toBe('CLOSED');
  await expect(lose(lfn, 'near')).rejects.toThrow('would have no confirmed backup');
  expect(await storesOf(lfn)).toEqual(['near']);
  // It is asked for again, and complete again.
  await mutate(
    server.operator,
    'requestBackup',
    { lfns: [lfn], store: 'far' },
    'results { outcome }',
  );
  await until('both', async () => (await storesOf(lfn)).length === 2);
});

test('another policy binds what comes in from then on, and nothing else', async () => {
  const bringBack = takeAway('far');
  const before = await sweep('before', 4000);
  await until('near has it', async () => (await storesOf(before)).length === 1);
  expect(await takeOverPolicies(server.database.db, [{ stores: ['third', 'near'] }])).toBe(true);
  expect(await takeOverPolicies(server.database.db, [{ stores: ['near', 'third'] }])).toBe(false);
  expect(await isBackedUp('/policy/small.root')).toBe(true);
  expect(await statusOf(server.operator, 'two')).toBe('CLOSED');
  const after = await sweep('after', 100);
  await closed('after');
  expect(await storesOf(after)).toEqual(['near', 'third']);
  // Registered under the old one: it still waits for far.
  expect(await statusOf(server.operator, 'before')).toBe('OPEN');
  bringBack();
  await closed('before');
  const token = await server.tokenOf('olga', 'OPERATOR');
  const told = await runProgram(['store', 'policies'], {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_TOKEN: token,
  });
  expect(told).toMatchObject({ code: 0, stderr: '' });
  expect(told.stdout).toMatch(/KIND +FROM +TO +STORES\nany .*near, third\n$/);
});

test.each<[string, string, RegExp]>([
  ['changes a policy', `update backup_policies set store_ids = array[1]`, /never changes/],
  ['deletes a policy', 'delete from backup_policies', /backup_policies/],
  [
    'names a store that is not there',
    `insert into backup_policies (store_ids) values ('{999}')`,
    /known, each once/,
  ],
  [
    'names a store twice',
    `insert into backup_policies (store_ids) values ('{1,1}')`,
    /known, each once/,
  ],
  ['frees a file of what it owes', `update files set policy_id = null`, /never changes/],
  ['says that nothing is missing', `update files set missing_copies = 0`, /never changes/],
])('whoever %s is refused by the tables', async (_what, text, why) => {
  await expect(server.database.sql(text)).rejects.toThrow(why);
});
