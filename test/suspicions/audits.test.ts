import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isAlarm, pauseMs } from '../../src/suspicions/audits.rules.ts';
import { makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import { runProgram } from '../support/program.ts';
import { makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-audits-'));
let server: TestServer;
let cli: Record<string, string>;

beforeAll(async () => {
  const storeFile = join(folder, 'stores.yaml');
  const audit = 'audit: { alarmShare: 0.2, readBackDays: 0 }';
  writeFileSync(
    storeFile,
    `stores:
  - { name: near, kind: directory, root: ${folder}/near, default: true, ${audit} }
  - { name: far, kind: directory, root: ${folder}/far, audit: { bytesPerSecond: 1000 } }
policies:
  - { minBytes: 1000, stores: [near, far] }
`,
  );
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile });
  cli = {
    SWEEPBOOK_URL: server.address,
    SWEEPBOOK_TOKEN: await server.tokenOf('olga', 'OPERATOR'),
  };
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const run = (...args: string[]) => runProgram(['audit', ...args], cli);

/** Closed datasets of one file each; files of 2,000 bytes are in both stores, those of 500 in one. */
async function publish(names: readonly string[], bytes = 2000): Promise<void> {
  for (const name of names) {
    const file = await makeFile(join(folder, 'disk', name), name, bytes);
    await registerMerged(server.operator, [{ ...file, lfn: `/audit/${name}` }]);
    await startSweep(server.operator, name, [`/audit/${name}`]);
  }
  await until('all are closed', async () => {
    const statuses = await Promise.all(names.map((name) => statusOf(server.operator, name)));
    return statuses.every((status) => status === 'CLOSED');
  });
}

const place = (store: string, name: string) => join(folder, store, 'audit', name);

interface Audit {
  readonly id: string;
  readonly state: string;
  readonly lookedCount: number;
  readonly wrongCount: number;
  readonly unknownCount: number;
  readonly detail: string | null;
  readonly findings: {
    lfn: string | null;
    storeKey: string;
    what: string;
    outcome: string | null;
  }[];
}

async function auditOf(id: string): Promise<Audit> {
  const { storeAudits } = await server.operator.call<{ storeAudits: Audit[] }>(
    `query ($id: ID) { storeAudits(id: $id) { id state lookedCount wrongCount unknownCount detail
      findings { lfn storeKey what outcome } } }`,
    { id },
  );
  return storeAudits[0] as Audit;
}

async function start(what: string, store: string): Promise<string> {
  const { startAudit } = await server.operator.call<{ startAudit: { audit: { id: string } } }>(
    `mutation ($what: AuditKind!, $store: String) { startAudit(what: $what, store: $store) { audit { id } } }`,
    { what, store },
  );
  return startAudit.audit.id;
}

async function audited(what: string, store: string): Promise<Audit> {
  const id = await start(what, store);
  return until('the audit is over', async () => {
    const audit = await auditOf(id);
    return audit.state === 'RUNNING' ? undefined : audit;
  });
}

async function copiesOf(name: string): Promise<Record<string, { status: string; key: string }>> {
  const rows = await server.database.sql<{ store: string; status: string; key: string }>(
    `select s.name as store, b.status, b.store_key as key from backup_records b join files f on f.id = b.file_id
     join mass_stores s on s.id = b.store_id where f.lfn = $1`,
    [`/audit/${name}`],
  );
  return Object.fromEntries(rows.map(({ store, ...rest }) => [store, rest]));
}

const confirmed = (name: string) =>
  until(`${name} is confirmed again`, async () => {
    const copies = await copiesOf(name);
    return Object.values(copies).every(({ status }) => status === 'CONFIRMED') ? copies : undefined;
  });

/** Copied into the store by the producer; the catalogue knows of no disk that has it. */
async function filesKnownToNoDisk(name: string) {
  const file = await newFile(`/audit/${name}`);
  await register(server.operator, file);
  return [file];
}

function corrupt(path: string): void {
  chmodSync(path, 0o644);
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = 1;
  writeFileSync(path, bytes);
}

test('a byte that turned is found by reading back, and the file is copied again from another store', async () => {
  await publish(['a1', 'a2', 'a3', 'a4', 'a5', 'a6']);
  expect(await audited('READ_BACK', 'near')).toMatchObject({
    state: 'DONE',
    lookedCount: 6,
    wrongCount: 0,
  });
  corrupt(place('near', 'a3'));
  rmSync(join(folder, 'disk', 'a3'));
  const audit = await audited('READ_BACK', 'near');
  expect(audit).toMatchObject({ state: 'DONE', lookedCount: 6, wrongCount: 1 });
  expect(audit.findings).toEqual([
    { lfn: '/audit/a3', storeKey: 'audit/a3', what: 'BAD', outcome: 'LOST' },
  ]);
  const copies = await confirmed('a3');
  // What lies there is left alone.
  expect(copies['near']?.key).toMatch(/^audit\/a3\.again-\d+-1$/);
  expect(existsSync(place('near', 'a3'))).toBe(true);
  expect(await statusOf(server.anonymous, 'a3')).toBe('CLOSED');
  const told = await run('show', audit.id);
  expect(told).toMatchObject({ code: 0, stderr: '' });
  expect(told.stdout).toMatch(/is DONE: 6 files looked at, 1 bad.*\n {2}BAD LOST {2}\/audit\/a3: /);
});

test('what is missing, and what nobody knows, is found by comparing; the young and the listed are left alone', async () => {
  rmSync(place('near', 'a1'));
  const old = new Date(Date.now() - 7_200_000);
  writeFileSync(place('near', 'stranger'), 'x');
  utimesSync(place('near', 'stranger'), old, old);
  writeFileSync(place('near', 'young stranger'), 'x');
  const audit = await audited('COMPARE', 'near');
  expect(audit).toMatchObject({ state: 'DONE', wrongCount: 1, unknownCount: 1 });
  expect(audit.findings).toEqual([
    { lfn: '/audit/a1', storeKey: 'audit/a1', what: 'BAD', outcome: 'LOST' },
    { lfn: null, storeKey: 'audit/stranger', what: 'UNKNOWN', outcome: null },
  ]);
  expect((await confirmed('a1'))['near']?.key).toBe('audit/a1');
  expect(existsSync(place('near', 'stranger'))).toBe(true);
  rmSync(place('near', 'stranger'));
  rmSync(place('near', 'young stranger'));
});

test('while files are being written nothing is missing and nothing unknown', async () => {
  const names = Array.from({ length: 8 }, (_, at) => `w${at}`);
  const writing = publish(names, 500);
  const audits = [];
  for (let turn = 0; turn < 4; turn++) audits.push(await audited('COMPARE', 'near'));
  await writing;
  audits.push(await audited('COMPARE', 'near'));
  for (const audit of audits) {
    expect(audit).toMatchObject({ state: 'DONE', wrongCount: 0, unknownCount: 0 });
  }
});

test('a wrong mount is an alarm and not a thousand lost files; somebody decides', async () => {
  renameSync(join(folder, 'near', 'audit'), join(folder, 'away'));
  const alarm = await audited('COMPARE', 'near');
  expect(alarm).toMatchObject({ state: 'ALARM' });
  expect(alarm.detail).toMatch(/14 of 14 copies look wrong/);
  expect(alarm.findings.length).toBeGreaterThan(10);
  expect(alarm.findings.every(({ outcome }) => outcome === null)).toBe(true);
  expect((await copiesOf('a1'))['near']?.status).toBe('CONFIRMED');
  expect((await audited('READ_BACK', 'near')).state).toBe('ALARM');
  expect(await run('show', alarm.id)).toMatchObject({ code: 1 });
  renameSync(join(folder, 'away'), join(folder, 'near', 'audit'));
  const dismissed = await run('dismiss', alarm.id);
  expect(dismissed.stdout).toMatch(/is DISMISSED: 0 copies lost/);
  const again = await refusalOf(
    server.operator.call(`mutation { settleAudit(id: "${alarm.id}", isTrue: true) { lostCount } }`),
  );
  expect(again.code).toBe('ILLEGAL_TRANSITION');
  expect(await audited('COMPARE', 'near')).toMatchObject({ state: 'DONE', wrongCount: 0 });
  const list = await run('list', '--store', 'near');
  expect(list.stdout).toMatch(/COMPARE +DISMISSED/);
});

test('the last copy is lost: the dataset is bad, by an incident', async () => {
  await makeDataset(server.operator, 'only', 'CLOSED', {
    files: await filesKnownToNoDisk('only'),
  });
  corrupt(place('near', 'only'));
  expect(await audited('READ_BACK', 'near')).toMatchObject({ state: 'DONE', wrongCount: 1 });
  const { dataset } = await server.operator.call<{
    dataset: { badMark: { reason: string } | null };
  }>('{ dataset(name: "only") { badMark { reason } } }');
  expect(dataset.badMark?.reason).toMatch(/1 of 1 files lost.*\/audit\/only/);
});

test('a reading keeps below its rate, holds no worker meanwhile, and goes on where it stood', async () => {
  const id = await start('READ_BACK', 'far');
  const looked = (count: number) =>
    until(`${count} were read`, async () => (await auditOf(id)).lookedCount === count);
  await looked(1);
  // 2,000 bytes at 1,000 a second; the pause begins anew somewhere else.
  for (const count of [2, 3]) {
    await server.database.sql(`update audits set lease_until = now() where id = ${id}`);
    await mutate(server.operator, 'createDataset', { name: `bell-${count}`, kind: 'PR' });
    await looked(count);
  }
  const [row] = await server.database.sql<{ attempt: number; n: string }>(
    `select attempt, looked_count as n from audits where id = ${id}`,
  );
  expect(row?.attempt).toBeGreaterThanOrEqual(3);
});

test('what an audit found stays as it was found', async () => {
  for (const text of [
    `update audits set state = 'RUNNING', finished_at = null where state = 'DONE'`,
    `update audit_findings set outcome = null where outcome is not null`,
    `update audit_findings set says = 'x'`,
    'delete from audit_findings',
    'delete from audits',
  ]) {
    await expect(server.database.sql(text), text).rejects.toThrow(/audit/);
  }
});

test('a single bad copy is never an alarm, and more than the share is', () => {
  expect(isAlarm(1, 1, 0)).toBe(false);
  expect(isAlarm(2, 3, 0.01)).toBe(true);
  expect(isAlarm(10, 1000, 0.01)).toBe(false);
  expect(isAlarm(11, 1000, 0.01)).toBe(true);
  expect(isAlarm(0, 0, 0.01)).toBe(false);
  expect(pauseMs(1000, 100, 1000)).toBe(900);
  expect(pauseMs(1000, 2000, 1000)).toBe(0);
});
