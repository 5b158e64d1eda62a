import { may, type Viewer } from '../access/policy.ts';
import { notPrivate, visibleIncident } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { ownItems, seenCounts, seesAll } from './counts.queries.ts';
import type { Finding, IncidentStatus, ItemStatus, LossKind } from './incidents.rules.ts';

export interface IncidentRow {
  readonly id: number;
  readonly status: IncidentStatus;
  readonly what: LossKind;
  readonly reason: string;
  /** null for owners: where data lies is production's business. */
  readonly scope: Record<string, unknown> | null;
  readonly since: Date | null;
  readonly until: Date;
  readonly reportedBy: string;
  readonly reportedAt: Date;
  readonly itemCount: number;
  readonly safeCount: number;
  readonly recoverableCount: number;
  readonly lostCount: number;
  readonly openCount: number;
  readonly stillLostCount: number;
  readonly restoredCount: number;
  readonly datasetCount: number;
  readonly markedDatasetCount: number;
  readonly hiddenDatasetCount: number;
  readonly closedAt: Date | null;
  readonly closedBy: string | null;
  readonly closingReason: string | null;
}

const ofViewer = (viewer: Viewer): RawBuilder<unknown> =>
  seesAll(viewer) ? sql`true` : sql`d.owner = ${viewer.principal}`;

function incidentTables(viewer: Viewer): RawBuilder<unknown> {
  return sql`incidents i cross join lateral ${seenCounts(viewer)} c cross join lateral (
    select count(*) as datasets, count(m.id) as marked, count(m.id) filter (where m.cleared_at is null) as hidden
    from incident_datasets k join datasets d on d.id = k.dataset_id
    left join bad_marks m on m.incident_id = k.incident_id and m.dataset_id = k.dataset_id
    where k.incident_id = i.id and ${ofViewer(viewer)}) n`;
}

const incidentColumns = (viewer: Viewer) => sql`i.id, i.status, i.what, i.reason,
  ${seesAll(viewer) ? sql`i.scope` : sql`null::jsonb`} as scope, i.since, i.until, i.reported_by as "reportedBy",
  i.reported_at as "reportedAt", c.item_count as "itemCount", c.safe_count as "safeCount",
  c.recoverable_count as "recoverableCount", c.lost_count as "lostCount", c.open_count as "openCount",
  c.still_lost_count as "stillLostCount", c.restored_count as "restoredCount", n.datasets as "datasetCount",
  n.marked as "markedDatasetCount", n.hidden as "hiddenDatasetCount", i.closed_at as "closedAt",
  i.closed_by as "closedBy", i.closing_reason as "closingReason"`;

export async function incidentsByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<IncidentRow[]> {
  return rows(
    db,
    sql<IncidentRow>`select ${incidentColumns(viewer)} from ${incidentTables(viewer)}
      where i.id = any (${ids}::bigint[]) and ${visibleIncident(viewer)}`,
  );
}

export interface IncidentConditions {
  readonly status?: readonly IncidentStatus[] | null | undefined;
  readonly what?: LossKind | null | undefined;
  /** Those that hit this dataset. */
  readonly dataset?: string | null | undefined;
  readonly volume?: string | null | undefined;
  readonly massStore?: string | null | undefined;
}

/** Incidents, the last one first. */
export async function listIncidents(
  db: Db,
  viewer: Viewer,
  filter: IncidentConditions,
  page: PageArguments,
): Promise<Page<IncidentRow>> {
  const ofPlace = (field: string, name: string | null | undefined) =>
    name == null
      ? undefined
      : allOf([
          sql`i.scope ->> ${field}::text = ${name}`,
          seesAll(viewer) ? undefined : sql`false`,
        ]);
  return readPage<IncidentRow>(
    db,
    {
      order: 'incidents:id',
      keys: [{ sql: sql`i.id`, type: 'bigint', descending: true }],
      select: incidentColumns(viewer),
      from: incidentTables(viewer),
      where: allOf([
        visibleIncident(viewer),
        filter.status ? sql`i.status = any (${filter.status}::text[])` : undefined,
        filter.what ? sql`i.what = ${filter.what}` : undefined,
        ofPlace('volume', filter.volume),
        ofPlace('massStore', filter.massStore),
        filter.dataset == null
          ? undefined
          : sql`exists (select from incident_datasets k join datasets d on d.id = k.dataset_id
              where k.incident_id = i.id and d.name = ${filter.dataset} and ${ofViewer(viewer)})`,
      ]),
    },
    page,
  );
}

export interface IncidentItemRow {
  readonly incidentId: number;
  readonly ordinal: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly finding: Finding;
  readonly status: ItemStatus;
  readonly isLost: boolean;
  readonly place: string | null;
  readonly path: string | null;
  readonly restoredAt: Date | null;
  readonly lastError: string | null;
  readonly evidence: unknown;
}

export interface ItemConditions {
  readonly finding?: readonly Finding[] | null | undefined;
  readonly status?: readonly ItemStatus[] | null | undefined;
  readonly isLost?: boolean | null | undefined;
}

/** The copies that an incident hit, last copies first; to an owner those of his datasets, without their places. */
export async function listItems(
  db: Db,
  viewer: Viewer,
  incidentId: number,
  filter: ItemConditions,
  page: PageArguments,
): Promise<Page<IncidentItemRow>> {
  const place = seesAll(viewer)
    ? sql`coalesce(v.name, m.name) as place, coalesce(p.path, b.store_key) as path,
        coalesce(r.last_error, b.last_error) as "lastError", coalesce(r.evidence, b.evidence) as evidence`
    : sql`null as place, null as path, null as "lastError", null as evidence`;
  return readPage<IncidentItemRow>(
    db,
    {
      order: `incident-items:${incidentId}`,
      keys: [{ sql: sql`x.ordinal`, type: 'bigint' }],
      select: sql`x.incident_id as "incidentId", x.ordinal, x.file_id as "fileId", f.lfn, f.size_bytes as "sizeBytes",
        x.finding, x.status, x.is_lost as "isLost", x.restored_at as "restoredAt", ${place}`,
      from: sql`incidents i cross join lateral ${
        seesAll(viewer)
          ? sql`(select * from incident_items x where x.incident_id = i.id)`
          : ownItems(viewer)
      } x join files f on f.id = x.file_id
        left join replicas p on p.id = x.replica_id left join volumes v on v.id = p.volume_id
        left join backup_records b on b.id = x.backup_id left join mass_stores m on m.id = b.store_id
        left join lateral (select * from replica_checks r where r.replica_id = x.replica_id and r.requested_at >= i.reported_at
          order by r.id desc limit 1) r on true`,
      where: allOf([
        sql`i.id = ${incidentId}`,
        visibleIncident(viewer),
        // An owner sees the files of his datasets, whoever made them.
        seesAll(viewer) ? notPrivate(viewer, sql`x.file_id`) : undefined,
        filter.finding ? sql`x.finding = any (${filter.finding}::text[])` : undefined,
        filter.status ? sql`x.status = any (${filter.status}::text[])` : undefined,
        filter.isLost == null ? undefined : sql`x.is_lost = ${filter.isLost}`,
      ]),
    },
    page,
  );
}

export interface IncidentDatasetRow {
  readonly datasetId: number;
  readonly name: string;
  readonly fileCount: number;
  readonly hitCount: number;
  readonly lostTotal: number;
  readonly lostCount: number;
  readonly unbackedCount: number;
  readonly isMarked: boolean;
  readonly markedAt: Date | null;
  readonly clearedAt: Date | null;
}

/** The datasets that an incident hit, by name; to an owner his own. */
export async function listIncidentDatasets(
  db: Db,
  viewer: Viewer,
  incidentId: number,
  isMarked: boolean | null,
  page: PageArguments,
): Promise<Page<IncidentDatasetRow>> {
  return readPage<IncidentDatasetRow>(
    db,
    {
      order: `incident-datasets:${incidentId}`,
      keys: [{ sql: sql`d.name`, type: 'text' }],
      select: sql`d.id as "datasetId", d.name, k.file_count as "fileCount", k.hit_count as "hitCount",
        k.lost_total as "lostTotal", k.lost_count as "lostCount", k.unbacked_count as "unbackedCount",
        m.id is not null and m.cleared_at is null as "isMarked", m.marked_at as "markedAt", m.cleared_at as "clearedAt"`,
      from: sql`incident_datasets k join datasets d on d.id = k.dataset_id
        left join bad_marks m on m.incident_id = k.incident_id and m.dataset_id = k.dataset_id`,
      where: allOf([
        sql`k.incident_id = ${incidentId}`,
        ofViewer(viewer),
        may(viewer, 'readIncidents', viewer.principal) ? undefined : sql`false`,
        isMarked == null
          ? undefined
          : sql`(m.id is not null and m.cleared_at is null) = ${isMarked}`,
      ]),
    },
    page,
  );
}

/** The incident of the oldest standing mark of each dataset, if it has one. */
export async function markIncidentsOf(
  db: Db,
  datasetIds: readonly number[],
): Promise<{ datasetId: number; incidentId: number | null }[]> {
  return rows(
    db,
    sql<{ datasetId: number; incidentId: number | null }>`
    select distinct on (dataset_id) dataset_id as "datasetId", incident_id as "incidentId"
    from bad_marks where dataset_id = any (${datasetIds}::bigint[]) and cleared_at is null order by dataset_id, id`,
  );
}

export interface CheckRow {
  readonly id: number;
  readonly fileId: number;
  readonly path: string;
  readonly volume: string;
  readonly status: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly finishedAt: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly evidence: unknown;
}

const checkColumns = sql`c.id, c.file_id as "fileId", p.path, v.name as volume, c.status, c.requested_by as "requestedBy",
  c.requested_at as "requestedAt", c.finished_at as "finishedAt", c.last_error_code as "lastErrorCode",
  c.last_error as "lastError", c.evidence`;
const checkTables = sql`replica_checks c join replicas p on p.id = c.replica_id join volumes v on v.id = p.volume_id`;

export async function checksByIds(db: Db, ids: readonly number[]): Promise<CheckRow[]> {
  return rows(
    db,
    sql<CheckRow>`select ${checkColumns} from ${checkTables} where c.id = any (${ids}::bigint[])`,
  );
}

/** The last readings of the copies of files, the latest first, at most 20 each. */
export async function checksOfFiles(db: Db, fileIds: readonly number[]): Promise<CheckRow[]> {
  return rows(
    db,
    sql<CheckRow>`select l.* from unnest(${fileIds}::bigint[]) as t (id) cross join lateral (
        select ${checkColumns} from ${checkTables} where c.file_id = t.id order by c.id desc limit 20) l`,
  );
}
