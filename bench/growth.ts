import type { Bench } from './bench.ts';
import { build, installContestants, load, startSweepbook, type Contestant } from './contestants.ts';
import { ensureData, type Size } from './data.ts';
import { questions } from './questions.ts';
import { median, number } from './report.ts';

const connections = 1;

/** The time of an answer with 100,000 files and with as many as are asked for (10,000,000). */
export const growth: Bench = async ({ cluster, options }) => {
  installContestants();
  build();
  const { filesEach } = options.size;
  const small: Size = { datasets: Math.ceil(100_000 / filesEach), filesEach };
  const servers: { size: Size; server: Contestant; p50: Map<string, number[]> }[] = [];
  try {
    for (const size of [small, options.size]) {
      const url = cluster.urlOf(await ensureData(cluster, size));
      servers.push({ size, server: await startSweepbook('sweepbook', url), p50: new Map() });
    }
    for (const question of questions) {
      for (let round = 0; round <= options.rounds; round++) {
        for (const { size, server, p50 } of servers) {
          const bodies = question.bodies(size).sweepbook;
          const { seconds } = options;
          const result = await load(server.url, bodies, { seconds, connections });
          if (result.failures > 0) throw new Error(`${result.failures} requests failed`);
          // The first round warms up.
          if (round > 0) p50.set(question.name, [...(p50.get(question.name) ?? []), result.p50]);
        }
      }
    }
  } finally {
    await Promise.all(servers.map(({ server }) => server.close()));
  }
  const count = ({ datasets, filesEach: each }: Size) => (datasets * each).toLocaleString('en');
  return {
    name: 'growth',
    title: 'p50 of an answer, as the bookkeeping grows',
    about: [
      `${servers.map(({ size }) => `${size.datasets.toLocaleString('en')} × ${size.filesEach.toLocaleString('en')} files`).join(' and ')}, ` +
        `the same answers of both. ${options.rounds} rounds of ${options.seconds} s, in turns, one connection, medians; up to 500 ` +
        'datasets in turn, all over the tables.',
    ],
    columns: ['question', 'growth', ...servers.map(({ size }) => `ms, ${count(size)} files`)],
    rows: questions.map(({ name, about }) => {
      const [few = 0, many = 0] = servers.map(({ p50 }) => median(p50.get(name) ?? []));
      return [`${name} ${about}`, number(many / few), number(few), number(many)];
    }),
  };
};
