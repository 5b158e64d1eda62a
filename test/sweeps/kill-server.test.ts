import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findEmbeddedPostgres } from '../../src/database/embedded.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { clientOf, type TestClient } from '../support/client.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { makeFile, registerMerged, startSweep, statusOf, type MadeFile } from '../support/files.ts';
import { startServe, type ServeProcess } from '../support/program.ts';
import { until } from '../support/until.ts';

const repeats = Number(process.env['KILL_REPEATS'] ?? 1);
const seed = Number(process.env['KILL_SEED'] ?? Date.now() % 100_000);

let folder: string;
let database: TestDatabase;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-kill-'));
  database = await openTestDatabase();
});
afterAll(async () => {
  await database.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A small generator: the same moments for the same seed. */
function randomOf(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Sends one call until it is answered, whatever server answers: what a producer's script does. */
async function insist(client: () => TestClient, query: string, input: object): Promise<unknown> {
  return until(
    'an answer',
    async () => {
      const answer = await client()
        .raw(query, { input })
        .catch(() => undefined);
      const code = answer?.errors?.[0]?.extensions.code;
      if (!answer || code === 'UNAVAILABLE' || code === 'INTERNAL') return undefined;
      if (answer.errors) throw new Error(JSON.stringify(answer.errors));
      return answer.data ?? undefined;
      // A server may be killed before it has answered anything, as often as servers are killed here.
    },
    120_000,
  );
}

test('a server killed amid mutations: each call that is sent again is done once', async () => {
  console.log(`KILL_SEED=${seed}`);
  const random = randomOf(seed);
  const settings = {
    DATABASE_URL: database.url,
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_LEASE_SECONDS: '2',
  };
  const start = () => startServe(settings);
  let server: ServeProcess = await start();
  const token = readFileSync(join(folder, 'home', 'operator-token'), 'utf8').trim();
  const client = () => clientOf(server.address, token);
  const wanted = 4 * repeats;
  let rounds = 0;
  let ended = false;
  let kills = 0;
  const killing = (async () => {
    while (!ended && kills < wanted) {
      await new Promise((resolve) => setTimeout(resolve, 50 + random() * 400));
      if (ended) break;
      await server.kill('SIGKILL');
      kills++;
      server = await start();
    }
  })();
  const made: MadeFile[] = [];
  for (let round = 0; kills < wanted; rounds = ++round) {
    const file = await makeFile(join(folder, 'files', `${round}.root`), `round ${round}`);
    made.push(file);
    const lfn = `/amid/${round}.root`;
    await insist(
      client,
      'mutation ($input: RegisterFilesInput!) { registerFiles(input: $input) { refusedCount } }',
      {
        files: [{ ...file, lfn, kind: 'MERGED_FILE' }],
        idempotencyKey: `register ${round}`,
      },
    );
    await insist(
      client,
      'mutation ($input: CreateDatasetInput!) { createDataset(input: $input) { changed } }',
      {
        name: `amid-${round}`,
        kind: 'PR',
        idempotencyKey: `create ${round}`,
      },
    );
    await insist(
      client,
      'mutation ($input: DatasetFilesInput!) { addFilesToDataset(input: $input) { changed } }',
      {
        dataset: `amid-${round}`,
        lfns: [lfn],
      },
    ).catch((error: unknown) => {
      // It was done before the answer was lost, and the dataset is further on already.
      if (!/ILLEGAL_TRANSITION|DATASET_SEALED/.test(String(error))) throw error;
    });
    await insist(
      client,
      'mutation ($input: DatasetTransitionInput!) { sweepDataset(input: $input) { changed } }',
      {
        dataset: `amid-${round}`,
      },
    );
  }
  ended = true;
  await killing;
  await until('all are closed', async () => {
    const found = await database.sql<{ n: string }>(
      `select count(*) as n from datasets where status = 'CLOSED'`,
    );
    return Number(found[0]?.n) === rounds;
  });
  console.log(`server killed ${kills} times amid ${4 * rounds} mutations`);
  expect(kills).toBeGreaterThan(0);
  expect(await checkInvariants(database.url)).toEqual([]);
  const [counts] = await database.sql(
    `select (select count(*) from files)::int as files, (select count(*) from datasets)::int as datasets,
      (select count(*) from backup_records)::int as backups, (select count(*) from sweeps)::int as sweeps,
      (select count(*) from events where kind = 'DATASET_STATUS')::int as steps`,
  );
  expect(counts).toEqual({
    files: rounds,
    datasets: rounds,
    backups: rounds,
    sweeps: rounds,
    steps: 3 * rounds,
  });
  const end = await server.kill('SIGTERM');
  expect(end.code).toBe(0);
}, 180_000);

/** The parent of any of its sessions. */
async function postmasterOf(url: string): Promise<number> {
  const session = new pg.Client({ connectionString: url });
  await session.connect();
  const found = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  const status = readFileSync(`/proc/${found.rows[0]?.pid}/status`, 'utf8');
  await session.end();
  return Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]);
}

test('PostgreSQL killed amid a sweep: it is started again, and the sweep ends by itself', async () => {
  const home = join(folder, 'embedded');
  const server = await startServe({
    SWEEPBOOK_HOME: home,
    SWEEPBOOK_LEASE_SECONDS: '2',
    SWEEPBOOK_RETRY_BASE_MS: '50',
  });
  try {
    const client = clientOf(
      server.address,
      readFileSync(join(home, 'operator-token'), 'utf8').trim(),
    );
    for (let turn = 0; turn < repeats; turn++) {
      const files = await Promise.all(
        Array.from({ length: 30 }, async (_, at) => ({
          ...(await makeFile(
            join(folder, 'pg', `${turn}-${at}.root`),
            `file ${turn} ${at}`,
            2_000_000,
          )),
          lfn: `/pg/${turn}/${at}.root`,
        })),
      );
      await registerMerged(client, files);
      await startSweep(
        client,
        `pg-${turn}`,
        files.map((file) => file.lfn),
      );
      const url = (await findEmbeddedPostgres(join(home, 'postgres'))) ?? '';
      await until('some are confirmed', async () => {
        const data = await client.call<{ dataset: { confirmedCount: number } }>(
          `{ dataset(name: "pg-${turn}") { confirmedCount } }`,
        );
        return data.dataset.confirmedCount >= 3;
      });
      const postmaster = await postmasterOf(url);
      process.kill(postmaster, 'SIGKILL');
      const killedAt = Date.now();
      await until(
        'the dataset is closed',
        async () => (await statusOf(client, `pg-${turn}`).catch(() => undefined)) === 'CLOSED',
      );
      console.log(
        `killed PostgreSQL: closed ${((Date.now() - killedAt) / 1000).toFixed(1)} s later`,
      );
      expect(await checkInvariants(url)).toEqual([]);
    }
  } finally {
    const end = await server.kill('SIGTERM');
    expect(end.code).toBe(0);
  }
}, 180_000);
