import { afterAll, beforeAll, expect, test } from 'vitest';
import { allTold, mutate } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import type { TestClient } from '../support/client.ts';
import { loadDatasets } from './load.ts';

let server: TestServer;
let douglas: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  douglas = await server.as('douglas', 'PRODUCER');
});
afterAll(() => server.close());

const totals = 'datasetCount eventCount luminosity';
const historyQuery = `query ($name: String!) { container(name: $name) {
  datasetCount fileCount sizeBytes eventCount luminosity
  history { totalCount nodes {
    cursor kind occurredAt actor reason added { ${totals} } removed { ${totals} } total { ${totals} }
  } } } }`;

interface Totals {
  datasetCount: number;
  eventCount: number;
  luminosity: number | null;
}
interface Line {
  cursor: string;
  kind: string;
  occurredAt: string;
  actor: string;
  reason: string;
  added: Totals;
  removed: Totals;
  total: Totals;
}

test('the history of AllEvents-Run3-R12, as BaBar printed it', async () => {
  const { database } = server;
  const good = await loadDatasets(database, {
    prefix: 'AllEvents-a',
    count: 3673,
    events: 472_622_792,
    luminosity: 33_368.5,
  });
  // The twelve that turn out bad hold what the printed numbers lost on the way.
  const bad = await loadDatasets(database, {
    prefix: 'AllEvents-b',
    count: 12,
    events: 928_748,
    luminosity: 76.4756,
  });
  const late = await loadDatasets(database, {
    prefix: 'AllEvents-c',
    count: 25,
    events: 3_766_263,
    luminosity: 0.2689,
  });
  const name = 'AllEvents-Run3-R12';
  const why = 'AllEvents stream PR collections for run 3';
  await mutate(douglas, 'createContainer', { name, datasets: [...good, ...bad], reason: why });
  const remove = (datasets: string[]) =>
    mutate(
      douglas,
      'removeFromContainer',
      { container: name, datasets, reason: 'removing bad collections' },
      'changed changedCount',
    );
  expect(await remove(bad.slice(8))).toEqual({ changed: true, changedCount: 4 });
  await mutate(douglas, 'addToContainer', { container: name, datasets: late, reason: why });
  expect(await remove(bad.slice(0, 8))).toEqual({ changed: true, changedCount: 8 });

  const { container } = await server.anonymous.call<{
    container: Totals & { fileCount: number; history: { nodes: Line[] } };
  }>(historyQuery, { name });
  const printed = container.history.nodes.map((line) => [
    line.added.datasetCount,
    line.removed.datasetCount,
    line.added.eventCount,
    line.added.luminosity ?? 0,
    line.actor,
    line.reason,
  ]);
  // Luminosity in 1/pb; the printed table had 1/nb.
  expect(printed).toEqual([
    [3685, 0, 473_551_540, 33_444.9756, 'douglas', why],
    [0, 4, 0, 0, 'douglas', 'removing bad collections'],
    [25, 0, 3_766_263, 0.2689, 'douglas', why],
    [0, 8, 0, 0, 'douglas', 'removing bad collections'],
  ]);
  expect(container.history.nodes.map((line) => line.total.datasetCount)).toEqual([
    3685, 3681, 3706, 3698,
  ]);
  expect(container).toMatchObject({
    datasetCount: 3698,
    fileCount: 3698,
    sizeBytes: 3_698_000,
    eventCount: 476_389_055,
    luminosity: 33_368.7689,
  });

  await allTold(database);
  for (const line of container.history.nodes) {
    const asOf = await server.anonymous.call(
      `query ($name: String!, $asOf: DateTime!, $marker: String!) { container(name: $name) {
        byTime: datasets(asOf: $asOf) { totalCount } byMarker: datasets(marker: $marker) { totalCount }
        lastChange(marker: $marker) { cursor } } }`,
      { name, asOf: line.occurredAt, marker: line.cursor },
    );
    const list = { totalCount: line.total.datasetCount };
    expect(asOf).toEqual({
      container: { byTime: list, byMarker: list, lastChange: { cursor: line.cursor } },
    });
  }
  const [first] = container.history.nodes;
  const { container: later } = await server.anonymous.call<{
    container: { changedSince: { added: object; removed: object } };
  }>(
    `query ($name: String!, $marker: String) { container(name: $name) {
      changedSince(marker: $marker) { added { totalCount } removed { totalCount } unavailableCount } } }`,
    { name, marker: first?.cursor },
  );
  expect(later.changedSince).toEqual({
    added: { totalCount: 25 },
    removed: { totalCount: 12 },
    unavailableCount: 0,
  });
});
