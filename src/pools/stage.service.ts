import { createHash } from 'node:crypto';
import { demand, may, type Viewer } from '../access/policy.ts';
import { visibleDataset, visibleFile } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { mostFilesPerCall } from '../files/files.service.ts';
import { pinSeconds, poolFull } from './pools.rules.ts';
import { getPool, type PoolRow } from './pools.service.ts';

export interface StageFiles {
  readonly lfns?: readonly string[] | null | undefined;
  readonly dataset?: string | null | undefined;
  /** The only one, if not given. */
  readonly pool?: string | null | undefined;
  readonly pinSeconds?: number | null | undefined;
}

export interface StageChange {
  readonly requestId: number;
  readonly changed: boolean;
}

interface WantedFile {
  readonly id: number;
  readonly sizeBytes: number;
  readonly isSafe: boolean;
  readonly lfn: string;
}

/** Items i of copies c that somebody wants: they are there and pinned, or on their way. */
export const isWanted = sql`(i.released_at is null and (case when i.pinned_until is null
  then c.status in ('REQUESTED', 'RECALLING', 'COPYING', 'EVICTING', 'EVICTED')
  else i.pinned_until > clock_timestamp() and c.status <> 'LOST' end))`;

/**
 * Asks for files to lie in a pool, pinned for so long from when they are there. What is there or under way is not
 * copied again; the same files asked for again by the same principal are the same request, with longer pins.
 * NOT_FOUND, FORBIDDEN, POOL_FULL, LIMIT_REACHED, FILES_NOT_BACKED_UP.
 */
export async function stageFiles(db: Db, viewer: Viewer, input: StageFiles): Promise<StageChange> {
  demand(viewer, 'stageFiles');
  const pool = await getPool(db.fork(), input.pool);
  demandRole(viewer, pool);
  const seconds = pinSeconds(input.pinSeconds, pool);
  const { files, datasetId } = await wantedFiles(db.fork(), viewer, input);
  const digest = createHash('sha256')
    .update(files.map((file) => file.id).join())
    .digest('base64url');
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return inTransaction(db, viewer, async (tx) => {
    // One request at a time, and no eviction meanwhile.
    await rows(tx, sql`select 1 from pools where id = ${pool.id} for no key update`);
    const ids = files.map((file) => file.id);
    await demandRoom(tx, viewer, pool, ids);
    const known = await firstRow(
      tx,
      sql<{ id: number }>`
      select id from stage_requests where principal = ${viewer.principal} and pool_id = ${pool.id}
        and digest = ${digest} and released_at is null`,
    );
    const made =
      known ??
      (await firstRow(
        tx,
        sql<{ id: number }>`
        insert into stage_requests (pool_id, dataset_id, digest, file_count, size_bytes, pin_seconds)
        values (${pool.id}, ${datasetId}, ${digest}, ${files.length}, ${sizeBytes}, ${seconds}) returning id`,
      ));
    if (!made) throw new Error('no stage request was made');
    if (known) {
      await rows(
        tx,
        sql`update stage_requests set pin_seconds = ${seconds} where id = ${known.id}
          and pin_seconds <> ${seconds}`,
      );
    }
    const asked = await askForCopies(tx, pool.id, ids);
    const pinned = await pin(tx, made.id, pool.id, ids, seconds);
    return { requestId: made.id, changed: !known || asked > 0 || pinned > 0 };
  });
}

function demandRole(viewer: Viewer, pool: PoolRow): void {
  if (viewer.roles.some((role) => pool.roles.includes(role))) return;
  throw new SweepbookError(
    'FORBIDDEN',
    `${viewer.principal} may not stage into pool ${pool.name}: it takes one of the roles ${pool.roles.join(', ')}`,
    { pool: pool.name, roles: viewer.roles, allowed: pool.roles },
  );
}

/** The files, in order, each once; all of them seen, and held by a mass store. */
async function wantedFiles(
  db: Db,
  viewer: Viewer,
  { lfns, dataset }: StageFiles,
): Promise<{ files: WantedFile[]; datasetId: number | null }> {
  if ((lfns == null) === (dataset == null)) {
    throw badInput('lfns', lfns ?? null, 'give files, or the name of a dataset');
  }
  const columns = sql`f.id, f.size_bytes as "sizeBytes", f.confirmed_copies > 0 as "isSafe", f.lfn`;
  if (dataset != null) {
    const found = await firstRow(
      db,
      sql<{ id: number }>`select d.id from datasets d
        where d.name = ${dataset.replaceAll('\0', '')} and ${visibleDataset(viewer)}`,
    );
    if (!found) throw notSeen('dataset', dataset);
    const files = await rows(
      db,
      sql<WantedFile>`select ${columns} from dataset_files df join files f on f.id = df.file_id
        where df.dataset_id = ${found.id} order by f.id`,
    );
    if (files.length === 0) {
      throw new SweepbookError('DATASET_EMPTY', `dataset ${dataset} has no file`, { dataset });
    }
    demandSafe(files);
    return { files, datasetId: found.id };
  }
  const names = [...new Set(lfns)];
  if (names.length === 0 || names.length > mostFilesPerCall) {
    throw badInput('lfns', names.length, `1 to ${mostFilesPerCall} files in one call`);
  }
  const files = await rows(
    db,
    sql<WantedFile>`select ${columns} from files f
      where f.lfn = any (${names.map((lfn) => lfn.replaceAll('\0', ''))}::text[]) and ${visibleFile(viewer)} order by f.id`,
  );
  const seen = new Set(files.map((file) => file.lfn));
  const missing = names.find((lfn) => !seen.has(lfn));
  if (missing !== undefined) throw notSeen('file', missing);
  demandSafe(files);
  return { files, datasetId: null };
}

function notSeen(what: string, name: string): SweepbookError {
  return new SweepbookError(
    'NOT_FOUND',
    `${what} ${name.slice(0, 200)}: there is none that you see`,
    { [what]: name.slice(0, 200) },
  );
}

/** A pool is filled from mass stores alone. */
function demandSafe(files: readonly WantedFile[]): void {
  const missing = files.filter((file) => !file.isSafe);
  if (missing.length === 0) return;
  const first = missing.slice(0, 20).map((file) => file.lfn);
  throw new SweepbookError(
    'FILES_NOT_BACKED_UP',
    `${missing.length} files have no confirmed copy in a mass store, ${first[0]} for one: a pool is filled from there`,
    { missing: missing.length, first },
  );
}

interface Room {
  readonly mine: number;
  readonly wantedBytes: number;
  readonly newBytes: number;
}

/** What is wanted fits into the pool, and nobody wants too much; the pool is locked. */
async function demandRoom(
  tx: Db,
  viewer: Viewer,
  pool: PoolRow,
  ids: readonly number[],
): Promise<void> {
  const room = await firstRow(
    tx,
    sql<Room>`
    with asked as materialized (select unnest(${ids}::bigint[]) as file_id),
      wanted as materialized (
        select c.file_id, max(c.size_bytes) as size_bytes,
          bool_or(r.principal = ${viewer.principal}) as is_mine
        from stage_items i join stage_requests r on r.id = i.request_id join pool_copies c on c.id = i.copy_id
        where c.pool_id = ${pool.id} and ${isWanted} group by c.file_id),
      -- What its last store has lost stays, wanted or not.
      kept as (
        select c.file_id, c.size_bytes from pool_copies c join files f on f.id = c.file_id
        where c.pool_id = ${pool.id} and c.status = 'ONLINE' and f.confirmed_copies = 0
          and c.file_id not in (select file_id from wanted))
    select
      (select count(*) from (select file_id from wanted where is_mine union select file_id from asked) m) as mine,
      (select coalesce(sum(size_bytes), 0)::bigint from wanted)
        + (select coalesce(sum(size_bytes), 0)::bigint from kept) as "wantedBytes",
      (select coalesce(sum(f.size_bytes), 0)::bigint from asked a join files f on f.id = a.file_id
        where a.file_id not in (select file_id from wanted)) as "newBytes"`,
  );
  if (!room) throw new Error('the room of a pool was not told');
  if (room.mine > pool.fileLimit) {
    throw new SweepbookError(
      'LIMIT_REACHED',
      `${viewer.principal} would want ${room.mine} files in pool ${pool.name}, and may want ${pool.fileLimit} at once: release some`,
      { pool: pool.name, most: pool.fileLimit, wanted: room.mine },
    );
  }
  if (room.newBytes > 0 && room.wantedBytes + room.newBytes > pool.sizeLimit) {
    throw poolFull(pool.name, pool.sizeLimit, room.wantedBytes, room.newBytes);
  }
}

/** New copies, and those that are there no more; returns how many are asked for now. */
async function askForCopies(tx: Db, poolId: number, ids: readonly number[]): Promise<number> {
  return changedRows(
    tx,
    sql`insert into pool_copies (pool_id, file_id, path, size_bytes)
      select ${poolId}::integer, t.id, '', 0 from unnest(${ids}::bigint[]) as t (id) order by t.id
      on conflict (pool_id, file_id) do update set status = 'REQUESTED', requested_at = clock_timestamp(),
        next_attempt_at = clock_timestamp(), failure_count = 0, last_error_code = null, last_error = null,
        copied_bytes = 0, is_recalled = false, worker = null, lease_until = null
      where pool_copies.status in ('EVICTED', 'LOST', 'FAILED', 'CANCELLED') returning id`,
  );
}

/** Returns how many pins are new or longer by more than a moment. */
async function pin(
  tx: Db,
  requestId: number,
  poolId: number,
  ids: readonly number[],
  seconds: number,
): Promise<number> {
  const until = sql`case when c.status = 'ONLINE' then clock_timestamp() + make_interval(secs => ${seconds}) end`;
  const pinned = await changedRows(
    tx,
    sql`insert into stage_items (request_id, copy_id, pinned_until)
      select ${requestId}::bigint, c.id, ${until} from pool_copies c
      where c.pool_id = ${poolId} and c.file_id = any (${ids}::bigint[]) order by c.id
      on conflict (request_id, copy_id) do update set pinned_until = excluded.pinned_until, released_at = null
        where stage_items.released_at is not null
          or (excluded.pinned_until is null) <> (stage_items.pinned_until is null)
          or excluded.pinned_until > stage_items.pinned_until + interval '1 second' returning copy_id`,
  );
  await rows(
    tx,
    sql`update pool_copies c set pinned_until = i.pinned_until from stage_items i
      where i.request_id = ${requestId} and i.copy_id = c.id and i.pinned_until > c.pinned_until`,
  );
  return pinned;
}

/**
 * Takes pins off: all of a request, or those of some files. What nobody else wants may be evicted when others need
 * the room, and what is not there yet is not brought any more. NOT_FOUND. By who asked, and by operators.
 */
export async function releaseStage(
  db: Db,
  viewer: Viewer,
  requestId: number,
  lfns?: readonly string[] | null,
): Promise<StageChange> {
  demand(viewer, 'stageFiles');
  if (lfns != null && (lfns.length === 0 || lfns.length > mostFilesPerCall)) {
    throw badInput('lfns', lfns.length, `1 to ${mostFilesPerCall} files in one call`);
  }
  return inTransaction(db, viewer, async (tx) => {
    const request = await firstRow(
      tx,
      sql<{ poolId: number; principal: string; isReleased: boolean }>`
      select pool_id as "poolId", principal, released_at is not null as "isReleased"
      from stage_requests where id = ${requestId}`,
    );
    if (!request || !may(viewer, 'handleStage', request.principal)) throw noRequest(requestId);
    if (request.isReleased) return { requestId, changed: false };
    await rows(tx, sql`select 1 from pools where id = ${request.poolId} for no key update`);
    const released = await rows(
      tx,
      sql<{ id: number }>`
      update stage_items i set released_at = clock_timestamp() from pool_copies c, files f
      where i.request_id = ${requestId} and i.released_at is null and c.id = i.copy_id and f.id = c.file_id
        and ${lfns == null ? sql`true` : sql`f.lfn = any (${lfns}::text[])`} returning i.copy_id as id`,
    );
    await unpin(
      tx,
      released.map((row) => row.id),
    );
    const ended = await changedRows(
      tx,
      sql`update stage_requests r set released_at = clock_timestamp(), released_by = ${viewer.principal}
        where r.id = ${requestId} and r.released_at is null
          and not exists (select from stage_items i where i.request_id = r.id and i.released_at is null) returning id`,
    );
    return { requestId, changed: released.length > 0 || ended > 0 };
  });
}

export function noRequest(id: number | string): SweepbookError {
  return new SweepbookError('NOT_FOUND', `no stage request ${id}: look at "stage list"`, {
    request: id,
  });
}

/** The pins of others hold; what nobody wants and is not there yet is called off. */
async function unpin(tx: Db, copyIds: readonly number[]): Promise<void> {
  await rows(
    tx,
    sql`update pool_copies c set pinned_until = least(c.pinned_until, coalesce((
        select max(i.pinned_until) from stage_items i where i.copy_id = c.id and i.released_at is null),
        clock_timestamp()))
      where c.id = any (${copyIds}::bigint[]) and c.pinned_until > clock_timestamp()`,
  );
  await rows(
    tx,
    sql`update pool_copies c set status = 'CANCELLED'
      where c.id = any (${copyIds}::bigint[]) and c.status in ('REQUESTED', 'RECALLING')
        and not exists (select from stage_items i where i.copy_id = c.id and i.released_at is null)`,
  );
}
