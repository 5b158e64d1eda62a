import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { backUp, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import {
  incident,
  isSeen,
  placedFile,
  report,
  safeDataset,
  tableFields,
  untilStatus,
  waivedDataset,
} from './scene.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.close());

const replicaStatus = async (lfn: string) => {
  const data = await server.operator.call<{
    file: { replicas: { path: string; status: string }[] };
  }>('query ($lfn: String!) { file(lfn: $lfn) { replicas { path status } } }', { lfn });
  return data.file.replicas.map((replica) => replica.status);
};

test('a crashed volume: each copy is what it is, and who lost a file is marked', async () => {
  const { operator } = server;
  const lost = await placedFile(server, 'd1', 'd1/lost');
  const kept = await placedFile(server, 'd1', 'd1/kept');
  const twice = await placedFile(server, 'd1', 'd1/twice');
  await placedFile(server, 'd2', 'd1/other');
  const safe = await placedFile(server, 'd1', 'd1/safe');
  // The same file on another disk.
  const second = {
    ...twice,
    description: { ...twice.description, path: `${twice.path}.2`, volume: 'd2' },
  };
  await mutate(operator, 'registerFiles', { files: [second.description] }, 'existingCount');
  await waivedDataset(operator, 'd1-waived', [lost, kept, twice], { owner: 'anna' });
  await waivedDataset(operator, 'd1-untouched', [twice]);
  await backUp(operator, kept);
  await safeDataset(operator, 'd1-safe', [safe]);

  const preview = await report(operator, { volume: 'd1' }, true);
  expect(await isSeen(server, 'd1-waived')).toBe(true);
  const done = await report(operator, { volume: 'd1' });
  expect({ ...done, incident: null, changed: false }).toEqual(preview);
  expect(done).toMatchObject({
    changed: true,
    itemCount: 4,
    safeCount: 1,
    recoverableCount: 2,
    lostCount: 1,
    datasetCount: 3,
    markedDatasetCount: 1,
    owners: [
      { owner: 'anna', datasetCount: 1, markedCount: 1, lostCount: 1 },
      { owner: 'operator' },
    ],
  });
  expect(done.items[0]).toMatchObject({
    finding: 'LOST',
    lfn: lost.lfn,
    place: 'd1',
    path: lost.path,
  });
  expect(done.datasets[0]).toMatchObject({
    name: 'd1-waived',
    isMarked: true,
    lostCount: 1,
    hitCount: 3,
  });
  expect(await replicaStatus(lost.lfn)).toEqual(['LOST']);
  expect(await replicaStatus(twice.lfn)).toEqual(['LOST', 'AVAILABLE']);
  expect(await isSeen(server, 'd1-untouched')).toBe(true);
  expect(await isSeen(server, 'd1-safe')).toBe(true);

  // Who asks by name learns why, and how many files.
  const number = done.incident?.number;
  const refusal = await refusalOf(server.anonymous.call('{ dataset(name: "d1-waived") { name } }'));
  expect(refusal.code).toBe('DATASET_BAD');
  expect(refusal.message).toContain(
    `incident ${number}: 1 of 3 files lost: the disk server is down`,
  );
  expect(refusal.facts).toMatchObject({ incident: number, lostFileCount: 1, fileCount: 3 });
  expect(await checkInvariants(server.database.url)).toEqual([]);
});

test('what a crash marked is one line for operators, whatever each dataset lost', async () => {
  const { operator } = server;
  const files = await Promise.all(['a', 'b', 'c'].map((name) => placedFile(server, 'torn', name)));
  await waivedDataset(operator, 'torn-one', files.slice(0, 1));
  await waivedDataset(operator, 'torn-two', files);
  const done = await report(operator, { volume: 'torn', reason: 'the head fell down' });
  await mutate(operator, 'markDatasetBad', { dataset: 'torn-one', reason: 'the head fell down' });
  const { stuck } = await operator.call<{ stuck: { badDatasets: { reason: string }[] } }>(
    '{ stuck { badDatasets { reason incidentNumber datasetCount publishedCount fileCount exampleDataset } } }',
  );
  const group = { reason: 'the head fell down', exampleDataset: 'torn-one' };
  expect(stuck.badDatasets.filter((row) => row.reason === group.reason)).toEqual([
    {
      ...group,
      incidentNumber: done.incident?.number,
      datasetCount: 2,
      publishedCount: 2,
      fileCount: 4,
    },
    { ...group, incidentNumber: null, datasetCount: 1, publishedCount: 1, fileCount: 1 },
  ]);

  // What somebody said stands when the incident is gone.
  const undo = { incident: done.incident?.number, reason: 'a wrong disk' };
  await mutate(operator, 'undoIncident', undo);
  expect(await isSeen(server, 'torn-two')).toBe(true);
  expect(await isSeen(server, 'torn-one')).toBe(false);
});

test('the same report twice has no second effect', async () => {
  const { operator } = server;
  const file = await placedFile(server, 'twice', 'twice/a');
  await waivedDataset(operator, 'twice', [file]);
  const first = await report(operator, { volume: 'twice' });
  const eventCount = async () =>
    (await server.database.sql<{ n: string }>('select count(*) as n from events'))[0]?.n;
  const before = await eventCount();
  const second = await report(operator, { volume: 'twice' });
  expect(second).toMatchObject({
    changed: false,
    itemCount: 0,
    alreadyLostCount: 1,
    incident: { number: first.incident?.number },
  });
  expect(await eventCount()).toBe(before);
  const both = await Promise.all([0, 1].map(() => report(operator, { volume: 'twice' })));
  expect(both.map((answer) => answer.changed)).toEqual([false, false]);

  const again = await placedFile(server, 'twice', 'twice/b');
  const input = { volume: 'twice', idempotencyKey: 'the night of the crash' };
  const keyed = await report(operator, input);
  expect(keyed).toMatchObject({ changed: true, itemCount: 1, items: [{ lfn: again.lfn }] });
  expect(await report(operator, input)).toEqual(keyed);
});

test('overlapping incidents: bad until both are gone', async () => {
  const { operator } = server;
  const left = await placedFile(server, 'left', 'overlap/left');
  const right = await placedFile(server, 'right', 'overlap/right');
  await waivedDataset(operator, 'overlap', [left, right]);
  const first = await report(operator, { volume: 'left' });
  const second = await report(operator, { volume: 'right' });
  const marks = await server.database.sql(
    `select from bad_marks where cleared_at is null and dataset_id = (select id from datasets where name = 'overlap')`,
  );
  expect(marks).toHaveLength(2);
  await mutate(operator, 'undoIncident', {
    incident: first.incident?.number,
    reason: 'a wrong disk',
  });
  expect(await isSeen(server, 'overlap')).toBe(false);
  await mutate(operator, 'recoverIncident', { incident: second.incident?.number });
  await untilStatus(operator, second.incident?.number ?? 0, 'CLOSED');
  expect(await isSeen(server, 'overlap')).toBe(true);
});

test('undo sets back exactly, and keeps the history', async () => {
  const { operator, database } = server;
  const files = await Promise.all([1, 2, 3].map((at) => placedFile(server, 'wrong', `undo/${at}`)));
  await waivedDataset(operator, 'undo', files);
  const before = await database.sql('select id, status, incident_id from replicas order by id');
  const { incident: made } = await report(operator, { volume: 'wrong' });
  expect(await isSeen(server, 'undo')).toBe(false);
  const undone = await mutate<{ changed: boolean; incident: object }>(
    operator,
    'undoIncident',
    { incident: made?.number, reason: 'it was another disk' },
    'changed incident { status openCount stillLostCount hiddenDatasetCount closingReason history { nodes { toState reason } } }',
  );
  expect(undone).toMatchObject({
    changed: true,
    incident: {
      status: 'UNDONE',
      openCount: 0,
      stillLostCount: 0,
      hiddenDatasetCount: 0,
      closingReason: 'it was another disk',
    },
  });
  expect(await database.sql('select id, status, incident_id from replicas order by id')).toEqual(
    before,
  );
  expect(await isSeen(server, 'undo')).toBe(true);
  const cleared = await database.sql(
    `select cleared_reason from bad_marks where dataset_id = (select id from datasets where name = 'undo')`,
  );
  expect(cleared).toEqual([
    { cleared_reason: `incident ${made?.number} was undone: it was another disk` },
  ]);
  expect(
    await mutate(operator, 'undoIncident', { incident: made?.number, reason: 'again' }),
  ).toEqual({ changed: false });
  const refusal = await refusalOf(mutate(operator, 'recoverIncident', { incident: made?.number }));
  expect(refusal.code).toBe('ILLEGAL_TRANSITION');
  // The right one is reported as if nothing had been.
  expect((await report(operator, { volume: 'wrong' })).changed).toBe(true);
});

test('paths, LFNs and beginnings of paths; what nobody knows is told', async () => {
  const { operator } = server;
  const a = await placedFile(server, 'p1', 'p/a');
  const b = await placedFile(server, 'p1', 'p/b');
  const byPath = await report(operator, { paths: [a.path, '/no/such'] }, true);
  expect(byPath).toMatchObject({ itemCount: 1, unknownCount: 1, unknown: ['/no/such'] });
  const byLfn = await report(operator, { lfns: [b.lfn, '/no/such'] }, true);
  expect(byLfn).toMatchObject({ itemCount: 1, unknownCount: 1, unknown: ['/no/such'] });
  const prefix = { site: 'local', pathPrefix: `${server.folder}/p1/p` };
  expect(await report(operator, prefix, true)).toMatchObject({ itemCount: 2 });
  const later = { ...prefix, since: '2999-01-01T00:00:00Z', until: '2999-01-02T00:00:00Z' };
  expect(await report(operator, later, true)).toMatchObject({ itemCount: 0 });
  const codes = await Promise.all(
    [
      { volume: 'nonsense' },
      { site: 'local', pathPrefix: '/nonsense' },
      { site: 'nowhere', pathPrefix: '/x' },
      { massStore: 'nonsense' },
      { volume: 'p1', lfns: ['/x'] },
      {},
      { site: 'local' },
      { paths: [] },
      { volume: 'p1', since: '2026-01-02T00:00:00Z', until: '2026-01-01T00:00:00Z' },
      { volume: 'p1', reason: ' ' },
    ].map(async (scope) => (await refusalOf(report(operator, scope, true))).code),
  );
  expect(codes).toEqual([
    ...Array<string>(4).fill('NOT_FOUND'),
    ...Array<string>(6).fill('BAD_USER_INPUT'),
  ]);
});

test('derived data is told over all generations, and marked only when it is lost itself', async () => {
  const { operator } = server;
  await mutate(operator, 'registerRuns', { runs: [{ number: 71 }] }, 'registeredCount');
  const runFile = (name: string, volume: string) =>
    placedFile(server, volume, `derived/${name}`, {
      kind: 'RUN_FILE',
      stream: 'A',
      runs: [{ number: 71 }],
    });
  const inputs = [await runFile('run1', 'raw'), await runFile('run2', 'other')];
  const output = await newFile('/incident/derived/merged', { runs: undefined, eventCount: 20 });
  await mutate(operator, 'recordMerge', {
    output: output.description,
    inputs: inputs.map((file) => file.lfn),
  });
  // A skim of the merged file, and a skim of that, on the disk that crashes.
  const skim = await newFile('/incident/derived/skim', { parents: [output.lfn] });
  await register(operator, skim);
  const fine = await placedFile(server, 'raw', 'derived/fine', { parents: [skim.lfn] });
  await safeDataset(operator, 'derived', [skim], [output]);
  await waivedDataset(operator, 'derived-lost', [fine, skim]);
  const hit = await report(operator, { volume: 'raw' });
  expect(hit).toMatchObject({
    lostCount: 2,
    markedDatasetCount: 1,
    derivedCount: 3,
    derived: [
      { lfn: output.lfn, generation: 1, lostInputCount: 1, inputCount: 2, isLost: false },
      { lfn: skim.lfn, generation: 2, lostInputCount: 0, inputCount: 1, isLost: false },
      { lfn: fine.lfn, generation: 3, lostInputCount: 0, inputCount: 1, isLost: true },
    ],
    derivedDatasetCount: 2,
    derivedDatasets: [
      { name: 'derived-lost', fileCount: 2, derivedCount: 2, isMarked: true },
      { name: 'derived', fileCount: 1, derivedCount: 1, isMarked: false },
    ],
    lostRuns: [{ source: 'DATA', numbers: '71' }],
  });
  expect(hit.derived[1]?.datasets).toEqual(['derived', 'derived-lost']);
  expect(await isSeen(server, 'derived')).toBe(true);
  expect(await isSeen(server, 'derived-lost')).toBe(false);
});

test('a lost store: what a disk holds stays visible and is asked for again at once; what nothing holds is marked', async () => {
  const { operator, database, folder } = server;
  const onDisk = await placedFile(server, 't1', 'tape/disk');
  const gone = await newFile('/incident/tape/gone');
  await register(operator, gone);
  await safeDataset(operator, 'tape-disk', [onDisk]);
  await safeDataset(operator, 'tape-gone', [gone]);
  for (const lfn of [onDisk.lfn, gone.lfn]) rmSync(`${folder}/home/store${lfn}`);
  const scope = { massStore: 'default', lfns: [onDisk.lfn, gone.lfn] };
  const preview = await report(operator, scope, true);
  const done = await report(operator, scope);
  expect(await isSeen(server, 'tape-disk')).toBe(true);
  expect(await isSeen(server, 'tape-gone')).toBe(false);
  expect({ ...done, incident: null, changed: false }).toEqual(preview);
  expect(done).toMatchObject({ recoverableCount: 1, lostCount: 1, markedDatasetCount: 1 });
  expect(done.items.map((item) => item.lfn)).toEqual([gone.lfn, onDisk.lfn]);
  expect(done.datasets).toMatchObject([
    { name: 'tape-gone', lostCount: 1, isMarked: true },
    { name: 'tape-disk', lostCount: 0, unbackedCount: 1, isMarked: false },
  ]);
  const number = done.incident?.number ?? 0;
  await until('it is backed up again', async () => {
    const found = await incident(operator, number);
    return found.restoredCount === 1;
  });
  const steps = await database.sql<{ to_state: string }>(
    `select to_state from events where kind = 'BACKUP_STATUS' and incident_id is null
      and file_id = (select id from files where lfn = $1) order by id`,
    [onDisk.lfn],
  );
  expect(steps.map((step) => step.to_state).slice(-5)).toEqual([
    'LOST',
    'REQUESTED',
    'COPYING',
    'COPIED',
    'CONFIRMED',
  ]);
  const marks = await database.sql(
    `select from bad_marks where dataset_id = (select id from datasets where name = 'tape-disk')`,
  );
  expect(marks).toEqual([]);
  expect(await incident(operator, number)).toMatchObject({ status: 'OPEN', openCount: 1 });
  const refusal = await refusalOf(
    mutate(operator, 'undoIncident', { incident: number, reason: 'not so' }),
  );
  expect(refusal.code).toBe('ILLEGAL_TRANSITION');
  await mutate(operator, 'resolveIncident', { incident: number, reason: 'nothing more to find' });
  expect(await isSeen(server, 'tape-gone')).toBe(false);
  const kept = await refusalOf(
    mutate(operator, 'clearDatasetBad', { dataset: 'tape-gone', reason: 'who cares' }),
  );
  expect(kept.code).toBe('DATASET_BAD');
  // It is found in a drawer: told, read, confirmed, seen. Workers, who ask again and again, may be at it just then.
  await until('it is told', () =>
    backUp(operator, gone).then(
      () => true,
      (error: unknown) => {
        if (String(error).includes('right now')) return false;
        throw error;
      },
    ),
  );
  expect(await isSeen(server, 'tape-gone')).toBe(true);
  expect(await checkInvariants(database.url)).toEqual([]);
});

test('containers that list what is hit, and the owners, are told', async () => {
  const { operator } = server;
  const [lost, kept] = [
    await placedFile(server, 'c1', 'c/lost'),
    await placedFile(server, 'c1', 'c/kept'),
  ];
  await backUp(operator, kept);
  await waivedDataset(operator, 'c-lost', [lost, kept], { owner: 'anna' });
  await waivedDataset(operator, 'c-kept', [kept], { owner: 'bert' });
  for (const [name, datasets] of [
    ['C-Both', ['c-lost', 'c-kept']],
    ['C-Kept', ['c-kept']],
    ['C-Other', ['d1-untouched']],
  ] as const) {
    await mutate(operator, 'createContainer', { name, datasets, reason: 'test' });
  }
  const preview = await report(operator, { volume: 'c1' }, true);
  const done = await report(operator, { volume: 'c1' });
  // Suspended by now, and told all the same.
  expect({ ...done, incident: null, changed: false }).toEqual(preview);
  expect(done).toMatchObject({
    containerCount: 2,
    containers: [
      { name: 'C-Both', owner: 'operator', datasetCount: 2, markedCount: 1, lostCount: 1 },
      { name: 'C-Kept', owner: 'operator', datasetCount: 1, markedCount: 0, lostCount: 0 },
    ],
    ownerCount: 2,
    owners: [
      { owner: 'anna', datasetCount: 1, markedCount: 1, lostCount: 1 },
      { owner: 'bert', datasetCount: 1, markedCount: 0, lostCount: 0 },
    ],
  });
  const page = await operator.call<{ incident: { table: object } }>(
    `query ($id: ID!) { incident(id: $id) { table { ${tableFields} } } }`,
    { id: String(done.incident?.number) },
  );
  expect(done).toMatchObject(page.incident.table);
});
