import { afterAll, beforeAll, expect, test } from 'vitest';
import { claimBackup, freeSlots } from '../../src/backups/attempts.service.ts';
import { claimChecks, failCheck } from '../../src/incidents/checks.service.ts';
import { undoIncident } from '../../src/incidents/recovery.service.ts';
import { reportStorageLoss } from '../../src/incidents/report.service.ts';
import { deadlineMs, inTime } from '../../src/worker/check.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';
import * as w from '../migrations/world.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
  await database.sql(`insert into sites (name) values ('SLAC');
    insert into mass_stores (site_id, name, kind, root, is_default, concurrency)
      select id, 'hpss', 'directory', '/store', true, 2 from sites;`);
});
afterAll(() => database.close());

const operator = { principal: 'olga', roles: ['OPERATOR'] } as const;
const crash = (volume: string) =>
  reportStorageLoss(database.db, operator, { volume, reason: 'head crash', dryRun: false });
const tear = (...lfns: string[]) =>
  reportStorageLoss(database.db, operator, {
    massStore: 'hpss',
    lfns,
    reason: 'the tape is torn',
    dryRun: false,
  });
const newVolume = (name: string) =>
  database.sql(`insert into volumes (site_id, name) select id, '${name}' from sites`);
const isSeen = async (name: string) => {
  const [row] = await database.sql<{ is_available: boolean }>(
    'select is_available from datasets where name = $1',
    [name],
  );
  return row?.is_available;
};
const marksOf = async (name: string) =>
  (
    await database.sql<{ incident_id: number }>(
      `select incident_id::integer from bad_marks where dataset_id = ${w.dataset(name)} and cleared_at is null order by id`,
    )
  ).map((row) => row.incident_id);
/** Until a connection waits as `sign` says. */
const seenWaiting = (what: string, sign: string) =>
  until(what, async () => {
    const rows = await database.sql(
      `select from pg_stat_activity where datname = current_database() and ${sign}`,
    );
    return rows.length > 0;
  });
const sound = async () => expect(await checkInvariants(database.url)).toEqual([]);

test('the tape first, then the disk: seen from disk, bad without, and good again with either', async () => {
  await newVolume('td');
  const lfn = '/td/1';
  await database.sql(
    w.mergedFile(lfn, 1) +
      w.placed(lfn, 'td') +
      w.backedUp(lfn) +
      w.newDataset('td', [lfn]) +
      w.moved('td', 'BACKED_UP', 'CLOSED'),
  );
  const torn = await tear(lfn);
  expect(torn.table).toMatchObject({ recoverableCount: 1, markedDatasetCount: 0 });
  expect(await isSeen('td')).toBe(true);
  await sound();
  const crashed = await crash('td');
  expect(crashed.table).toMatchObject({ lostCount: 1, markedDatasetCount: 1 });
  expect(await isSeen('td')).toBe(false);
  expect(await marksOf('td')).toEqual([crashed.incidentId]);
  await sound();
  await undoIncident(database.db, operator, crashed.incidentId ?? 0, 'another disk');
  expect(await isSeen('td')).toBe(true);
  await sound();
  await crash('td');
  expect(await isSeen('td')).toBe(false);
  // The store has it after all.
  await database.sql(
    `update backup_records set status = 'REQUESTED' where id = ${w.backup(lfn)};` +
      w.claimed(lfn) +
      w.copied(lfn) +
      w.confirmed(lfn),
  );
  expect(await isSeen('td')).toBe(true);
  await sound();
});

test('the disk first, then the tape: bad from then on', async () => {
  await newVolume('dt');
  const lfn = '/dt/1';
  await database.sql(
    w.mergedFile(lfn, 1) +
      w.placed(lfn, 'dt') +
      w.backedUp(lfn) +
      w.newDataset('dt', [lfn]) +
      w.moved('dt', 'BACKED_UP', 'CLOSED'),
  );
  expect((await crash('dt')).table).toMatchObject({ recoverableCount: 1, lostCount: 0 });
  expect(await isSeen('dt')).toBe(true);
  expect((await tear(lfn)).table).toMatchObject({ lostCount: 1, markedDatasetCount: 1 });
  expect(await isSeen('dt')).toBe(false);
  await sound();
});

test('no word of raw SQL takes a backup from a published dataset unmarked, incident or not', async () => {
  await newVolume('raw');
  const lfn = '/raw/1';
  await database.sql(
    w.mergedFile(lfn, 1) +
      w.placed(lfn, 'raw') +
      w.backedUp(lfn) +
      w.newDataset('raw', [lfn]) +
      w.moved('raw', 'BACKED_UP', 'CLOSED'),
  );
  // A disk holds it, and no incident tells of the loss.
  await expect(database.sql(w.lost(lfn))).rejects.toMatchObject({
    constraint: 'FILES_NOT_BACKED_UP',
  });
  await sound();
});

test('whoever is killed amid a report has changed nothing, and it is reported again', async () => {
  await newVolume('killed');
  const lfns = ['/killed/1', '/killed/2'];
  await database.sql(
    lfns.map((lfn, at) => w.mergedFile(lfn, at) + w.placed(lfn, 'killed')).join('') +
      w.waived('killed', ...lfns),
  );
  const holder = await database.client();
  await holder.query(`begin; select from datasets where name = 'killed' for update`);
  const first = crash('killed');
  first.catch(() => undefined);
  // All replicas are LOST by now, in a transaction that waits for the dataset.
  const pid = await until('the report waits', async () => {
    const [row] = await database.sql<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and query like '%for no key update%'`,
    );
    return row?.pid;
  });
  await database.sql(`select pg_terminate_backend(${pid})`);
  await expect(first).rejects.toThrow(/terminat|connection/i);
  await holder.query('rollback');
  expect(await isSeen('killed')).toBe(true);
  expect(
    await database.sql(
      `select from replicas where status <> 'AVAILABLE' and path like '/killed/%'`,
    ),
  ).toEqual([]);
  await sound();
  const second = await crash('killed');
  expect(second).toMatchObject({ changed: true, table: { lostCount: 2 } });
  expect(await isSeen('killed')).toBe(false);
  await sound();
});

test('a crash amid a sweep: bad until the copy that was under way is confirmed, and closed then', async () => {
  await newVolume('swept');
  const lfn = '/swept/1';
  await database.sql(w.mergedFile(lfn, 1) + w.placed(lfn, 'swept') + w.newDataset('swept', [lfn]));
  await database.sql(`begin; ${w.requested(lfn)} ${w.swept('swept')} commit;`);
  await database.sql(w.claimed(lfn));
  const crashed = await crash('swept');
  expect(crashed.table).toMatchObject({ lostCount: 1, markedDatasetCount: 1 });
  await sound();
  // The copy that was under way had read it all.
  await database.sql(
    `begin; ${w.copied(lfn)} ${w.confirmed(lfn)} ${w.moved('swept', 'BACKED_UP', 'CLOSED')}
      ${w.sweepEnded('swept', 'CLOSED')} commit;`,
  );
  expect(await marksOf('swept')).toEqual([]);
  expect(await isSeen('swept')).toBe(true);
  await sound();
});

test('a crash amid registration in bulk: what was told before is hit, what comes later is not', async () => {
  await newVolume('bulk');
  const client = await database.client();
  await client.query('begin');
  await client.query(w.mergedFile('/bulk/1', 1) + w.placed('/bulk/1', 'bulk'));
  const reported = crash('bulk');
  await seenWaiting('the report waits for who registers', "wait_event_type = 'Lock'");
  await client.query('commit');
  expect((await reported).table).toMatchObject({ itemCount: 1, lostCount: 1 });
  await database.sql(w.mergedFile('/bulk/2', 1) + w.placed('/bulk/2', 'bulk'));
  const [late] = await database.sql(
    `select status from replicas where file_id = ${w.file('/bulk/2')}`,
  );
  expect(late).toEqual({ status: 'AVAILABLE' });
  await sound();
});

test('a crash amid an adding to a dataset: whoever adds is waited for, and the dataset is marked with the others', async () => {
  await newVolume('adding');
  const lfn = '/adding/1';
  await database.sql(
    w.mergedFile(lfn, 1) +
      w.placed(lfn, 'adding') +
      w.newDataset('adding-before', [lfn]) +
      w.newDataset('adding-amid'),
  );
  const client = await database.client();
  await client.query('begin');
  await client.query(w.added('adding-amid', lfn));
  const reported = crash('adding');
  await seenWaiting('the report waits for who adds', "wait_event = 'advisory'");
  await client.query('commit');
  const { incidentId, table } = await reported;
  expect(table).toMatchObject({ lostCount: 1, markedDatasetCount: 2 });
  expect(await marksOf('adding-before')).toEqual([incidentId]);
  expect(await marksOf('adding-amid')).toEqual([incidentId]);
  await sound();
});

test('restaging takes no more places of a store than it has, beside what is backed up', async () => {
  await newVolume('places');
  const lfns = [1, 2, 3, 4].map((at) => `/places/${at}`);
  await database.sql(
    lfns.map((lfn, at) => w.mergedFile(lfn, at) + w.placed(lfn, 'places')).join('') +
      lfns
        .slice(0, 3)
        .map((lfn) => w.backedUp(lfn))
        .join(''),
  );
  const { incidentId } = await crash('places');
  await database.sql(`select set_config('sweepbook.recovery', '${incidentId}', false);
    update replicas set status = 'STAGING' where incident_id = ${incidentId}`);
  const [store] = await database.sql<{ id: number }>(`select id from mass_stores`);
  const storeId = store?.id ?? 0;
  const claim = (most = 10) => claimChecks(database.db, 'w1', 60, most);
  // Of three that come from the store, two; and the one that is only read.
  const first = await claim();
  expect(first.map((of) => [of.lfn, of.copy?.storeId ?? null])).toEqual([
    ['/places/1', storeId],
    ['/places/2', storeId],
    ['/places/4', null],
  ]);
  expect(await claim()).toEqual([]);
  expect(await freeSlots(database.db.fork(), storeId)).toBe(0);
  // Nor does a backup.
  await database.sql(w.mergedFile('/places/new', 1) + w.requested('/places/new'));
  const [record] = await database.sql<{ id: number }>(`select ${w.backup('/places/new')} as id`);
  expect(await claimBackup(database.db, record?.id ?? 0, 'w2', 60)).toMatchObject({
    kind: 'later',
  });
  const failure = { code: 'STORE_UNAVAILABLE', message: 'the drive is stuck' };
  expect(first[0] && (await failCheck(database.db, first[0], failure, 60_000))).toBe('REQUESTED');
  expect((await claim()).map((of) => of.lfn)).toEqual(['/places/3']);
  await sound();
});

test('a read that hangs is left behind when its time is over', async () => {
  expect([deadlineMs(0), deadlineMs(2_000_000_000_000)]).toEqual([600_000, 1_000_600_000]);
  const hangs = () => new Promise<never>(() => undefined);
  await expect(inTime(20, new AbortController(), hangs)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
  // So is one whose lease is lost, or whose worker is being stopped.
  const abort = new AbortController();
  const given = inTime(60_000, abort, hangs);
  abort.abort(new Error('stopped'));
  await expect(given).rejects.toThrow('stopped');
  expect(await inTime(60_000, new AbortController(), async () => 'read')).toBe('read');
});
