import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { describeFile } from '../support/files.ts';
import { backUp, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { incident, isSeen, placedFile, report, untilStatus, waivedDataset } from './scene.ts';

let server: TestServer;
beforeAll(async () => {
  // One folder is given away to the workers: set before it is made.
  const { mkdtempSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  disk = mkdtempSync(join(tmpdir(), 'sweepbook-disk-'));
  server = await startTestServer({ SWEEPBOOK_RESTAGE_ROOTS: disk });
});
let disk: string;
afterAll(async () => {
  await server.close();
  rmSync(disk, { recursive: true, force: true });
});

const numberOf = (made: { incident: { number: number } | null }) => made.incident?.number ?? 0;
const recover = (number: number, more: object = {}) =>
  mutate(server.operator, 'recoverIncident', { incident: String(number), ...more });

test('what is there again is read and found good; what is something else is not', async () => {
  const { operator, database } = server;
  const good = await placedFile(server, 'r1', 'r1/good');
  const rotten = await placedFile(server, 'r1', 'r1/rotten');
  const gone = await placedFile(server, 'r1', 'r1/gone');
  await waivedDataset(operator, 'r1-good', [good]);
  await waivedDataset(operator, 'r1-rotten', [good, rotten]);
  await waivedDataset(operator, 'r1-gone', [gone]);
  const number = numberOf(await report(operator, { volume: 'r1' }));
  writeFileSync(rotten.path, Buffer.alloc(rotten.bytes.length, 7));
  renameSync(gone.path, `${gone.path}.away`);
  await recover(number);
  const after = await untilStatus(operator, number, 'OPEN', 'CLOSED');
  expect(after).toMatchObject({
    status: 'OPEN',
    restoredCount: 1,
    openCount: 2,
    stillLostCount: 2,
    hiddenDatasetCount: 2,
  });
  expect(
    await Promise.all(['r1-good', 'r1-rotten', 'r1-gone'].map((n) => isSeen(server, n))),
  ).toEqual([true, false, false]);
  const why = Object.fromEntries(after.items.nodes.map((item) => [item.lfn, item.lastError]));
  expect(why[rotten.lfn]).toContain('registered is');
  expect(why[gone.lfn]).toContain('is not there');

  // Mended by hand, and recovered again: only what is not back is looked at.
  writeFileSync(rotten.path, rotten.bytes);
  renameSync(`${gone.path}.away`, gone.path);
  await recover(number);
  expect(await untilStatus(operator, number, 'CLOSED')).toMatchObject({
    openCount: 0,
    closingReason: 'all that could be brought back is back: 3 of 3 copies',
  });
  expect(await isSeen(server, 'r1-rotten')).toBe(true);
  expect(await recover(number)).toEqual({ changed: false });
  const [evidence] = await database.sql<{ facts: { evidence: { asked: string } } }>(
    `select facts from events where kind = 'REPLICA_STATUS' and to_state = 'AVAILABLE'
      and file_id = (select id from files where lfn = $1)`,
    [good.lfn],
  );
  expect(evidence?.facts.evidence.asked).toBe(`read back ${good.path}`);
  expect(await checkInvariants(database.url)).toEqual([]);
});

test('restages what a mass store has: in place, and to another place', async () => {
  const { operator } = server;
  const place = (name: string) => ({ path: join(disk, 'old', name), volume: 'r2' });
  const here = await placedFile(server, 'x', 'r2/here', place('here'));
  const there = await placedFile(server, 'x', 'r2/there', place('there'));
  await backUp(operator, here, there);
  const number = numberOf(await report(operator, { paths: [place('here').path] }));
  await recover(number);
  await untilStatus(operator, number, 'CLOSED');
  expect(await describeFile(place('here').path)).toMatchObject({
    sha256: here.description['sha256'],
  });

  // Another file is there by now: nothing is replaced.
  mkdirSync(join(disk, 'old'), { recursive: true });
  writeFileSync(place('there').path, 'something else');
  const second = numberOf(await report(operator, { paths: [place('there').path] }));
  await recover(second);
  const stuck = await untilStatus(operator, second, 'OPEN');
  expect(stuck.items.nodes[0]?.lastError).toContain('nothing is replaced');
  await recover(second, { pathFrom: join(disk, 'old'), pathTo: join(disk, 'new') });
  await untilStatus(operator, second, 'CLOSED');
  expect(await describeFile(join(disk, 'new', 'there'))).toMatchObject({
    sha256: there.description['sha256'],
  });
});

test('nothing is written where this host gives nothing away', async () => {
  const { operator } = server;
  const file = await placedFile(server, 'r3', 'r3/a');
  await backUp(operator, file);
  rmSync(file.path);
  const number = numberOf(await report(operator, { volume: 'r3' }));
  await recover(number);
  const stuck = await untilStatus(operator, number, 'OPEN');
  expect(stuck.items.nodes[0]?.lastError).toContain('SWEEPBOOK_RESTAGE_ROOTS');
  expect(await incident(operator, number)).toMatchObject({ stillLostCount: 0 });
  const codes = await Promise.all(
    [
      recover(number, { pathFrom: '/a' }),
      recover(number, { pathFrom: '/a', pathTo: '/b/../c' }),
      recover(number, { volume: 'nowhere' }),
      recover(99_999),
    ].map(async (work) => (await refusalOf(work)).code),
  );
  expect(codes).toEqual(['BAD_USER_INPUT', 'BAD_USER_INPUT', 'NOT_FOUND', 'NOT_FOUND']);
});

test('a copy that is told again is read before it counts, without anybody asking for recovery', async () => {
  const { operator, database } = server;
  const file = await placedFile(server, 'r4', 'r4/a');
  await waivedDataset(operator, 'r4', [file]);
  const number = numberOf(await report(operator, { volume: 'r4' }));
  const late = await refusalOf(
    mutate(operator, 'createDataset', { name: 'r4-late', kind: 'USER', files: [file.lfn] }),
  );
  expect(late.code).toBe('FILE_LOST');
  const copy = join(server.folder, 'r4-copy');
  writeFileSync(copy, file.bytes.subarray(1));
  await mutate(operator, 'confirmReplica', { lfn: file.lfn, path: copy, volume: 'new' });
  interface Checked {
    file: { replicaChecks: { status: string; path: string; lastErrorCode: string | null }[] };
  }
  const check = () =>
    operator.call<Checked>(
      'query ($lfn: String!) { file(lfn: $lfn) { replicaChecks { status path lastErrorCode } } }',
      { lfn: file.lfn },
    );
  const found = await until('the copy was read', async () => {
    const [last] = (await check()).file.replicaChecks;
    return last?.status === 'BAD' && last;
  });
  expect(found).toEqual({ status: 'BAD', path: copy, lastErrorCode: 'CHECKSUM_MISMATCH' });
  expect(await isSeen(server, 'r4')).toBe(false);
  writeFileSync(copy, file.bytes);
  await mutate(operator, 'confirmReplica', { lfn: file.lfn, path: copy });
  await until('the dataset is seen', () => isSeen(server, 'r4'));
  await untilStatus(operator, number, 'CLOSED');

  // Registered as any other: also read first.
  const other = await placedFile(server, 'r4b', 'r4/b');
  await waivedDataset(operator, 'r4b', [other]);
  await report(operator, { volume: 'r4b' });
  await mutate(operator, 'registerFiles', { files: [other.description] }, 'existingCount');
  await until('it was read', () => isSeen(server, 'r4b'));
  expect(await checkInvariants(database.url)).toEqual([]);
});

test('a crash amid a sweep: lost until the copy that was under way is confirmed', async () => {
  const { operator } = server;
  const file = await placedFile(server, 'r5', 'r5/a');
  await mutate(operator, 'createDataset', { name: 'r5', kind: 'PR', files: [file.lfn] });
  await mutate(operator, 'requestBackup', { lfns: [file.lfn], direct: true }, 'existingCount');
  await mutate(operator, 'sweepDataset', { dataset: 'r5' });
  const number = numberOf(await report(operator, { volume: 'r5' }));
  expect(await incident(operator, number)).toMatchObject({
    stillLostCount: 1,
    hiddenDatasetCount: 1,
  });
  await backUp(operator, file);
  expect(await incident(operator, number)).toMatchObject({
    stillLostCount: 0,
    hiddenDatasetCount: 0,
  });
  expect(await isSeen(server, 'r5')).toBe(true);
});

test('a lost file may leave an OPEN dataset, and holds it back no more', async () => {
  const { operator, database } = server;
  const [a, b] = [await placedFile(server, 'r6', 'r6/a'), await placedFile(server, 'r6b', 'r6/b')];
  const name = { name: 'r6', kind: 'USER', backupWaived: true, waiverReason: 'x' };
  await mutate(operator, 'createDataset', { ...name, files: [a.lfn, b.lfn] });
  const number = numberOf(await report(operator, { volume: 'r6' }));
  await mutate(operator, 'removeFilesFromDataset', { dataset: 'r6', lfns: [a.lfn] });
  expect(await incident(operator, number)).toMatchObject({
    stillLostCount: 1,
    hiddenDatasetCount: 0,
  });
  await mutate(operator, 'closeDataset', { dataset: 'r6' });
  expect(await isSeen(server, 'r6')).toBe(true);
  expect(await checkInvariants(database.url)).toEqual([]);
});

test('progress is told until it is over, and each step of each incident', async () => {
  const { operator } = server;
  const file = await placedFile(server, 'r7', 'r7/a');
  await waivedDataset(operator, 'r7', [file]);
  const number = numberOf(await report(operator, { volume: 'r7' }));
  const told: { status: string; restoredCount: number }[] = [];
  const watching = (async () => {
    const query = `subscription ($incident: ID!) { incidentProgress(incident: $incident) { status restoredCount } }`;
    interface Told {
      incidentProgress: { status: string; restoredCount: number };
    }
    for await (const item of operator.subscribe<Told>(query, { incident: String(number) })) {
      told.push(item.incidentProgress);
    }
  })();
  await until('the first answer', () => told.length > 0);
  await recover(number);
  await watching;
  expect(told[0]).toEqual({ status: 'OPEN', restoredCount: 0 });
  expect(told.at(-1)).toEqual({ status: 'CLOSED', restoredCount: 1 });
});
