import { fileURLToPath } from 'node:url';
import { demand, type Viewer } from '../access/policy.ts';
import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, shown, SweepbookError } from '../errors.ts';
import { findFile } from '../files/files.queries.ts';
import type { OpenStores } from '../storage/open.ts';
import { findSuspicion } from './suspicions.queries.ts';
import { checkAfterReport, type SuspicionState } from './suspicions.rules.ts';
import { isLine } from '../text.ts';

export interface ReadFailure {
  readonly lfn: string;
  /** What the job tried to open. */
  readonly url: string;
  /** What went wrong, as the job saw it. */
  readonly error: string;
  /** The job, as its batch system calls it. */
  readonly job: string;
}

export interface ReportOutcome {
  readonly lfn: string;
  /** The job had not said so before. */
  readonly isNew: boolean;
  readonly state: SuspicionState;
}

const longest = { job: 200, error: 1000, url: 4096 } as const;
/** Reports of other jobs are counted and no longer kept. */
const mostReportsKept = 100;
const mostReportsADay = 1000;

interface Copy {
  readonly replicaId: number | null;
  readonly backupId: number | null;
  readonly place: string;
}

/**
 * Writes down that a job could not read a copy. When enough different jobs have said so the copy is
 * to be checked by reading it; the reports alone change nothing else. NOT_FOUND, RATE_LIMITED.
 */
export async function reportReadFailure(
  db: Db,
  stores: OpenStores,
  viewer: Viewer,
  failure: ReadFailure,
  suspicionJobs: number,
): Promise<ReportOutcome> {
  demand(viewer, 'reportReadFailure');
  const clean = checked(failure);
  const file = await findFile(db.fork(), viewer, clean.lfn);
  if (!file) {
    throw new SweepbookError('NOT_FOUND', `file ${shown(clean.lfn)}: there is none that you see`, {
      lfn: clean.lfn,
    });
  }
  const copies = await copiesAt(db, stores, file.id, clean.url);
  if (copies.length === 0) {
    throw new SweepbookError(
      'NOT_FOUND',
      `url ${shown(clean.url)} is no copy of ${clean.lfn} that is thought to be readable: give the URL or path as the file list has it`,
      { lfn: clean.lfn, url: clean.url },
    );
  }
  return inTransaction(db, { principal: viewer.principal, reason: clean.error }, async (tx) => {
    let isNew = false;
    let state: SuspicionState = 'REPORTED';
    for (const copy of copies) {
      const outcome = await reportCopy(tx, viewer, { fileId: file.id, copy }, clean, suspicionJobs);
      isNew ||= outcome.isNew;
      if (outcome.state !== 'REPORTED') ({ state } = outcome);
    }
    return { lfn: clean.lfn, isNew, state };
  });
}

function checked({ lfn, url, error, job }: ReadFailure): ReadFailure {
  const said = error.trim();
  if (job === '' || job.length > longest.job || !isLine(job)) {
    throw badInput('job', job, `the id of the job, 1 to ${longest.job} printable characters`);
  }
  if (said === '' || said.includes('\0')) {
    throw badInput('error', error, 'what the job saw when it could not read');
  }
  if (url === '' || url.includes('\0') || Buffer.byteLength(url) > longest.url) {
    throw badInput('url', url, `what the job tried to open, at most ${longest.url} bytes`);
  }
  // Jobs send whole stack traces; their beginning says it.
  return { lfn, url, job, error: said.slice(0, longest.error) };
}

/** The copies that a job means by a URL or path: on disk, or confirmed in a mass store. */
async function copiesAt(db: Db, stores: OpenStores, fileId: number, url: string): Promise<Copy[]> {
  const given = [url, url.replace(/[?#].*$/s, '')];
  const names = new Set([...given, ...given.map(pathOf)]);
  const replicas = await rows(
    db.fork(),
    sql<{ id: number; volume: string; path: string }>`
    select p.id, v.name as volume, p.path from replicas p join volumes v on v.id = p.volume_id
    where p.file_id = ${fileId} and p.status = 'AVAILABLE' and p.path = any (${[...names]}::text[])`,
  );
  const backups = await rows(
    db.fork(),
    sql<{ id: number; storeId: number; key: string }>`
    select id, store_id as "storeId", store_key as key from backup_records
    where file_id = ${fileId} and status = 'CONFIRMED'`,
  );
  const storeRows = new Map((await listMassStores(db)).map((row) => [row.id, row]));
  const stored = backups.flatMap(({ id, storeId, key }) => {
    const row = storeRows.get(storeId);
    if (!row) return [];
    const store = stores.of(row);
    const isMeant = [store.accessUrl(key), store.placeOf(key)].some((name) => names.has(name));
    return isMeant ? [{ replicaId: null, backupId: id, place: `${row.name}:${key}` }] : [];
  });
  const onDisk = replicas.map(({ id, volume, path }) => ({
    replicaId: id,
    backupId: null,
    place: `${volume}:${path}`,
  }));
  return [...onDisk, ...stored];
}

/** The path of a file: URL; anything else as it is. */
function pathOf(url: string): string {
  try {
    return url.startsWith('file:') ? fileURLToPath(url) : url;
  } catch {
    return url;
  }
}

interface OpenSuspicion {
  readonly id: number;
  readonly state: SuspicionState;
}

async function openSuspicion(tx: Db, fileId: number, copy: Copy): Promise<OpenSuspicion> {
  await rows(
    tx,
    sql`insert into suspicions (file_id, replica_id, backup_id, place)
      values (${fileId}, ${copy.replicaId}, ${copy.backupId}, ${copy.place}) on conflict do nothing`,
  );
  const open = await firstRow(
    tx,
    sql<OpenSuspicion>`
    select id, state from suspicions
    where (replica_id = ${copy.replicaId} or backup_id = ${copy.backupId})
      and state in ('REPORTED', 'SUSPICIOUS', 'CHECKING', 'UNREADABLE_FROM_HERE')
    for update`,
  );
  // It was settled between the two statements: the next report is about the copy as it is now.
  return open ?? openSuspicion(tx, fileId, copy);
}

async function reportCopy(
  tx: Db,
  viewer: Viewer,
  { fileId, copy }: { fileId: number; copy: Copy },
  failure: ReadFailure,
  suspicionJobs: number,
): Promise<{ isNew: boolean; state: SuspicionState }> {
  const open = await openSuspicion(tx, fileId, copy);
  const isNew = await keepReport(tx, viewer, open.id, failure);
  const counted = await firstRow(
    tx,
    sql<{ jobCount: number; sinceCheckMs: number | null }>`
    update suspicions s set report_count = report_count + 1, last_reported_at = clock_timestamp(),
      job_count = (select count(*) from read_failures where suspicion_id = s.id), last_error = ${failure.error}
    where id = ${open.id}
    returning job_count as "jobCount", (
      select extract(epoch from clock_timestamp() - max(o.checked_at)) * 1000 from suspicions o
      where o.file_id = s.file_id and (o.replica_id = s.replica_id or o.backup_id = s.backup_id)) as "sinceCheckMs"`,
  );
  const inMs = checkAfterReport(
    {
      state: open.state,
      isNewJob: isNew,
      jobCount: counted?.jobCount ?? 0,
      sinceCheckMs: counted?.sinceCheckMs ?? undefined,
    },
    suspicionJobs,
  );
  if (inMs === undefined) return { isNew, state: open.state };
  await askForCheck(tx, open.id, inMs);
  return { isNew, state: 'SUSPICIOUS' };
}

/** The row is the job: a worker that looks finds it. */
export async function askForCheck(tx: Db, id: number, inMs: number): Promise<number> {
  return changedRows(
    tx,
    sql`update suspicions set state = 'SUSPICIOUS', blind_hosts = '{}',
        next_attempt_at = clock_timestamp() + make_interval(secs => ${inMs / 1000})
      where id = ${id} and (state in ('REPORTED', 'UNREADABLE_FROM_HERE')
        or (state = 'SUSPICIOUS' and next_attempt_at > clock_timestamp() + make_interval(secs => ${inMs / 1000})))
      returning id`,
  );
}

/** Keeps what the job said; false = it said so before, or there are too many to keep. */
async function keepReport(
  tx: Db,
  viewer: Viewer,
  suspicionId: number,
  { url, error, job }: ReadFailure,
): Promise<boolean> {
  const isRepeat = await changedRows(
    tx,
    sql`update read_failures set report_count = report_count + 1, last_at = clock_timestamp(),
        error = ${error}, url = ${url}
      where suspicion_id = ${suspicionId} and principal = ${viewer.principal} and job = ${job} returning id`,
  );
  if (isRepeat > 0) return false;
  const found = await firstRow(
    tx,
    sql<{ today: number; kept: number }>`
    select (select count(*) from read_failures
        where principal = ${viewer.principal} and first_at > now() - interval '1 day') as today,
      (select count(*) from read_failures where suspicion_id = ${suspicionId}) as kept`,
  );
  if ((found?.today ?? 0) >= mostReportsADay) {
    throw new SweepbookError(
      'RATE_LIMITED',
      `${viewer.principal} has reported ${mostReportsADay} read failures within a day: tell the operators`,
      { most: mostReportsADay },
    );
  }
  if ((found?.kept ?? 0) >= mostReportsKept) return false;
  await rows(
    tx,
    sql`insert into read_failures (suspicion_id, job, url, error) values (${suspicionId}, ${job}, ${url}, ${error})`,
  );
  return true;
}

/** An operator wants a copy checked now, whatever was reported. NOT_FOUND. */
export async function checkSuspiciousCopy(
  db: Db,
  viewer: Viewer,
  id: number | undefined,
): Promise<{ id: number; changed: boolean }> {
  demand(viewer, 'checkCopies');
  return inTransaction(db, { principal: viewer.principal, reason: 'asked for' }, async (tx) => {
    const found = await findSuspicion(tx, viewer, id ?? 0);
    if (!found) {
      throw new SweepbookError('NOT_FOUND', 'no suspicious copy has this id: look at the list', {
        field: 'id',
      });
    }
    return { id: found.id, changed: (await askForCheck(tx, found.id, 0)) > 0 };
  });
}
