import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  closedDataset,
  importOf,
  manifestOf,
  openDoor,
  sendManifest,
  startProducer,
  untilImport,
  writeImportFile,
  type Door,
} from '../imports/sites.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { newFile, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { isSeen, report } from './scene.ts';

let folder: string;
let door: Door;
let producer: TestServer;
let site: TestServer;
let token: string;
const inArea = (lfn: string) => join(folder, 'site', 'area', lfn);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-imports-'));
  door = await openDoor(join(folder, 'store'));
  producer = await startProducer(door, join(folder, 'store'));
  const imports = writeImportFile(join(folder, 'site'), { read: [`${door.address}/`] });
  site = await startTestServer({ SWEEPBOOK_SITE: 'IN2P3', SWEEPBOOK_IMPORT_FROM: imports });
  token = await site.tokenOf('importer', 'IMPORTER');
});
afterAll(async () => {
  await site?.close();
  await producer?.close();
  await door?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Something that counts as a copy on the volume that imports are put on: what an incident can be about. */
async function bystander(name: string): Promise<void> {
  await register(
    site.operator,
    await newFile(`/bystander/${name}`, { path: `/bystander/${name}`, volume: 'imports' }),
  );
}

const replicasOf = (lfn: string) =>
  site.database.sql<{ status: string }>(
    `select p.status from replicas p join files f on f.id = p.file_id where f.lfn = $1`,
    [lfn],
  );

test('the disk of an import crashes before the backups are made: what is gone is fetched again, then all is entered', async () => {
  await closedDataset(producer.operator, 'crash', { firstRun: 100 });
  await bystander('one');
  const store = join(site.folder, 'home', 'store');
  // Nobody can back up for now.
  renameSync(store, `${store}.away`);
  const { import: number } = await sendManifest(
    site.address,
    token,
    await manifestOf(producer, 'crash'),
  );
  await until('all is here', () =>
    ['file0', 'file1'].every((name) => existsSync(inArea(`/crash/${name}.root`))),
  );
  await until('and known', async () => {
    const { progress } = await importOf(site.operator, number ?? 0);
    return progress.waiting + progress.fetching === 0;
  });
  rmSync(inArea('/crash/file0.root'));
  const asked = door.log.length;
  const lost = await report(site.operator, { volume: 'imports' });
  expect(lost).toMatchObject({ changed: true, itemCount: 1, datasetCount: 0 });
  expect(await checkInvariants(site.database.url)).toEqual([]);
  expect(await isSeen(site, 'crash')).toBe(false);
  renameSync(`${store}.away`, store);
  await untilImport(site.operator, number ?? 0, 'ENTERED');
  expect(await isSeen(site, 'crash')).toBe(true);
  expect(door.log.length).toBe(asked + 1);
  // Brought after the crash: there. Brought before it: read before it counts.
  expect(await replicasOf('/crash/file0.root')).toEqual([{ status: 'AVAILABLE' }]);
  await until(
    'the other copy was read',
    async () => (await replicasOf('/crash/file1.root'))[0]?.status === 'AVAILABLE',
  );
  const checks = await site.database.sql(
    `select c.status from replica_checks c join files f on f.id = c.file_id where f.lfn = '/crash/file1.root'`,
  );
  expect(checks).toEqual([{ status: 'GOOD' }]);
});

test('the disk crashes when the backups are made: the dataset is entered with these, and claims no copy on disk', async () => {
  await closedDataset(producer.operator, 'late-crash', { firstRun: 200 });
  await bystander('two');
  let open = () => undefined as void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  door.trick = async (request) => {
    if (request.url?.includes('late-crash/file1')) await gate;
    return false;
  };
  const { import: number } = await sendManifest(
    site.address,
    token,
    await manifestOf(producer, 'late-crash'),
  );
  await until(
    'one is safe',
    async () => (await importOf(site.operator, number ?? 0)).progress.safe === 1,
  );
  rmSync(inArea('/late-crash/file0.root'));
  await report(site.operator, { volume: 'imports' });
  open();
  await untilImport(site.operator, number ?? 0, 'ENTERED');
  expect(await replicasOf('/late-crash/file0.root')).toEqual([]);
  expect(await replicasOf('/late-crash/file1.root')).toEqual([{ status: 'AVAILABLE' }]);
  expect(await isSeen(site, 'late-crash')).toBe(true);
});
