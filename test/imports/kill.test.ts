import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startFront, type Front } from '../clients/proxy.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { clientOf } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { runProgram, startServe, type ServeProcess } from '../support/program.ts';
import type { TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { closedDataset, openDoor, startProducer, writeImportFile, type Door } from './sites.ts';

const patienceMs = 90_000;

let folder: string;
let door: Door;
let front: Front;
let producer: TestServer;
let database: TestDatabase;
let site: ServeProcess | undefined;
let environment: Record<string, string>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-imports-'));
  door = await openDoor(join(folder, 'store'));
  // The first connections are lost, one amid its answer.
  front = await startFront(door.address, ['hang up', { cutAfter: 250 }, 'hang up']);
  producer = await startProducer(front, join(folder, 'store'));
  database = await openTestDatabase();
  environment = {
    SWEEPBOOK_HOME: join(folder, 'home'),
    DATABASE_URL: database.url,
    SWEEPBOOK_SITE: 'IN2P3',
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
    SWEEPBOOK_IMPORT_FROM: writeImportFile(join(folder, 'site'), {
      read: [`${front.address}/`],
      server: producer.address,
    }),
  };
});
afterEach(async () => {
  await site?.kill('SIGKILL');
});
afterAll(async () => {
  await producer?.close();
  await front?.close();
  await door?.close();
  await database?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** How many files of the import are in one of these states. */
const countOf = async (...statuses: string[]) => {
  const [row] = await database.sql<{ n: string }>(
    'select count(*) as n from import_files where status = any ($1)',
    [statuses],
  );
  return Number(row?.n);
};

test('a server that is killed amid fetches, and again amid backups, goes on: all is entered once', async () => {
  const files = await closedDataset(producer.operator, 'killed', { fileCount: 6 });
  // Half of each file, and the rest a while later.
  let isSlow = true;
  door.trick = async (request, response) => {
    const file = files.find((candidate) => request.url?.endsWith(candidate.lfn));
    if (!isSlow || !file || request.headers.range !== undefined) return false;
    response.writeHead(200, { 'content-length': 64 });
    response.write(file.bytes.subarray(0, 32));
    return true;
  };
  site = await startServe(environment);
  const tokens = {
    SWEEPBOOK_URL: site.address,
    SWEEPBOOK_HOME: environment['SWEEPBOOK_HOME'] ?? '',
  };
  const begun = await runProgram(
    ['import', '--from', 'SLAC', '--dataset', 'killed', '--no-wait'],
    tokens,
  );
  expect(begun, begun.stderr).toMatchObject({ code: 0 });
  await until(
    'files are on their way',
    async () => {
      const [row] = await database.sql(
        `select 1 from import_files where status = 'FETCHING' and fetched_bytes = 32`,
      );
      return row !== undefined;
    },
    patienceMs,
  );
  await site.kill('SIGKILL');
  expect(await checkInvariants(database.url)).toEqual([]);

  isSlow = false;
  site = await startServe(environment);
  await until('some are here', async () => (await countOf('BACKING_UP', 'SAFE')) > 0, patienceMs);
  await site.kill('SIGKILL');
  expect(await checkInvariants(database.url)).toEqual([]);

  site = await startServe(environment);
  const watched = await runProgram(['import', 'watch', '1', '--json'], {
    ...tokens,
    SWEEPBOOK_URL: site.address,
  });
  expect(watched, watched.stderr).toMatchObject({ code: 0 });
  expect(door.log.some((range) => range === 'bytes=32-')).toBe(true);
  const { dataset } = await clientOf(site.address).call<{
    dataset: {
      fileCount: number;
      files: { nodes: { lfn: string; replicas: unknown[]; backups: unknown[] }[] };
    };
  }>(
    '{ dataset(name: "killed") { fileCount files { nodes { lfn replicas { path } backups { status } } } } }',
  );
  expect(dataset.fileCount).toBe(6);
  for (const file of files) {
    expect(readFileSync(join(folder, 'site', 'area', file.lfn)).equals(file.bytes)).toBe(true);
  }
  const doubled = await database.sql(
    `select 1 from replicas group by file_id having count(*) > 1
     union all select 1 from backup_records group by file_id having count(*) > 1`,
  );
  expect(doubled).toEqual([]);
});

test('on the command line: export to a file, a dry run, import, follow, cancel', async () => {
  await closedDataset(producer.operator, 'by-hand', { firstRun: 900 });
  door.trick = async (_request, response) => {
    response.writeHead(404).end();
    return true;
  };
  site = await startServe(environment);
  const here = { SWEEPBOOK_URL: site.address, SWEEPBOOK_HOME: environment['SWEEPBOOK_HOME'] ?? '' };
  const packed = join(folder, 'by-hand.jsonl.gz');
  const exported = await runProgram(['export', 'by-hand', '--output', packed], {
    SWEEPBOOK_URL: producer.address,
    SWEEPBOOK_HOME: folder,
  });
  expect(exported, exported.stderr).toMatchObject({
    code: 0,
    stdout: `wrote ${packed} (2 files)\n`,
  });
  // Packed as its name says, and taken so whatever it is called.
  expect(gunzipSync(readFileSync(packed)).toString()).toContain('{"end":');
  const manifest = join(folder, 'by-hand.jsonl');
  renameSync(packed, manifest);
  const dry = await runProgram(['import', manifest, '--dry-run'], here);
  expect(dry).toMatchObject({
    code: 0,
    stdout:
      'would import by-hand from SLAC\nfiles: 2 new (128 B), 0 here already\nruns:  2 new, 0 here already, 0 with more known of them\n',
  });
  const failed = await runProgram(['import', manifest], here);
  expect(failed, failed.stderr).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('HTTP 404'),
  });
  const number = /import (\d+) is FAILED/.exec(failed.stdout)?.[1] ?? '';
  const shown = await runProgram(['import', 'show', number, '--failed'], here);
  expect(shown.stdout).toContain('/by-hand/file0.root');
  const cancelled = await runProgram(['import', 'cancel', number], here);
  expect(cancelled).toMatchObject({ code: 0, stdout: `import ${number} is called off\n` });
  const followed = await runProgram(['import', 'follow', 'SLAC', '--names', 'none-*'], here);
  expect(followed, followed.stderr).toMatchObject({ code: 0, stdout: 'rule 1 follows SLAC\n' });
  const member = await runProgram(['import', 'follow', 'SLAC', '--container', 'none'], here);
  expect(member, member.stderr).toMatchObject({
    code: 0,
    stdout: 'rule 2 follows SLAC: its container is kept here as none\n',
  });
  const rules = await runProgram(['import', 'rules'], here);
  expect(rules.stdout).toContain('container none');
  const found = await runProgram(['import', 'rules', '--datasets', '1', '--json'], here);
  expect(found, found.stderr).toMatchObject({ code: 0, stdout: '[]\n' });
  const late = await runProgram(['import', 'retry', number], here);
  expect(late).toMatchObject({ code: 6, stderr: expect.stringContaining('CANCELLED') });
});
