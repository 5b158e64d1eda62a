import { demand, sitesOf, type Viewer } from '../access/policy.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { SuspicionState } from './suspicions.rules.ts';

export interface SuspicionRow {
  readonly id: number;
  readonly fileId: number;
  readonly lfn: string;
  readonly volume: string | null;
  readonly store: string | null;
  readonly path: string | null;
  readonly state: SuspicionState;
  readonly jobCount: number;
  readonly reportCount: number;
  readonly firstReportedAt: Date;
  readonly lastReportedAt: Date;
  readonly lastError: string | null;
  readonly checkedAt: Date | null;
  readonly worker: string | null;
  readonly finding: string | null;
  readonly evidence: unknown;
}

const suspicionColumns = sql`s.id, s.file_id as "fileId", f.lfn, v.name as volume, m.name as store,
  coalesce(p.path, b.store_key) as path, s.state, s.job_count as "jobCount", s.report_count as "reportCount",
  s.first_reported_at as "firstReportedAt", s.last_reported_at as "lastReportedAt", s.last_error as "lastError",
  s.checked_at as "checkedAt", s.worker, s.finding, s.evidence`;
const suspicionTables = sql`suspicions s join files f on f.id = s.file_id
  left join replicas p on p.id = s.replica_id left join volumes v on v.id = p.volume_id
  left join backup_records b on b.id = s.backup_id left join mass_stores m on m.id = b.store_id`;

/** Copies at the sites where the viewer may have them checked; there are no others for him. */
function atHisSites(viewer: Viewer): RawBuilder<boolean> {
  const sites = sitesOf(viewer, 'checkCopies');
  if (sites === undefined) return sql<boolean>`true`;
  return sql<boolean>`coalesce(v.site_id, m.site_id) in (select id from sites where name = any (${sites}::text[]))`;
}

export interface SuspicionConditions {
  readonly state?: readonly SuspicionState[] | null | undefined;
  readonly lfn?: NameConditions | null | undefined;
  readonly volume?: string | null | undefined;
  readonly store?: string | null | undefined;
}

/** What an operator has to look at; what was cleared or is known as lost is asked for by name. */
const unsettled: readonly SuspicionState[] = [
  'REPORTED',
  'SUSPICIOUS',
  'CHECKING',
  'BAD',
  'UNREADABLE_FROM_HERE',
];

/** Suspicious copies, the newest first. For operators. */
export async function listSuspicions(
  db: Db,
  viewer: Viewer,
  filter: SuspicionConditions,
  page: PageArguments,
): Promise<Page<SuspicionRow>> {
  demand(viewer, 'checkCopies');
  return readPage<SuspicionRow>(
    db,
    {
      order: 'suspicions:id',
      keys: [{ sql: sql`s.id`, type: 'bigint', descending: true }],
      select: suspicionColumns,
      from: suspicionTables,
      where: allOf([
        atHisSites(viewer),
        sql`s.state = any (${filter.state ?? unsettled}::text[])`,
        nameIs(sql`f.lfn`, filter.lfn),
        filter.volume == null ? undefined : sql`v.name = ${filter.volume}`,
        filter.store == null ? undefined : sql`m.name = ${filter.store}`,
      ]),
    },
    page,
  );
}

export async function findSuspicion(
  db: Db,
  viewer: Viewer,
  id: number,
): Promise<SuspicionRow | undefined> {
  demand(viewer, 'checkCopies');
  return firstRow(
    db,
    sql<SuspicionRow>`select ${suspicionColumns} from ${suspicionTables}
      where s.id = ${id} and ${atHisSites(viewer)}`,
  );
}

export interface ReadFailureRow {
  readonly suspicionId: number;
  readonly job: string;
  readonly principal: string;
  readonly url: string;
  readonly error: string;
  readonly reportCount: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
}

/** What jobs said, the latest first; at most 100 for each copy are kept. */
export async function readFailuresOf(db: Db, ids: readonly number[]): Promise<ReadFailureRow[]> {
  return rows(
    db,
    sql<ReadFailureRow>`
    select suspicion_id as "suspicionId", job, principal, url, error, report_count as "reportCount",
      first_at as "firstAt", last_at as "lastAt"
    from read_failures where suspicion_id = any (${ids}::bigint[]) order by last_at desc, id desc`,
  );
}
