import { parseArgs } from 'node:util';
import type { Bench, BenchOptions } from './bench.ts';
import { openCluster } from './data.ts';
import { describeMachine, writeReport } from './report.ts';
import { reads } from './reads.ts';

const benches: Record<string, Bench> = { reads };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    datasets: { type: 'string', default: '1000' },
    files: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
    keep: { type: 'boolean', default: false },
  },
});
const wanted = positionals.map((name) => [name, benches[name]] as const);
if (wanted.length === 0 || wanted.some(([, bench]) => bench === undefined)) {
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
  const options: BenchOptions = {
    size: { datasets: Number(values.datasets), filesEach: Number(values.files) },
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
  };
  for (const [name, bench] of wanted) {
    process.stderr.write(`measuring ${name} …\n`);
    if (bench) {
      writeReport(
        await bench({ cluster, options }),
        describeMachine(version?.server_version ?? ''),
      );
    }
  }
} finally {
  await cluster.close();
}
