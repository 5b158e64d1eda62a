import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import type { PublishSettings } from '../storage/publish-settings.ts';
import {
  afterFailure,
  compositeLfn,
  groupFiles,
  isPassingFault,
  type PublicationStatus,
} from './publications.rules.ts';
import { demandQuota } from './quotas.service.ts';

/** A publication that a worker checks and merges; `attempt` is the fence, as with backups. */
export interface WorkClaim {
  readonly id: number;
  readonly attempt: number;
  readonly worker: string;
  readonly status: PublicationStatus;
  readonly requestedBy: string;
  /** As the user named it. */
  readonly treeName: string | null;
}

/** Takes publications that wait, and those whose worker fell silent; no two workers the same one. */
export async function claimPublications(
  db: Db,
  worker: string,
  leaseSeconds: number,
  most: number,
): Promise<WorkClaim[]> {
  return inTransaction(db, { principal: worker }, (tx) =>
    rows(
      tx,
      sql<WorkClaim>`
    with due as materialized (
      select p.id from publications p where p.finished_at is null and p.status in ('REQUESTED', 'CHECKING', 'MERGING')
        and p.next_attempt_at <= clock_timestamp() and (p.lease_until is null or p.lease_until < clock_timestamp())
      order by p.next_attempt_at, p.id limit ${most} for no key update of p skip locked)
    update publications p set attempt = p.attempt + 1, worker = ${worker}, done_bytes = 0,
      status = case p.status when 'REQUESTED' then 'CHECKING' else p.status end,
      lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds})
    from due where p.id = due.id
    returning p.id, p.attempt, p.worker, p.status, p.requested_by as "requestedBy", p.tree_name as "treeName"`,
    ),
  );
}

/** Says that this work is alive, and how far; returns those that are still wanted. */
export async function renewWork(
  db: Db,
  held: readonly { readonly claim: WorkClaim; readonly bytes: number }[],
  leaseSeconds: number,
): Promise<Set<number>> {
  if (held.length === 0) return new Set();
  const alive = await rows(
    db.fork(),
    sql<{ id: number }>`
    update publications p set lease_until = clock_timestamp() + make_interval(secs => ${leaseSeconds}),
      done_bytes = t.bytes
    from unnest(${held.map((h) => h.claim.id)}::bigint[], ${held.map((h) => h.claim.attempt)}::integer[],
      ${held.map((h) => Math.round(h.bytes))}::bigint[]) as t (id, attempt, bytes)
    where p.id = t.id and p.attempt = t.attempt and p.status in ('CHECKING', 'MERGING') returning p.id`,
  );
  return new Set(alive.map((row) => row.id));
}

interface Held {
  readonly datasetName: string;
  readonly requestedBy: string;
  readonly chargedGroup: string | null;
  readonly wantedBytes: number;
}

/** The row, locked, if the claim still holds; LEASE_LOST when it was overtaken or called off. */
export async function lockHeld(
  tx: Db,
  { id, attempt }: WorkClaim,
  status: PublicationStatus,
): Promise<Held> {
  const held = await firstRow(
    tx,
    sql<Held>`
    select dataset_name as "datasetName", requested_by as "requestedBy", charged_group as "chargedGroup",
      wanted_bytes as "wantedBytes"
    from publications where id = ${id} and attempt = ${attempt} and status = ${status} for no key update`,
  );
  if (held) return held;
  throw new SweepbookError(
    'LEASE_LOST',
    `publication ${id}: attempt ${attempt} was too slow and has been overtaken, or it was withdrawn`,
    { id, attempt },
  );
}

/** A file that is to be checked. */
export interface FileToCheck {
  readonly id: number;
  readonly path: string;
  readonly toldEvents: number | null;
}

/** Files that are not checked yet. What an earlier attempt has checked stays checked. */
export async function filesToCheck(
  db: Db,
  { id }: WorkClaim,
  most: number,
): Promise<FileToCheck[]> {
  return rows(
    db.fork(),
    sql<FileToCheck>`
    select id, path, told_events as "toldEvents" from publication_files
    where publication_id = ${id} and size_bytes is null and fault is null order by id limit ${most}`,
  );
}

export type FileFinding =
  | {
      readonly id: number;
      readonly sizeBytes: number;
      readonly sha256: string;
      readonly stamp: string;
      readonly eventCount: number | null;
    }
  | { readonly id: number; readonly code: string; readonly fault: string };

const longestError = 2000;

/** What was found of some files, good and bad. */
export async function recordFindings(
  db: Db,
  claim: WorkClaim,
  findings: readonly FileFinding[],
): Promise<void> {
  if (findings.length === 0) return;
  const told = JSON.stringify(
    findings.map((found) =>
      'fault' in found ? { ...found, fault: found.fault.slice(0, longestError) } : found,
    ),
  );
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await lockHeld(tx, claim, 'CHECKING');
    await rows(
      tx,
      sql`update publication_files f set size_bytes = t."sizeBytes", sha256 = t.sha256, stamp = t.stamp,
          event_count = t."eventCount", fault_code = t.code, fault = t.fault
        from jsonb_to_recordset(${told}::jsonb) as t (id bigint, "sizeBytes" bigint, sha256 text, stamp text,
          "eventCount" bigint, code text, fault text)
        where f.id = t.id and f.publication_id = ${claim.id}`,
    );
  });
}

interface Checked {
  readonly id: number;
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly eventCount: number | null;
  readonly fault: string | null;
  readonly faultCode: string | null;
}

/**
 * All files are checked: faulty ones end the publication, and so do two of the same content; else they are grouped into
 * composite files.
 */
export async function planComposites(
  db: Db,
  claim: WorkClaim,
  settings: PublishSettings,
): Promise<void> {
  await recordTwins(db, claim);
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    const held = await lockHeld(tx, claim, 'CHECKING');
    const files = await rows(
      tx,
      sql<Checked>`
      select id, path, size_bytes as "sizeBytes", sha256, event_count as "eventCount", fault, fault_code as "faultCode"
      from publication_files where publication_id = ${claim.id} order by id`,
    );
    demandGood(files);
    const total = files.reduce((sum, file) => sum + file.sizeBytes, 0);
    await demandQuota(
      tx,
      settings,
      held.chargedGroup === null
        ? { kind: 'USER', name: held.requestedBy }
        : { kind: 'GROUP', name: held.chargedGroup },
      { files: files.length, bytes: total, but: claim.id },
    );
    const isCounted = files.every((file) => file.eventCount !== null);
    if (settings.merge && !isCounted) {
      throw new SweepbookError(
        'EVENT_COUNT_MISMATCH',
        `the events of ${files.find((file) => file.eventCount === null)?.path} are not known, since it is no ROOT file, so ` +
          'nobody could say whether its merge lost some: an operator sets countEvents in the publish file',
      );
    }
    await writePlan(tx, claim.id, files, { held, settings });
    await changedRows(
      tx,
      sql`update publications set status = 'MERGING', size_bytes = ${total}, done_bytes = 0, failure_count = 0,
          event_count = ${isCounted ? files.reduce((sum, file) => sum + (file.eventCount ?? 0), 0) : null},
          last_error = null, last_error_code = null, silent_since = null where id = ${claim.id}`,
    );
  });
}

/** Two of the same content: the later ones are faulty, since their events would count twice. */
async function recordTwins(db: Db, claim: WorkClaim): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await lockHeld(tx, claim, 'CHECKING');
    await rows(
      tx,
      sql`update publication_files f set fault_code = 'DUPLICATE',
          fault = left(format('%s has the same content as %s: its events would count twice; leave one out', f.path, t.twin),
            ${longestError})
        from (select id, first_value(path) over same as twin, row_number() over same as place
          from publication_files where publication_id = ${claim.id} and fault is null and sha256 is not null
          window same as (partition by sha256 order by id)) t
        where f.id = t.id and f.publication_id = ${claim.id} and t.place > 1`,
    );
  });
}

function demandGood(files: readonly Checked[]): void {
  const faulty = files.filter((file) => file.fault !== null);
  const [first] = faulty;
  if (!first) return;
  throw new SweepbookError(
    faulty.every((file) => file.faultCode === 'DUPLICATE') ? 'DUPLICATE' : 'SOURCE_UNREADABLE',
    `${faulty.length} of ${files.length} files cannot be published: ${first.fault}` +
      (faulty.length > 1 ? ', for one (publish show --faults has all)' : ''),
    { code: first.faultCode },
  );
}

async function writePlan(
  tx: Db,
  id: number,
  files: readonly Checked[],
  { held, settings }: { held: Held; settings: PublishSettings },
): Promise<void> {
  const extension = settings.merge?.extension ?? '.tar';
  const groups = groupFiles(files, held.wantedBytes);
  const numbered = groups.map((group, at) => ({ ...group, number: at + 1 }));
  await rows(
    tx,
    sql`insert into publication_composites (publication_id, number, lfn, file_count, input_bytes)
      select ${id}::bigint, t.* from unnest(${numbered.map((g) => g.number)}::integer[],
        ${numbered.map((g) => compositeLfn(settings.lfnPrefix, held.datasetName, id, { number: g.number, extension }))}::text[],
        ${numbered.map((g) => g.members.length)}::bigint[], ${numbered.map((g) => g.bytes)}::bigint[]) as t`,
  );
  const placed = numbered.flatMap((g) =>
    g.members.map((file) => ({ id: file.id, number: g.number })),
  );
  await rows(
    tx,
    sql`update publication_files f set composite = t.number
      from unnest(${placed.map((p) => p.id)}::bigint[], ${placed.map((p) => p.number)}::integer[]) as t (id, number)
      where f.id = t.id`,
  );
}

export interface WorkFailure {
  readonly code: string;
  readonly message: string;
  /** Nobody's fault (the worker is being stopped): does not count, and is tried again at once. */
  readonly isInnocent?: boolean;
}

const longestDelayMs = 300_000;

/** It did not work: tried again later, or over, with the reason; nothing if the lease is lost. */
export async function failWork(
  db: Db,
  claim: WorkClaim,
  { code, message, isInnocent }: WorkFailure,
  retryBaseMs: number,
): Promise<'again' | 'over' | 'LEASE_LOST'> {
  const words = message.slice(0, longestError);
  return inTransaction(db, { principal: claim.worker, reason: words }, async (tx) => {
    const row = await firstRow(
      tx,
      sql<{ failureCount: number; silentSince: Date | null }>`
      select failure_count as "failureCount", silent_since as "silentSince" from publications
      where id = ${claim.id} and attempt = ${claim.attempt} and status in ('CHECKING', 'MERGING') for no key update`,
    );
    if (!row) {
      // Withdrawn meanwhile: whoever cleans up need not wait for us.
      await rows(
        tx,
        sql`update publications set lease_until = null, worker = null
          where id = ${claim.id} and attempt = ${claim.attempt} and finished_at is not null`,
      );
      return 'LEASE_LOST';
    }
    const passes = isPassingFault(code);
    const silentSince = passes && !isInnocent ? (row.silentSince ?? new Date()) : null;
    const failureCount = row.failureCount + (isInnocent ? 0 : 1);
    const silentMs = silentSince ? Date.now() - silentSince.getTime() : 0;
    const next = isInnocent ? 'again' : afterFailure({ errorCode: code, failureCount, silentMs });
    const delayMs = isInnocent
      ? 0
      : nextDelayMs(failureCount, { baseMs: retryBaseMs, maxMs: longestDelayMs });
    await rows(
      tx,
      next === 'over'
        ? sql`update publications set status = 'FAILED', last_error_code = ${code}, last_error = ${words},
            worker = null, lease_until = null where id = ${claim.id}`
        : sql`update publications set failure_count = ${failureCount}, silent_since = ${silentSince},
            last_error_code = ${isInnocent ? null : code}, last_error = ${isInnocent ? null : words},
            next_attempt_at = ${new Date(Date.now() + delayMs)}, worker = null, lease_until = null where id = ${claim.id}`,
    );
    return next;
  });
}
