import { requestInTransaction } from '../backups/backups.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import type { LossKind } from './incidents.rules.ts';

interface Unfinished {
  readonly id: number;
  readonly status: string;
  readonly what: LossKind;
  readonly reportedBy: string;
  readonly itemCount: number;
  readonly openCount: number;
  readonly restoredCount: number;
  readonly fedOrdinal: number;
  readonly backupStoreId: number | null;
}

/** Items given to the workers at once; and how many of an incident wait at the most. */
const feedSize = 500;
const mostWaiting = 1000;
const mostBackupsAtOnce = 5000;
const feedLock = 77_342;

const unfinishedColumns = sql`i.id, i.status, i.what, i.reported_by as "reportedBy", i.item_count as "itemCount",
  i.open_count as "openCount", i.restored_count as "restoredCount", i.fed_ordinal as "fedOrdinal",
  i.backup_store_id as "backupStoreId"`;

/**
 * Moves incidents on: gives what is to be recovered to the workers, bit by bit, and ends what is over. Called
 * again and again by every worker; what a dead one left undone stands in the tables. Returns how many steps.
 */
export async function advanceIncidents(db: Db, jobs: JobQueue): Promise<number> {
  const unfinished = await rows(
    db.fork(),
    sql<Unfinished>`
    select ${unfinishedColumns} from incidents i where i.status in ('OPEN', 'RECOVERING')
      and (i.status = 'RECOVERING' or i.what = 'BACKUPS' or (i.open_count = 0 and i.restored_count > 0))
    order by i.id limit 50`,
  );
  let moved = 0;
  for (const { id, reportedBy, backupStoreId } of unfinished) {
    if (backupStoreId !== null) await jobs.prepare(backupStoreId);
    moved += await inTransaction(db, { principal: reportedBy }, (tx) => advanceOne(tx, jobs, id));
  }
  return moved;
}

async function advanceOne(tx: Db, jobs: JobQueue, id: number): Promise<number> {
  const lock = await firstRow(
    tx,
    sql<{
      isMine: boolean;
    }>`select pg_try_advisory_xact_lock(${feedLock}, ${id}::integer) as "isMine"`,
  );
  if (!lock?.isMine) return 0;
  const incident = await firstRow(
    tx,
    sql<Unfinished>`select ${unfinishedColumns} from incidents i where i.id = ${id} and i.status in ('OPEN', 'RECOVERING')`,
  );
  if (!incident) return 0;
  if (incident.fedOrdinal < incident.itemCount) {
    if (incident.what === 'BACKUPS') return feedBackups(tx, jobs, incident);
    if (incident.status === 'RECOVERING') return feedReplicas(tx, incident);
  }
  return endIfOver(tx, incident);
}

interface FedItem {
  readonly ordinal: number;
  readonly fileId: number;
  readonly replicaId: number;
}

/** Each file whose copy is not back gets a check of it, or is restaged. */
async function feedReplicas(tx: Db, incident: Unfinished): Promise<number> {
  const waiting = await firstRow(
    tx,
    sql<{ n: number }>`select count(*) as n from replica_checks
      where incident_id = ${incident.id} and status in ('REQUESTED', 'RUNNING')`,
  );
  if ((waiting?.n ?? 0) > mostWaiting - feedSize) return 0;
  const items = await rows(
    tx,
    sql<FedItem & { finding: string; status: string }>`
    select ordinal, file_id as "fileId", replica_id as "replicaId", finding, status from incident_items
    where incident_id = ${incident.id} and ordinal > ${incident.fedOrdinal} order by ordinal limit ${feedSize}`,
  );
  const open = items.filter((item) => item.status === 'HIT' && item.finding !== 'SAFE');
  if (open.length > 0) await askForChecks(tx, incident.id, open);
  await rows(
    tx,
    sql`update incidents set fed_ordinal = ${items.at(-1)?.ordinal ?? incident.itemCount} where id = ${incident.id}`,
  );
  return 1;
}

/** Restaged elsewhere: the incident names a place, and a mass store has the file. */
const isMoved = sql`(i.recovery_volume_id is not null or i.path_from is not null) and f.confirmed_copies > 0`;

/**
 * The copy itself is read where it was, for it may be back; a file with a confirmed backup is restaged to that
 * place when nothing is there, or to the place that was asked for. Other copies that are told are read too.
 */
async function askForChecks(tx: Db, incidentId: number, items: readonly FedItem[]): Promise<void> {
  const hit = sql`
    from incidents i, unnest(${items.map((item) => item.replicaId)}::bigint[]) as t (id)
    join replicas p on p.id = t.id join files f on f.id = p.file_id
    where i.id = ${incidentId}`;
  // Checks that the trigger makes of STAGING replicas belong to this recovery.
  await rows(tx, sql`select set_config('sweepbook.recovery', ${String(incidentId)}, true)`);
  await rows(
    tx,
    sql`update replicas r set status = 'STAGING' where r.status = 'LOST' and r.id in (
      select p.id ${hit} and not (${isMoved}))`,
  );
  await rows(
    tx,
    sql`insert into replicas (file_id, volume_id, path, status)
      select p.file_id, coalesce(i.recovery_volume_id, p.volume_id),
        case when starts_with(p.path, i.path_from) then i.path_to || substr(p.path, length(i.path_from) + 1)
          else p.path end, 'STAGING' ${hit} and ${isMoved}
      on conflict (file_id, volume_id, path) do update set status = 'STAGING' where replicas.status = 'LOST'`,
  );
  await rows(
    tx,
    sql`insert into replica_checks (replica_id, file_id, incident_id)
      select q.id, q.file_id, ${incidentId}::bigint from replicas q
      where q.file_id = any (${items.map((item) => item.fileId)}::bigint[]) and q.status = 'AVAILABLE'
      order by q.id on conflict do nothing`,
  );
}

/** Copies that a store lost are asked for again. */
async function feedBackups(tx: Db, jobs: JobQueue, incident: Unfinished): Promise<number> {
  const items = await rows(
    tx,
    sql<{ ordinal: number; fileId: number; status: string }>`
    select ordinal, file_id as "fileId", status from incident_items
    where incident_id = ${incident.id} and ordinal > ${incident.fedOrdinal} order by ordinal limit ${mostBackupsAtOnce}`,
  );
  const fileIds = items.filter((item) => item.status === 'HIT').map((item) => item.fileId);
  await requestInTransaction(tx, jobs, fileIds, incident.backupStoreId ?? 0);
  await rows(
    tx,
    sql`update incidents set fed_ordinal = ${items.at(-1)?.ordinal ?? incident.itemCount} where id = ${incident.id}`,
  );
  return 1;
}

/** All was tried: CLOSED when all is back, else OPEN again, with what is missing. */
async function endIfOver(tx: Db, incident: Unfinished): Promise<number> {
  const { id, status, openCount, restoredCount } = incident;
  if (openCount > 0 && (status === 'OPEN' || (await isWorkedOn(tx, incident)))) return 0;
  if (openCount === 0 && restoredCount === 0 && status === 'OPEN') return 0;
  const reason =
    openCount === 0
      ? `all that could be brought back is back: ${restoredCount} of ${incident.itemCount} copies`
      : `${restoredCount} of ${incident.itemCount} copies are back, ${openCount} are not`;
  await rows(tx, sql`select set_config('sweepbook.reason', ${reason}, true)`);
  const moved = await rows(
    tx,
    sql`update incidents set status = ${openCount === 0 ? 'CLOSED' : 'OPEN'}
      where id = ${id} and status = ${status} and open_count = ${openCount} returning id`,
  );
  return moved.length;
}

async function isWorkedOn(tx: Db, { id, what, backupStoreId }: Unfinished): Promise<boolean> {
  const busy = await firstRow(
    tx,
    what === 'REPLICAS'
      ? sql`select 1 from replica_checks where incident_id = ${id} and status in ('REQUESTED', 'RUNNING') limit 1`
      : sql`select 1 from incident_items x join backup_records b on b.file_id = x.file_id and b.store_id = ${backupStoreId}
          where x.incident_id = ${id} and x.status = 'HIT' and b.status in ('REQUESTED', 'COPYING', 'COPIED') limit 1`,
  );
  return busy !== undefined;
}
