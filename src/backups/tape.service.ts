import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import {
  keptEvidence,
  mostKeysPerQuestion,
  type Evidence,
  type StoreAnswer,
} from '../storage/contract.ts';
import { leaseLost, type Claim } from './attempts.service.ts';

const firstLookMs = 30_000;
const longestLookMs = 3_600_000;

/**
 * The copy is right, and tape will have it in hours or days: the record waits, and no worker with it. What the store
 * said so far is kept. By the holder of the attempt only (LEASE_LOST).
 */
export async function awaitTape(
  db: Db,
  claim: Claim,
  storeKey: string,
  answer: StoreAnswer,
): Promise<void> {
  const changed = await inTransaction(db, { principal: claim.worker }, (tx) =>
    changedRows(
      tx,
      sql`update backup_records set store_key = ${storeKey}, stored_size_bytes = ${answer.sizeBytes ?? null},
          stored_adler32 = ${answer.adler32 ?? null}, stored_sha256 = ${answer.sha256 ?? null},
          evidence = ${JSON.stringify(keptEvidence(answer.evidence))}::jsonb, worker = null, lease_until = null,
          awaits_tape_since = clock_timestamp(), next_look_at = clock_timestamp(), look_count = 0
        where id = ${claim.backupId} and attempt = ${claim.attempt} and status = 'COPIED' returning id`,
    ),
  );
  if (changed !== 1) throw leaseLost(claim);
}

/** A record that waits for tape, to be looked at now. */
export interface AwaitingTape {
  readonly claim: Claim;
  readonly storeKey: string;
  /** What the store said when the copy was made. */
  readonly copied: StoreAnswer;
}

interface AwaitingRow {
  readonly id: number;
  readonly attempt: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly storeKey: string;
  readonly storedSizeBytes: number;
  readonly storedAdler32: string;
  readonly storedSha256: string | null;
  readonly evidence: Evidence;
  readonly isTrusted: boolean;
  readonly lookCount: number;
}

/**
 * Takes what is due in a store, at most one question's worth. Taking it puts off the next look, ever longer, so
 * that a worker that dies, or two that look at once, do no harm.
 */
export async function takeAwaitingTape(
  db: Db,
  storeId: number,
  worker: string,
): Promise<AwaitingTape[]> {
  const due = await inTransaction(db, { principal: worker }, async (tx) => {
    const taken = await rows(
      tx,
      sql<AwaitingRow>`
      select b.id, b.attempt, b.file_id as "fileId", f.lfn, f.size_bytes as "sizeBytes", f.adler32, f.sha256,
        b.store_key as "storeKey", b.stored_size_bytes as "storedSizeBytes", b.stored_adler32 as "storedAdler32",
        b.stored_sha256 as "storedSha256", b.evidence, s.is_trusted as "isTrusted", b.look_count as "lookCount"
      from backup_records b join files f on f.id = b.file_id join mass_stores s on s.id = b.store_id
      where b.store_id = ${storeId} and b.awaits_tape_since is not null and b.next_look_at <= clock_timestamp()
      order by b.next_look_at, b.id limit ${mostKeysPerQuestion} for update of b skip locked`,
    );
    const delays = taken.map((row) =>
      nextDelayMs(row.lookCount + 1, { baseMs: firstLookMs, maxMs: longestLookMs }),
    );
    await rows(
      tx,
      sql`update backup_records b set look_count = b.look_count + 1,
          next_look_at = clock_timestamp() + make_interval(secs => t.ms / 1000.0)
        from unnest(${taken.map((row) => row.id)}::bigint[], ${delays}::integer[]) as t (id, ms) where b.id = t.id`,
    );
    return taken;
  });
  return due.map((row) => ({
    storeKey: row.storeKey,
    claim: {
      backupId: row.id,
      attempt: row.attempt,
      fileId: row.fileId,
      lfn: row.lfn,
      expected: { sizeBytes: row.sizeBytes, adler32: row.adler32, sha256: row.sha256 },
      storeId,
      worker,
      lostKeys: [],
      policy: { confirmLevel: 'ARCHIVED', isTrusted: row.isTrusted },
    },
    copied: {
      isPresent: true,
      sizeBytes: row.storedSizeBytes,
      adler32: row.storedAdler32,
      ...(row.storedSha256 === null ? {} : { sha256: row.storedSha256 }),
      evidence: row.evidence,
    },
  }));
}
