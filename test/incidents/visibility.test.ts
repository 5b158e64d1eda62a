import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { backUp, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { placedFile, report, safeDataset, waivedDataset, type Placed } from './scene.ts';

let server: TestServer;
let anna: TestClient;
let bert: TestClient;
let carl: TestClient;
let dqm: TestClient;
let producer: TestClient;
let files: { annas: Placed; shared: Placed; berts: Placed; bertsOther: Placed; loose: Placed };
/** A composite file of a publication of bert that is under way; another of them was made of `loose`. */
let hushed: Placed;
/** The one that hits anna and bert, and one that hits bert alone. */
let both: number;
let bertsAlone: number;

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  const { operator } = server;
  [anna, bert, carl] = await Promise.all([
    server.as('anna', 'USER'),
    server.as('bert', 'USER'),
    server.as('carl', 'USER'),
  ]);
  dqm = await server.as('dora', 'DQM');
  producer = await server.as('paul', 'PRODUCER');
  files = {
    annas: await placedFile(server, 'v1', 'see/annas'),
    shared: await placedFile(server, 'v1', 'see/shared'),
    berts: await placedFile(server, 'v1', 'see/berts'),
    bertsOther: await placedFile(server, 'v2', 'see/other'),
    loose: await placedFile(server, 'v1', 'see/loose'),
  };
  await waivedDataset(operator, 'annas', [files.annas, files.shared], { owner: 'anna' });
  await waivedDataset(operator, 'berts', [files.berts, files.shared, files.bertsOther], {
    owner: 'bert',
  });
  await backUp(operator, files.shared);
  await safeDataset(operator, 'production', [await placedFile(server, 'v1', 'see/safe')]);
  hushed = await placedFile(server, 'v1', 'see/hushed');
  const child = await newFile('/incident/see/hushed-child', { parents: [files.loose.lfn] });
  await register(operator, child);
  await makePrivate(hushed.lfn, child.lfn);
  both = (await report(operator, { volume: 'v1' })).incident?.number ?? 0;
  bertsAlone = (await report(operator, { volume: 'v2' })).incident?.number ?? 0;
});
afterAll(() => server.close());

/** The registered files become composite files of a publication of bert. */
async function makePrivate(...lfns: string[]): Promise<void> {
  const n = lfns.length;
  for (const step of [
    `insert into publications (dataset_name, requested_by, description, store_id, merge_tool, wanted_bytes, file_count, size_bytes)
     select 'hushed', 'bert', 'x', min(id), 'TAR', 1, ${n}, ${n} from mass_stores`,
    `insert into publication_files (publication_id, path, name, told_events) select 1, '/data/' || n, n::text, 10 from generate_series(1, ${n}) n`,
    `update publications set status = 'CHECKING'`,
    `update publication_files set size_bytes = 1, sha256 = repeat('0', 64), stamp = 'x', event_count = 10`,
    `insert into publication_composites (publication_id, number, lfn, file_count, input_bytes)
     select 1, n, lfn, 1, 1 from unnest(array['${lfns.join("','")}']) with ordinality t (lfn, n)`,
    `update publication_files set composite = id`,
    `update publications set status = 'MERGING', event_count = ${10 * n}`,
    `update publication_composites c set path = '/area/' || number, size_bytes = f.size_bytes, adler32 = f.adler32,
       sha256 = f.sha256, event_count = 10, made_at = now() from files f where f.lfn = c.lfn`,
    `update publication_composites c set file_id = f.id from files f where f.lfn = c.lfn`,
    `update publications set status = 'BACKING_UP'`,
  ])
    await server.database.sql(step);
}

const page = `number status reason scope itemCount safeCount recoverableCount lostCount openCount stillLostCount
  restoredCount datasetCount markedDatasetCount hiddenDatasetCount table { itemCount lostFileCount derivedCount items { lfn path } derived { lfn } }
  items(first: 100) { nodes { lfn finding status place path lastError evidence } }
  datasets(first: 100) { nodes { name lostCount isMarked } } history(first: 100) { nodes { kind facts } }`;

interface Seen {
  number: number;
  scope: string | null;
  itemCount: number;
  table: object | null;
  items: { nodes: { lfn: string; place: string | null; path: string | null }[] };
  datasets: { nodes: { name: string }[] };
  history: { nodes: object[] };
}
const look = async (client: TestClient, id: number | string) =>
  (
    await client.call<{ incident: Seen | null }>(
      `query ($id: ID!) { incident(id: $id) { ${page} } }`,
      { id: String(id) },
    )
  ).incident;
const list = async (client: TestClient, filter: object = {}) =>
  (
    await client.call<{ incidents: { nodes: { number: number }[] } }>(
      `query ($filter: IncidentFilter) { incidents(filter: $filter) { nodes { number } } }`,
      { filter },
    )
  ).incidents.nodes.map((node) => node.number);

test('an owner sees his part, and counts of his part only', async () => {
  const seen = await look(anna, both);
  expect(seen).toMatchObject({
    status: 'OPEN',
    reason: 'the disk server is down',
    scope: null,
    itemCount: 2,
    safeCount: 0,
    recoverableCount: 1,
    lostCount: 1,
    openCount: 2,
    stillLostCount: 1,
    restoredCount: 0,
    datasetCount: 1,
    markedDatasetCount: 1,
    hiddenDatasetCount: 1,
    table: null,
    datasets: { nodes: [{ name: 'annas', lostCount: 1, isMarked: true }] },
    history: { nodes: [] },
  });
  expect(seen?.items.nodes).toMatchObject([
    { lfn: files.annas.lfn, finding: 'LOST', place: null, path: null, evidence: null },
    { lfn: files.shared.lfn, finding: 'RECOVERABLE', place: null, path: null, lastError: null },
  ]);
  expect(await look(bert, both)).toMatchObject({ itemCount: 2, lostCount: 1, datasetCount: 1 });
  expect([await list(anna), await list(bert)]).toEqual([[both], [bertsAlone, both]]);
  // Neither what it is about nor whom else it hit can be asked out of it.
  expect(await list(anna, { dataset: 'berts' })).toEqual([]);
  expect(await list(anna, { dataset: 'annas' })).toEqual([both]);
  expect(await list(anna, { volume: 'v1' })).toEqual([]);
  expect(await list(bert, { volume: 'v2' })).toEqual([]);
});

test('who owns nothing of it cannot tell an incident from none', async () => {
  const id = (
    await server.operator.call<{ incident: { id: string } }>(
      'query ($id: ID!) { incident(id: $id) { id } }',
      { id: String(both) },
    )
  ).incident.id;
  for (const client of [server.anonymous, carl, dqm]) {
    expect(await look(client, both)).toEqual(await look(client, 999));
    expect(await look(client, id)).toBeNull();
    expect(await list(client)).toEqual([]);
    expect(await list(client, { dataset: 'annas', status: ['OPEN'] })).toEqual([]);
    expect(await client.call('query ($id: ID!) { node(id: $id) { id } }', { id })).toEqual({
      node: null,
    });
  }
  expect(await look(anna, bertsAlone)).toEqual(await look(anna, 999));
});

test('producers see all of it but what is private to others, operators that, too', async () => {
  for (const [client, hidden] of [
    [producer, 1],
    [server.operator, 0],
  ] as const) {
    const seen = await look(client, both);
    expect(seen).toMatchObject({
      scope: 'volume v1',
      itemCount: 6 - hidden,
      lostCount: 4 - hidden,
      openCount: 6 - hidden,
      stillLostCount: 4 - hidden,
      recoverableCount: 2,
      datasetCount: 3,
      markedDatasetCount: 2,
      table: { itemCount: 6 - hidden, lostFileCount: 4 - hidden, derivedCount: 1 - hidden },
    });
    const names = JSON.stringify(seen).match(/see.hushed(-child)?/g) ?? [];
    expect([...new Set(names)].toSorted()).toEqual(
      hidden ? [] : ['see/hushed', 'see/hushed-child'],
    );
    expect(seen?.items.nodes.map((item) => item.lfn)).toContain(files.loose.lfn);
    expect(seen?.items.nodes[0]).toMatchObject({ place: 'v1', path: files.annas.path });
    expect(seen?.history.nodes).toHaveLength(1);
    expect(await list(client, { volume: 'v1' })).toEqual([both]);
  }
  const lines = `{ events(first: 200) { nodes { kind file { lfn } facts } } }`;
  expect(JSON.stringify(await producer.call(lines))).not.toContain('hushed');
  expect(JSON.stringify(await server.operator.call(lines))).toContain(hushed.lfn);
});

test('the lines of incidents, their progress and the readings of copies are for production', async () => {
  const asked = `{ events(filter: { kind: [INCIDENT_STATUS, REPLICA_STATUS] }) { nodes { kind } } }`;
  const progress = `subscription ($id: ID!) { incidentProgress(incident: $id) { itemCount } }`;
  const steps = `subscription { incidentChanged { to } }`;
  await mutate(producer, 'confirmReplica', { lfn: files.shared.lfn, path: '/elsewhere/shared' });
  const shared = `query ($lfn: String!) { file(lfn: $lfn) { replicaChecks { path } } }`;
  for (const [client, code] of [
    [server.anonymous, 'UNAUTHENTICATED'],
    [carl, 'FORBIDDEN'],
    [dqm, 'FORBIDDEN'],
    // Also of an incident of his own: he follows his datasets.
    [anna, 'FORBIDDEN'],
  ] as const) {
    expect(await client.call(asked)).toEqual({ events: { nodes: [] } });
    for (const query of [progress, steps]) {
      const first = client.subscribe(query, { id: String(both) }).next();
      expect((await refusalOf(first)).code).toBe(code);
    }
    const seen = await client.call<{ file: { replicaChecks: object[] } | null }>(shared, {
      lfn: files.shared.lfn,
    });
    expect(seen.file?.replicaChecks ?? []).toEqual([]);
    expect((await refusalOf(report(client, { volume: 'v1' }, true))).code).toBe(code);
  }
  const { value } = await producer
    .subscribe<{ incidentProgress: object }>(progress, { id: String(both) })
    .next();
  expect(value).toEqual({ incidentProgress: { itemCount: 5 } });
  expect(
    (await producer.call<{ file: { replicaChecks: object[] } }>(shared, { lfn: files.shared.lfn }))
      .file.replicaChecks,
  ).toEqual([{ path: '/elsewhere/shared' }]);
  expect((await refusalOf(report(producer, { volume: 'v1' }, true))).code).toBe('FORBIDDEN');
});

test('a bad dataset tells everybody why, and its incident to those who see it', async () => {
  const asked = `{ dataset(name: "annas") { name badMark { incident { number } } } }`;
  for (const client of [server.anonymous, carl, dqm]) {
    const refusal = await refusalOf(client.call(asked));
    expect(refusal.code).toBe('DATASET_BAD');
    expect(refusal.facts).toMatchObject({ lostFileCount: 1, fileCount: 2 });
  }
  for (const client of [anna, producer]) {
    expect(await client.call(asked)).toEqual({
      dataset: { name: 'annas', badMark: { incident: { number: both } } },
    });
  }
});
