import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { describeFile, makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import { startProgram, type RunningProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { isTried } from '../support/turns.ts';
import { until } from '../support/until.ts';

const repeats = Number(process.env['KILL_REPEATS'] ?? 1);
/** Zeros: quick to make, long enough to copy and to hash that one can look meanwhile. */
const sizeBytes = 160_000_000;

let server: TestServer;
let store: string;
let source: string;
let workers: RunningProgram[] = [];

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  store = join(server.folder, 'home', 'store');
  source = join(server.folder, 'source.root');
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.kill('SIGKILL')));
  workers = [];
});
afterAll(() => server.close());

function startWorker(): RunningProgram {
  const worker = startProgram(['worker'], {
    DATABASE_URL: server.database.url,
    SWEEPBOOK_HOME: join(server.folder, 'home'),
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
  });
  workers.push(worker);
  return worker;
}

/** The launcher replaces itself by the program: its pid is the worker's. */
function freeze(worker: RunningProgram): void {
  process.kill(worker.pid, 'SIGSTOP');
}

interface Swept {
  readonly name: string;
  readonly lfn: string;
  readonly backupId: number;
  readonly temporary: string;
  readonly final: string;
}

let count = 0;

/** A new dataset with one file, sealed; no worker has seen it. */
async function newSweep(): Promise<Swept> {
  const name = `kill-${++count}`;
  const lfn = `/kill/${count}.root`;
  const made = await makeFile(source, `file ${count}`, sizeBytes);
  await registerMerged(server.operator, [{ ...made, lfn }]);
  await startSweep(server.operator, name, [lfn]);
  const [row] = await server.database.sql<{ id: string }>(
    'select b.id from backup_records b join files f on f.id = b.file_id where f.lfn = $1',
    [lfn],
  );
  const backupId = Number(row?.id);
  return {
    name,
    lfn,
    backupId,
    temporary: join(store, '.incoming', `b${backupId}.a1`),
    final: join(store, lfn),
  };
}

async function statusOfBackup(client: pg.Client, { backupId }: Swept): Promise<string> {
  const found = await client.query<{ status: string }>(
    'select status from backup_records where id = $1',
    [backupId],
  );
  return found.rows[0]?.status ?? '';
}

/** Waits until some other session waits for a lock that we hold. */
async function somebodyWaits(client: pg.Client): Promise<void> {
  await until('a session that waits for our lock', async () => {
    const found = await client.query(
      'select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))',
      [(client as unknown as { processID: number }).processID],
    );
    return found.rows.length > 0;
  });
}

/** Another worker brings it to its end, without a push; all is as if nothing had happened. */
async function recovers(swept: Swept, killedAt: number, point: string): Promise<void> {
  const worker = startWorker();
  await until(
    `${swept.name} is closed`,
    async () => (await statusOf(server.operator, swept.name)) === 'CLOSED',
  );
  console.log(`killed ${point}: closed ${((Date.now() - killedAt) / 1000).toFixed(1)} s later`);
  expect(await checkInvariants(server.database.url)).toEqual([]);
  const events = await server.database.sql<{ to_state: string; n: string }>(
    `select e.to_state, count(*) as n from events e
      where (e.backup_id = $1 and e.to_state = 'CONFIRMED')
        or (e.kind = 'DATASET_STATUS' and e.to_state = 'CLOSED' and e.dataset_id = (select id from datasets where name = $2))
      group by 1 order by 1`,
    [swept.backupId, swept.name],
  );
  expect(events.map(({ to_state, n }) => [to_state, Number(n)])).toEqual([
    ['CLOSED', 1],
    ['CONFIRMED', 1],
  ]);
  const stored = await describeFile(swept.final);
  expect(stored.sha256).toBe((await describeFile(source)).sha256);
  // A self-test's canary (b0) that died with a worker goes with the hourly look at left-overs.
  await until('no leftover', () =>
    readdirSync(join(store, '.incoming')).every((name) => name.startsWith('b0.')),
  );
  await worker.kill('SIGTERM');
}

describe.each(Array.from({ length: repeats }, (_, turn) => turn + 1))('turn %i', () => {
  test.runIf(isTried(0, 2, 5))(
    'a worker killed when it has claimed a file',
    async () => {
      const looker = await server.database.client();
      for (let tries = 1; ; tries++) {
        const swept = await newSweep();
        const worker = startWorker();
        await until('the claim', async () => (await statusOfBackup(looker, swept)) !== 'REQUESTED');
        freeze(worker);
        // Nothing can be waited for between claim and copy: look whether we were in time.
        const inTime =
          !existsSync(swept.temporary) && (await statusOfBackup(looker, swept)) === 'COPYING';
        await worker.kill('SIGKILL');
        await recovers(swept, Date.now(), inTime ? 'claimed' : 'just after the claim');
        if (inTime || tries === 5) break;
      }
      // Up to five tries of ten seconds and more.
    },
    300_000,
  );

  test.runIf(isTried(1, 2, 5))('a worker killed when it has copied the half', async () => {
    const swept = await newSweep();
    const worker = startWorker();
    await until(
      'bytes in the store',
      () => existsSync(swept.temporary) && statSync(swept.temporary).size > 0,
    );
    freeze(worker);
    const copied = statSync(swept.temporary).size;
    await worker.kill('SIGKILL');
    expect(copied).toBeLessThan(sizeBytes);
    expect(existsSync(swept.final)).toBe(false);
    await recovers(swept, Date.now(), 'half copied');
  });

  test.runIf(isTried(2, 2, 5))(
    'a worker killed when it has copied all and nobody has asked the store',
    async () => {
      const looker = await server.database.client();
      const swept = await newSweep();
      const worker = startWorker();
      await until('COPIED', async () => (await statusOfBackup(looker, swept)) === 'COPIED');
      freeze(worker);
      const published = existsSync(swept.final);
      await worker.kill('SIGKILL');
      expect(published).toBe(false);
      expect(statSync(swept.temporary).size).toBe(sizeBytes);
      await recovers(swept, Date.now(), 'copied');
    },
  );

  test.runIf(isTried(3, 2, 5))(
    'a worker killed when the store has it and the record does not say so',
    async () => {
      const swept = await newSweep();
      const holder = await server.database.client();
      await holder.query('begin');
      await holder.query('select from datasets where name = $1 for update', [swept.name]);
      const worker = startWorker();
      await until('the final name', () => existsSync(swept.final));
      await somebodyWaits(holder);
      await worker.kill('SIGKILL');
      expect(await statusOfBackup(holder, swept)).toBe('COPIED');
      await holder.query('rollback');
      await recovers(swept, Date.now(), 'published, not recorded');
    },
  );

  test.runIf(isTried(4, 2, 5))(
    'a worker killed when it has recorded and not yet moved the dataset on',
    async () => {
      const swept = await newSweep();
      const holder = await server.database.client();
      await holder.query('begin');
      await holder.query(
        'select from sweeps where dataset_id = (select id from datasets where name = $1) for update',
        [swept.name],
      );
      const worker = startWorker();
      await until('the final name', () => existsSync(swept.final));
      await somebodyWaits(holder);
      await worker.kill('SIGKILL');
      expect(await statusOfBackup(holder, swept)).toBe('COPIED');
      await holder.query('rollback');
      await recovers(swept, Date.now(), 'recorded, dataset not moved');
    },
  );
});

test('a worker that was asleep for longer than its lease cannot write any more', async () => {
  const looker = await server.database.client();
  const swept = await newSweep();
  const sleeper = startWorker();
  await until('COPIED', async () => (await statusOfBackup(looker, swept)) === 'COPIED');
  freeze(sleeper);
  const other = startWorker();
  await until(
    'closed by the other',
    async () => (await statusOf(server.operator, swept.name)) === 'CLOSED',
  );
  const before = await server.database.sql('select * from backup_records where id = $1', [
    swept.backupId,
  ]);
  process.kill(sleeper.pid, 'SIGCONT');
  await until('it noticed', () =>
    /overtaken|confirmed|cannot be read|failed/.test(
      sleeper.stdout().split('backup: begun').at(-1) ?? '',
    ),
  );
  const ends = await Promise.all([sleeper.kill('SIGTERM'), other.kill('SIGTERM')]);
  expect(ends.map((end) => end.code)).toEqual([0, 0]);
  expect(ends[0]?.stdout).toContain('overtaken');
  expect(
    await server.database.sql('select * from backup_records where id = $1', [swept.backupId]),
  ).toEqual(before);
  expect(readFileSync(swept.final).length).toBe(sizeBytes);
  expect(await checkInvariants(server.database.url)).toEqual([]);
});
