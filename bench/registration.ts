import type { Bench } from './bench.ts';
import { build, installContestants, startSweepbook, type Contestant } from './contestants.ts';
import { startCopy } from './copy.ts';
import { ensureData, type BenchCluster } from './data.ts';
import { median, number } from './report.ts';

const perCall = 10_000;

interface File {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

/** Files that nobody has registered yet: of this run of the measurement, this call. */
function newFiles(call: number): File[] {
  const hex = (length: number, salt: number) =>
    Array.from({ length: length / 8 }, (_, at) =>
      (((salt + at) * 2654435761) >>> 0).toString(16).padStart(8, '0'),
    ).join('');
  const run = Date.now().toString(36);
  return Array.from({ length: perCall }, (_, at) => ({
    lfn: `/store/new/${run}/${String(call).padStart(4, '0')}/file${String(at).padStart(6, '0')}.root`,
    sizeBytes: 2_000_000_000 - at,
    adler32: hex(8, at),
    sha256: hex(64, at),
  }));
}

const mutation = `mutation ($input: RegisterFilesInput!) { registerFiles(input: $input) {
  registeredCount refusedCount results { index lfn outcome error { code message } } } }`;

async function register({ url, token }: Contestant, files: readonly File[]): Promise<number> {
  const body = JSON.stringify({
    query: mutation,
    variables: {
      input: {
        files: files.map((file) => ({
          ...file,
          kind: 'MERGED_FILE',
          stream: 'AllEvents',
          release: 'R24',
          eventCount: 15_000,
          runs: [{ number: 10_000, eventCount: 15_000 }],
        })),
      },
    },
  });
  const begun = performance.now();
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body,
  });
  const text = await response.text();
  const ms = performance.now() - begun;
  const answer = JSON.parse(text) as { data?: { registerFiles: { registeredCount: number } } };
  if (answer.data?.registerFiles.registeredCount !== perCall) {
    throw new Error(`not registered: ${text.slice(0, 300)}`);
  }
  return ms;
}

const line = (values: readonly (string | number)[]) => `${values.join('\t')}\n`;

/** The same rows for COPY: of the tables that registering fills, without triggers and foreign keys. */
function copiesOf(files: readonly File[], firstId: number) {
  const id = (at: number) => firstId + at;
  return {
    files: {
      statement: `copy plain_files (id, lfn, kind, site_id, stream, release, size_bytes, adler32, sha256, event_count,
        created_by) from stdin`,
      text: files
        .map((file, at) =>
          line([
            id(at),
            file.lfn,
            'MERGED_FILE',
            1,
            'AllEvents',
            'R24',
            file.sizeBytes,
            file.adler32,
            file.sha256,
            15_000,
            'operator',
          ]),
        )
        .join(''),
    },
    runs: {
      statement: 'copy plain_file_runs (file_id, run_id, event_count) from stdin',
      text: files.map((_, at) => line([id(at), 1, 15_000])).join(''),
    },
    events: {
      statement: 'copy plain_events (id, kind, file_id, to_state, actor, reason) from stdin',
      text: files
        .map((_, at) => line([id(at), 'FILE_REGISTERED', id(at), 'MERGED_FILE', 'operator', '\\N']))
        .join(''),
    },
  };
}

async function plainTables(cluster: BenchCluster, database: string): Promise<void> {
  for (const table of ['files', 'file_runs', 'events']) {
    await cluster.sql(database, `drop table if exists plain_${table}`);
    await cluster.sql(
      database,
      `create table plain_${table} (like ${table} including all excluding identity)`,
    );
    await cluster.sql(database, `insert into plain_${table} select * from ${table}`).catch(() => 0);
    await cluster.sql(database, `analyze plain_${table}`);
  }
}

/** 10,000 files a call through GraphQL, and the same rows by COPY, in turns. */
export const registration: Bench = async ({ cluster, options }) => {
  installContestants();
  build();
  // Of its own: it grows.
  const size = { datasets: 100, filesEach: 1000 };
  const database = await ensureData(cluster, size, 'registration');
  await plainTables(cluster, database);
  // An operator token is shown at the first start only.
  await cluster.sql(database, 'delete from tokens');
  const url = cluster.urlOf(database);
  const sweepbook = await startSweepbook('sweepbook', url);
  const copy = await startCopy(url);
  const times = { sweepbook: [] as number[], all: [] as number[], files: [] as number[] };
  const cpu: number[] = [];
  try {
    const calls = options.rounds * 4 + 2;
    for (let call = 0; call < calls; call++) {
      const before = sweepbook.cpuMs();
      const ms = await register(sweepbook, newFiles(call));
      const used = sweepbook.cpuMs() - before;
      const all = copiesOf(newFiles(call + 1000), 10_000_000 + call * perCall);
      const whole = await copy.run({ tables: [all.files, all.runs, all.events] });
      const only = copiesOf(newFiles(call + 2000), 20_000_000 + call * perCall);
      const filesOnly = await copy.run({ tables: [only.files] });
      // The first ones warm up.
      if (call < 2) continue;
      times.sweepbook.push(ms);
      times.all.push(whole.ms);
      times.files.push(filesOnly.ms);
      cpu.push(used);
    }
  } finally {
    await copy.close();
    await sweepbook.close();
    await cluster.sql('postgres', `drop database "${database}" with (force)`);
  }
  const row = (name: string, ms: number) => [
    name,
    `${number((100 * median(times.all)) / ms, 0)} %`,
    number((perCall / ms) * 1000, 0),
    number(ms, 0),
  ];
  return {
    name: 'registration',
    title: 'files a second, 10,000 a call',
    about: [
      `${times.sweepbook.length} calls in turns, medians of the time from the first byte sent to the last one answered. ` +
        'Each file has both checksums, events and one run; the answer has an outcome for each. 100,000 files are there before. ' +
        `Sweepbook’s own process used ${number(median(cpu), 0)} ms of processor time a call; the rest is PostgreSQL.`,
      'COPY goes into tables of the same columns, checks and indexes, without triggers and foreign keys, in one ' +
        'transaction, its text made before.',
    ],
    columns: ['how', 'of COPY', 'files a second', 'ms a call'],
    rows: [
      row('registerFiles over GraphQL', median(times.sweepbook)),
      row('COPY of the same rows: files, their runs, the log', median(times.all)),
      row('COPY of the files alone', median(times.files)),
    ],
  };
};
