import { listMassStores, type MassStoreRow } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { nextDelayMs } from '../storage/backoff.ts';
import { mostKeysPerQuestion, type Recalling } from '../storage/contract.ts';
import { chosenStore, failPoolCopy, type PoolFailure } from './copies.service.ts';

/** A file that a tape store is asked for. */
interface Recall {
  readonly copyId: number;
  readonly attempt: number;
  readonly key: string;
}

const longestLookMs = 600_000;
/** How long a store keeps on its disk what it brought, if we never come back. */
const diskLifetimeSeconds = 7 * 86_400;

export interface RecallOptions {
  readonly db: Db;
  readonly storeId: number;
  readonly store: Recalling;
  readonly worker: string;
  readonly retryBaseMs: number;
}

/** Stores that are configured and whose files must be asked for. */
export async function recallStores(db: Db): Promise<MassStoreRow[]> {
  return (await listMassStores(db)).filter((row) => row.needsRecall && row.isConfigured);
}

/** A worker that asks has so long for it; then another one asks. */
const askMs = 60_000;

async function takeUnasked(db: Db, storeId: number, worker: string): Promise<Recall[]> {
  return inTransaction(db, { principal: worker }, (tx) =>
    rows(
      tx,
      sql<Recall>`
      with due as materialized (
        select c.id, b.key from (
          select * from pool_copies where status = 'REQUESTED' and not is_recalled and recall_id is null
            and next_attempt_at <= clock_timestamp() order by next_attempt_at, id limit ${mostKeysPerQuestion}
            for update skip locked) c
        cross join lateral ${chosenStore} b where b.needs_recall and b.store_id = ${storeId})
      update pool_copies c set next_attempt_at = clock_timestamp() + make_interval(secs => ${askMs / 1000})
      from due where c.id = due.id returning c.id as "copyId", c.attempt, due.key`,
    ),
  );
}

/**
 * Asks a store, in one request, for files that wait for it. A worker that dies between asking and writing it down
 * leaves a request that the store lets go by itself, and another one is made. Returns how many.
 */
export async function askForRecalls(options: RecallOptions): Promise<number> {
  const { db, storeId, store, worker, retryBaseMs } = options;
  const due = await takeUnasked(db, storeId, worker);
  if (due.length === 0) return 0;
  const ids = due.map((item) => item.copyId);
  let id: string;
  try {
    id = await store.recall([...new Set(due.map((item) => item.key))], diskLifetimeSeconds);
  } catch (error) {
    // Nothing was asked for: again, as soon as the store may be up.
    await rows(
      db.fork(),
      sql`update pool_copies set next_attempt_at = clock_timestamp() + make_interval(secs => ${retryBaseMs / 1000})
        where id = any (${ids}::bigint[]) and status = 'REQUESTED'`,
    );
    throw error;
  }
  const asked = await inTransaction(db, { principal: worker }, (tx) =>
    rows(
      tx,
      sql<{
        id: number;
      }>`update pool_copies set status = 'RECALLING', recall_store_id = ${storeId}, recall_id = ${id},
          next_look_at = clock_timestamp(), look_count = 0, silent_looks = 0
        where id = any (${ids}::bigint[]) and status = 'REQUESTED' and recall_id is null returning id`,
    ),
  );
  const mine = new Set(asked.map((row) => row.id));
  const others = due.filter((item) => !mine.has(item.copyId));
  // Released meanwhile.
  if (others.length > 0) {
    await store.letGo(
      id,
      others.map((item) => item.key),
      false,
    );
  }
  return asked.length;
}

interface Looked extends Recall {
  readonly recallId: string;
  readonly lookCount: number;
  /** Looks since the store last said anything of it. */
  readonly silentLooks: number;
}

/** Taking it puts off the next look, ever longer, so that a worker that dies, or two that look at once, do no harm. */
async function takeDue({ db, storeId, worker, retryBaseMs }: RecallOptions): Promise<Looked[]> {
  return inTransaction(db, { principal: worker }, async (tx) => {
    const due = await rows(
      tx,
      sql<Looked>`
      select c.id as "copyId", c.attempt, b.store_key as key, c.recall_id as "recallId", c.look_count as "lookCount",
        c.silent_looks as "silentLooks"
      from pool_copies c join backup_records b on b.file_id = c.file_id and b.store_id = c.recall_store_id
      where c.recall_store_id = ${storeId} and c.recall_id is not null and c.status = 'RECALLING'
        and c.next_look_at <= clock_timestamp()
      order by c.next_look_at, c.id limit ${mostKeysPerQuestion} for update of c skip locked`,
    );
    const delays = due.map((row) =>
      nextDelayMs(row.lookCount + 1, { baseMs: 2 * retryBaseMs, maxMs: longestLookMs }),
    );
    await rows(
      tx,
      sql`update pool_copies c set look_count = c.look_count + 1,
          next_look_at = clock_timestamp() + make_interval(secs => t.ms / 1000.0)
        from unnest(${due.map((row) => row.copyId)}::bigint[], ${delays}::integer[]) as t (id, ms) where c.id = t.id`,
    );
    return due;
  });
}

/** Asks what became of the requests that are due, one question for each. Returns how many copies took a step. */
export async function lookAtRecalls(options: RecallOptions): Promise<number> {
  const { db, store, worker, retryBaseMs } = options;
  const due = await takeDue(options);
  let moved = 0;
  for (const [id, items] of Map.groupBy(due, (item) => item.recallId)) {
    const said = await store.recalled(
      id,
      items.map((item) => item.key),
    );
    if (said) await countSilence(db, items, said);
    const there = items.filter((item) => said?.get(item.key)?.state === 'ONLINE');
    moved += await areThere(db, worker, there);
    for (const item of items) {
      const failure = failureOf(id, item, said);
      if (!failure) continue;
      const claim = { copyId: item.copyId, attempt: item.attempt, worker };
      if ((await failPoolCopy(db, claim, failure, retryBaseMs)) !== 'LEASE_LOST') moved++;
    }
  }
  return moved;
}

/** Looks one after the other in which a store says nothing of a file, until it has forgotten it: hours. */
const mostLooksInSilence = 20;

/** A store that is slow, or cannot be asked, says nothing against a file. */
async function countSilence(
  db: Db,
  items: readonly Looked[],
  said: ReadonlyMap<string, unknown>,
): Promise<void> {
  const changed = items.filter((item) => !said.has(item.key) || item.silentLooks > 0);
  if (changed.length === 0) return;
  await rows(
    db.fork(),
    sql`update pool_copies c set silent_looks = case when t.said then 0 else c.silent_looks + 1 end
      from unnest(${changed.map((item) => item.copyId)}::bigint[],
        ${changed.map((item) => said.has(item.key))}::boolean[]) as t (id, said)
      where c.id = t.id and c.status = 'RECALLING'`,
  );
}

function failureOf(
  id: string,
  { key, silentLooks }: Looked,
  said: Awaited<ReturnType<Recalling['recalled']>>,
): PoolFailure | undefined {
  const answer = said?.get(key);
  if (!said) {
    return { code: 'STORE_UNAVAILABLE', message: `the store has forgotten stage request ${id}` };
  }
  if (!answer && silentLooks >= mostLooksInSilence) {
    const message = `the store says nothing of this file in stage request ${id}`;
    return { code: 'STORE_UNAVAILABLE', message };
  }
  if (answer?.state !== 'FAILED') return undefined;
  return {
    code: 'SOURCE_UNREADABLE',
    message: `the store does not bring it from tape: ${answer.reason ?? 'it does not say why'}`,
    evidence: answer.evidence,
  };
}

async function areThere(db: Db, worker: string, items: readonly Recall[]): Promise<number> {
  if (items.length === 0) return 0;
  return inTransaction(db, { principal: worker }, (tx) =>
    changedRows(
      tx,
      sql`update pool_copies set status = 'REQUESTED', is_recalled = true, next_attempt_at = clock_timestamp()
        where id = any (${items.map((item) => item.copyId)}::bigint[]) and status = 'RECALLING' returning id`,
    ),
  );
}

/**
 * Tells a store what is needed there no more: copies that are in the pool, or that nobody waits for. Until it has
 * heard, its name for the request is kept. Returns how many.
 */
export async function letGoRecalls({ db, storeId, store, worker }: RecallOptions): Promise<number> {
  const over = await rows(
    db.fork(),
    sql<Recall & { recallId: string; isThere: boolean }>`
    select c.id as "copyId", c.attempt, b.store_key as key, c.recall_id as "recallId",
      c.status <> 'CANCELLED' as "isThere"
    from pool_copies c join backup_records b on b.file_id = c.file_id and b.store_id = c.recall_store_id
    where c.recall_store_id = ${storeId} and c.recall_id is not null
      and not (c.status in ('RECALLING', 'COPYING') or (c.status = 'REQUESTED' and c.is_recalled))
    order by c.id limit ${mostKeysPerQuestion}`,
  );
  const groups = Map.groupBy(over, (item) => `${item.isThere} ${item.recallId}`);
  for (const items of groups.values()) {
    const [first] = items;
    if (!first) continue;
    const keys = items.map((item) => item.key);
    await store.letGo(first.recallId, keys, first.isThere);
    await inTransaction(db, { principal: worker }, (tx) =>
      rows(
        tx,
        sql`update pool_copies set recall_id = null
          where id = any (${items.map((item) => item.copyId)}::bigint[]) and recall_id = ${first.recallId}
            and not (status in ('RECALLING', 'COPYING') or (status = 'REQUESTED' and is_recalled))`,
      ),
    );
  }
  return over.length;
}
