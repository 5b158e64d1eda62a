import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Bench } from './bench.ts';
import { build, startSweepbook } from './contestants.ts';
import type { BenchCluster } from './data.ts';
import { makeFiles } from './made-files.ts';
import { median, number } from './report.ts';

const launcher = fileURLToPath(new URL('../bin/sweepbook', import.meta.url));

/** `sweepbook sweep` of files that nobody has seen, to the end; milliseconds. */
async function sweep(cluster: BenchCluster, folder: string, files: string[]): Promise<number> {
  const database = `sweep_${Date.now()}`;
  await cluster.sql('postgres', `create database ${database}`);
  const server = await startSweepbook('sweepbook', cluster.urlOf(database), {
    SWEEPBOOK_WORKER: 'true',
    SWEEPBOOK_STORE_ROOT: join(folder, 'store'),
  });
  try {
    const begun = performance.now();
    execFileSync('sh', [launcher, 'sweep', '--dataset', 'swept', ...files], {
      env: {
        PATH: process.env['PATH'] ?? '',
        SWEEPBOOK_URL: server.url.replace(/\/graphql$/, ''),
        SWEEPBOOK_TOKEN: server.token ?? '',
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return performance.now() - begun;
  } finally {
    await server.close();
    await cluster.sql('postgres', `drop database ${database} with (force)`);
    rmSync(join(folder, 'store'), { recursive: true, force: true });
  }
}

const bigBytes = 100_000_000;

/** Ten files of 100 MB to a directory store, beside cp and sha256sum of each. */
export const bigFiles: Bench = async ({ cluster, options }) => {
  build();
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-bench-sweep-'));
  const ours: number[] = [];
  const theirs: number[] = [];
  try {
    const files = makeFiles(join(folder, 'data'), 10, bigBytes);
    for (let round = 0; round < options.rounds; round++) {
      ours.push(await sweep(cluster, folder, files));
      const begun = performance.now();
      const copy = join(folder, 'copy');
      mkdirSync(copy);
      execFileSync('sh', [
        '-c',
        `cp "$@" ${copy} && sync -d ${copy}/* && sha256sum ${copy}/*`,
        'sh',
        ...files,
      ]);
      theirs.push(performance.now() - begun);
      rmSync(copy, { recursive: true });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const row = (name: string, ms: number) => [
    name,
    `${number((100 * median(theirs)) / ms, 0)} %`,
    number((10 * bigBytes) / 1e3 / ms, 0),
    number(ms / 1000),
  ];
  return {
    name: 'sweep',
    title: 'ten files of 100 MB to a directory store',
    about: [
      `${options.rounds} rounds in turns, medians. \`sweepbook sweep\` reads each file (adler32 and sha256), registers it, copies it, ` +
        'syncs it, reads it back, compares, closes the dataset; the other is cp, sync, sha256sum of the copy.',
    ],
    columns: ['how', 'of cp + sha256sum', 'MB a second', 'seconds'],
    rows: [row('sweepbook sweep', median(ours)), row('cp, sync, sha256sum', median(theirs))],
  };
};

/** Many small files: the cost of one must not grow with their number. */
export const smallFiles: Bench = async ({ cluster, options }) => {
  build();
  const counts = [options.size.filesEach, options.size.filesEach * 10];
  const rows: (string | number)[][] = [];
  for (const count of counts) {
    const folder = mkdtempSync(join(tmpdir(), 'sweepbook-bench-small-'));
    try {
      const ms = await sweep(cluster, folder, makeFiles(join(folder, 'data'), count, 1000));
      rows.push([count.toLocaleString('en'), number(ms / count), number(ms / 1000, 1)]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return {
    name: 'small-files',
    title: 'sweep of files of 1,000 bytes',
    about: ['From `sweepbook sweep` to the closed dataset, one worker with its usual settings.'],
    columns: ['files', 'ms a file', 'seconds'],
    rows,
  };
};
