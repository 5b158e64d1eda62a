import type { Bench } from './bench.ts';
import { build, installContestants, load, startSweepbook, type Contestant } from './contestants.ts';
import { ensureData } from './data.ts';
import { median, number } from './report.ts';

const goalMs = 100;

/** What operators and users ask for sums. */
const questions: readonly [about: string, query: string][] = [
  ['by status', '{ totals(by: [STATUS]) { status fileCount sizeBytes eventCount } }'],
  ['by site and stream', '{ totals(by: [SITE, STREAM]) { site stream fileCount sizeBytes } }'],
  ['by store', '{ totals(by: [STORE]) { store fileCount sizeBytes } }'],
  [
    'of what is published',
    '{ totals(by: [RELEASE], filter: { status: [PUBLISHED] }) { release fileCount eventCount } }',
  ],
];

/** Some are not for everybody. */
async function isAnswered(url: string, body: string, token: string | undefined): Promise<boolean> {
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const headers = { 'content-type': 'application/json', ...authorization };
  const answer = await (await fetch(url, { method: 'POST', headers, body })).text();
  if (token !== undefined && answer.includes('"errors"')) throw new Error(answer.slice(0, 300));
  return !answer.includes('"errors"');
}

/** Sums over all files. */
export const totals: Bench = async ({ cluster, options }) => {
  installContestants();
  build();
  const { size, seconds, rounds } = options;
  const database = await ensureData(cluster, size);
  // An operator token is shown at the first start only.
  await cluster.sql(database, 'delete from tokens');
  const server: Contestant = await startSweepbook('sweepbook', cluster.urlOf(database));
  const rows: (string | number)[][] = [];
  try {
    for (const [viewer, token] of [
      ['anybody', undefined],
      ['an operator', server.token],
    ] as const) {
      for (const [about, query] of questions) {
        const body = JSON.stringify({ query });
        if (!(await isAnswered(server.url, body, token))) continue;
        const times: number[] = [];
        for (let round = 0; round <= rounds; round++) {
          const result = await load(server.url, [body], { seconds, connections: 1, token });
          if (result.failures > 0) throw new Error(`${about}: ${result.failures} requests failed`);
          if (round > 0) times.push(result.p50);
        }
        rows.push([
          `${about}, for ${viewer}`,
          number(median(times) / goalMs),
          number(median(times)),
        ]);
      }
    }
  } finally {
    await server.close();
  }
  const files = (size.datasets * size.filesEach).toLocaleString('en');
  return {
    name: 'totals',
    title: `sums over ${files} files`,
    about: [
      `${rounds} rounds of ${seconds} s, one connection, medians of the p50. Goal: ${goalMs} ms.`,
    ],
    columns: ['question', 'of the goal', 'ms'],
    rows,
  };
};
