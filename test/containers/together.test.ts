import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { loadDatasets } from './load.ts';

const clientCount = 32;
const seed = Number(process.env['TOGETHER_SEED'] ?? Date.now() % 100_000);

let server: TestServer;
let clients: TestClient[];
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  clients = await Promise.all(
    Array.from({ length: clientCount }, (_, at) => server.as(`client-${at}`, 'OPERATOR', 'ADMIN')),
  );
});
// The checker holds lists, totals, history and log against the periods.
afterAll(() => server.close());

/** The same numbers for the same seed. */
function randomOf(from: number): (below: number) => number {
  let state = from + 1;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

const numberOf = async (query: string, name: string) =>
  Number((await server.database.sql<{ n: string }>(query, [name]))[0]?.n);

test('32 clients add the same datasets at once: each comes in once, by one line', async () => {
  const datasets = await loadDatasets(server.database, { prefix: 'rush', count: 40, events: 3 });
  await mutate(server.operator, 'createContainer', { name: 'rush' });
  const answers = await Promise.all(
    clients.map((client, at) =>
      mutate<{ changedCount: number }>(
        client,
        'addToContainer',
        { container: 'rush', datasets: datasets.slice(at % 8, (at % 8) + 33) },
        'changedCount',
      ),
    ),
  );
  const sum = answers.reduce((total, answer) => total + answer.changedCount, 0);
  expect(sum).toBe(40);
  expect(
    await numberOf(
      `select count(*) as n from container_changes h join containers c on c.id = h.container_id where c.name = $1`,
      'rush',
    ),
  ).toBe(answers.filter((answer) => answer.changedCount > 0).length);
  const taken = await Promise.all(
    clients.map((client) =>
      mutate<{ changedCount: number }>(
        client,
        'removeFromContainer',
        { container: 'rush', datasets, reason: 'all of it' },
        'changedCount',
      ),
    ),
  );
  expect(taken.map((answer) => answer.changedCount).toSorted((a, b) => b - a)).toEqual([
    40,
    ...Array.from({ length: clientCount - 1 }, () => 0),
  ]);
});

interface Delta {
  marker: string;
  added: { nodes: { name: string }[] };
  removed: { nodes: { name: string }[] };
}

test('who follows by markers has what is listed in the end, whatever 32 clients do', async () => {
  console.log(`TOGETHER_SEED=${seed}`);
  const random = randomOf(seed);
  const { database, operator } = server;
  const datasets = await loadDatasets(database, { prefix: 'melee', count: 30, events: 3 });
  await mutate(operator, 'createContainer', { name: 'melee', datasets: datasets.slice(0, 10) });
  const some = () => datasets.filter(() => random(4) === 0);
  const plans = clients.map(() =>
    Array.from({ length: 6 }, () => ({ what: random(10), names: some(), pauseMs: random(30) })),
  );
  const known = new Set<string>();
  let marker: string | undefined;
  const look = async () => {
    const { container } = await operator.call<{ container: { changedSince: Delta } }>(
      `query ($marker: String) { container(name: "melee") { changedSince(marker: $marker) {
        marker added(first: 200) { nodes { name } } removed(first: 200) { nodes { name } } } } }`,
      { marker },
    );
    const { added, removed } = container.changedSince;
    for (const { name } of added.nodes) {
      expect(known.has(name), `${name} is told to be new, and was there`).toBe(false);
      known.add(name);
    }
    for (const { name } of removed.nodes) {
      expect(known.delete(name), `${name} is told to have left, and was not there`).toBe(true);
    }
    marker = container.changedSince.marker;
  };
  let isOver = false;
  const following = (async () => {
    while (!isOver) await look();
  })();
  // Refused: a dataset that another client has just marked bad.
  const allowed = (error: { code?: string }) => {
    if (error.code !== 'DATASET_BAD') throw error;
  };
  await Promise.all(
    clients.map(async (client, at) => {
      for (const { what, names, pauseMs } of plans[at] ?? []) {
        const input = { container: 'melee', datasets: names, reason: 'melee' };
        const dataset = names[0];
        if (what < 5) await mutate(client, 'addToContainer', input).catch(allowed);
        else if (what < 7) await mutate(client, 'removeFromContainer', input);
        else if (dataset) {
          await mutate(client, 'markDatasetBad', { dataset, reason: 'melee' });
          await new Promise((resolve) => setTimeout(resolve, pauseMs));
          await mutate(client, 'clearDatasetBad', { dataset, reason: 'melee' });
        }
      }
    }),
  );
  isOver = true;
  await following;
  await until('the follower has all', async () => {
    await look();
    const { container } = await operator.call<{
      container: { datasets: { nodes: { name: string }[] } };
    }>('{ container(name: "melee") { datasets(first: 200) { nodes { name } } } }');
    const listed = container.datasets.nodes.map((node) => node.name);
    return listed.length === known.size && listed.every((name) => known.has(name));
  });
}, 120_000);

/** Who was the one to give way eight times is told to try again. */
const untilNotInTheWay = (change: () => Promise<unknown>) =>
  until(
    'the change is not in the way of others',
    () =>
      change().then(
        () => true,
        (error: { code?: string }) => {
          if (error.code !== 'UNAVAILABLE') throw error;
          return false;
        },
      ),
    90_000,
  );

test('luminosities that become known while datasets come and go are counted', async () => {
  const { database, operator } = server;
  const datasets = await loadDatasets(database, { prefix: 'lumi', count: 20 });
  await mutate(operator, 'createContainer', { name: 'lumi' });
  const runs = await database.sql<{ number: number }>(
    `select r.number from datasets d join dataset_files df on df.dataset_id = d.id
      join file_runs fr on fr.file_id = df.file_id join runs r on r.id = fr.run_id
      where d.name = any ($1) order by 1`,
    [datasets],
  );
  // As a stranger with psql does it, tried again when it was the one to give way.
  const tellLuminosities = async () => {
    for (let run = runs.pop(); run; run = runs.pop()) {
      const change = `update runs set luminosity = number where number = ${run.number} and source = 'SIMULATION'`;
      await until(
        'the luminosity is told',
        () =>
          database.sql(change).then(
            () => true,
            (error: { code?: string }) => {
              if (error.code !== '40P01') throw error;
              return false;
            },
          ),
        90_000,
      );
    }
  };
  await Promise.all([
    ...clients.slice(0, 8).map((client, at) =>
      untilNotInTheWay(() =>
        mutate(client, at % 3 === 2 ? 'removeFromContainer' : 'addToContainer', {
          container: 'lumi',
          datasets: datasets.filter((_, index) => index % 4 === at % 4),
          reason: 'lumi',
        }),
      ),
    ),
    tellLuminosities(),
    tellLuminosities(),
  ]);
  // Each time that it gives way costs it a second.
}, 120_000);

test('a change whose process dies or that is taken back leaves nothing', async () => {
  const { database, operator } = server;
  const datasets = await loadDatasets(database, { prefix: 'killed', count: 5 });
  await mutate(operator, 'createContainer', { name: 'killed', datasets: datasets.slice(0, 2) });
  const all = async () =>
    JSON.stringify(
      await database.sql(
        `select (select json_agg(c order by c.id) from containers c) as c,
          (select json_agg(d order by d) from container_datasets d) as d,
          (select json_agg(m order by m) from container_memberships m) as m,
          (select json_agg(h order by h.event_id) from container_changes h) as h,
          (select json_agg(r order by r) from container_runs r) as r,
          (select count(*) from events) as e`,
      ),
    );
  const before = await all();
  const steps = `
    begin; select set_config('sweepbook.reason', 'half', true);
    insert into container_datasets (container_id, dataset_id)
      select c.id, d.id from containers c, datasets d where c.name = 'killed' and d.name = any ('{${datasets.slice(2)}}');
    insert into bad_marks (dataset_id, reason) select id, 'half' from datasets where name = '${datasets[0]}';
    delete from container_datasets where dataset_id in (select id from datasets where name = '${datasets[1]}');
    update runs set luminosity = 5 where id in (select run_id from container_runs);`;
  for (const end of ['rollback', 'kill']) {
    const client = await database.client();
    await client.query(steps);
    if (end === 'rollback') {
      await client.query('rollback');
    } else {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      const pid = rows[0]?.pid;
      await database.sql(`select pg_terminate_backend($1)`, [pid]);
      await until('its process is gone', async () => {
        const left = await database.sql('select from pg_stat_activity where pid = $1', [pid]);
        return left.length === 0;
      });
    }
    expect(await all()).toBe(before);
  }
});
