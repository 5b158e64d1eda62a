import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { describeFile, makeFile, registerMerged } from '../support/files.ts';
import { startProgram, type RunningProgram } from '../support/program.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { incident, isSeen, placedFile, report, untilStatus, waivedDataset } from './scene.ts';

/** Zeros: quick to make, long enough to copy and to hash that one can look meanwhile. */
const sizeBytes = 80_000_000;
/** A worker takes a while to start on a busy machine. */
const patienceMs = 120_000;

let server: TestServer;
let disk: string;
let workers: RunningProgram[] = [];
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  disk = mkdtempSync(join(tmpdir(), 'sweepbook-disk-'));
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.kill('SIGKILL')));
});
afterAll(async () => {
  await server.close();
  rmSync(disk, { recursive: true, force: true });
});

function startWorker(): RunningProgram {
  const worker = startProgram(['worker'], {
    DATABASE_URL: server.database.url,
    SWEEPBOOK_HOME: join(server.folder, 'home'),
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
    SWEEPBOOK_RESTAGE_ROOTS: disk,
  });
  workers.push(worker);
  return worker;
}

/** A file in the mass store whose copy on disk is gone, and its incident. */
async function lostOnDisk(name: string): Promise<{ number: number; path: string; sha256: string }> {
  const path = join(disk, name, 'file.root');
  const lfn = `/kill/${name}.root`;
  const made = await makeFile(path, name, sizeBytes);
  await registerMerged(server.operator, [
    { ...made, lfn, volume: name } as typeof made & { lfn: string },
  ]);
  const target = await mutate<{ results: { upload: { path: string } }[] }>(
    server.operator,
    'requestBackup',
    { lfns: [lfn], direct: true },
    'results { upload { path } }',
  );
  const upload = target.results[0]?.upload.path ?? '';
  mkdirSync(dirname(upload), { recursive: true });
  await makeFile(upload, name, sizeBytes);
  await mutate(server.operator, 'recordBackup', { lfn, path: upload });
  rmSync(path);
  const lost = await report(server.operator, { volume: name });
  const number = lost.incident?.number ?? 0;
  await mutate(server.operator, 'recoverIncident', { incident: String(number) });
  return { number, path, sha256: made.sha256 };
}

test.each(['copying', 'claimed'])(
  'a worker killed when it was %s: another one brings it back',
  async (when) => {
    const { number, path, sha256 } = await lostOnDisk(when);
    const worker = startWorker();
    await until(
      `the file is ${when}`,
      async () => {
        if (when === 'copying') {
          return (
            existsSync(dirname(path)) &&
            readdirSync(dirname(path)).some((n) => n.startsWith('.sweepbook-'))
          );
        }
        const [row] = await server.database.sql<{ status: string }>(
          'select status from replica_checks where incident_id = $1',
          [number],
        );
        return row?.status === 'RUNNING';
      },
      patienceMs,
    );
    await worker.kill('SIGKILL');
    expect(await checkInvariants(server.database.url)).toEqual([]);
    startWorker();
    await until(
      'the incident is closed',
      async () => (await incident(server.operator, number)).status === 'CLOSED',
      patienceMs,
    );
    expect(readdirSync(dirname(path))).toEqual(['file.root']);
    expect((await describeFile(path)).sha256).toBe(sha256);
    const [row] = await server.database.sql(
      `select count(*) filter (where to_state = 'AVAILABLE')::integer as back from events
      where incident_id = $1 and kind = 'REPLICA_STATUS'`,
      [number],
    );
    expect(row).toEqual({ back: 1 });
    expect(await checkInvariants(server.database.url)).toEqual([]);
  },
  3 * patienceMs,
);

test(
  'undone while a worker reads: its result is thrown away',
  async () => {
    const file = await placedFile(server, 'undo', 'kill/undo');
    await waivedDataset(server.operator, 'kill-undo', [file]);
    writeFileSync(file.path, 'something else');
    const number = (await report(server.operator, { volume: 'undo' })).incident?.number ?? 0;
    await mutate(server.operator, 'recoverIncident', { incident: String(number) });
    const client = await server.database.client();
    await client.query('begin; select from incidents for update');
    startWorker();
    await until(
      'a worker waits',
      async () => {
        const found = await server.database.sql(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return found.length > 0;
      },
      patienceMs,
    );
    await client.query('commit');
    await mutate(server.operator, 'undoIncident', {
      incident: String(number),
      reason: 'another disk',
    });
    await untilStatus(server.operator, number, 'UNDONE');
    expect(await isSeen(server, 'kill-undo')).toBe(true);
  },
  2 * patienceMs,
);
