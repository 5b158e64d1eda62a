import { chmodSync, mkdirSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { DirectoryStore } from '../../src/storage/directory.ts';
import type { MassStore } from '../../src/storage/contract.ts';
import { claimCheck, settleCheck } from '../../src/suspicions/checks.service.ts';
import { CopyChecker } from '../../src/worker/copy-checker.ts';
import type { TestClient } from '../support/client.ts';
import { startReceiver } from '../support/receiver.ts';
import { makeDataset, mutate, newFile, refusalOf, type TestFile } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let user: TestClient;
const checkers: CopyChecker[] = [];

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false', SWEEPBOOK_WEBHOOK_PRIVATE: 'true' });
  user = await server.as('ursula', 'USER');
});
afterEach(async () => {
  await Promise.all(checkers.splice(0).map((checker) => checker.stop()));
});
afterAll(() => server.close());

const storeRoot = () => join(server.folder, 'home', 'store');
const honest = () => new DirectoryStore({ name: 'default', kind: 'directory', root: storeRoot() });

/** Reads suspicious copies from now on, with a store that may lie. */
function startChecker(store: MassStore = honest(), hostname = 'test'): void {
  const checker = new CopyChecker({
    db: server.database.db,
    stores: { of: () => store },
    log: { info: () => undefined, warn: () => undefined },
    hostname,
    leaseSeconds: 3,
    retryBaseMs: 5,
    shutdownSeconds: 1,
    onChange: () => undefined,
  });
  checker.start();
  checkers.push(checker);
}

interface Outcome {
  isNew: boolean;
  state: string;
}
const report = (lfn: string, url: string, job: string, client = user) =>
  mutate<Outcome>(
    client,
    'reportReadFailure',
    { lfn, url, job, error: `EIO of ${job}` },
    'isNew state',
  );
async function reportByThree(lfn: string, url: string, client = user): Promise<void> {
  for (const job of ['a', 'b', 'c']) await report(lfn, url, `${job}-${lfn}`, client);
}

interface Copy {
  id: string;
  state: string;
  jobCount: number;
  reportCount: number;
  finding: string | null;
  lastError: string | null;
  evidence: { answer: string } | null;
  volume: string | null;
  store: string | null;
  path: string | null;
  reports: { job: string; principal: string; error: string; reportCount: number }[];
}
const everyState = [
  'REPORTED',
  'SUSPICIOUS',
  'CHECKING',
  'CHECKED_GOOD',
  'BAD',
  'UNREADABLE_FROM_HERE',
  'OBSOLETE',
];
async function copiesOf(lfn: string): Promise<Copy[]> {
  const { suspiciousCopies } = await server.operator.call<{ suspiciousCopies: { nodes: Copy[] } }>(
    `query ($filter: SuspiciousCopyFilter) { suspiciousCopies(filter: $filter) { nodes {
      id state jobCount reportCount finding lastError evidence volume store path
      reports { job principal error reportCount } } } }`,
    { filter: { lfn: { eq: lfn }, state: everyState } },
  );
  return suspiciousCopies.nodes;
}
const settled = (lfn: string, state: string) =>
  until(`${lfn} is ${state}`, async () =>
    (await copiesOf(lfn)).find((copy) => copy.state === state),
  );

let count = 0;
/** A closed dataset of one file; its URL in the mass store. */
async function closedDataset() {
  const name = `suspicions-${++count}`;
  const [file] = await makeDataset(server.operator, name, 'CLOSED');
  if (!file) throw new Error('no file');
  return { name, file, url: join(storeRoot(), file.lfn), lfn: file.lfn };
}
/** A closed dataset without backup: its one file lies on these volumes. */
async function waivedDataset(volumes: string[], folder = `disk${count + 1}`) {
  const name = `waived-${++count}`;
  const lfn = `/waived/${name}.root`;
  const paths = volumes.map((volume) => join(server.folder, volume, folder, `${name}.root`));
  const file: TestFile = await newFile(lfn);
  for (const [at, path] of paths.entries()) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.bytes);
    await mutate(
      server.operator,
      'registerFiles',
      { files: [{ ...file.description, path, volume: volumes[at] }] },
      'results { lfn }',
    );
  }
  await mutate(server.operator, 'createDataset', {
    name,
    kind: 'USER',
    owner: 'ursula',
    backupWaived: true,
    waiverReason: 'made again at will',
    files: [lfn],
  });
  await mutate(server.operator, 'closeDataset', { dataset: name });
  return { name, lfn, paths, file };
}
const stateOf = async (name: string) =>
  (
    await server.database.sql<{ is_available: boolean; bad_mark_count: number }>(
      'select is_available, bad_mark_count from datasets where name = $1',
      [name],
    )
  )[0];

test('one job that says it a hundred times, and jobs too few, have nothing checked', async () => {
  const { lfn, url, name } = await closedDataset();
  startChecker();
  expect(await report(lfn, url, 'job 1')).toEqual({ isNew: true, state: 'REPORTED' });
  for (let at = 1; at < 100; at++) {
    expect(await report(lfn, url, 'job 1')).toEqual({ isNew: false, state: 'REPORTED' });
  }
  await report(lfn, url, 'job 2');
  const [copy] = await copiesOf(lfn);
  expect(copy).toMatchObject({
    state: 'REPORTED',
    jobCount: 2,
    reportCount: 101,
    lastError: 'EIO of job 2',
    store: 'default',
    path: lfn.slice(1),
  });
  expect(copy?.reports).toEqual([
    { job: 'job 2', principal: 'ursula', error: 'EIO of job 2', reportCount: 1 },
    { job: 'job 1', principal: 'ursula', error: 'EIO of job 1', reportCount: 100 },
  ]);
  expect(await stateOf(name)).toMatchObject({ is_available: true });
});

test('three jobs have a copy read; a good one is cleared, and not read again within the hour', async () => {
  const { lfn, url, name } = await closedDataset();
  await report(lfn, url, 'a');
  await report(lfn, `${url}?xrd.wantprot=unix`, 'b');
  expect(await report(lfn, `file://${url}`, 'c')).toEqual({ isNew: true, state: 'SUSPICIOUS' });
  startChecker();
  const good = await settled(lfn, 'CHECKED_GOOD');
  expect(good.finding).toMatch(/^read in full at default:.*: 64 bytes, adler32/);
  expect(good.evidence?.answer).toContain('adler32');
  expect(await stateOf(name)).toMatchObject({ is_available: true });
  await reportByThree(lfn, url);
  const [again] = await copiesOf(lfn);
  expect(again).toMatchObject({ state: 'SUSPICIOUS', jobCount: 3 });
  const [row] = await server.database.sql<{ minutes: number }>(
    `select extract(epoch from next_attempt_at - now()) / 60 as minutes from suspicions where state = 'SUSPICIOUS'`,
  );
  expect(Number(row?.minutes)).toBeGreaterThan(50);
  // An operator need not wait.
  const ask = 'mutation ($id: ID!) { checkSuspiciousCopy(id: $id) { changed copy { state } } }';
  expect(await server.operator.call(ask, { id: again?.id })).toMatchObject({
    checkSuspiciousCopy: { changed: true },
  });
  await until('both are good', async () =>
    (await copiesOf(lfn)).every((copy) => copy.state === 'CHECKED_GOOD'),
  );
});

test('a backup that is not what was registered is found: LOST, its dataset bad, its owner told', async () => {
  const receiver = await startReceiver();
  const { lfn, url, name, file } = await closedDataset();
  await mutate(
    server.operator,
    'createWebhook',
    { url: receiver.url, datasets: { eq: name }, scope: 'ALL' },
    'secret',
  );
  chmodSync(url, 0o644);
  writeFileSync(url, Buffer.alloc(file.bytes.length, 7));
  await reportByThree(lfn, url);
  startChecker();
  const bad = await settled(lfn, 'BAD');
  expect(bad.finding).toMatch(/read twice: the store holds adler32 .*, registered is/);
  expect(bad.evidence?.answer).toContain('adler32');
  const { file: shown } = await server.operator.call<{
    file: {
      isBackedUp: boolean;
      backups: { status: string; lastError: string }[];
    };
  }>('query ($lfn: String!) { file(lfn: $lfn) { isBackedUp backups { status lastError } } }', {
    lfn,
  });
  expect(shown).toMatchObject({ isBackedUp: false, backups: [{ status: 'LOST' }] });
  const [told] = await server.database.sql<{ evidence: object }>(
    `select facts -> 'evidence' as evidence from events where kind = 'COPY_SUSPICION' and to_state = 'BAD'
      and file_id = (select id from files where lfn = $1)`,
    [lfn],
  );
  expect(told?.evidence).toEqual(bad.evidence);
  expect(await stateOf(name)).toEqual({ is_available: false, bad_mark_count: 1 });
  const refusal = await refusalOf(
    user.call('query ($name: String!) { dataset(name: $name) { name } }', { name }),
  );
  expect(refusal).toMatchObject({ code: 'DATASET_BAD' });
  expect(refusal.message).toContain(`a copy of ${lfn} was read and is not what was registered`);
  await until('the webhook is told', () => receiver.received.length === 1);
  expect(receiver.received[0]?.body.data.text).toContain(lfn);
  await receiver.close();
  // Known as lost, it is no copy any more.
  expect(await refusalOf(report(lfn, url, 'late'))).toMatchObject({ code: 'NOT_FOUND' });
});

test('a backup that is gone from a store that is up is lost; from one that is not mounted it is neither', async () => {
  const gone = await closedDataset();
  unlinkSync(gone.url);
  await reportByThree(gone.lfn, gone.url);
  startChecker();
  const bad = await settled(gone.lfn, 'BAD');
  expect(bad.finding).toContain('the store does not have it');
  await Promise.all(checkers.splice(0).map((checker) => checker.stop()));
  const away = await closedDataset();
  await reportByThree(away.lfn, away.url);
  startChecker(
    new DirectoryStore({
      name: 'default',
      kind: 'directory',
      root: join(server.folder, 'nowhere'),
    }),
  );
  const neither = await settled(away.lfn, 'UNREADABLE_FROM_HERE');
  expect(neither.finding).toContain('is it mounted?');
  expect(await stateOf(away.name)).toMatchObject({ is_available: true });
});

test('a store that answers now this, now that, condemns nothing', async () => {
  const { lfn, url, name } = await closedDataset();
  await reportByThree(lfn, url);
  let asked = 0;
  const store = honest();
  startChecker(
    Object.assign(Object.create(store) as MassStore, {
      ask: async (key: string) => ({
        ...(await store.ask(key)),
        adler32: `0000000${asked++ % 10}`,
      }),
    }),
  );
  const neither = await settled(lfn, 'UNREADABLE_FROM_HERE');
  expect(neither.finding).toContain('two readings gave two answers');
  expect(await stateOf(name)).toMatchObject({ is_available: true });
});

test('a copy on disk: changed it is lost, and the dataset with the last copy only', async () => {
  const { lfn, name, paths, file } = await waivedDataset(['pool1', 'pool2']);
  startChecker();
  writeFileSync(paths[0] ?? '', Buffer.alloc(file.bytes.length, 1));
  await reportByThree(lfn, paths[0] ?? '');
  expect(await settled(lfn, 'BAD')).toMatchObject({ volume: 'pool1', path: paths[0] });
  expect(await stateOf(name)).toEqual({ is_available: true, bad_mark_count: 0 });
  writeFileSync(paths[1] ?? '', 'of another size');
  await reportByThree(lfn, paths[1] ?? '');
  await until('the dataset is bad', async () => !(await stateOf(name))?.is_available);
  const replicas = await server.database.sql(
    'select distinct status from replicas where file_id = (select id from files where lfn = $1)',
    [lfn],
  );
  expect(replicas).toEqual([{ status: 'LOST' }]);
  const events = await server.database.sql<{ to_state: string }>(
    `select to_state from events where kind = 'COPY_SUSPICION'
      and file_id = (select id from files where lfn = $1) order by id`,
    [lfn],
  );
  const once = ['REPORTED', 'SUSPICIOUS', 'CHECKING', 'BAD'];
  expect(events.map((event) => event.to_state)).toEqual([...once, ...once]);
});

test('a path with nothing behind it is believed only where its volume is seen to be mounted', async () => {
  const alone = await waivedDataset(['far-away']);
  rmSync(dirname(alone.paths[0] ?? ''), { recursive: true });
  await reportByThree(alone.lfn, alone.paths[0] ?? '');
  startChecker();
  const neither = await settled(alone.lfn, 'UNREADABLE_FROM_HERE');
  expect(neither.finding).toContain('nothing shows that its volume is mounted');
  expect(await stateOf(alone.name)).toMatchObject({ is_available: true });
  // Somebody says so later: it is looked at again, though not within the hour.
  await server.database.sql(
    `update suspicions set checked_at = now() - interval '2 hours' where state = 'UNREADABLE_FROM_HERE'`,
  );
  await waivedDataset(['far-away'], 'near');
  expect(await report(alone.lfn, alone.paths[0] ?? '', 'another')).toMatchObject({
    state: 'SUSPICIOUS',
  });
  const bad = await settled(alone.lfn, 'BAD');
  expect(bad.finding).toMatch(/its volume is mounted there: .*near/);
  expect(await stateOf(alone.name)).toMatchObject({ is_available: false });
});

test('where one host cannot read another one can', async () => {
  const { lfn, url } = await closedDataset();
  await reportByThree(lfn, url);
  const away = new DirectoryStore({
    name: 'default',
    kind: 'directory',
    root: join(server.folder, 'nowhere'),
  });
  const by = { worker: 'blind', host: 'blind-host', leaseSeconds: 60 };
  const { db } = server.database;
  const claim = await claimCheck(db, by);
  if (!claim) throw new Error('nothing to check');
  const finding = { kind: 'BLIND', says: `${away.name} is not there` } as const;
  expect(await settleCheck(db, claim, finding, 3_600_000)).toMatchObject({ state: 'SUSPICIOUS' });
  // The first one waits; the second one need not.
  expect(await claimCheck(db, by)).toBeUndefined();
  startChecker(honest(), 'seeing-host');
  await settled(lfn, 'CHECKED_GOOD');
});

test('a worker that dies amid a check is overtaken, and its late answer is thrown away', async () => {
  const { lfn, url, name } = await closedDataset();
  await reportByThree(lfn, url);
  const { db } = server.database;
  const dead = await claimCheck(db, { worker: 'dead', host: 'h', leaseSeconds: 0 });
  if (!dead) throw new Error('nothing to check');
  startChecker();
  await settled(lfn, 'CHECKED_GOOD');
  const evidence = { asked: 'x', answer: 'y', askedAt: 'z', host: 'h' };
  const lie = { kind: 'BAD', says: 'all wrong', code: 'CHECKSUM_MISMATCH', evidence } as const;
  expect(await settleCheck(db, dead, lie, 10)).toEqual({ state: 'LEASE_LOST', markedBad: [] });
  expect(await stateOf(name)).toMatchObject({ is_available: true });
});

test('a copy that is known as lost by now is not read', async () => {
  const { lfn, url, name } = await closedDataset();
  await reportByThree(lfn, url);
  await server.database.sql(`
    with lost as (update backup_records set status = 'LOST', last_error = 'torn'
      where file_id = (select id from files where lfn = '${lfn}') returning id)
    insert into bad_marks (dataset_id, reason) select d.id, 'torn' from datasets d, lost where d.name = '${name}'`);
  startChecker();
  await settled(lfn, 'OBSOLETE');
});

test('of two last copies that are found bad at once, the dataset does not stay', async () => {
  const { lfn, name, paths, file } = await waivedDataset(['pool5', 'pool6']);
  for (const path of paths) {
    writeFileSync(path, Buffer.alloc(file.bytes.length, 3));
    await reportByThree(lfn, path);
  }
  startChecker();
  startChecker(honest(), 'test2');
  await until('both are bad', async () =>
    (await copiesOf(lfn)).every((copy) => copy.state === 'BAD'),
  );
  expect(await stateOf(name)).toEqual({ is_available: false, bad_mark_count: 1 });
});

test('what nobody sees and what is no copy get the same kind of answer', async () => {
  const { lfn, url } = await closedDataset();
  const [hidden] = await makeDataset(server.operator, `hidden-${++count}`, 'BACKED_UP');
  const hiddenUrl = join(storeRoot(), hidden?.lfn ?? '');
  expect(await refusalOf(report(hidden?.lfn ?? '', hiddenUrl, 'j'))).toMatchObject({
    code: 'NOT_FOUND',
  });
  expect(await refusalOf(report('/no/such', url, 'j'))).toMatchObject({ code: 'NOT_FOUND' });
  expect(await refusalOf(report(lfn, '/etc/passwd', 'j'))).toMatchObject({ code: 'NOT_FOUND' });
  expect(await refusalOf(report(lfn, hiddenUrl, 'j'))).toMatchObject({ code: 'NOT_FOUND' });
  await expect(report(hidden?.lfn ?? '', hiddenUrl, 'j', server.operator)).resolves.toMatchObject({
    state: 'REPORTED',
  });
});

test.each([
  ['job', { job: '' }],
  ['job', { job: 'x'.repeat(201) }],
  ['job', { job: 'two\nlines' }],
  ['error', { error: '  ' }],
  ['url', { url: 'x'.repeat(4097) }],
])('a report with an odd %s is refused by its name', async (field, odd) => {
  const input = { lfn: '/x', url: '/x', error: 'EIO', job: '1', ...odd };
  const refusal = await refusalOf(mutate(user, 'reportReadFailure', input, 'isNew'));
  expect(refusal).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field } });
});

test('reports are kept within bounds: a hundred jobs a copy, a thousand a day of one principal', async () => {
  const { lfn, url } = await closedDataset();
  const flood = await server.as('flora', 'USER');
  for (let at = 0; at < 105; at++) await report(lfn, url, `job ${at}`, flood);
  const [copy] = await copiesOf(lfn);
  expect(copy).toMatchObject({ jobCount: 100, reportCount: 105 });
  expect(copy?.reports).toHaveLength(100);
  await server.database.sql(`with some_suspicion as (
      insert into suspicions (file_id, backup_id, place, job_count, report_count)
      select file_id, id, 'x', 900, 900 from backup_records b
      where not exists (select from suspicions s where s.backup_id = b.id) limit 1 returning id)
    insert into read_failures (suspicion_id, principal, job, url, error)
    select id, 'flora', 'old ' || n, 'x', 'x' from some_suspicion, generate_series(1, 900) n`);
  const other = await closedDataset();
  const refusal = await refusalOf(report(other.lfn, other.url, 'one more', flood));
  expect(refusal).toMatchObject({ code: 'RATE_LIMITED', facts: { most: 1000 } });
  expect(await copiesOf(other.lfn)).toEqual([]);
});

test('nothing is written into the store by a check', () => {
  expect(readdirSync(join(storeRoot(), '.incoming'))).toEqual([]);
});
