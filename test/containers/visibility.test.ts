import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { allTold, lastCursor, makeDataset, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';

let server: TestServer;
let strangers: { client: TestClient; token: string | undefined }[];
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  strangers = [{ client: server.anonymous, token: undefined }];
  for (const role of ['USER', 'DQM', 'IMPORTER']) {
    const token = await server.tokenOf(`stranger-${role}`, role);
    strangers.push({ client: await server.as(`stranger2-${role}`, role), token });
  }
});
afterAll(() => server.close());

/** Every road from a container to its datasets. */
const roads = `query ($name: String!, $bad: String!, $asOf: DateTime, $marker: String, $start: String) {
  container(name: $name) {
    datasetCount suspendedCount
    datasets { totalCount nodes { name dataset { name } } }
    past: datasets(asOf: $asOf) { totalCount nodes { name isAvailable dataset { name } } }
    there: datasets(marker: $marker) { totalCount nodes { name } }
    unavailableCount(marker: $marker)
    suspendedDatasets { totalCount nodes { name } }
    history { nodes { kind reason datasets { totalCount nodes { name } } } }
    changedSince(marker: $marker) { unavailableCount removed { totalCount nodes { name removedReason } } added { nodes { name } } }
    all: changedSince(marker: $start) { added { nodes { name } } removed { nodes { name } } }
  }
  containers(filter: { holdsDataset: $bad }) { totalCount nodes { name } }
  events(filter: { container: $name }) { nodes { kind reason facts dataset { name } } }
}`;

interface Seen {
  container: {
    datasetCount: number;
    suspendedCount: number;
    unavailableCount: number;
    datasets: { totalCount: number };
    past: { totalCount: number; nodes: { name: string; isAvailable: boolean }[] };
    history: { nodes: { kind: string; reason: string }[] };
    changedSince: {
      unavailableCount: number;
      removed: { totalCount: number; nodes: { name: string; removedReason: string }[] };
    };
  };
}

test('a bad member is shown by no road to who may not see it; its number and the reason are', async () => {
  const { operator, database } = server;
  await makeDataset(operator, 'good-one', 'CLOSED');
  await makeDataset(operator, 'torn-one', 'CLOSED');
  const start = await lastCursor(server);
  await mutate(operator, 'createContainer', { name: 'c', datasets: ['good-one', 'torn-one'] });
  await allTold(database);
  const { container } = await operator.call<{
    container: { marker: string; lastChange: { occurredAt: string } };
  }>('{ container(name: "c") { marker lastChange { occurredAt } } }');
  const variables = {
    name: 'c',
    bad: 'torn-one',
    asOf: container.lastChange.occurredAt,
    marker: container.marker,
    start,
  };
  for (const { client } of strangers) {
    expect(JSON.stringify(await client.call(roads, variables))).toContain('torn-one');
  }
  await mutate(operator, 'markDatasetBad', { dataset: 'torn-one', reason: 'tape 7 is torn' });
  await allTold(database);
  for (const { client } of strangers) {
    const seen = await client.call<Seen>(roads, variables);
    expect(JSON.stringify(seen)).not.toContain('torn-one');
    expect(seen.container).toMatchObject({
      datasetCount: 1,
      suspendedCount: 1,
      unavailableCount: 1,
      datasets: { totalCount: 1 },
      past: { totalCount: 1, nodes: [{ name: 'good-one', isAvailable: true }] },
      suspendedDatasets: { totalCount: 0 },
      changedSince: { unavailableCount: 1, removed: { totalCount: 0, nodes: [] } },
    });
    expect(seen.container.history.nodes.at(-1)).toMatchObject({
      kind: 'MARKED_BAD',
      reason: 'tape 7 is torn',
    });
    expect(seen).toMatchObject({ containers: { totalCount: 0 } });
  }
  const seen = await operator.call<Seen>(roads, variables);
  expect(seen.container.past.nodes).toMatchObject([
    { name: 'good-one', isAvailable: true },
    { name: 'torn-one', isAvailable: false },
  ]);
  expect(seen.container.changedSince.removed.nodes).toEqual([
    { name: 'torn-one', removedReason: 'tape 7 is torn' },
  ]);
  await mutate(operator, 'clearDatasetBad', { dataset: 'torn-one', reason: 'mended' });
  await allTold(database);
  for (const { client } of strangers) {
    const again = await client.call<Seen>(roads, variables);
    expect(again.container.past.totalCount).toBe(2);
    // It left and came back: nothing is new.
    expect(again.container.changedSince).toEqual({
      unavailableCount: 0,
      removed: { totalCount: 0, nodes: [] },
      added: { nodes: [] },
    });
  }
});

test('everybody follows containers, live and from a cursor, and misses nothing', async () => {
  const { operator } = server;
  await makeDataset(operator, 'fed-one', 'CLOSED');
  const after = await lastCursor(server);
  const follow = `subscription ($after: String, $filter: ContainerEventFilter) {
    containerChanged(after: $after, filter: $filter) {
      cursor actor reason container { name datasetCount } change { kind added { datasetCount } cursor } } }`;
  interface Told {
    containerChanged: {
      cursor: string;
      reason: string | null;
      container: { name: string; datasetCount: number };
      change: { kind: string; added: { datasetCount: number }; cursor: string } | null;
    };
  }
  const sockets = await Promise.all(
    strangers.map(({ token }) => openSocket(server.address, token)),
  );
  for (const socket of sockets) {
    socket.start(follow, { after, filter: { name: { startsWith: 'fed' }, container: 'fed' } });
  }
  await mutate(operator, 'createContainer', { name: 'fed-other' });
  await mutate(operator, 'createContainer', { name: 'fed' });
  await mutate(operator, 'addToContainer', {
    container: 'fed',
    datasets: ['fed-one'],
    reason: 'fresh',
  });
  await mutate(operator, 'markDatasetBad', { dataset: 'fed-one', reason: 'wet' });
  let cursor = '';
  for (const socket of sockets) {
    const told: Told['containerChanged'][] = [];
    for (let at = 0; at < 3; at++) told.push((await socket.nextData<Told>()).containerChanged);
    expect(told.map(({ change, reason }) => [change?.kind, reason])).toEqual([
      [undefined, null],
      ['ADDED', 'fresh'],
      ['MARKED_BAD', 'wet'],
    ]);
    expect(told[1]?.change?.cursor).toBe(told[1]?.cursor);
    expect(JSON.stringify(told)).not.toContain('fed-one');
    cursor = told[1]?.cursor ?? '';
    socket.terminate();
  }
  const socket = await openSocket(server.address);
  socket.start(follow, { after: cursor, filter: { owner: 'operator' } });
  expect((await socket.nextData<Told>()).containerChanged.change?.kind).toBe('MARKED_BAD');
  socket.terminate();
  // A cursor of the feed is a marker.
  const { container } = await server.anonymous.call<{ container: object }>(
    'query ($cursor: String) { container(name: "fed") { unavailableCount(marker: $cursor) } }',
    { cursor },
  );
  expect(container).toEqual({ unavailableCount: 1 });
});

test('wrong moments and markers are refused, with the field that is wrong', async () => {
  await mutate(server.operator, 'createContainer', { name: 'moments' });
  const ask = (field: string) =>
    refusalOf(server.anonymous.call(`{ container(name: "moments") { ${field} } }`));
  const time = '"2020-01-01T00:00:00Z"';
  for (const [field, code, wrong] of [
    ['datasets(asOf: "2999-01-01T00:00:00Z") { totalCount }', 'BAD_USER_INPUT', 'asOf'],
    ['datasets(marker: "x") { totalCount }', 'INVALID_CURSOR', 'marker'],
    [`datasets(asOf: ${time}, marker: "x") { totalCount }`, 'BAD_USER_INPUT', 'marker'],
    ['unavailableCount(marker: "x")', 'INVALID_CURSOR', 'marker'],
    ['lastChange(marker: "") { kind }', 'INVALID_CURSOR', 'marker'],
    ['changedSince(since: "2999-01-01T00:00:00Z") { marker }', 'BAD_USER_INPUT', 'since'],
    ['changedSince(marker: "x") { marker }', 'INVALID_CURSOR', 'marker'],
    ['changedSince(until: "x") { marker }', 'INVALID_CURSOR', 'until'],
  ] as const) {
    const { code: is, facts } = await ask(field);
    expect([field, is, facts['field']]).toEqual([field, code, wrong]);
  }
  const { container } = await server.anonymous.call<{ container: { early: string } }>(
    '{ container(name: "moments") { early: marker } }',
  );
  await makeDataset(server.operator, 'moments-one', 'CLOSED');
  const late = await lastCursor(server);
  expect(
    await refusalOf(
      server.anonymous.call(
        `query ($early: String, $late: String) { container(name: "moments") {
          changedSince(marker: $late, until: $early) { marker } } }`,
        { early: container.early, late },
      ),
    ),
  ).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field: 'until' } });
});
