import { parseArgs } from 'node:util';
import type { Bench, BenchOptions } from './bench.ts';
import { openCluster } from './data.ts';
import { exports } from './exports.ts';
import { floodsBench } from './floods.ts';
import { growth } from './growth.ts';
import { incidents } from './incidents.ts';
import { reads } from './reads.ts';
import { registration } from './registration.ts';
import { describeMachine, writeReport } from './report.ts';
import { start } from './start.ts';
import { stores } from './stores.ts';
import { subscribers } from './subscribers.ts';
import { bigFiles, smallFiles } from './sweeps.ts';
import { totals } from './totals.ts';

/** A crash of one volume, on a PostgreSQL of its own: a hundred copies for each dataset. */
const crash: Bench = ({ options: { size } }) =>
  incidents({ replicas: size.datasets * 100, datasets: size.datasets, calmSeconds: 15 });

/** The measurements, each with the number of datasets that it takes if none is given. */
const benches: Record<string, { readonly run: Bench; readonly datasets: number }> = {
  reads: { run: reads, datasets: 1000 },
  growth: { run: growth, datasets: 10_000 },
  totals: { run: totals, datasets: 10_000 },
  registration: { run: registration, datasets: 100 },
  export: { run: exports, datasets: 1 },
  start: { run: start, datasets: 0 },
  subscribers: { run: subscribers, datasets: 0 },
  sweep: { run: bigFiles, datasets: 0 },
  'small-files': { run: smallFiles, datasets: 0 },
  stores: { run: stores, datasets: 0 },
  incidents: { run: crash, datasets: 10_000 },
  floods: { run: floodsBench, datasets: 0 },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    datasets: { type: 'string' },
    files: { type: 'string' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
    keep: { type: 'boolean', default: false },
  },
});
const wanted = positionals.map((name) => benches[name]);
if (wanted.length === 0 || wanted.includes(undefined)) {
  process.stderr.write(
    `npm run bench -- ${Object.keys(benches).join('|')} … [--datasets N] [--files N (in each)] [--seconds N] ` +
      '[--rounds N] [--keep (the databases, for the next run)]\n',
  );
  process.exit(2);
}

const cluster = await openCluster(values.keep);
try {
  const [version] = await cluster.sql<{ server_version: string }>(
    'postgres',
    'show server_version',
  );
  for (const [at, bench] of wanted.entries()) {
    if (!bench) continue;
    process.stderr.write(`measuring ${positionals[at]} …\n`);
    const options: BenchOptions = {
      size: {
        datasets: Number(values.datasets ?? bench.datasets),
        filesEach: Number(values.files ?? (positionals[at] === 'export' ? 1_000_000 : 1000)),
      },
      seconds: Number(values.seconds),
      rounds: Number(values.rounds),
    };
    const report = await bench.run({ cluster, options });
    writeReport(report, describeMachine(version?.server_version ?? ''));
  }
} finally {
  await cluster.close();
}
