import { requestOwed } from '../backups/owed-copies.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import { registerInTransaction } from '../files/files.service.ts';
import { keepIncoming, type IncomingCopy } from '../files/incoming-copies.service.ts';
import type { MadeComposite } from '../storage/make-composite.ts';
import { lockHeld, type WorkClaim } from './work.service.ts';

/** A composite file that is to be made. */
export interface CompositeToMake {
  readonly number: number;
  readonly lfn: string;
  readonly inputBytes: number;
}

export async function compositesToMake(db: Db, { id }: WorkClaim): Promise<CompositeToMake[]> {
  return rows(
    db.fork(),
    sql<CompositeToMake>`
    select number, lfn, input_bytes as "inputBytes" from publication_composites
    where publication_id = ${id} and path is null order by number`,
  );
}

export interface PlannedInput {
  readonly id: number;
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly stamp: string;
  readonly eventCount: number | null;
}

export async function inputsOf(
  db: Db,
  { id }: WorkClaim,
  composite: number,
): Promise<PlannedInput[]> {
  return rows(
    db.fork(),
    sql<PlannedInput>`
    select id, path, name, size_bytes as "sizeBytes", sha256, stamp, event_count as "eventCount"
    from publication_files where publication_id = ${id} and composite = ${composite} order by id`,
  );
}

/** One is made: a later attempt does not make it again. By the holder of the attempt only (LEASE_LOST). */
export async function recordComposite(
  db: Db,
  claim: WorkClaim,
  number: number,
  made: MadeComposite & { readonly eventCount: number | null },
): Promise<void> {
  await inTransaction(db, { principal: claim.worker }, async (tx) => {
    await lockHeld(tx, claim, 'MERGING');
    const places = [...made.offsets];
    await rows(
      tx,
      sql`update publication_files f set member_offset = t.place
        from unnest(${places.map(([id]) => id)}::bigint[], ${places.map(([, place]) => place)}::bigint[]) as t (id, place)
        where f.id = t.id and f.publication_id = ${claim.id}`,
    );
    await changedRows(
      tx,
      sql`update publication_composites set path = ${made.path}, size_bytes = ${made.sizeBytes},
          adler32 = ${made.adler32}, sha256 = ${made.sha256}, event_count = ${made.eventCount},
          made_at = clock_timestamp()
        where publication_id = ${claim.id} and number = ${number} and path is null`,
    );
  });
}

interface Made {
  readonly number: number;
  readonly lfn: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
  readonly eventCount: number | null;
  readonly stream: string | null;
  readonly release: string | null;
  readonly storeId: number;
}

/** All are made: they are registered, seen by nobody but the owner and operators, and their backups asked for. */
export async function registerComposites(
  db: Db,
  jobs: JobQueue,
  claim: WorkClaim,
  place: Omit<IncomingCopy, 'path'>,
): Promise<void> {
  await inTransaction(db, { principal: claim.requestedBy }, async (tx) => {
    await lockHeld(tx, claim, 'MERGING');
    const made = await rows(
      tx,
      sql<Made>`
      select c.number, c.lfn, c.path, c.size_bytes as "sizeBytes", c.adler32, c.sha256, c.event_count as "eventCount",
        p.stream, p.release, p.store_id as "storeId"
      from publication_composites c join publications p on p.id = c.publication_id
      where p.id = ${claim.id} order by c.number`,
    );
    const outcomes = await registerInTransaction(
      tx,
      made.map(({ lfn, sizeBytes, adler32, sha256, eventCount, stream, release }) => ({
        lfn,
        kind: 'MERGED_FILE' as const,
        sizeBytes,
        adler32,
        sha256,
        eventCount,
        stream,
        release,
      })),
      place.site,
    );
    for (const [at, composite] of made.entries()) {
      const outcome = outcomes[at];
      if (outcome?.fileId === undefined) {
        const { code, message } = outcome?.error ?? { code: 'INTERNAL' as const, message: '' };
        throw new SweepbookError(code, message, { lfn: composite.lfn });
      }
      await rows(
        tx,
        sql`update publication_composites set file_id = ${outcome.fileId}
          where publication_id = ${claim.id} and number = ${composite.number}`,
      );
      await keepIncoming(tx, outcome.fileId, { ...place, path: composite.path });
    }
    await rows(
      tx,
      sql`update publications set status = 'BACKING_UP', worker = null, lease_until = null, done_bytes = 0,
          failure_count = 0, last_error = null, last_error_code = null where id = ${claim.id}`,
    );
    const ids = outcomes.flatMap((outcome) => outcome.fileId ?? []);
    await requestOwed(tx, jobs, ids, made[0]?.storeId ?? 0);
  });
}
