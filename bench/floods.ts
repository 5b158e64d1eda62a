import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { defaultLimits, limitSetting, type LimitName } from '../src/limits.ts';
import type { Bench } from './bench.ts';
import { build, startContestant, startSweepbook, type Contestant } from './contestants.ts';
import { ensureData } from './data.ts';
import { number } from './report.ts';

/** In full; each begins when the server has rested for a while. */
const floods: readonly { kind: string; count: number; withToken?: boolean }[] = [
  { kind: 'http:each', count: 100 },
  { kind: 'ws:each', count: 100 },
  { kind: 'endless-bodies', count: 8 },
  { kind: 'endless-bodies', count: 8, withToken: true },
  { kind: 'giant-frames', count: 8 },
  { kind: 'silent-sockets', count: 2000 },
  { kind: 'loris', count: 1000 },
  { kind: 'deaf-readers', count: 100 },
  { kind: 'curious', count: 200 },
  { kind: 'greedy', count: 100, withToken: true },
  { kind: 'hammer', count: 20_000 },
  { kind: 'wrong-tokens', count: 5000 },
];

const asksPerSecond = 50;
const question = JSON.stringify({
  query:
    '{ viewer { name } datasets(first: 20, orderBy: CLOSED_AT_DESC) { totalCount nodes { name kind fileCount } } }',
});

/** A usual client: asks on at its pace, whatever becomes of the answers before. */
async function askUntil(
  { url, token }: Contestant,
  until: Promise<unknown>,
): Promise<{ latenciesMs: number[]; failures: number }> {
  const latenciesMs: number[] = [];
  let failures = 0;
  let isOver = false;
  void until.finally(() => (isOver = true));
  const asked: Promise<void>[] = [];
  const ask = async () => {
    const begun = performance.now();
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: question,
    });
    if (!(await response.text()).startsWith('{"data"')) failures++;
    latenciesMs.push(performance.now() - begun);
  };
  for (let due = performance.now(); !isOver; due += 1000 / asksPerSecond) {
    await pause(Math.max(0, due - performance.now()));
    asked.push(ask().catch(() => void failures++));
  }
  await Promise.all(asked);
  return { latenciesMs, failures };
}

/** The longest delay of the event loop since the last look, in milliseconds. */
async function longestDelayMs({ url, token }: Contestant): Promise<number> {
  const response = await fetch(new URL('/metrics', url), {
    headers: { authorization: `Bearer ${token}` },
  });
  const found = /^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(await response.text());
  return Number(found?.[1]) * 1000;
}

const p95 = (values: readonly number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * 0.95)] ?? 0;

const program = fileURLToPath(new URL('../test/support/flood.ts', import.meta.url));

/** From another process, with what the others leave of the processors: attackers have machines of their own. */
function attack({ url }: Contestant, kind: string, count: number, token: string | undefined) {
  const address = new URL('/', url).href;
  const args = [address, kind, String(count), ...(token === undefined ? [] : [token])];
  const child = spawn('nice', ['-n', '19', process.execPath, '--import', 'tsx', program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return text(child.stdout);
}

/** Of somebody else than the usual client: nobody has to wait for another's flood. */
async function makeToken({ url, token }: Contestant): Promise<string> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({
      query: 'mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }',
      variables: { input: { principal: 'flooder', roles: ['USER'] } },
    }),
  });
  const answer = (await response.json()) as { data: { createToken: { token: string } } };
  return answer.data.createToken.token;
}

/** Each flood in full, beside a client that asks on: on a server that is nothing to it, then on the one that it asks. */
export const floodsBench: Bench = async ({ cluster, options }) => {
  build();
  const size = { datasets: 1000, filesEach: 10 };
  const database = await ensureData(cluster, size, 'floods');
  const names: LimitName[] = ['rate', 'anonymousRate', 'socketsPerPrincipal'];
  const usual = names.map((name) => [limitSetting(name), String(defaultLimits[name])]);
  const url = cluster.urlOf(database);
  const server = await startSweepbook('sweepbook', url, Object.fromEntries(usual));
  const bare = await startContestant('bare', url);
  const rows: (string | number)[][] = [];
  let mostBytes = 0;
  try {
    await askUntil(server, pause(2000));
    const flooder = await makeToken(server);
    for (const { kind, count, withToken = false } of floods) {
      const token = withToken ? flooder : undefined;
      const calm = await askUntil(server, pause(options.seconds * 1000));
      const beside = await askUntil(server, attack(bare, kind, count, token));
      await longestDelayMs(server);
      const before = server.rssBytes();
      let most = before;
      const looking = setInterval(() => (most = Math.max(most, server.rssBytes())), 100);
      const outcomes = attack(server, kind, count, token);
      const flooded = await askUntil(server, outcomes);
      clearInterval(looking);
      mostBytes = Math.max(mostBytes, most);
      const p95s = [calm, beside, flooded].map(({ latenciesMs }) => p95(latenciesMs));
      const [calmMs = 0, besideMs = 0, floodedMs = 0] = p95s;
      rows.push([
        `${kind}${withToken ? ', with a token' : ''} × ${count.toLocaleString('en')}`,
        ...p95s.map((ms) => number(ms, 1)),
        number(floodedMs / calmMs, 1),
        number(floodedMs / besideMs, 1),
        calm.failures + beside.failures + flooded.failures,
        number(await longestDelayMs(server), 0),
        number((most - before) / 2 ** 20, 0),
      ]);
      process.stderr.write(`${rows.at(-1)?.join(' | ')}  ${(await outcomes).slice(0, 300)}\n`);
    }
  } finally {
    await bare.close();
    await server.close();
    await cluster.sql('postgres', `drop database "${database}" with (force)`);
  }
  return {
    name: 'floods',
    title: 'floods, beside a client that asks on',
    about: [
      `A client asks for a page of datasets ${asksPerSecond} times a second, by the default limits; each flood comes in full from ` +
        'another process and another address of the loopback, after a calm time. Clients, attackers (nice 19), server and ' +
        `PostgreSQL share the same cores. The server never had more than ${number(mostBytes / 2 ** 20, 0)} MiB.`,
      'Beside: the same flood on a bare node:http server that answers at once, while the client asks Sweepbook. That is what ' +
        'sharing the cores with the attackers costs; what is more is what a flood of Sweepbook itself costs its clients.',
    ],
    columns: [
      'flood',
      'p95 calm, ms',
      'p95 beside, ms',
      'p95 flooded, ms',
      '÷ calm',
      '÷ beside',
      'not answered',
      'longest delay of the event loop, ms',
      'MiB more at most',
    ],
    rows,
  };
};
