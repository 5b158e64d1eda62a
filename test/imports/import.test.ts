import { generateKeyPairSync } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { manifestSchema } from '../../src/imports/manifest.ts';
import { takeOverPolicies } from '../../src/backups/policies.service.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { lastCursor, mutate, type TestFile } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
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
} from './sites.ts';

let folder: string;
let door: Door;
let producer: TestServer;
let site: TestServer;
let token: string;
const area = () => join(folder, 'site', 'area');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-imports-'));
  door = await openDoor(join(folder, 'store'));
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const keyFile = join(folder, 'key.pem');
  const publicFile = join(folder, 'public.pem');
  writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(publicFile, publicKey.export({ type: 'spki', format: 'pem' }));
  producer = await startProducer(door, join(folder, 'store'), { SWEEPBOOK_MANIFEST_KEY: keyFile });
  const otherToken = join(folder, 'slac-token');
  writeFileSync(otherToken, await producer.tokenOf('tier-a', 'USER'));
  const imports = writeImportFile(join(folder, 'site'), {
    read: [`${door.address}/`],
    server: producer.address,
    token: { file: otherToken },
    keys: [publicFile],
  });
  const stores = join(folder, 'stores.yaml');
  const storesOfSite = [
    { name: 'near', kind: 'directory', root: join(folder, 'near'), default: true },
    { name: 'far', kind: 'directory', root: join(folder, 'far') },
  ];
  // JSON is YAML.
  writeFileSync(stores, JSON.stringify({ stores: storesOfSite }));
  site = await startTestServer({
    SWEEPBOOK_SITE: 'IN2P3',
    SWEEPBOOK_IMPORT_FROM: imports,
    SWEEPBOOK_STORES: stores,
  });
  token = await site.tokenOf('importer', 'IMPORTER');
});
afterEach(() => {
  door.trick = undefined;
});
afterAll(async () => {
  await site?.close();
  await producer?.close();
  await door?.close();
  rmSync(folder, { recursive: true, force: true });
});

const seen = async (name: string) => {
  const { data } = await site.anonymous.raw(
    `query ($name: String!) { dataset(name: $name) {
      kind status owner stream treeName fileCount eventCount luminosity
      origin { site dataset kind owner sites signedBy } runs { nodes { number luminosity verdict } }
      files { nodes { lfn replicas { status path } backups { status } } } } }`,
    { name },
  );
  return (data as { dataset: Record<string, unknown> | null } | null)?.dataset ?? undefined;
};

/** Bytes that an importing site finds where it put them. */
const isHere = (file: TestFile) =>
  existsSync(join(area(), file.lfn)) && readFileSync(join(area(), file.lfn)).equals(file.bytes);

test('the JSON schema of manifests that is published is the one that is read by', () => {
  const written = readFileSync(new URL('../../docs/manifest.schema.json', import.meta.url), 'utf8');
  expect(written, 'run "npm run schema"').toBe(manifestSchema());
});

test('a dataset goes from site to site with its files, runs and verdicts, and is seen when it is whole', async () => {
  const files = await closedDataset(producer.operator, 'whole', { fileCount: 3, firstRun: 100 });
  await mutate(producer.operator, 'setRunVerdict', {
    number: 100,
    verdict: 'GOOD',
    comment: 'fine',
  });
  const manifest = await manifestOf(producer, 'whole');
  const start = await lastCursor(site);

  const dry = await sendManifest(site.address, token, gzipSync(manifest), '?dryRun=true');
  expect(dry).toMatchObject({
    outcome: 'NEW',
    changed: false,
    import: null,
    files: { newCount: 3, hereCount: 0, conflictCount: 0 },
    runs: { newCount: 2, hereCount: 0 },
  });
  expect(
    await site.database.sql('select 1 from import_receipts union all select 1 from imports'),
  ).toEqual([]);

  // Held back until it has been looked at that nothing shows.
  let open = () => undefined as void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  door.trick = async (request) => {
    if (request.url?.includes('file2')) await gate;
    return false;
  };
  const sent = await sendManifest(site.address, token, manifest);
  expect(sent).toMatchObject({ status: 200, outcome: 'NEW', changed: true });
  const number = sent.import ?? 0;
  await until(
    'two of three are safe',
    async () => (await importOf(site.operator, number)).progress.safe === 2,
  );
  expect(await seen('whole')).toBeUndefined();
  const dqm = await site.as('dqm', 'DQM');
  const hidden = await dqm.call(
    '{ files { nodes { lfn } } runs { nodes { number } } totals(by: [STATUS]) { status fileCount } }',
  );
  expect(hidden).toEqual({ files: { nodes: [] }, runs: { nodes: [] }, totals: [] });
  open();

  await untilImport(site.operator, number, 'ENTERED');
  expect(files.every(isHere)).toBe(true);
  expect(await seen('whole')).toMatchObject({
    kind: 'IMPORT',
    status: 'CLOSED',
    owner: 'importer',
    stream: 'AllEvents',
    treeName: 'Events',
    fileCount: 3,
    eventCount: 60,
    luminosity: 3,
    origin: {
      site: 'SLAC',
      dataset: 'whole',
      kind: 'PR',
      sites: ['SLAC'],
      signedBy: expect.any(String),
    },
    runs: {
      nodes: [
        { number: 100, luminosity: 1.5, verdict: 'GOOD' },
        { number: 101, verdict: null },
      ],
    },
  });
  const events = await site.operator.call<{ events: { nodes: { toState: string }[] } }>(
    'query ($after: String) { events(filter: { kind: [IMPORT_STATUS] }, after: $after) { nodes { toState } } }',
    { after: start },
  );
  expect(events.events.nodes.map((event) => event.toState)).toEqual(['RUNNING', 'ENTERED']);

  const again = await sendManifest(site.address, token, await manifestOf(producer, 'whole'));
  expect(again).toMatchObject({ outcome: 'IDENTICAL', changed: false, import: number });
});

test('from server to server, under another name; files that are here are not fetched again', async () => {
  await closedDataset(producer.operator, 'direct', { firstRun: 200 });
  const importer = await site.as('importer2', 'IMPORTER');
  const input = { from: `${producer.address}/graphql`, dataset: 'direct', name: 'direct-here' };
  const first = await mutate<{ import: { number: number }; outcome: string }>(
    importer,
    'importDataset',
    input,
    'outcome import { number }',
  );
  await untilImport(importer, first.import.number, 'ENTERED');
  expect(await seen('direct-here')).toMatchObject({ origin: { dataset: 'direct' } });

  const asked = door.log.length;
  const second = await mutate<{
    import: { number: number };
    hereFileCount: number;
    newFileCount: number;
  }>(
    importer,
    'importDataset',
    { ...input, name: 'direct-twice' },
    'hereFileCount newFileCount import { number }',
  );
  expect(second).toMatchObject({ hereFileCount: 2, newFileCount: 0 });
  await untilImport(importer, second.import.number, 'ENTERED');
  expect(door.log.length).toBe(asked);
  const other = await mutate(importer, 'importDataset', { from: 'nowhere', dataset: 'x' }).catch(
    (error: { code: string }) => error.code,
  );
  expect(other).toBe('SOURCE_NOT_ALLOWED');
});

test('a fetch that breaks off goes on where it ended, and a source that is away for a while is waited for', async () => {
  const [file] = await closedDataset(producer.operator, 'broken', { fileCount: 1, firstRun: 300 });
  let turn = 0;
  door.trick = (_request, response) => {
    turn++;
    if (turn === 1) {
      response.writeHead(200, { 'content-length': 64 });
      response.write(file?.bytes.subarray(0, 40) ?? '', () =>
        setTimeout(() => response.destroy(), 50),
      );
      return true;
    }
    if (turn > 6) return false;
    // More often than a fault that counts would be tried.
    response.writeHead(503).end();
    return true;
  };
  const asked = door.log.length;
  const sent = await sendManifest(site.address, token, await manifestOf(producer, 'broken'));
  await untilImport(site.operator, sent.import ?? 0, 'ENTERED');
  expect(door.log.slice(asked)[0]).toBe('all');
  expect(door.log.at(-1)).toBe('bytes=40-');
  expect(file && isHere(file)).toBe(true);
});

test('wrong bytes are never taken: the import fails and says why, is repaired and tried again, or cancelled without trace', async () => {
  const files = await closedDataset(producer.operator, 'wrong', { firstRun: 400, fileCount: 3 });
  const [, second, third] = files;
  door.trick = (request, response) => {
    if (!request.url?.includes('file1')) return false;
    response.writeHead(200, { 'content-length': 64 }).end(Buffer.alloc(64));
    return true;
  };
  const manifest = await manifestOf(producer, 'wrong');
  const { import: number } = await sendManifest(site.address, token, manifest);
  const failed = await untilImport(site.operator, number ?? 0, 'FAILED');
  expect(failed).toMatchObject({
    lastErrorCode: 'CHECKSUM_MISMATCH',
    progress: { safe: 2, failed: 1 },
  });
  expect(failed.lastError).toContain('/wrong/file1.root');
  expect(existsSync(join(area(), '/wrong/file1.root'))).toBe(false);
  expect(await seen('wrong')).toBeUndefined();
  expect(await checkInvariants(site.database.url)).toEqual([]);

  // One of them is in a dataset meanwhile.
  const kept = { name: 'kept', kind: 'PR', files: ['/wrong/file2.root'] };
  await mutate(producer.operator, 'createDataset', kept);
  await mutate(producer.operator, 'markDatasetBackedUp', { dataset: 'kept' });
  await mutate(producer.operator, 'closeDataset', { dataset: 'kept' });
  const other = await sendManifest(site.address, token, await manifestOf(producer, 'kept'));
  await untilImport(site.operator, other.import ?? 0, 'ENTERED');

  await mutate(site.operator, 'cancelImport', { import: String(number), reason: 'wrong bytes' });
  await until('its files are gone', () => !existsSync(join(area(), '/wrong/file0.root')));
  await until('and forgotten', async () => {
    const rows = await site.database.sql(
      'select 1 from import_files where is_brought and import_id = $1',
      [number],
    );
    return rows.length === 0;
  });
  // From disk and from the store, with a reason in the books; but for what others have to do with.
  expect(readdirSync(join(folder, 'near', 'wrong'))).toEqual(['file2.root']);
  expect(third && isHere(third)).toBe(true);
  const copies = await site.database.sql(
    `select f.lfn, b.status, b.last_error from backup_records b join files f on f.id = b.file_id
      where f.lfn like '/wrong/%' order by 1`,
  );
  expect(copies).toEqual([
    {
      lfn: '/wrong/file0.root',
      status: 'LOST',
      last_error: `import ${number} was cancelled: what it brought is removed`,
    },
    { lfn: '/wrong/file2.root', status: 'CONFIRMED', last_error: null },
  ]);
  expect(await site.operator.call('{ stuck { failedBackups { count } } }')).toEqual({
    stuck: { failedBackups: [] },
  });
  expect(await checkInvariants(site.database.url)).toEqual([]);
  const late = await mutate(site.operator, 'cancelImport', { import: String(number) });
  expect(late).toEqual({ changed: false });

  // Anew, and this time repaired by sending it again.
  const anew = await sendManifest(site.address, token, manifest);
  expect(anew).toMatchObject({ outcome: 'NEW', files: { hereCount: 1, newCount: 2 } });
  await untilImport(site.operator, anew.import ?? 0, 'FAILED');
  door.trick = undefined;
  const resumed = await sendManifest(site.address, token, await manifestOf(producer, 'wrong'));
  expect(resumed).toMatchObject({ outcome: 'RESUMED', changed: true, import: anew.import });
  await untilImport(site.operator, anew.import ?? 0, 'ENTERED');
  expect(second && isHere(second)).toBe(true);
});

test('what contradicts is told with its line: runs, files, names', async () => {
  await closedDataset(producer.operator, 'clash', { fileCount: 1, firstRun: 500 });
  const manifest = await manifestOf(producer, 'clash');
  await mutate(
    site.operator,
    'registerRuns',
    { runs: [{ number: 501, luminosity: 2 }] },
    'registeredCount',
  );
  await mutate(
    site.operator,
    'registerFiles',
    {
      files: [
        { lfn: '/clash/file0.root', kind: 'MERGED_FILE', sizeBytes: 65, adler32: '00000001' },
      ],
    },
    'registeredCount',
  );
  await mutate(site.operator, 'createDataset', { name: 'clash', kind: 'USER' });
  const dry = await sendManifest(site.address, token, manifest, '?dryRun=true');
  expect(dry).toMatchObject({
    outcome: 'CONFLICT',
    conflicts: [
      { line: 1, code: 'DUPLICATE', what: expect.stringContaining('name clash') },
      { line: 3, code: 'DUPLICATE', what: expect.stringContaining('2/pb, not 1.5') },
      { line: 4, code: 'DUPLICATE', what: expect.stringContaining('65 bytes, not 64') },
    ],
  });
  const refused = await sendManifest(site.address, token, manifest);
  expect(refused).toMatchObject({ status: 409, code: 'DUPLICATE', facts: { line: 1, count: 3 } });
  expect(await site.database.sql(`select 1 from imports where dataset_name = 'clash'`)).toEqual([]);
});

test('a copy that vanishes before its dataset is entered is not shown to anybody', async () => {
  const [file] = await closedDataset(producer.operator, 'vanishing', {
    fileCount: 2,
    firstRun: 600,
  });
  let open = () => undefined as void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  door.trick = async (request) => {
    if (request.url?.includes('file1')) await gate;
    return false;
  };
  const { import: number } = await sendManifest(
    site.address,
    token,
    await manifestOf(producer, 'vanishing'),
  );
  await until(
    'one is safe',
    async () => (await importOf(site.operator, number ?? 0)).progress.safe === 1,
  );
  truncateSync(join(area(), file?.lfn ?? ''), 10);
  open();
  await untilImport(site.operator, number ?? 0, 'ENTERED');
  const replicas = await site.database.sql(
    'select p.path from replicas p join files f on f.id = p.file_id where f.lfn = any ($1)',
    [['/vanishing/file0.root', '/vanishing/file1.root']],
  );
  expect(replicas).toEqual([{ path: join(area(), '/vanishing/file1.root') }]);
});

test('where files owe copies to two stores, an import is entered when both have confirmed', async () => {
  await takeOverPolicies(site.database.db, [{ kind: 'MERGED_FILE', stores: ['near', 'far'] }]);
  try {
    await closedDataset(producer.operator, 'twice', { firstRun: 900 });
    const sent = await sendManifest(site.address, token, await manifestOf(producer, 'twice'));
    await untilImport(site.operator, sent.import ?? 0, 'ENTERED');
    const copies = await site.database.sql<{ store: string; count: number }>(
      `select m.name as store, count(*)::int from backup_records b join mass_stores m on m.id = b.store_id
       join import_files x on x.file_id = b.file_id where x.import_id = $1 and b.status = 'CONFIRMED' group by 1 order by 1`,
      [sent.import],
    );
    expect(copies).toEqual([
      { store: 'far', count: 2 },
      { store: 'near', count: 2 },
    ]);
  } finally {
    await takeOverPolicies(site.database.db, []);
  }
});
