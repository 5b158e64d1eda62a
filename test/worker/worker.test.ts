import { existsSync, mkdirSync, readdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { JobQueue } from '../../src/database/jobs.ts';
import { SweepbookError } from '../../src/errors.ts';
import type { MassStore, StoreAnswer } from '../../src/storage/contract.ts';
import { DirectoryStore } from '../../src/storage/directory.ts';
import type { OpenStores } from '../../src/storage/open.ts';
import { isLeftover } from '../../src/worker/leftovers.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { Refused } from '../support/client.ts';
import { makeFile, registerMerged, startSweep, statusOf, type MadeFile } from '../support/files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { uploadKey } from '../../src/storage/incoming.ts';

let server: TestServer;
let jobs: JobQueue;
let root: string;
const workers: Worker[] = [];

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  root = join(server.folder, 'home', 'store');
  jobs = await JobQueue.open({
    url: server.database.url,
    supervise: true,
    onError: () => undefined,
  });
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});
afterAll(async () => {
  await jobs.close();
  await server.close();
});

/** A worker with a store that may have been tampered with. */
function startWorker(store: MassStore, more: { concurrency?: number } = {}): Worker {
  const worker = new Worker({
    db: server.database.db,
    jobs,
    stores: { of: () => store } as unknown as OpenStores,
    log: { info: () => undefined, warn: () => undefined },
    hostname: 'test',
    concurrency: 2,
    leaseSeconds: 3,
    retryBaseMs: 20,
    shutdownSeconds: 1,
    onChange: () => undefined,
    ...more,
  });
  worker.start();
  workers.push(worker);
  return worker;
}

const honest = () => new DirectoryStore({ name: 'default', kind: 'directory', root });

/** The store with some of its methods replaced: a double that can misbehave. */
function lying(lie: (store: MassStore) => Partial<MassStore>): MassStore {
  const store = honest();
  return Object.assign(Object.create(store) as MassStore, lie(store));
}

let count = 0;
async function newSweep(text = 'content'): Promise<{ name: string; lfn: string; file: MadeFile }> {
  const name = `w-${++count}`;
  const lfn = `/worker/${count}.root`;
  const file = await makeFile(join(server.folder, 'files', `${count}.root`), `${text} ${count}`);
  await registerMerged(server.operator, [{ ...file, lfn }]);
  await startSweep(server.operator, name, [lfn]);
  return { name, lfn, file };
}

interface Record {
  status: string;
  attempt: number;
  failureCount: number;
  lastErrorCode: string | null;
  lastError: string | null;
  evidence: { asked: string; answer: string } | null;
}

async function recordOf(lfn: string): Promise<Record> {
  const data = await server.operator.call<{ file: { backups: Record[] } }>(
    `query ($lfn: String!) { file(lfn: $lfn) {
      backups { status attempt failureCount lastErrorCode lastError evidence } } }`,
    { lfn },
  );
  const [record] = data.file.backups;
  if (!record) throw new Error(`no record of ${lfn}`);
  return record;
}

const isClosed = (name: string) => async () => (await statusOf(server.operator, name)) === 'CLOSED';
const isFailed = (lfn: string) => async () => (await recordOf(lfn)).status === 'FAILED';
const changed = (answer: StoreAnswer, lie: object): StoreAnswer => ({ ...answer, ...lie });

test.each<[string, (store: MassStore) => Partial<MassStore>]>([
  ['says another size', (s) => ({ ask: async (k) => changed(await s.ask(k), { sizeBytes: 1 }) })],
  [
    'says another checksum',
    (s) => ({ ask: async (k) => changed(await s.ask(k), { adler32: '00000001' }) }),
  ],
  [
    'says nothing of checksums',
    (s) => ({
      ask: async (k) => changed(await s.ask(k), { adler32: undefined, sha256: undefined }),
    }),
  ],
  [
    'says that it is not there',
    (s) => ({ ask: async (k) => changed(await s.ask(k), { isPresent: false }) }),
  ],
  [
    'says capitals',
    (s) => ({ ask: async (k) => changed(await s.ask(k), { sha256: 'AB'.repeat(32) }) }),
  ],
  ['answers for another file', (s) => ({ ask: async () => s.ask('.sweepbook-store') })],
  [
    'takes other bytes than were sent',
    (s) => ({
      put: async (source, key, expected, options) => {
        await s.put(source, key, expected, options);
        writeFileSync(s.placeOf(key), Buffer.alloc(expected.sizeBytes, 1));
      },
    }),
  ],
  [
    'takes nothing, and says all is well',
    (s) => ({ put: async () => undefined, ask: async () => s.ask('.incoming/b0.a0') }),
  ],
])('a store that %s confirms nothing, and its answer is kept', async (_what, lie) => {
  const { name, lfn } = await newSweep();
  startWorker(lying(lie));
  const record = await until('a failed attempt with evidence', async () => {
    const now = await recordOf(lfn);
    return now.failureCount > 0 && now.evidence !== null ? now : undefined;
  });
  expect(['NOT_CONFIRMED', 'CHECKSUM_MISMATCH']).toContain(record.lastErrorCode);
  expect(record.evidence?.asked).not.toBe('');
  expect(record.evidence?.answer).not.toBe('');
  expect(existsSync(join(root, lfn))).toBe(false);
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  expect(await statusOf(server.operator, name)).toBe('OPEN');
  // An honest store, and it comes to its end: by itself, or asked again when it was given up.
  startWorker(honest());
  await server.operator.call(
    'mutation ($input: DatasetTransitionInput!) { sweepDataset(input: $input) { changed } }',
    { input: { dataset: name } },
  );
  await until('closed', isClosed(name));
});

test('a store that fails now and then is tried again, with waits, until it works', async () => {
  let failures = 0;
  const { name, lfn } = await newSweep();
  startWorker(
    lying((s) => ({
      ask: async (key) => {
        if (++failures <= 3) throw new SweepbookError('STORE_UNAVAILABLE', 'the store sleeps');
        return s.ask(key);
      },
    })),
  );
  await until('closed', isClosed(name));
  const record = await recordOf(lfn);
  expect(record).toMatchObject({ status: 'CONFIRMED', attempt: 4, lastError: null });
  const events = await server.database.sql<{ to_state: string; reason: string | null }>(
    `select to_state, reason from events where kind = 'BACKUP_STATUS'
      and file_id = (select id from files where lfn = $1) and from_state is not null and to_state = 'REQUESTED'`,
    [lfn],
  );
  expect(events).toHaveLength(3);
  expect(events[0]?.reason).toBe('the store sleeps');
});

test('when no attempt is left it is FAILED with the reason, the dataset says so, and asking again helps', async () => {
  const { name, lfn, file } = await newSweep();
  await server.database.sql(`update mass_stores set attempt_limit = 3`);
  startWorker(
    lying(() => ({
      put: async () => {
        throw new SweepbookError('STORE_UNAVAILABLE', 'the robot is out of order');
      },
    })),
  );
  await until('FAILED', isFailed(lfn));
  expect(await recordOf(lfn)).toMatchObject({
    failureCount: 3,
    lastErrorCode: 'STORE_UNAVAILABLE',
  });
  const { dataset } = await server.operator.call<{ dataset: { sweep: object } }>(
    'query ($name: String!) { dataset(name: $name) { sweep { isRunning failed requested lastError } } }',
    { name },
  );
  expect(dataset.sweep).toEqual({
    isRunning: true,
    failed: 1,
    requested: 0,
    lastError: 'the robot is out of order',
  });
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  startWorker(honest());
  await server.operator.call(
    'mutation ($input: RequestBackupInput!) { requestBackup(input: $input) { requestedCount } }',
    { input: { lfns: [lfn] } },
  );
  await until('closed', isClosed(name));
  expect(existsSync(file.path)).toBe(true);
  await server.database.sql(`update mass_stores set attempt_limit = 8`);
});

test('a source that is another file by now fails at once, and says what to do', async () => {
  const { lfn, file } = await newSweep();
  writeFileSync(file.path, 'x'.repeat(file.sizeBytes));
  startWorker(honest());
  await until('FAILED', isFailed(lfn));
  const record = await recordOf(lfn);
  expect(record).toMatchObject({ failureCount: 1, lastErrorCode: 'SOURCE_CHANGED' });
  expect(record.lastError).toContain('register the new content under a new LFN');
});

test('a source that no worker can read fails after a few tries', async () => {
  const { lfn, file } = await newSweep();
  unlinkSync(file.path);
  startWorker(honest());
  await until('FAILED', isFailed(lfn));
  expect(await recordOf(lfn)).toMatchObject({
    failureCount: 3,
    lastErrorCode: 'SOURCE_UNREADABLE',
  });
});

test('a name in the store that is taken by another file is never written over', async () => {
  const { lfn } = await newSweep();
  mkdirSync(dirname(join(root, lfn)), { recursive: true });
  writeFileSync(join(root, lfn), 'older and dear to somebody');
  startWorker(honest());
  await until('FAILED', isFailed(lfn));
  expect(await recordOf(lfn)).toMatchObject({ failureCount: 1, lastErrorCode: 'DUPLICATE' });
});

test('a store takes no more copies at once than it may, over all workers', async () => {
  await server.database.sql('update mass_stores set concurrency = 2');
  let now = 0;
  let most = 0;
  const counting = lying((s) => ({
    put: async (...put) => {
      most = Math.max(most, ++now);
      await s.put(...put);
      await new Promise((resolve) => setTimeout(resolve, 150));
      now--;
    },
  }));
  const sweeps = [];
  for (let at = 0; at < 12; at++) sweeps.push(await newSweep());
  for (let at = 0; at < 3; at++) startWorker(counting, { concurrency: 4 });
  for (const { name } of sweeps) await until(`${name} closed`, isClosed(name));
  expect(most).toBe(2);
  await server.database.sql('update mass_stores set concurrency = 8');
});

test('a worker that is stopped gives back what it has not finished, and it does not count as a failure', async () => {
  const { name, lfn } = await newSweep();
  const slow = startWorker(
    lying(() => ({
      put: (_source, _key, _expected, options) =>
        new Promise((_resolve, reject) => {
          options?.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
        }),
    })),
  );
  await until('COPYING', async () => (await recordOf(lfn)).status === 'COPYING');
  await slow.stop();
  expect(await recordOf(lfn)).toMatchObject({ status: 'REQUESTED', failureCount: 0 });
  startWorker(honest());
  await until('closed', isClosed(name));
});

test('a copy that its producer made and never reported is found by the worker', async () => {
  const { name, lfn, file } = await newSweep('direct');
  unlinkSync(file.path);
  const [record] = await server.database.sql<{ id: string }>(
    'select id from backup_records where file_id = (select id from files where lfn = $1)',
    [lfn],
  );
  const store = honest();
  writeFileSync(store.placeOf(uploadKey(Number(record?.id))), `direct ${count}`);
  startWorker(store);
  await until('closed', isClosed(name));
  expect(readdirSync(join(root, '.incoming'))).toEqual([]);
});

test('leftovers are told from what is still wanted', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  const young = new Date(now - 1000);
  const old = new Date(now - 25 * 3_600_000);
  const file = (attempt: number | undefined, changedAt = young) => ({
    key: 'k',
    backupId: 1,
    attempt,
    changedAt,
  });
  const record = (status: string, attempt: number) => ({ id: 1, status, attempt });
  expect(isLeftover(file(2), record('COPYING', 2), now)).toBe(false);
  expect(isLeftover(file(2), record('COPIED', 2), now)).toBe(false);
  expect(isLeftover(file(1), record('COPYING', 2), now)).toBe(true);
  expect(isLeftover(file(2), record('CONFIRMED', 2), now)).toBe(true);
  expect(isLeftover(file(2), record('REQUESTED', 2), now)).toBe(true);
  expect(isLeftover(file(3), record('COPYING', 2), now)).toBe(false);
  expect(isLeftover(file(undefined), record('REQUESTED', 0), now)).toBe(false);
  expect(isLeftover(file(undefined, old), record('REQUESTED', 0), now)).toBe(true);
  expect(isLeftover(file(undefined), record('CONFIRMED', 1), now)).toBe(true);
  expect(isLeftover(file(1), undefined, now)).toBe(false);
  expect(isLeftover(file(1, old), undefined, now)).toBe(true);
});

/** What production does that copies by itself (the first scenario of the users). */
async function report(
  lfn: string,
  path: string,
): Promise<{ changed: boolean; record: { status: string } }> {
  const data = await server.operator.call<{
    recordBackup: { changed: boolean; record: { status: string } };
  }>(
    'mutation ($input: RecordBackupInput!) { recordBackup(input: $input) { changed record { status } } }',
    { input: { lfn, path } },
  );
  return data.recordBackup;
}

test('production copies into the store by itself and reports it: the store is asked before it is believed', async () => {
  const { name, lfn, file } = await newSweep('production');
  const place = join(root, 'production', 'of-its-own.root');
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, 'x'.repeat(file.sizeBytes));
  const refusal = await report(lfn, place).catch((error: unknown) => error as Refused);
  expect(refusal).toMatchObject({ code: 'CHECKSUM_MISMATCH' });
  expect(await recordOf(lfn)).toMatchObject({
    status: 'FAILED',
    lastErrorCode: 'CHECKSUM_MISMATCH',
  });
  expect((await recordOf(lfn)).evidence?.answer).toContain('adler32');
  writeFileSync(place, `production ${count}`);
  expect(await report(lfn, place)).toEqual({ changed: true, record: { status: 'CONFIRMED' } });
  expect(await report(lfn, place)).toEqual({ changed: false, record: { status: 'CONFIRMED' } });
  expect(await statusOf(server.operator, name)).toBe('CLOSED');
});

test.each([
  ['outside the store', () => '/etc/passwd', 'BAD_USER_INPUT'],
  ['that is not there', () => join(root, 'nowhere.root'), 'BAD_USER_INPUT'],
  ['of another record', () => '.incoming/b999999.direct', 'BAD_USER_INPUT'],
])('a reported place %s is refused', async (_what, place, code) => {
  const { lfn } = await newSweep();
  if (place().includes('b999999')) writeFileSync(join(root, place()), 'x');
  await expect(report(lfn, place())).rejects.toMatchObject({ code });
  expect((await recordOf(lfn)).status).toBe('REQUESTED');
});

test('one stored file is the backup of one file', async () => {
  const first = await makeFile(join(server.folder, 'same', 'one.root'), 'the same bytes');
  const lfns = ['/same/one.root', '/same/two.root'];
  await registerMerged(
    server.operator,
    lfns.map((lfn) => ({ ...first, lfn })),
  );
  const place = join(root, 'same-place.root');
  writeFileSync(place, 'the same bytes');
  expect((await report(lfns[0] ?? '', place)).changed).toBe(true);
  await expect(report(lfns[1] ?? '', place)).rejects.toMatchObject({ code: 'DUPLICATE' });
  expect((await recordOf(lfns[1] ?? '')).status).toBe('FAILED');
});
