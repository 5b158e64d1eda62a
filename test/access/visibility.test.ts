import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import {
  allTold,
  committedSchema,
  lastCursor,
  makeDataset,
  mutate,
  newFile,
  register,
  type Stage,
} from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';

let server: TestServer;
let readers: { who: string; client: TestClient; token: string | undefined }[];

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  readers = [{ who: 'anonymous', client: server.anonymous, token: undefined }];
  for (const role of ['USER', 'DQM']) {
    const token = await server.tokenOf(`reader-${role}`, role);
    readers.push({ who: role, client: await server.as(`other-${role}`, role), token });
  }
  const runs = Array.from({ length: 20 }, (_, at) => ({ number: at + 1, luminosity: 1.5 }));
  await mutate(server.operator, 'registerRuns', { runs }, 'registeredCount');
});
afterAll(() => server.close());

let last = 0;
interface Hidden {
  readonly name: string;
  readonly lfn: string;
  readonly run: number;
  readonly datasetId: string;
  readonly fileId: string;
  readonly backupId: string;
  readonly start: string | undefined;
}

/** A dataset of one file, of a run that is in production (it has not ended). */
async function hide(stage: Stage): Promise<Hidden> {
  const run = ++last;
  const name = `secret-${String(run).padStart(3, '0')}`;
  const start = await lastCursor(server);
  const file = await newFile(`/secret/${name}.root`, {
    runs: [{ number: run }],
    stream: `S${run}`,
    release: `R${run}`,
  });
  await register(server.operator, file);
  const more = { owner: 'owner', stream: `S${run}`, release: `R${run}`, files: [file] };
  await makeDataset(server.operator, name, stage, more);
  const found = await server.operator.call<{
    dataset: { id: string };
    file: { id: string; backups: { id: string }[] };
  }>(
    'query ($name: String!, $lfn: String!) { dataset(name: $name) { id } file(lfn: $lfn) { id backups { id } } }',
    {
      name,
      lfn: file.lfn,
    },
  );
  const { dataset, file: seen } = found;
  return {
    name,
    lfn: file.lfn,
    run,
    datasetId: dataset.id,
    fileId: seen.id,
    backupId: seen.backups[0]?.id ?? 'none',
    start,
  };
}

type Road = [what: string, query: string, variables?: (hidden: Hidden) => Record<string, unknown>];

/** Every road that leads to a dataset, with filters that would find it. */
const datasetFilters: ((hidden: Hidden) => object)[] = [
  () => ({}),
  ({ name }) => ({ name: { eq: name } }),
  ({ name }) => ({ name: { in: [name] } }),
  ({ name }) => ({ name: { startsWith: name } }),
  ({ name }) => ({ name: { glob: `*${name}*` } }),
  () => ({ kind: ['PR'] }),
  () => ({ status: ['OPEN', 'BACKED_UP', 'CLOSED'] }),
  () => ({ status: ['OPEN'] }),
  () => ({ owner: 'owner' }),
  ({ run }) => ({ stream: `S${run}` }),
  ({ run }) => ({ release: `R${run}` }),
  () => ({ isBad: true }),
  () => ({ isBad: false, status: ['OPEN', 'BACKED_UP', 'CLOSED'] }),
  ({ run }) => ({ holdsRun: { number: run } }),
  ({ run }) => ({ runs: `${run}-${run + 1}`, status: ['OPEN', 'BACKED_UP', 'CLOSED'] }),
  () => ({ minEvents: 0, sizeBytes: { gte: 0 }, fileCount: { lt: 1000 }, backupWaived: false }),
  () => ({ createdAt: { gte: '2000-01-01T00:00:00Z' } }),
  () => ({ closedAt: { gte: '2000-01-01T00:00:00Z' } }),
];
const fileFilters: ((hidden: Hidden) => object)[] = [
  () => ({}),
  ({ lfn }) => ({ lfn: { eq: lfn } }),
  ({ lfn }) => ({ lfn: { in: [lfn] } }),
  () => ({ lfn: { startsWith: '/secret/' } }),
  () => ({ lfn: { glob: '/se*ret/*' } }),
  () => ({ kind: 'MERGED_FILE' }),
  ({ run }) => ({ stream: `S${run}` }),
  ({ run }) => ({ release: `R${run}` }),
  () => ({ isBackedUp: true }),
  () => ({ isBackedUp: false }),
  ({ run }) => ({ holdsRun: { number: run } }),
  ({ run }) => ({ runs: `1-${run}` }),
  ({ name }) => ({ dataset: name }),
  () => ({ site: 'local', minEvents: 0, sizeBytes: { gte: 0 } }),
  () => ({ createdAt: { gte: '2000-01-01T00:00:00Z' } }),
];
const eventFilters: ((hidden: Hidden) => object)[] = [
  () => ({}),
  ({ name }) => ({ dataset: name }),
  ({ lfn }) => ({ lfn }),
  ({ run }) => ({ run }),
  () => ({ kind: ['DATASET_STATUS', 'FILE_REGISTERED', 'BACKUP_STATUS', 'RUN_STATUS'] }),
  () => ({ actor: 'operator' }),
  () => ({ occurredAt: { gte: '2000-01-01T00:00:00Z' } }),
];

const list = (
  field: string,
  type: string,
  filters: ((hidden: Hidden) => object)[],
  nodes: string,
): Road[] =>
  filters.map((filter, at) => [
    `${field} ${at}`,
    `query ($filter: ${type}) { ${field}(filter: $filter, first: 200) { totalCount nodes { ${nodes} } } }`,
    (hidden) => ({ filter: filter(hidden) }),
  ]);

const fileThings = `lfn accessUrl backups { storeKey } replicas { path }
  datasets(first: 5) { totalCount nodes { name } } runs(first: 5) { totalCount nodes { number luminosity } }`;
const roads: Road[] = [
  ...list(
    'datasets',
    'DatasetFilter',
    datasetFilters,
    'name files(first: 2) { totalCount nodes { lfn } }',
  ),
  ...list('files', 'FileFilter', fileFilters, fileThings),
  ...list(
    'events',
    'EventFilter',
    eventFilters,
    'kind facts dataset { name } file { lfn } run { number }',
  ),
  ['file', `query ($lfn: String!) { file(lfn: $lfn) { ${fileThings} } }`],
  [
    'node of the dataset',
    'query ($datasetId: ID!) { node(id: $datasetId) { id ... on Dataset { name } } }',
  ],
  [
    'node of the file',
    `query ($fileId: ID!) { node(id: $fileId) { id ... on File { ${fileThings} } } }`,
  ],
  [
    'node of the backup',
    'query ($backupId: ID!) { node(id: $backupId) { id ... on BackupRecord { storeKey } } }',
  ],
  [
    'datasets of the run',
    'query ($run: Int!) { run(number: $run) { datasets { totalCount nodes { name } } } }',
  ],
  [
    'the log backwards',
    '{ events(orderBy: NEWEST_FIRST, first: 200) { totalCount nodes { dataset { name } file { lfn } } } }',
  ],
  [
    'runs of the dataset',
    'query ($name: String!) { runs(filter: { inDataset: $name }) { totalCount } }',
  ],
  [
    'files of the run',
    'query ($run: Int!) { run(number: $run) { productionStatus luminosity files { totalCount nodes { lfn } } history { totalCount } } }',
  ],
];
const orders = [
  'NAME',
  'CREATED_AT_DESC',
  'CLOSED_AT_DESC',
  'SIZE_DESC',
  'EVENTS_DESC',
  'FILES_DESC',
];

const without = (hidden: Hidden, text: string, where?: string) => {
  for (const clue of [hidden.name, hidden.lfn]) expect(text, where).not.toContain(clue);
};

/** Counts and names of what a road gives; a hidden thing must not change them. */
async function walk(client: TestClient, hidden: Hidden): Promise<Map<string, string>> {
  const answers = new Map<string, string>();
  for (const [what, query, variables] of roads) {
    const given = variables?.(hidden) ?? { ...hidden };
    answers.set(what, JSON.stringify(await client.call(query, given)));
  }
  for (const orderBy of orders) {
    const query =
      'query ($orderBy: DatasetOrder) { datasets(orderBy: $orderBy) { totalCount nodes { name } } }';
    answers.set(orderBy, JSON.stringify(await client.call(query, { orderBy })));
  }
  return answers;
}

describe.each<Stage>(['OPEN', 'BACKED_UP', 'BAD'])('a dataset that is %s', (stage) => {
  let hidden: Hidden;
  beforeEach(async () => {
    hidden ??= await hide(stage);
  });

  test('is found by its operators on the roads that strangers try', async () => {
    const answers = await walk(server.operator, hidden);
    const found = [...answers].filter(([, text]) => text.includes(hidden.name));
    expect(found.map(([what]) => what)).toEqual(
      expect.arrayContaining([
        stage === 'BAD' ? 'datasets 11' : 'datasets 6',
        stage === 'OPEN' ? 'files 9' : 'files 8',
        ...[0, 1, 2, 3, 4, 5, 6, 7].map((at) => `files ${at}`),
        ...[1, 2].map((at) => `events ${at}`),
        'file',
        'node of the dataset',
        'node of the file',
        'files of the run',
      ]),
    );
    const isBackedUp = stage !== 'OPEN';
    expect(answers.get('node of the backup')?.includes(hidden.name)).toBe(isBackedUp);
  });

  test('is seen by nobody without the right, in names, counts and lists', async () => {
    for (const { client, who } of readers) {
      for (const [what, text] of await walk(client, hidden)) {
        if (/^(datasets|files|events) \d+$/.test(what)) {
          const [field] = what.split(' ');
          const answer = (
            JSON.parse(text) as Record<string, { totalCount: number; nodes: object[] }>
          )[field ?? ''];
          expect(answer?.totalCount, `${who}: ${what}`).toBe(answer?.nodes.length);
        }
        without(hidden, text, `${who}: ${what}`);
        if (what.startsWith('node') || what === 'file')
          expect(JSON.parse(text), `${who}: ${what}`).toEqual({ [what.split(' ')[0] ?? '']: null });
      }
      const run = await client.call<{ run: object | null }>(roads.at(-1)?.[1] ?? '', {
        run: hidden.run,
      });
      expect(run.run).toEqual(
        who === 'DQM'
          ? {
              productionStatus: 'IN_PRODUCTION',
              luminosity: null,
              files: { totalCount: 0, nodes: [] },
              history: { totalCount: 0 },
            }
          : null,
      );
      const { errors } = await client.raw(
        'query ($name: String) { backupRecords(filter: { dataset: $name }) { totalCount } }',
        { name: hidden.name },
      );
      expect(errors?.[0]?.extensions.code).toBe(
        who === 'anonymous' ? 'UNAUTHENTICATED' : 'FORBIDDEN',
      );
    }
  });

  test('is not exported', async () => {
    for (const { client } of readers) {
      for (const format of ['txt', 'jsonl', 'csv']) {
        const place = `/export/datasets/${hidden.name}/files?format=${format}`;
        const unknown = await client.get(
          `/export/datasets/nothing-${hidden.run}/files?format=${format}`,
        );
        const answer = await client.get(place);
        const text = await answer.text();
        expect(text).not.toContain(hidden.lfn);
        expect(answer.headers.get('etag')).toBeNull();
        expect(answer.headers.get('x-sweepbook-count')).toBeNull();
        if (stage === 'BAD') {
          expect({ status: answer.status, ...(JSON.parse(text) as object) }).toMatchObject({
            status: 409,
            code: 'DATASET_BAD',
          });
        } else {
          expect(answer.status).toBe(404);
          expect(text.replaceAll(hidden.name, 'X')).toBe(
            (await unknown.text()).replaceAll(`nothing-${hidden.run}`, 'X'),
          );
        }
        const head = await fetch(`${server.address}${place}`, { method: 'HEAD' });
        expect(head.status).toBe(answer.status);
        const cached = await client.get(place, { 'if-none-match': '*' });
        expect(cached.status).toBe(answer.status);
      }
    }
  });

  test('does not exist for who tries to change it: the same words as for any other name', async () => {
    const user = await server.as(`stranger-${stage}`, 'USER');
    const importer = await server.as(`importer-${stage}`, 'IMPORTER');
    const inputs: Record<string, object> = {
      closeDataset: {},
      markDatasetBackedUp: {},
      sweepDataset: {},
      reopenDataset: { reason: 'why not' },
      addFilesToDataset: { lfns: [hidden.lfn] },
      removeFilesFromDataset: { lfns: [hidden.lfn] },
    };
    for (const [field, input] of Object.entries(inputs)) {
      const type = committedSchema.getMutationType()?.getFields()[field]?.args[0]?.type;
      const query =
        `mutation ($input: ${type}!) { ${field}(input: $input) { changed dataset { name } } }`.replace(
          '!!',
          '!',
        );
      for (const client of [user, importer, server.anonymous]) {
        const told = async (dataset: string) =>
          JSON.stringify(await client.raw(query, { input: { ...input, dataset } })).replaceAll(
            dataset,
            'X',
          );
        const answer = await told(hidden.name);
        expect(answer).toBe(await told(`nothing-${hidden.run}`));
        expect(answer).toContain(client === server.anonymous ? 'UNAUTHENTICATED' : 'NOT_FOUND');
      }
    }
  });

  test('is not told of to who follows', async () => {
    for (const { token, client } of readers) {
      const socket = await openSocket(server.address, token);
      const filter = { dataset: hidden.name };
      const follow =
        'subscription ($after: String, $filter: DatasetEventFilter) { datasetStatusChanged(after: $after, filter: $filter) { to dataset { name } } }';
      socket.start(follow, { after: hidden.start, filter });
      socket.start(follow, { after: hidden.start });
      // What everybody may see comes after it in the log: nothing before it was left out by chance.
      const marker = `marker-${hidden.run}-${Math.random().toString(36).slice(2)}`;
      await makeDataset(server.operator, marker, 'CLOSED');
      for (;;) {
        const text = JSON.stringify(await socket.next());
        without(hidden, text);
        if (text.includes(marker)) break;
      }
      socket.terminate();
      await allTold(server.database);
      const { history } = await client
        .call<{ dataset: { history: object } }>(
          'query ($name: String!) { dataset(name: $name) { history { totalCount nodes { kind } } } }',
          { name: marker },
        )
        .then(({ dataset }) => dataset);
      expect(JSON.stringify(history)).toContain('DATASET_STATUS');
    }
  });
});

test('a bad dataset says why to who asks for it by name, and comes back when it is cleared', async () => {
  const hidden = await hide('BAD');
  const byName =
    'query ($name: String!) { dataset(name: $name) { name status badMark { reason } } }';
  for (const { client } of readers) {
    const { errors, data } = await client.raw(byName, { name: hidden.name });
    expect(data).toEqual({ dataset: null });
    expect(errors?.[0]).toMatchObject({
      message: expect.stringContaining('the tape was wet'),
      extensions: {
        code: 'DATASET_BAD',
        facts: { dataset: hidden.name, reason: 'the tape was wet', markedAt: expect.any(String) },
      },
    });
  }
  const seenByOperator = await server.operator.call(byName, { name: hidden.name });
  expect(seenByOperator).toEqual({
    dataset: { name: hidden.name, status: 'CLOSED', badMark: { reason: 'the tape was wet' } },
  });
  await mutate(server.operator, 'clearDatasetBad', { dataset: hidden.name, reason: 'dried' });
  for (const { client } of readers) {
    expect(await client.call(byName, { name: hidden.name })).toEqual({
      dataset: { name: hidden.name, status: 'CLOSED', badMark: null },
    });
    const files = await (await client.get(`/export/datasets/${hidden.name}/files`)).text();
    expect(files).toContain(hidden.name);
    const { datasets } = await client.call<{ datasets: { totalCount: number } }>(
      'query ($name: String) { datasets(filter: { name: { eq: $name } }) { totalCount } }',
      { name: hidden.name },
    );
    expect(datasets.totalCount).toBe(1);
  }
});

test('the reason of a bad mark on a dataset that was never published stays inside', async () => {
  const hidden = await hide('OPEN');
  await mutate(server.operator, 'markDatasetBad', { dataset: hidden.name, reason: 'inside only' });
  for (const { client } of readers) {
    expect(
      await client.raw('query ($name: String!) { dataset(name: $name) { name } }', {
        name: hidden.name,
      }),
    ).toEqual({ data: { dataset: null } });
  }
});

test('a dataset is seen by everybody in the moment in which its close is answered', async () => {
  const hidden = await hide('BACKED_UP');
  const sockets = await Promise.all(readers.map(({ token }) => openSocket(server.address, token)));
  const start = await lastCursor(server);
  for (const socket of sockets) {
    socket.start(
      'subscription ($name: String, $after: String) { datasetStatusChanged(filter: { dataset: $name }, after: $after) { from to dataset { name isAvailable files { nodes { lfn } } } } }',
      { name: hidden.name, after: start },
    );
  }
  await mutate(server.operator, 'closeDataset', { dataset: hidden.name });
  for (const { client } of readers) {
    const seen = await client.call(
      `query ($name: String!, $lfn: String!, $datasetId: ID!, $fileId: ID!) {
        dataset(name: $name) { isAvailable history { totalCount } }
        file(lfn: $lfn) { datasets { nodes { name } } backups { status } }
        a: node(id: $datasetId) { id } b: node(id: $fileId) { id }
        datasets(filter: { name: { eq: $name } }) { totalCount }
      }`,
      { ...hidden },
    );
    expect(seen).toMatchObject({
      dataset: { isAvailable: true },
      file: { datasets: { nodes: [{ name: hidden.name }] }, backups: [{ status: 'CONFIRMED' }] },
      a: { id: hidden.datasetId },
      b: { id: hidden.fileId },
      datasets: { totalCount: 1 },
    });
    const exported = await client.get(`/export/datasets/${hidden.name}/files?format=jsonl`);
    expect(await exported.text()).toContain(hidden.lfn);
  }
  for (const socket of sockets) {
    expect(await socket.nextData()).toEqual({
      datasetStatusChanged: {
        from: 'BACKED_UP',
        to: 'CLOSED',
        dataset: { name: hidden.name, isAvailable: true, files: { nodes: [{ lfn: hidden.lfn }] } },
      },
    });
    socket.terminate();
  }
});

test('an owner sees his own dataset before it is closed, and nobody else of his kind does', async () => {
  const owner = await server.as('hermit', 'USER');
  const other = await server.as('neighbour', 'USER');
  await makeDataset(server.operator, 'hermitage', 'OPEN', { owner: 'hermit', kind: 'USER' });
  const query = '{ dataset(name: "hermitage") { status files { totalCount } } }';
  expect(await owner.call(query)).toEqual({
    dataset: { status: 'OPEN', files: { totalCount: 1 } },
  });
  expect(await other.call(query)).toEqual({ dataset: null });
});
