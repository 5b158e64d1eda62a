import type { Bench } from './bench.ts';
import {
  build,
  installContestants,
  load,
  startContestant,
  startSweepbook,
  type Contestant,
} from './contestants.ts';
import { ensureData } from './data.ts';
import { questions } from './questions.ts';
import { median, number } from './report.ts';

interface Measured {
  readonly cpuMs: number;
  readonly p50: number;
  readonly perSecond: number;
}

/** Q1–Q4 of every contestant, in turns: processor time of the server process per request. */
export const reads: Bench = async ({ cluster, options }) => {
  installContestants();
  build();
  const { size, seconds, rounds } = options;
  const databaseUrl = cluster.urlOf(await ensureData(cluster, size));
  const contestants: Contestant[] = [];
  try {
    contestants.push(
      await startSweepbook('sweepbook', databaseUrl),
      await startSweepbook('sweepbook, plain road', databaseUrl, { SWEEPBOOK_FAST_READS: 'false' }),
      await startContestant('postgraphile', databaseUrl),
      await startContestant('json-handler', databaseUrl),
    );
    const rows = [];
    for (const question of questions) {
      const bodies = question.bodies(size);
      const results = new Map<string, Measured[]>();
      for (const contestant of contestants) await check(contestant, bodiesFor(contestant, bodies));
      for (let round = 0; round < rounds; round++) {
        // Nobody is always the first, or always after the same one.
        const turn = contestants.map((_, at) => contestants[(at + round) % contestants.length]);
        for (const contestant of turn) {
          if (!contestant) continue;
          const before = contestant.cpuMs();
          const { answers, failures, p50, perSecond } = await load(
            contestant.url,
            bodiesFor(contestant, bodies),
            { seconds },
          );
          if (failures > 0) throw new Error(`${contestant.name}: ${failures} requests failed`);
          const cpuMs = (contestant.cpuMs() - before) / answers;
          const known = results.get(contestant.name) ?? [];
          results.set(contestant.name, [...known, { cpuMs, p50, perSecond }]);
        }
      }
      const of = (name: string) => median((results.get(name) ?? []).map((one) => one.cpuMs));
      const other = of('postgraphile');
      for (const { name } of contestants) {
        const measured = results.get(name) ?? [];
        rows.push([
          `${question.name} ${question.about}`,
          name,
          number(of(name) / other),
          number(of(name), 3),
          number(median(measured.map((one) => one.p50))),
          number(median(measured.map((one) => one.perSecond)), 0),
        ]);
      }
    }
    return {
      name: 'reads',
      title: 'processor time of the server process per request',
      about: [
        `${size.datasets.toLocaleString('en')} datasets of ${size.filesEach.toLocaleString('en')} files, each file with a ` +
          `confirmed backup and a run; the log is left out. ${rounds} rounds of ${seconds} s each, autocannon with 8 ` +
          'connections on the same cores, the order rotated, medians. Asked without a token, 500 datasets in turn.',
        'postgraphile: PostGraphile 5 (grafserv on node:http, Amber preset, prepared statements) on the same tables; it ' +
          'checks no visibility. json-handler: node:http and one prepared statement that returns JSON text: no GraphQL.',
      ],
      columns: [
        'question',
        'contestant',
        'CPU ÷ PostGraphile',
        'CPU ms',
        'p50 ms',
        'answers a second',
      ],
      rows,
    };
  } finally {
    await Promise.all(contestants.map((contestant) => contestant.close()));
  }
};

type Bodies = ReturnType<(typeof questions)[number]['bodies']>;

function bodiesFor({ name }: Contestant, bodies: Bodies): string[] {
  if (name === 'postgraphile' || name === 'json-handler') return bodies[name];
  return bodies.sweepbook;
}

/** Warms up, and sees that the answer is one: a refusal would be fast. */
async function check({ name, url }: Contestant, bodies: readonly string[]): Promise<void> {
  for (const body of bodies.slice(0, 50)) {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    const answer = await response.text();
    if (!response.ok || answer.includes('"errors"') || answer.length < 150) {
      throw new Error(`${name} does not answer: ${answer.slice(0, 500)}`);
    }
  }
  await load(url, bodies, { seconds: 1 });
}
