import { mkdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let operator: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  mkdirSync(server.folder, { recursive: true });
});
afterAll(() => server.close());

interface Stuck {
  readonly storesDown: { name: string; detail: string }[];
  readonly sweeps: {
    totalCount: number;
    nodes: { dataset: { name: string }; trouble: string; [fact: string]: unknown }[];
  };
  readonly failedBackups: { store: string; count: number; [fact: string]: unknown }[];
  readonly waitingBackups: {
    store: string;
    reason: string;
    count: number;
    [fact: string]: unknown;
  }[];
  readonly datasets: {
    totalCount: number;
    nodes: { dataset: { name: string }; trouble: string; advice: string }[];
  };
  readonly badDatasets: object[];
}
async function look(client: TestClient, older = ''): Promise<Stuck> {
  const { stuck } = await client.call<{ stuck: Stuck }>(`{ stuck {
    storesDown { name detail }
    sweeps${older} { totalCount nodes { dataset { name } store requestedBy total confirmed failed copying waiting lastError trouble advice } }
    failedBackups { store status errorCode count sizeBytes exampleLfn lastError advice }
    waitingBackups${older} { store reason count sizeBytes exampleLfn lastError nextAttemptAt advice }
    datasets${older} { totalCount nodes { dataset { name } trouble advice } }
    badDatasets { reason incidentNumber datasetCount publishedCount fileCount sizeBytes markedBy exampleDataset } } }`);
  return stuck;
}

const cli = async (...args: string[]) =>
  runProgram(args, {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_TOKEN: await server.tokenOf('cli', 'OPERATOR'),
  });

test('where nothing is stuck, the report is empty', async () => {
  await makeDataset(operator, 'well', 'CLOSED');
  await mutate(operator, 'createDataset', { name: 'young', kind: 'PR' });
  expect(await look(operator)).toEqual({
    storesDown: [],
    sweeps: { totalCount: 0, nodes: [] },
    failedBackups: [],
    waitingBackups: [],
    datasets: { totalCount: 0, nodes: [] },
    badDatasets: [],
  });
  expect(await cli('stuck')).toMatchObject({ code: 0, stdout: 'nothing is stuck\n', stderr: '' });
  expect(await cli('stuck', '--json')).toMatchObject({ code: 0, stdout: '[]\n' });
});

const fileId = (lfn: string) => `(select id from files where lfn = '${lfn}')`;
const store = (name: string) => `(select id from mass_stores where name = '${name}')`;
const old = `now() - interval '3 days'`;

/** A backup that was asked for three days ago, in this condition. */
async function backup(lfn: string, condition: string, of = 'default'): Promise<void> {
  await server.database
    .sql(`insert into backup_records (file_id, store_id, requested_at, next_attempt_at)
    values (${fileId(lfn)}, ${store(of)}, ${old}, ${old})`);
  if (condition !== '') {
    await server.database.sql(
      `update backup_records set ${condition} where file_id = ${fileId(lfn)} and store_id = ${store(of)}`,
    );
  }
}
const failed = (code: string, text: string) =>
  `status = 'FAILED', failure_count = 3, last_error_code = '${code}', last_error = '${text}'`;
const claimed = (lease: string) =>
  `status = 'COPYING', attempt = attempt + 1, worker = 'w1', lease_until = clock_timestamp() + interval '${lease}'`;

async function aged(name: string, files: readonly string[]): Promise<void> {
  await server.database.sql(
    `insert into datasets (name, kind, owner, created_at) values ('${name}', 'PR', 'anna', now() - interval '9 days')`,
  );
  for (const lfn of files) {
    await server.database.sql(
      `insert into dataset_files (dataset_id, file_id) select id, ${fileId(lfn)} from datasets where name = '${name}'`,
    );
  }
}

test('a mess is told in order, with what to do', async () => {
  await server.database.sql(
    `insert into mass_stores (site_id, name, kind, root) select id, 'tape', 'directory', '/nowhere/at/all' from sites`,
  );
  const names = [
    'full1',
    'full2',
    'changed',
    'lost',
    'silent',
    'copying',
    'later',
    'unreadable',
    'direct',
    'due',
    'down',
    'to-tape',
    'late-tape',
    'swept1',
    'swept2',
    'plain',
  ];
  await register(operator, ...(await Promise.all(names.map((name) => newFile(`/mess/${name}`)))));
  await backup('/mess/full1', failed('NO_SPACE', 'the store is full'));
  await backup('/mess/full2', failed('NO_SPACE', 'the store is full: 0 bytes'));
  await backup('/mess/changed', failed('SOURCE_CHANGED', 'size 5'));
  await backup('/mess/silent', claimed('-1 minute'));
  await backup('/mess/copying', claimed('1 hour'));
  for (const [name, since] of [
    ['to-tape', '2 days'],
    ['late-tape', '4 days'],
  ] as const) {
    await backup(`/mess/${name}`, claimed('1 hour'));
    await server.database
      .sql(`update backup_records set status = 'COPIED', answered_attempt = attempt,
      store_key = file_id, copied_at = now(), worker = null, lease_until = null, next_look_at = now(),
      awaits_tape_since = now() - interval '${since}' where file_id = ${fileId(`/mess/${name}`)}`);
  }
  await backup(
    '/mess/later',
    `next_attempt_at = now() + interval '1 hour', failure_count = 2, last_error_code = 'STORE_UNAVAILABLE', last_error = 'EIO'`,
  );
  await backup(
    '/mess/unreadable',
    `failure_count = 1, last_error_code = 'SOURCE_UNREADABLE', last_error = 'ENOENT'`,
  );
  await backup('/mess/direct', `next_attempt_at = now() + interval '30 minutes'`);
  await backup('/mess/due', '');
  await backup('/mess/down', '', 'tape');
  await makeDataset(operator, 'torn', 'BAD');
  await makeDataset(operator, 'torn-too', 'BAD');
  await mutate(operator, 'markDatasetBad', { dataset: 'young', reason: 'nobody knows it' });
  await aged('empty', []);
  await aged('unswept', ['/mess/plain', '/scene/torn/file000.root']);
  await aged('ready', ['/scene/torn/file000.root']);
  await aged('marked', ['/scene/torn/file000.root']);
  await mutate(operator, 'markDatasetBackedUp', { dataset: 'marked' });
  await aged('swept', ['/mess/swept1', '/mess/swept2']);
  await aged('swept-down', ['/mess/plain']);
  await backup('/mess/swept1', failed('NO_SPACE', 'the store is full'));
  for (const [name, of] of [
    ['swept', 'default'],
    ['swept-down', 'tape'],
  ]) {
    await server.database.sql(`begin; update datasets set sealed = true where name = '${name}';
      insert into sweeps (dataset_id, store_id, requested_at, requested_by)
        select id, ${store(of ?? '')}, ${old}, 'olga' from datasets where name = '${name}'; commit`);
  }

  const stuck = await look(operator);
  expect(stuck.storesDown).toEqual([
    { name: 'tape', detail: expect.stringContaining('/nowhere/at/all') },
  ]);
  expect(stuck.sweeps).toMatchObject({
    totalCount: 2,
    nodes: [
      {
        dataset: { name: 'swept' },
        store: 'default',
        requestedBy: 'olga',
        total: 2,
        confirmed: 0,
        failed: 1,
        copying: 0,
        waiting: 1,
        trouble: 'BACKUPS_FAILED',
        lastError: 'the store is full',
      },
      {
        dataset: { name: 'swept-down' },
        store: 'tape',
        failed: 0,
        waiting: 1,
        trouble: 'STORE_DOWN',
        lastError: null,
      },
    ],
  });
  expect(stuck.failedBackups).toMatchObject([
    {
      store: 'default',
      status: 'FAILED',
      errorCode: 'NO_SPACE',
      count: 3,
      sizeBytes: 192,
      exampleLfn: '/mess/full1',
      lastError: 'the store is full',
      advice: expect.stringContaining('Make room'),
    },
    {
      store: 'default',
      errorCode: 'SOURCE_CHANGED',
      count: 1,
      exampleLfn: '/mess/changed',
      lastError: 'size 5',
    },
  ]);
  expect(Object.fromEntries(stuck.waitingBackups.map((row) => [row.reason, row]))).toMatchObject({
    WORKER_SILENT: { count: 1, exampleLfn: '/mess/silent' },
    COPYING: { count: 1, exampleLfn: '/mess/copying' },
    AWAITS_TAPE: { count: 1, exampleLfn: '/mess/to-tape' },
    TAPE_LATE: { count: 1, exampleLfn: '/mess/late-tape' },
    NEXT_ATTEMPT: {
      count: 1,
      exampleLfn: '/mess/later',
      lastError: 'EIO',
      nextAttemptAt: expect.any(String),
    },
    SOURCE_UNREADABLE: {
      count: 1,
      exampleLfn: '/mess/unreadable',
      advice: expect.stringContaining('sweepbook worker'),
    },
    LEFT_TO_PRODUCER: { count: 1, exampleLfn: '/mess/direct' },
    NO_WORKER: { count: 1, exampleLfn: '/mess/due', nextAttemptAt: null },
    STORE_DOWN: { count: 1, exampleLfn: '/mess/down', store: 'tape' },
  });
  expect(stuck.waitingBackups).toHaveLength(9);
  expect(stuck.datasets.nodes.map((row) => [row.dataset.name, row.trouble])).toEqual([
    ['empty', 'EMPTY'],
    ['unswept', 'NOT_BACKED_UP'],
    ['ready', 'READY_TO_MARK'],
    ['marked', 'READY_TO_CLOSE'],
  ]);
  expect(stuck.badDatasets).toEqual([
    {
      reason: 'the tape was wet',
      incidentNumber: null,
      datasetCount: 2,
      publishedCount: 2,
      fileCount: 2,
      sizeBytes: 128,
      markedBy: 'operator',
      exampleDataset: 'torn',
    },
    {
      reason: 'nobody knows it',
      incidentNumber: null,
      datasetCount: 1,
      publishedCount: 0,
      fileCount: 0,
      sizeBytes: 0,
      markedBy: 'operator',
      exampleDataset: 'young',
    },
  ]);

  // With every slot of the store taken, what is due waits for the store.
  await server.database.sql(`update mass_stores set concurrency = 1 where name = 'default'`);
  expect((await look(operator)).waitingBackups.map((row) => row.reason)).toContain('STORE_BUSY');
  await server.database.sql(`update mass_stores set concurrency = 8 where name = 'default'`);
});

test('ages are asked for in seconds, lists in pages', async () => {
  const fresh = await look(operator, '(olderThanSeconds: 345600)');
  expect(fresh.sweeps.totalCount + fresh.waitingBackups.length).toBe(0);
  expect(fresh.datasets.totalCount).toBe(4);
  interface Answer {
    stuck: {
      datasets: { nodes: { dataset: { name: string } }[]; pageInfo: { endCursor: string } };
    };
  }
  const names: string[] = [];
  for (let after: string | null = null; names.length < 4;) {
    const { stuck }: Answer = await operator.call<Answer>(
      'query ($after: String) { stuck { datasets(first: 3, after: $after) { nodes { dataset { name } } pageInfo { endCursor } } } }',
      { after },
    );
    names.push(...stuck.datasets.nodes.map((row) => row.dataset.name));
    after = stuck.datasets.pageInfo.endCursor;
  }
  expect(names).toEqual(['empty', 'unswept', 'ready', 'marked']);
  for (const ask of [
    'sweeps(olderThanSeconds: -1) { totalCount }',
    'failedBackups(first: 201) { count }',
    'waitingBackups(olderThanSeconds: 2147483647) { count }',
  ]) {
    expect(await refusalOf(operator.call(`{ stuck { ${ask} } }`)), ask).toMatchObject({
      code: 'BAD_USER_INPUT',
    });
  }
});

test('producers and operators may look, and nobody else', async () => {
  expect((await look(await server.as('producer', 'PRODUCER'))).sweeps.totalCount).toBe(2);
  for (const role of ['USER', 'DQM', 'IMPORTER']) {
    expect(await refusalOf(look(await server.as(`some-${role}`, role)))).toMatchObject({
      code: 'FORBIDDEN',
    });
  }
  expect(await refusalOf(look(server.anonymous))).toMatchObject({ code: 'UNAUTHENTICATED' });
});

test('the report on the command line: readable, as JSON lines, and 3 as exit code', async () => {
  const end = await cli('stuck');
  expect(end).toMatchObject({ code: 3, stderr: '' });
  expect(end.stdout).toMatch(
    /^1 mass store down\n {2}tape: .*\n2 sweeps under way for long\n {2}swept: 0 of 2 confirmed in default, 1 failed, 0 copying, 1 waiting; asked for 3 d ago by olga\n {4}last error: the store is full\n {4}→ Mend/,
  );
  expect(end.stdout).toContain('  3 FAILED NO_SPACE in default, 192 B, ');
  expect(end.stdout).toContain(
    '4 datasets not closed for long\n  empty (anna): OPEN for 9 d, 0 of 0 files backed up: EMPTY\n',
  );
  const kinds = (await cli('stuck', '--json')).stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { kind: string }).kind);
  expect(new Set(kinds)).toEqual(
    new Set([
      'STORE_DOWN',
      'SWEEP',
      'FAILED_BACKUPS',
      'WAITING_BACKUPS',
      'DATASET',
      'BAD_DATASETS',
    ]),
  );
  const older = await cli('stuck', '--older-than', '2w');
  expect(older.code).toBe(3);
  expect(older.stdout).not.toContain('not closed for long');
  expect(await cli('stuck', '--older-than', 'soon')).toMatchObject({ code: 2 });
});

test('totals on the command line', async () => {
  const end = await cli('totals', '--by', 'site,status', '--kind', 'MERGED_FILE');
  expect(end.code).toBe(0);
  expect(end.stdout).toMatch(
    /^SITE +STATUS +FILES +EVENTS +GB\nlocal +BACKED_UP +2 +20 +0\.000\nlocal +PUBLISHED +1 +10 +0\.000\nlocal +REGISTERED +16 +160 +0\.000\ntotal +- +19 +190 +0\.000\n$/,
  );
  const [line] = (await cli('totals', '--by', 'store', '--json')).stdout.trim().split('\n');
  expect(JSON.parse(line ?? '')).toMatchObject({ store: 'default', fileCount: 3 });
  expect(await cli('totals', '--by', 'colour')).toMatchObject({ code: 2 });
});
