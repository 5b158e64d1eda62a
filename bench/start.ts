import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Bench } from './bench.ts';
import { build } from './contestants.ts';
import { median, number } from './report.ts';

const launcher = fileURLToPath(new URL('../bin/sweepbook', import.meta.url));
const port = '47613';

/** Milliseconds until /readyz says that it is ready. */
async function startOnce(home: string): Promise<number> {
  const begun = performance.now();
  const child = spawn('sh', [launcher, 'serve'], {
    // What is compiled at the first start is kept below HOME.
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      SWEEPBOOK_HOME: home,
      SWEEPBOOK_PORT: port,
    },
    stdio: 'ignore',
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  try {
    while (child.exitCode === null) {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
      if (answer?.ok) return performance.now() - begun;
      await pause(10);
    }
    throw new Error(`serve ended early (${child.exitCode})`);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

/** From the command to the first ready answer, on the embedded database. */
export const start: Bench = async ({ options }) => {
  build();
  const first: number[] = [];
  const later: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const home = mkdtempSync(join(tmpdir(), 'sweepbook-bench-start-'));
    try {
      first.push(await startOnce(home));
      later.push(await startOnce(home));
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  }
  return {
    name: 'start',
    title: '`serve` on the embedded database, until /readyz is ready',
    about: [`${options.rounds} rounds, medians. The first start makes the database.`],
    columns: ['start', 'seconds'],
    rows: [
      ['first', number(median(first) / 1000)],
      ['later', number(median(later) / 1000)],
    ],
  };
};
