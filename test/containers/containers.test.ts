import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { allTold, makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { loadDatasets } from './load.ts';

let server: TestServer;
let owner: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  owner = await server.as('owner', 'PRODUCER');
});
afterAll(() => server.close());

const changeFields =
  'changed changedCount container { datasetCount version } moved { datasetCount fileCount eventCount luminosity }';
interface Changed {
  changed: boolean;
  changedCount: number;
  container: { datasetCount: number; version: number };
  moved: { datasetCount: number; fileCount: number; eventCount: number; luminosity: number | null };
}
const change = (
  client: TestClient,
  field: string,
  container: string,
  datasets: string[],
  more = {},
) => mutate<Changed>(client, field, { container, datasets, ...more }, changeFields);
const add = (container: string, datasets: string[], more = {}) =>
  change(owner, 'addToContainer', container, datasets, more);
const remove = (container: string, datasets: string[], more = {}) =>
  change(owner, 'removeFromContainer', container, datasets, { reason: 'not wanted', ...more });
const bad = (dataset: string, reason: string) =>
  mutate(server.operator, 'markDatasetBad', { dataset, reason });
const clear = (dataset: string, reason: string) =>
  mutate(server.operator, 'clearDatasetBad', { dataset, reason });

async function ask<T>(name: string, fields: string, client = server.anonymous): Promise<T> {
  const { container } = await client.call<{ container: T }>(
    `query ($name: String!) { container(name: $name) { ${fields} } }`,
    { name },
  );
  return container;
}
async function listed(name: string, client = server.anonymous, args = ''): Promise<string[]> {
  const { datasets } = await ask<{ datasets: { nodes: { name: string }[] } }>(
    name,
    `datasets${args || '(first: 200)'} { nodes { name } }`,
    client,
  );
  return datasets.nodes.map((node) => node.name);
}
interface Line {
  kind: string;
  actor: string;
  reason: string | null;
  added: { datasetCount: number };
  removed: { datasetCount: number };
  givenUpCount: number;
}
async function historyOf(name: string): Promise<(string | number | null)[][]> {
  const { history } = await ask<{ history: { nodes: Line[] } }>(
    name,
    'history { nodes { kind actor reason added { datasetCount } removed { datasetCount } givenUpCount } }',
  );
  return history.nodes.map(({ kind, actor, reason, added, removed, givenUpCount }) => [
    kind,
    added.datasetCount,
    removed.datasetCount,
    givenUpCount,
    actor,
    reason,
  ]);
}

let made = 0;
async function scene(count: number): Promise<{ name: string; datasets: string[] }> {
  const name = `scene-${++made}`;
  const datasets = await loadDatasets(server.database, { prefix: name, count, events: 7 });
  await mutate(owner, 'createContainer', { name, description: 'a scene' });
  return { name, datasets };
}

test('a container grows and shrinks; what is already so is no change', async () => {
  const { name, datasets } = await scene(3);
  const [a = '', b = '', c = ''] = datasets;
  expect(await add(name, [a, b, a])).toEqual({
    changed: true,
    changedCount: 2,
    container: { datasetCount: 2, version: 2 },
    moved: { datasetCount: 2, fileCount: 2, eventCount: 7, luminosity: 0 },
  });
  const same = { changed: false, changedCount: 0, container: { datasetCount: 2, version: 2 } };
  expect(await add(name, [b, a])).toMatchObject(same);
  expect(await add(name, [])).toMatchObject(same);
  expect(await remove(name, [c])).toMatchObject(same);
  expect(await add(name, [b, c])).toMatchObject({ changedCount: 1, moved: { datasetCount: 1 } });
  expect(await remove(name, [a, c])).toMatchObject({
    changedCount: 2,
    container: { datasetCount: 1, version: 4 },
    moved: { datasetCount: 2, fileCount: 2, eventCount: 7 },
  });
  expect(await listed(name)).toEqual([b]);
  expect(await historyOf(name)).toEqual([
    ['ADDED', 2, 0, 0, 'owner', null],
    ['ADDED', 1, 0, 0, 'owner', null],
    ['REMOVED', 0, 2, 0, 'owner', 'not wanted'],
  ]);
});

test('a member that turns bad leaves with the reason and comes back, twice', async () => {
  const { name, datasets } = await scene(2);
  const [a = '', b = ''] = datasets;
  await add(name, [a, b], { reason: 'both' });
  const state = () => ask<object>(name, 'datasetCount eventCount suspendedCount');
  for (const time of ['once', 'twice']) {
    await bad(a, `wet ${time}`);
    expect(await listed(name)).toEqual([b]);
    expect(await state()).toEqual({ datasetCount: 1, eventCount: 0, suspendedCount: 1 });
    // A second mark changes nothing, and taking one of two off brings nothing back.
    await server.database.sql(
      `insert into bad_marks (dataset_id, reason) select id, 'also torn' from datasets where name = $1`,
      [a],
    );
    await server.database.sql(
      `update bad_marks set cleared_at = now(), cleared_by = 'x', cleared_reason = 'y' where reason = 'also torn' and cleared_at is null`,
    );
    expect(await listed(name)).toEqual([b]);
    await clear(a, `dried ${time}`);
    expect(await listed(name)).toEqual([a, b]);
    expect(await state()).toEqual({ datasetCount: 2, eventCount: 7, suspendedCount: 0 });
  }
  const operator = 'operator';
  expect(await historyOf(name)).toEqual([
    ['ADDED', 2, 0, 0, 'owner', 'both'],
    ['MARKED_BAD', 0, 1, 0, operator, 'wet once'],
    ['CLEARED', 1, 0, 0, operator, 'dried once'],
    ['MARKED_BAD', 0, 1, 0, operator, 'wet twice'],
    ['CLEARED', 1, 0, 0, operator, 'dried twice'],
  ]);
});

test('what is taken out while it is bad does not come back', async () => {
  const { name, datasets } = await scene(2);
  const [a = '', b = ''] = datasets;
  await add(name, [a, b]);
  await bad(a, 'wet');
  expect(await remove(name, [a])).toMatchObject({
    changed: true,
    changedCount: 1,
    moved: { datasetCount: 0 },
  });
  await clear(a, 'dried');
  expect(await listed(name)).toEqual([b]);
  expect(await historyOf(name)).toEqual([
    ['ADDED', 2, 0, 0, 'owner', null],
    ['MARKED_BAD', 0, 1, 0, 'operator', 'wet'],
    ['REMOVED', 0, 0, 1, 'owner', 'not wanted'],
  ]);
  expect(await ask(name, 'suspendedCount datasetCount')).toEqual({
    suspendedCount: 0,
    datasetCount: 1,
  });
});

test('datasets that one statement marks bad leave by one line', async () => {
  const { name, datasets } = await scene(5);
  await add(name, datasets);
  await server.database.sql(
    `insert into bad_marks (dataset_id, reason) select id, 'disk 7 crashed' from datasets where name = any ($1)`,
    [datasets.slice(1)],
  );
  expect((await historyOf(name)).at(-1)).toMatchObject(
    ['MARKED_BAD', 0, 4, 0, /.*/, 'disk 7 crashed'].map((value) =>
      value instanceof RegExp ? expect.any(String) : value,
    ),
  );
});

test('a file and a run that two datasets hold count once', async () => {
  const { operator } = server;
  const runs = [
    { number: 501, luminosity: 1.25 },
    { number: 502, luminosity: 0.1 },
    { number: 503 },
  ];
  await mutate(operator, 'registerRuns', { runs }, 'registeredCount');
  const files = await Promise.all(
    [[501], [502], [503]].map((of, at) =>
      newFile(`/twice/${at}`, { runs: of.map((number) => ({ number })) }),
    ),
  );
  const [one, two, three] = files as [(typeof files)[0], (typeof files)[0], (typeof files)[0]];
  await register(operator, ...files);
  await makeDataset(operator, 'twice-a', 'CLOSED', { files: [one, two] });
  await makeDataset(operator, 'twice-b', 'CLOSED', { files: [two, three] });
  const name = 'twice';
  await mutate(owner, 'createContainer', { name });
  expect((await add(name, ['twice-a'])).moved).toEqual({
    datasetCount: 1,
    fileCount: 2,
    eventCount: 20,
    luminosity: 1.35,
  });
  // Of its runs one is in already, and of the other nobody knows the luminosity.
  expect((await add(name, ['twice-b'])).moved).toEqual({
    datasetCount: 1,
    fileCount: 1,
    eventCount: 10,
    luminosity: null,
  });
  await mutate(
    operator,
    'registerRuns',
    { runs: [{ number: 503, luminosity: 0.2 }] },
    'updatedCount',
  );
  const totals = () => ask<object>(name, 'datasetCount fileCount eventCount luminosity');
  expect(await totals()).toEqual({
    datasetCount: 2,
    fileCount: 3,
    eventCount: 30,
    luminosity: 1.55,
  });
  expect((await remove(name, ['twice-a'])).moved).toEqual({
    datasetCount: 1,
    fileCount: 1,
    eventCount: 10,
    luminosity: 1.25,
  });
  expect(await totals()).toEqual({
    datasetCount: 1,
    fileCount: 2,
    eventCount: 20,
    luminosity: 0.3,
  });
});

test('what may not come in is refused, all of it, with names', async () => {
  const { name, datasets } = await scene(3);
  const [a = '', b = '', c = ''] = datasets;
  await makeDataset(server.operator, `${name}-open`, 'OPEN', { owner: 'somebody' });
  await bad(b, 'wet');
  const refused = async (names: string[]) => {
    const { code, facts } = await refusalOf(add(name, names));
    return { code, ...facts };
  };
  expect(await refused([a, `${name}-open`])).toEqual({
    code: 'DATASET_NOT_CLOSED',
    count: 1,
    first: [`${name}-open`],
  });
  expect(await refused([a, b])).toEqual({ code: 'DATASET_BAD', count: 1, first: [b] });
  expect(await refused([a, 'no-such', 'a\0b'.slice(0, 1)])).toEqual({
    code: 'NOT_FOUND',
    count: 2,
    first: ['no-such', 'a'],
  });
  expect(await refused(Array.from({ length: 10_001 }, (_, at) => `x${at}`))).toMatchObject({
    code: 'BAD_USER_INPUT',
    field: 'datasets',
  });
  expect(await refused(['a\0b'])).toMatchObject({ code: 'BAD_USER_INPUT' });
  expect(await listed(name)).toEqual([]);

  // An importer does not learn of an open dataset of somebody else.
  await mutate(server.operator, 'createContainer', { name: `${name}-i`, owner: 'importer' });
  const importer = await server.as('importer', 'IMPORTER');
  const hidden = change(importer, 'addToContainer', `${name}-i`, [`${name}-open`]);
  expect(await refusalOf(hidden)).toMatchObject({ code: 'NOT_FOUND' });
  expect((await change(importer, 'addToContainer', `${name}-i`, [c])).changed).toBe(true);

  for (const [input, code] of [
    [{ reason: ' ' }, 'BAD_USER_INPUT'],
    [{ reason: undefined }, 'BAD_USER_INPUT'],
    [{ reason: 'x'.repeat(2001) }, 'BAD_USER_INPUT'],
    [{ expectedVersion: 7 }, 'STALE_VERSION'],
  ] as const) {
    expect(await refusalOf(remove(name, [a], input))).toMatchObject({ code });
  }
  expect(await refusalOf(add('no-container', [a]))).toMatchObject({ code: 'NOT_FOUND' });
  expect(await refusalOf(add(name, [a], { reason: 'x'.repeat(2001) }))).toMatchObject({
    code: 'BAD_USER_INPUT',
  });
});

test('a dry run answers as the call would, and writes nothing', async () => {
  const { name, datasets } = await scene(3);
  const before = await ask(name, 'version history { totalCount }');
  const dry = await add(name, datasets, { dryRun: true });
  expect(dry).toMatchObject({
    changed: true,
    changedCount: 3,
    container: { datasetCount: 0, version: 1 },
    moved: { datasetCount: 3, fileCount: 3, eventCount: 7 },
  });
  expect(await ask(name, 'version history { totalCount }')).toEqual(before);
  const [row] = await server.database.sql<{ n: string }>(
    `select count(*) as n from events e join containers c on c.id = e.container_id
      where c.name = $1 and e.kind = 'CONTAINER_CHANGED'`,
    [name],
  );
  expect(Number(row?.n)).toBe(0);
  expect((await add(name, datasets)).moved).toEqual(dry.moved);
  expect(await remove(name, datasets, { dryRun: true })).toMatchObject({ changedCount: 3 });
  expect(await listed(name)).toEqual(datasets);
});

test('a container is created once for a key, and its name once', async () => {
  const { datasets } = await scene(2);
  const input = { name: 'keyed', datasets, reason: 'first', idempotencyKey: 'c-1' };
  const create = (more = {}) =>
    mutate<object>(
      owner,
      'createContainer',
      { ...input, ...more },
      `${changeFields} container { id }`,
    );
  const first = await create();
  expect(first).toMatchObject({ changed: true, changedCount: 2 });
  expect(await create()).toEqual(first);
  expect(await refusalOf(create({ name: 'keyed-2' }))).toMatchObject({
    code: 'IDEMPOTENCY_KEY_REUSED',
  });
  expect(await refusalOf(create({ idempotencyKey: 'c-2' }))).toMatchObject({ code: 'DUPLICATE' });
  for (const wrong of [
    { name: ' x' },
    { owner: '' },
    { description: '' },
    { reason: 'x'.repeat(2001) },
  ]) {
    const call = mutate(server.operator, 'createContainer', { name: 'wrong', ...wrong });
    expect(await refusalOf(call)).toMatchObject({ code: 'BAD_USER_INPUT' });
  }
  expect(
    await refusalOf(create({ name: 'other', owner: 'else', idempotencyKey: null })),
  ).toMatchObject({
    code: 'FORBIDDEN',
    facts: { action: 'createForOthers' },
  });
});

test('containers are found by name, owner and what they list; datasets name their containers', async () => {
  const { name, datasets } = await scene(1);
  const [a = ''] = datasets;
  await add(name, [a]);
  const find = async (filter: object) => {
    const found = await server.anonymous.call<{
      containers: { totalCount: number; nodes: { name: string }[] };
    }>(
      'query ($filter: ContainerFilter) { containers(filter: $filter, first: 200) { totalCount nodes { name } } }',
      { filter },
    );
    expect(found.containers.totalCount).toBe(found.containers.nodes.length);
    return found.containers.nodes.map((node) => node.name);
  };
  expect(await find({ name: { glob: `${name}*` }, owner: 'owner' })).toContain(name);
  expect(await find({ holdsDataset: a })).toEqual([name]);
  expect(await find({ owner: 'nobody' })).toEqual([]);
  expect(await find({ holdsDataset: 'nothing' })).toEqual([]);
  const { dataset } = await server.anonymous.call<{ dataset: object }>(
    'query ($a: String!) { dataset(name: $a) { containers { totalCount nodes { name } } } }',
    { a },
  );
  expect(dataset).toEqual({ containers: { totalCount: 1, nodes: [{ name }] } });
  const { id } = await ask<{ id: string }>(name, 'id');
  expect(
    await server.anonymous.call(
      'query ($id: ID!) { node(id: $id) { id ... on Container { name } } }',
      {
        id,
      },
    ),
  ).toEqual({ node: { id, name } });
  expect(await ask('no-such', 'name')).toBeNull();
  expect(await ask('a\0b', 'name')).toBeNull();
});

test('the log tells of containers, and can be asked for one', async () => {
  const { name, datasets } = await scene(2);
  await add(name, datasets, { reason: 'run 3' });
  await allTold(server.database);
  const { events } = await server.anonymous.call<{ events: { nodes: object[] } }>(
    `query ($container: String) { events(filter: { container: $container }) {
      nodes { kind actor reason facts dataset { name } container { name } } } }`,
    { container: name },
  );
  expect(events.nodes).toEqual([
    {
      kind: 'CONTAINER_CREATED',
      actor: 'owner',
      reason: null,
      facts: {},
      dataset: null,
      container: { name },
    },
    {
      kind: 'CONTAINER_CHANGED',
      actor: 'owner',
      reason: 'run 3',
      facts: { change: 'ADDED', addedCount: 2, removedCount: 0 },
      dataset: null,
      container: { name },
    },
  ]);
});

test('its lists come in pages that fit together', async () => {
  const { name, datasets } = await scene(7);
  for (const dataset of datasets) await add(name, [dataset]);
  for (const [list, want] of [
    ['datasets', datasets],
    ['history', datasets.map(() => undefined)],
  ] as const) {
    const found: unknown[] = [];
    for (let after: string | null = null; ;) {
      interface Page {
        nodes: { name?: string }[];
        pageInfo: { hasNextPage: boolean; endCursor: string };
      }
      const page: Page = (
        await server.anonymous.call<{ container: Record<string, Page> }>(
          `query ($name: String!, $after: String) { container(name: $name) {
            ${list}(first: 3, after: $after) { nodes { ${list === 'datasets' ? 'name' : 'kind'} } pageInfo { hasNextPage endCursor } } } }`,
          { name, after },
        )
      ).container[list] as Page;
      found.push(...page.nodes.map((node) => node.name));
      if (!page.pageInfo.hasNextPage) break;
      after = page.pageInfo.endCursor;
    }
    expect(found).toEqual(want);
  }
  for (const args of ['(first: 0)', '(first: 201)', '(after: "x")']) {
    expect(await refusalOf(listed(name, server.anonymous, args))).toMatchObject({
      code: args.includes('after') ? 'INVALID_CURSOR' : 'BAD_USER_INPUT',
    });
  }
});
