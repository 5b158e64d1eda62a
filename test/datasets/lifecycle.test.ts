import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import {
  allTold,
  backUp,
  makeDataset,
  mutate,
  newFile,
  refusalOf,
  register,
} from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let operator: TestClient;
beforeAll(async () => {
  // The only copies are those that the tests make.
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
});
afterAll(() => server.close());

const things = 'changed changedCount dataset { status sealed version fileCount confirmedCount }';
interface Answer {
  changed: boolean;
  changedCount: number;
  dataset: {
    status: string;
    sealed: boolean;
    version: number;
    fileCount: number;
    confirmedCount: number;
  };
}
const step = (field: string, dataset: string, more: object = {}) =>
  mutate<Answer>(operator, field, { dataset, ...more }, things);

async function statusEvents(name: string): Promise<string[]> {
  await allTold(server.database);
  const { dataset } = await operator.call<{
    dataset: {
      history: {
        nodes: {
          kind: string;
          fromState: string | null;
          toState: string | null;
          actor: string;
          reason: string | null;
        }[];
      };
    };
  }>(
    'query ($name: String!) { dataset(name: $name) { history(first: 200) { nodes { kind fromState toState actor reason } } } }',
    { name },
  );
  return dataset.history.nodes
    .filter((event) => event.kind !== 'DATASET_FILES_ADDED')
    .map(({ kind, fromState, toState, reason }) =>
      kind === 'DATASET_STATUS'
        ? `${fromState ?? ''}>${toState}${reason ? ` (${reason})` : ''}`
        : `${kind}${reason ? ` (${reason})` : ''}`,
    );
}

test('a dataset goes from OPEN to BACKED_UP to CLOSED, and each step again changes nothing', async () => {
  const files = await makeDataset(operator, 'life', 'OPEN', { fileCount: 3 });
  await backUp(operator, ...files);
  const backedUp = await step('markDatasetBackedUp', 'life', { reason: 'all safe' });
  expect(backedUp).toMatchObject({
    changed: true,
    changedCount: 1,
    dataset: { status: 'BACKED_UP', fileCount: 3, confirmedCount: 3 },
  });
  const again = { changed: false, changedCount: 0, dataset: backedUp.dataset };
  expect(await step('markDatasetBackedUp', 'life')).toEqual(again);
  const closed = await step('closeDataset', 'life');
  expect(closed).toMatchObject({ changed: true, dataset: { status: 'CLOSED' } });
  for (const field of ['markDatasetBackedUp', 'closeDataset', 'sweepDataset']) {
    expect(await step(field, 'life')).toEqual({
      changed: false,
      changedCount: 0,
      dataset: closed.dataset,
    });
  }
  expect(await statusEvents('life')).toEqual([
    '>OPEN',
    'OPEN>BACKED_UP (all safe)',
    'BACKED_UP>CLOSED',
  ]);
});

test('what is not a step of its life is refused with where it is, where it was to go and what is allowed', async () => {
  await makeDataset(operator, 'no-open', 'OPEN');
  expect(await refusalOf(step('closeDataset', 'no-open'))).toMatchObject({
    code: 'ILLEGAL_TRANSITION',
    message:
      'dataset no-open is OPEN and cannot become CLOSED: mark it backed up first, or sweep it',
    facts: { dataset: 'no-open', from: 'OPEN', to: 'CLOSED', allowed: ['BACKED_UP', 'CLOSED'] },
  });
  const [file] = await makeDataset(operator, 'no-backed-up', 'BACKED_UP');
  for (const field of ['addFilesToDataset', 'removeFilesFromDataset']) {
    expect(await refusalOf(step(field, 'no-backed-up', { lfns: [file?.lfn] }))).toMatchObject({
      code: 'ILLEGAL_TRANSITION',
      message: expect.stringContaining('reopen it'),
      facts: { from: 'BACKED_UP', allowed: ['OPEN', 'CLOSED'] },
    });
  }
  const [closedFile] = await makeDataset(operator, 'no-closed', 'CLOSED');
  expect(await refusalOf(step('reopenDataset', 'no-closed', { reason: 'please' }))).toMatchObject({
    code: 'ILLEGAL_TRANSITION',
    facts: { dataset: 'no-closed', from: 'CLOSED', to: 'OPEN', allowed: [] },
  });
  for (const field of ['addFilesToDataset', 'removeFilesFromDataset']) {
    expect(await refusalOf(step(field, 'no-closed', { lfns: [closedFile?.lfn] }))).toMatchObject({
      code: 'ILLEGAL_TRANSITION',
      message: expect.stringContaining('make a new dataset'),
      facts: { from: 'CLOSED', allowed: [] },
    });
  }
  expect(await statusEvents('no-closed')).toHaveLength(3);
});

test('files without a backup are counted, and the first 20 named', async () => {
  const files = await makeDataset(operator, 'unsafe', 'OPEN', { fileCount: 23 });
  await backUp(operator, ...files.slice(0, 1));
  const refusal = await refusalOf(step('markDatasetBackedUp', 'unsafe'));
  expect(refusal).toMatchObject({
    code: 'FILES_NOT_BACKED_UP',
    message: expect.stringContaining('22 of 23 files of unsafe'),
    facts: {
      dataset: 'unsafe',
      missing: 22,
      fileCount: 23,
      first: files.slice(1, 21).map((file) => file.lfn),
    },
  });
});

test('an empty dataset goes nowhere', async () => {
  await mutate(operator, 'createDataset', { name: 'empty', kind: 'SKIM' });
  for (const field of ['markDatasetBackedUp', 'sweepDataset']) {
    expect(await refusalOf(step(field, 'empty'))).toMatchObject({
      code: 'DATASET_EMPTY',
      facts: { dataset: 'empty' },
    });
  }
  await mutate(operator, 'createDataset', {
    name: 'empty-waived',
    kind: 'SKIM',
    backupWaived: true,
    waiverReason: 'scratch',
  });
  for (const field of ['closeDataset', 'sweepDataset']) {
    expect(await refusalOf(step(field, 'empty-waived'))).toMatchObject({ code: 'DATASET_EMPTY' });
  }
});

test('a version that is not the present one stops every change of state', async () => {
  const [file] = await makeDataset(operator, 'stale', 'OPEN');
  await backUp(operator, ...(file ? [file] : []));
  const { dataset } = await operator.call<{ dataset: { version: number } }>(
    '{ dataset(name: "stale") { version } }',
  );
  const expectedVersion = dataset.version - 1;
  const stale = {
    code: 'STALE_VERSION',
    facts: { dataset: 'stale', version: dataset.version, expectedVersion },
  };
  expect(await refusalOf(step('markDatasetBackedUp', 'stale', { expectedVersion }))).toMatchObject(
    stale,
  );
  expect(await refusalOf(step('sweepDataset', 'stale', { expectedVersion }))).toMatchObject(stale);
  expect(
    await refusalOf(step('addFilesToDataset', 'stale', { lfns: [file?.lfn], expectedVersion })),
  ).toMatchObject(stale);
  expect(
    await refusalOf(
      step('removeFilesFromDataset', 'stale', { lfns: [file?.lfn], expectedVersion }),
    ),
  ).toMatchObject(stale);
  expect(
    await refusalOf(step('markDatasetBad', 'stale', { reason: 'x', expectedVersion })),
  ).toMatchObject(stale);
  const moved = await step('markDatasetBackedUp', 'stale', { expectedVersion: dataset.version });
  expect(moved.dataset.version).toBe(dataset.version + 1);
  const old = { code: 'STALE_VERSION', facts: { version: moved.dataset.version } };
  expect(
    await refusalOf(step('closeDataset', 'stale', { expectedVersion: dataset.version })),
  ).toMatchObject(old);
  expect(
    await refusalOf(
      step('reopenDataset', 'stale', { reason: 'x', expectedVersion: dataset.version }),
    ),
  ).toMatchObject(old);
  expect(
    await step('closeDataset', 'stale', { expectedVersion: moved.dataset.version }),
  ).toMatchObject({ changed: true });
});

test('reopening needs a reason, which stays in the history', async () => {
  await makeDataset(operator, 'reopened', 'BACKED_UP');
  for (const reason of [undefined, '', '   ', 'x'.repeat(2001)]) {
    const refusal = await refusalOf(step('reopenDataset', 'reopened', { reason }));
    expect(refusal).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field: 'reason' } });
  }
  expect(await step('reopenDataset', 'reopened', { reason: ' a file is missing ' })).toMatchObject({
    changed: true,
    dataset: { status: 'OPEN', sealed: false },
  });
  expect(await step('reopenDataset', 'reopened')).toMatchObject({ changed: false });
  expect(await statusEvents('reopened')).toEqual([
    '>OPEN',
    'OPEN>BACKED_UP',
    'BACKED_UP>OPEN (a file is missing)',
  ]);
  expect(await step('sweepDataset', 'reopened')).toMatchObject({
    changed: true,
    dataset: { status: 'CLOSED' },
  });
});

test('while a sweep runs no file comes or goes; reopening calls it off', async () => {
  const files = await makeDataset(operator, 'swept', 'OPEN', { fileCount: 2 });
  const spare = await newFile('/scene/swept/spare.root');
  await register(operator, spare);
  expect(await step('sweepDataset', 'swept')).toMatchObject({
    changed: true,
    changedCount: 2,
    dataset: { status: 'OPEN', sealed: true },
  });
  expect(await step('sweepDataset', 'swept')).toMatchObject({
    changed: false,
    dataset: { sealed: true },
  });
  for (const [field, lfn] of [
    ['addFilesToDataset', spare.lfn],
    ['removeFilesFromDataset', files[0]?.lfn],
  ] as const) {
    expect(await refusalOf(step(field, 'swept', { lfns: [lfn] }))).toMatchObject({
      code: 'DATASET_SEALED',
      message: expect.stringContaining('reopen it to call the sweep off'),
      facts: { dataset: 'swept' },
    });
  }
  expect(await refusalOf(step('reopenDataset', 'swept'))).toMatchObject({ code: 'BAD_USER_INPUT' });
  expect(await step('reopenDataset', 'swept', { reason: 'forgot one' })).toMatchObject({
    changed: true,
    dataset: { status: 'OPEN', sealed: false },
  });
  const sweep = 'query { dataset(name: "swept") { sweep { isRunning finishedAt total } } }';
  expect(await operator.call(sweep)).toMatchObject({
    dataset: { sweep: { isRunning: false, finishedAt: expect.any(String), total: 2 } },
  });
  expect(await step('addFilesToDataset', 'swept', { lfns: [spare.lfn] })).toMatchObject({
    changed: true,
    changedCount: 1,
  });
  await step('sweepDataset', 'swept', { reason: 'now all' });
  await backUp(operator, ...files, spare);
  expect(
    await operator.call('{ dataset(name: "swept") { status sealed fileCount isAvailable } }'),
  ).toEqual({
    dataset: { status: 'CLOSED', sealed: false, fileCount: 3, isAvailable: true },
  });
  expect(await statusEvents('swept')).toEqual([
    '>OPEN',
    'DATASET_SEALED',
    'DATASET_UNSEALED (forgot one)',
    'DATASET_SEALED (now all)',
    'OPEN>BACKED_UP (sweep)',
    'BACKED_UP>CLOSED (sweep)',
  ]);
});

test('a sealed dataset whose files are all safe is closed by its sweep and by nobody else', async () => {
  const files = await makeDataset(operator, 'sealed', 'OPEN', { fileCount: 1 });
  await step('sweepDataset', 'sealed');
  expect(await refusalOf(step('closeDataset', 'sealed'))).toMatchObject({
    code: 'ILLEGAL_TRANSITION',
  });
  expect(await refusalOf(step('markDatasetBackedUp', 'sealed'))).toMatchObject({
    code: 'FILES_NOT_BACKED_UP',
  });
  await backUp(operator, ...files);
  expect(await operator.call('{ dataset(name: "sealed") { status } }')).toEqual({
    dataset: { status: 'CLOSED' },
  });
});

test('a waived backup takes an admin and a reason, closes from OPEN, and says so', async () => {
  const file = await newFile('/scene/waived.root');
  await register(operator, file);
  const create = (more: object) =>
    mutate(operator, 'createDataset', { name: 'waived', kind: 'USER', files: [file.lfn], ...more });
  expect(await refusalOf(create({ backupWaived: true }))).toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'reason' },
  });
  expect(await refusalOf(create({ waiverReason: 'scratch' }))).toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'waiverReason' },
  });
  const other = await server.as('plain-operator', 'OPERATOR');
  const refused = mutate(other, 'createDataset', {
    name: 'waived',
    kind: 'USER',
    backupWaived: true,
    waiverReason: 'scratch',
  });
  expect(await refusalOf(refused)).toMatchObject({ code: 'FORBIDDEN' });
  expect(await create({ backupWaived: true, waiverReason: 'made again in an hour' })).toEqual({
    changed: true,
  });
  expect(await step('closeDataset', 'waived')).toMatchObject({
    changed: true,
    dataset: { status: 'CLOSED', confirmedCount: 0 },
  });
  expect(
    await server.anonymous.call(
      '{ dataset(name: "waived") { backupWaived waiverReason isAvailable backedUpAt } }',
    ),
  ).toEqual({
    dataset: {
      backupWaived: true,
      waiverReason: 'made again in an hour',
      isAvailable: true,
      backedUpAt: null,
    },
  });
});

test('a bad mark is set and cleared once, with reasons, and stops nothing else', async () => {
  const files = await makeDataset(operator, 'marked', 'OPEN');
  for (const reason of ['', '  ']) {
    expect(await refusalOf(step('markDatasetBad', 'marked', { reason }))).toMatchObject({
      code: 'BAD_USER_INPUT',
    });
  }
  expect(await step('markDatasetBad', 'marked', { reason: 'noise' })).toMatchObject({
    changed: true,
  });
  expect(await step('markDatasetBad', 'marked', { reason: 'other' })).toMatchObject({
    changed: false,
  });
  await backUp(operator, ...files);
  expect(await step('markDatasetBackedUp', 'marked')).toMatchObject({ changed: true });
  expect(await step('closeDataset', 'marked')).toMatchObject({
    changed: true,
    dataset: { status: 'CLOSED' },
  });
  expect(await server.anonymous.raw('{ dataset(name: "marked") { name } }')).toMatchObject({
    errors: [{ extensions: { code: 'DATASET_BAD', facts: { reason: 'noise' } } }],
  });
  expect(await step('clearDatasetBad', 'marked', { reason: 'fixed' })).toMatchObject({
    changed: true,
    changedCount: 1,
  });
  expect(await step('clearDatasetBad', 'marked', { reason: 'fixed' })).toMatchObject({
    changed: false,
  });
  expect((await statusEvents('marked')).filter((line) => line.includes('('))).toEqual([
    'DATASET_MARKED_BAD (noise)',
    'DATASET_CLEARED (fixed)',
  ]);
});

test('files come and go all or none, and only merged ones', async () => {
  await mutate(operator, 'registerRuns', { runs: [{ number: 501 }] }, 'registeredCount');
  const merged = await newFile('/scene/mixed/a.root');
  const runFile = await newFile('/scene/mixed/run.root', {
    kind: 'RUN_FILE',
    stream: 'A',
    runs: [{ number: 501 }],
  });
  await register(operator, merged, runFile);
  await mutate(operator, 'createDataset', { name: 'mixed', kind: 'PR' });
  expect(
    await refusalOf(step('addFilesToDataset', 'mixed', { lfns: [merged.lfn, runFile.lfn] })),
  ).toMatchObject({
    code: 'NOT_MERGED',
    message: expect.stringContaining(runFile.lfn),
    facts: { count: 1, first: [runFile.lfn] },
  });
  expect(
    await refusalOf(step('addFilesToDataset', 'mixed', { lfns: [merged.lfn, '/not/there'] })),
  ).toMatchObject({
    code: 'NOT_FOUND',
    facts: { count: 1, first: ['/not/there'] },
  });
  const many = Array.from({ length: 10_001 }, (_, at) => `/many/${at}`);
  for (const field of ['addFilesToDataset', 'removeFilesFromDataset']) {
    expect(await refusalOf(step(field, 'mixed', { lfns: many }))).toMatchObject({
      code: 'BAD_USER_INPUT',
      facts: { field: 'lfns' },
    });
  }
  const nothing = { changed: false, changedCount: 0 };
  expect(await step('addFilesToDataset', 'mixed', { lfns: [] })).toMatchObject({
    ...nothing,
    dataset: { fileCount: 0 },
  });
  expect(
    await step('addFilesToDataset', 'mixed', { lfns: [merged.lfn, merged.lfn] }),
  ).toMatchObject({ changed: true, changedCount: 1 });
  expect(await step('addFilesToDataset', 'mixed', { lfns: [merged.lfn] })).toMatchObject(nothing);
  expect(await step('removeFilesFromDataset', 'mixed', { lfns: [merged.lfn] })).toMatchObject({
    changed: true,
    changedCount: 1,
  });
  expect(await step('removeFilesFromDataset', 'mixed', { lfns: [merged.lfn] })).toMatchObject({
    ...nothing,
    dataset: { fileCount: 0 },
  });
});

test('a dataset gets a name that fits everywhere, and only once', async () => {
  for (const name of ['', ' x', '-rf', '../x', 'a b', 'a\nb', 'ä', 'x'.repeat(201), 'a\0b', '.']) {
    const refusal = await refusalOf(mutate(operator, 'createDataset', { name, kind: 'PR' }));
    expect({ name, code: refusal.code, field: refusal.facts['field'] }).toEqual({
      name,
      code: 'BAD_USER_INPUT',
      field: 'name',
    });
  }
  await mutate(operator, 'createDataset', { name: 'PR/Run6:v1+x=y@z', kind: 'PR' });
  const again = await refusalOf(
    mutate(operator, 'createDataset', { name: 'PR/Run6:v1+x=y@z', kind: 'SP' }),
  );
  expect(again).toMatchObject({ code: 'DUPLICATE', facts: { dataset: 'PR/Run6:v1+x=y@z' } });
  const { dataset } = await operator.call<{ dataset: { exportUrl: string } }>(
    '{ dataset(name: "PR/Run6:v1+x=y@z") { exportUrl(format: TXT) } }',
  );
  expect((await operator.get(dataset.exportUrl)).status).toBe(200);
});
