import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeFile, registerMerged, startSweep, statusOf } from '../support/files.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { startTapeSite } from '../support/tape-site.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-archive-'));
const storeFile = join(folder, 'stores.yaml');
let site: Awaited<ReturnType<typeof startTapeSite>>;
let server: TestServer;

const storesOf = (more = '') => `
stores:
  - name: cta
    kind: tape-rest
    root: ${site.url}
    token: { file: ${join(folder, 'token')} }
    confirm: ARCHIVED
    default: true
${more}`;

beforeAll(async () => {
  site = await startTapeSite(folder);
  site.state.token = 'secret-of-the-door';
  writeFileSync(join(folder, 'token'), 'secret-of-the-door\n');
  writeFileSync(storeFile, storesOf());
  server = await startTestServer({ SWEEPBOOK_STORES: storeFile });
});
afterAll(async () => {
  await server.close();
  await site.close();
  rmSync(folder, { recursive: true, force: true });
});

let count = 0;
async function sweep(): Promise<{ name: string; lfn: string }> {
  const name = `tape-${++count}`;
  const lfn = `/tape/${count}.root`;
  const file = await makeFile(join(folder, `${count}.root`), `content ${count}`, 50_000);
  await registerMerged(server.operator, [{ ...file, lfn }]);
  await startSweep(server.operator, name, [lfn]);
  return { name, lfn };
}

interface Record {
  status: string;
  attempt: number;
  worker: string | null;
  confirmLevel: string | null;
  awaitsTapeSince: string | null;
  storedSha256: string | null;
  lastError: string | null;
  evidence: { asked: string; answer: string } | null;
}

async function recordOf(lfn: string): Promise<Record> {
  const data = await server.operator.call<{ file: { backups: Record[] } }>(
    `query ($lfn: String!) { file(lfn: $lfn) { backups {
      status attempt worker confirmLevel awaitsTapeSince storedSha256 lastError evidence } } }`,
    { lfn },
  );
  return data.file.backups[0] as Record;
}

const waits = (lfn: string) =>
  until(`${lfn} waits for tape`, async () => (await recordOf(lfn)).awaitsTapeSince !== null);

/** The next look at tape is minutes away: it is due now. */
async function lookNow(): Promise<void> {
  await server.database.sql(
    `update backup_records set next_look_at = now() where awaits_tape_since is not null`,
  );
  await mutate(server.operator, 'createDataset', { name: `bell-${++count}`, kind: 'PR' });
}

test('a copy waits for tape without a worker, and is confirmed when the store says that it is there', async () => {
  const { name, lfn } = await sweep();
  await waits(lfn);
  const waiting = await recordOf(lfn);
  expect(waiting).toMatchObject({ status: 'COPIED', worker: null, confirmLevel: null });
  expect(waiting.evidence?.answer).toContain('adler32=');
  await lookNow();
  await until('it was looked at twice', async () => {
    const [row] = await server.database.sql<{ n: number }>(
      `select look_count as n from backup_records b join files f on f.id = b.file_id where f.lfn = '${lfn}'`,
    );
    return (row?.n ?? 0) >= 2;
  });
  expect(await statusOf(server.operator, name)).toBe('OPEN');
  // Asked for again, told again: it waits on.
  await startSweep(server.operator, name, [lfn]).catch(() => undefined);
  expect((await recordOf(lfn)).attempt).toBe(1);
  site.archive(lfn.slice(1));
  await lookNow();
  await until('closed', async () => (await statusOf(server.operator, name)) === 'CLOSED');
  const confirmed = await recordOf(lfn);
  expect(confirmed).toMatchObject({
    status: 'CONFIRMED',
    confirmLevel: 'ARCHIVED',
    awaitsTapeSince: null,
  });
  expect(confirmed.evidence?.asked).toMatch(/archiveinfo .*; before: HEAD /);
  expect(confirmed.evidence?.answer).toMatch(/DISK_AND_TAPE[^]*adler32=/);
});

test('what the store loses or will not archive has failed with its words, and is tried again', async () => {
  const { name, lfn } = await sweep();
  await waits(lfn);
  site.refuse(lfn.slice(1), 'no such storage class');
  await lookNow();
  const failed = await until('it failed', async () => {
    const record = await recordOf(lfn);
    return record.lastError === null ? undefined : record;
  });
  expect(failed.lastError).toContain('no such storage class');
  expect(failed.evidence?.answer).toContain('no such storage class');
  expect(await statusOf(server.operator, name)).toBe('OPEN');
});

test('raw SQL confirms nothing below the level of the store', async () => {
  const { lfn } = await sweep();
  await waits(lfn);
  await expect(
    server.database.sql(
      `update backup_records set status = 'CONFIRMED', confirm_level = 'COPIED', confirmed_at = now(),
         awaits_tape_since = null, next_look_at = null
       where file_id = (select id from files where lfn = '${lfn}')`,
    ),
  ).rejects.toThrow(/confirms with ARCHIVED, and this is COPIED/);
});

test('the stores as operators see them; one that lies is not taken at its word', async () => {
  const ask = (checkMassStore: string) =>
    server.operator.call<{ checkMassStore: { isTrusted: boolean; lastTest: { passed: boolean } } }>(
      `mutation { checkMassStore${checkMassStore} { name confirmLevel isTrusted lastTest { passed isConclusive } } }`,
    );
  expect(await ask('')).toEqual({
    checkMassStore: {
      name: 'cta',
      confirmLevel: 'ARCHIVED',
      isTrusted: true,
      lastTest: { passed: true, isConclusive: true },
    },
  });
  let first: { [name: string]: string } | undefined;
  site.state.lies = { head: (honest) => (first ??= honest) };
  expect((await ask('(name: "cta")')).checkMassStore).toMatchObject({ isTrusted: false });
  const ready = await server.anonymous.get('/readyz');
  expect(await ready.text()).toContain('failed: cta');
  site.state.lies = {};
  // Now its bytes are read back, besides.
  const { name, lfn } = await sweep();
  await waits(lfn);
  expect((await recordOf(lfn)).storedSha256).toMatch(/^[0-9a-f]{64}$/);
  site.archive(lfn.slice(1));
  await lookNow();
  await until('closed', async () => (await statusOf(server.operator, name)) === 'CLOSED');
  expect((await ask('')).checkMassStore).toMatchObject({ isTrusted: true });
  expect((await refusalOf(ask('(name: "none")'))).code).toBe('NOT_FOUND');
});
