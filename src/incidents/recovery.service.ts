import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { SweepbookError } from '../errors.ts';
import {
  checkReason,
  checkTarget,
  step,
  undo,
  type IncidentState,
  type RecoveryTarget,
} from './incidents.rules.ts';

export interface IncidentChange {
  readonly incidentId: number;
  readonly changed: boolean;
}

const columns = sql`i.id, i.status, i.what, i.open_count as "openCount"`;

async function getIncident(tx: Db, viewer: Viewer, id: number): Promise<IncidentState> {
  const found = await firstRow(
    tx,
    sql<IncidentState>`select ${columns} from incidents i where i.id = ${id} for no key update`,
  );
  if (found) {
    await demandSites(tx, viewer, sitesHit(id));
    return found;
  }
  throw new SweepbookError('NOT_FOUND', `no incident ${id}: look at "incident list"`, {
    incident: id,
  });
}

/** Ids of the sites whose volumes and stores an incident has hit. */
const sitesHit = (id: number) => sql`
  select v.site_id from incident_items i join replicas p on p.id = i.replica_id join volumes v on v.id = p.volume_id
    where i.incident_id = ${id}
  union select m.site_id from incident_items i join backup_records b on b.id = i.backup_id
    join mass_stores m on m.id = b.store_id where i.incident_id = ${id}`;

/** Whoever is bound to some sites handles what lies at them. */
async function demandSites(tx: Db, viewer: Viewer, ids: RawBuilder<unknown>): Promise<void> {
  if (!viewer.sites) return;
  const found = await rows(
    tx,
    sql<{ name: string }>`select name from sites where id in (${ids}) order by name`,
  );
  for (const { name } of found) demand(viewer, 'handleIncident', { site: name });
}

/**
 * Brings back what can be brought back: workers restage what has a confirmed backup, and read what may be there
 * again; copies in a store are asked for again. Ends by itself, with the incident CLOSED or OPEN; asked for
 * again, it tries again what is not back.
 */
export async function recoverIncident(
  db: Db,
  viewer: Viewer,
  id: number,
  target: RecoveryTarget,
): Promise<IncidentChange> {
  demand(viewer, 'handleIncident');
  checkTarget(target);
  return inTransaction(db, viewer, async (tx) => {
    const incident = await getIncident(tx, viewer, id);
    const isBack = incident.status === 'CLOSED' && incident.openCount === 0;
    const move = isBack
      ? { kind: 'done' as const }
      : step(incident, 'RECOVERING', 'it was undone: its copies are where they were');
    if (move.kind === 'done') return { incidentId: id, changed: false };
    const volumeId = await volumeOf(tx, id, target.volume);
    if (volumeId !== null) {
      await demandSites(tx, viewer, sql`select site_id from volumes where id = ${volumeId}`);
    }
    await rows(
      tx,
      sql`update incidents set status = 'RECOVERING', fed_ordinal = 0, recovery_volume_id = ${volumeId},
          path_from = ${target.pathFrom ?? null}, path_to = ${target.pathTo ?? null} where id = ${id}`,
    );
    return { incidentId: id, changed: true };
  });
}

async function volumeOf(
  tx: Db,
  incidentId: number,
  name: string | null | undefined,
): Promise<number | null> {
  if (name == null) return null;
  const found = await firstRow(
    tx,
    sql<{ id: number }>`
    select v.id from volumes v where v.name = ${name} order by v.site_id in (
      select w.site_id from incident_items i join replicas p on p.id = i.replica_id join volumes w on w.id = p.volume_id
      where i.incident_id = ${incidentId} and i.ordinal = 1) desc, v.id limit 1`,
  );
  if (found) return found.id;
  throw new SweepbookError(
    'NOT_FOUND',
    `volume ${name} is not known here: register a file on it first, or leave it out to recover in place`,
    { field: 'volume', value: name },
  );
}

/**
 * A wrong volume was named: its replicas are AVAILABLE again, the marks of the incident go, the history stays.
 * For copies on disk; what has been brought back meanwhile stays as it is.
 */
export async function undoIncident(
  db: Db,
  viewer: Viewer,
  id: number,
  reasonGiven: string,
): Promise<IncidentChange> {
  demand(viewer, 'handleIncident');
  const reason = checkReason(reasonGiven);
  return inTransaction(db, { principal: viewer.principal, reason }, async (tx) => {
    await rows(
      tx,
      sql`select set_config('statement_timeout', '180s', true), set_config('work_mem', '128MB', true),
        set_config('jit', 'off', true)`,
    );
    // Datasets before items and incidents, as who brings a copy back locks them.
    await rows(
      tx,
      sql`select 1 from datasets d where d.id in (
        select dataset_id from incident_datasets where incident_id = ${id}) order by d.id for no key update`,
    );
    const incident = await getIncident(tx, viewer, id);
    if (undo(incident).kind === 'done') return { incidentId: id, changed: false };
    await rows(tx, sql`update incidents set status = 'UNDONE' where id = ${id}`);
    const cancelled = await rows(
      tx,
      sql<{ replicaId: number }>`
      update replica_checks set status = 'FAILED', last_error_code = 'LEASE_LOST',
        last_error = 'the incident was undone', lease_until = null
      where incident_id = ${id} and status in ('REQUESTED', 'RUNNING') returning replica_id as "replicaId"`,
    );
    await rows(
      tx,
      sql`update replicas p set status = 'AVAILABLE', incident_id = null
        from incident_items i
        where i.incident_id = ${id} and i.status = 'HIT' and p.id = i.replica_id and p.incident_id = ${id}
          and p.status in ('LOST', 'STAGING')`,
    );
    // What was to be restaged to another place never was there.
    await rows(
      tx,
      sql`update replicas set status = 'LOST'
        where id = any (${cancelled.map((row) => row.replicaId)}::bigint[]) and status = 'STAGING'`,
    );
    await rows(
      tx,
      sql`update incident_items set status = 'UNDONE', is_lost = false where incident_id = ${id} and status = 'HIT'`,
    );
    return { incidentId: id, changed: true };
  });
}

/** Closes an incident: what is not back by now stays lost, and its datasets stay bad until it comes back. */
export async function resolveIncident(
  db: Db,
  viewer: Viewer,
  id: number,
  reasonGiven: string,
): Promise<IncidentChange> {
  demand(viewer, 'handleIncident');
  const reason = checkReason(reasonGiven);
  return inTransaction(db, { principal: viewer.principal, reason }, async (tx) => {
    const incident = await getIncident(tx, viewer, id);
    if (step(incident, 'CLOSED', 'it was undone').kind === 'done') {
      return { incidentId: id, changed: false };
    }
    const changed = await changedRows(
      tx,
      sql`update incidents set status = 'CLOSED' where id = ${id} and status = ${incident.status} returning id`,
    );
    return { incidentId: id, changed: changed === 1 };
  });
}
