import { demand, sitesOf, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { rows, sql, type RawBuilder } from '../database/sql.ts';
import type { AuditKind, AuditState } from './audits.rules.ts';

/** An audit of a store; counts are files. */
export interface AuditRow {
  readonly id: number;
  readonly store: string;
  readonly what: AuditKind;
  readonly state: AuditState;
  readonly askedBy: string;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly worker: string | null;
  readonly lookedCount: number;
  readonly lookedBytes: number;
  readonly wrongCount: number;
  readonly unreadableCount: number;
  readonly unknownCount: number;
  readonly detail: string | null;
}

export interface AuditFindingRow {
  readonly lfn: string | null;
  readonly storeKey: string;
  readonly what: 'BAD' | 'UNREADABLE' | 'UNKNOWN';
  readonly says: string;
  readonly evidence: unknown;
  readonly foundAt: Date;
  readonly outcome: 'LOST' | 'DISMISSED' | null;
}

const mostAudits = 50;

/** Audits of the stores (alias s) at the sites where the viewer may have them; there are no others for him. */
export function auditedByHim(viewer: Viewer): RawBuilder<boolean> {
  const sites = sitesOf(viewer, 'testStores');
  if (sites === undefined) return sql<boolean>`true`;
  return sql<boolean>`s.site_id in (select id from sites where name = any (${sites}::text[]))`;
}

/** The last audits, of one store or of all, the newest first; `id`: that one. */
export async function listAudits(
  db: Db,
  viewer: Viewer,
  wanted: { readonly store?: string | null | undefined; readonly id?: number },
): Promise<AuditRow[]> {
  demand(viewer, 'testStores');
  return rows(
    db.fork(),
    sql<AuditRow>`
    select a.id, s.name as store, a.what, a.state, a.asked_by as "askedBy", a.started_at as "startedAt",
      a.finished_at as "finishedAt", case when a.lease_until > clock_timestamp() then a.worker end as worker,
      a.looked_count as "lookedCount", a.looked_bytes::bigint as "lookedBytes", a.wrong_count as "wrongCount",
      a.unreadable_count as "unreadableCount", a.unknown_count as "unknownCount", a.detail
    from audits a join mass_stores s on s.id = a.store_id
    where ${wanted.store == null ? sql`true` : sql`s.name = ${wanted.store}`}
      and ${wanted.id === undefined ? sql`true` : sql`a.id = ${wanted.id}`} and ${auditedByHim(viewer)}
    order by a.id desc limit ${mostAudits}`,
  );
}

/** What an audit found: first what is bad, then what could not be read, then what is not known. */
export async function findingsOf(
  db: Db,
  auditId: number,
  first: number,
): Promise<AuditFindingRow[]> {
  return rows(
    db.fork(),
    sql<AuditFindingRow>`
    select f.lfn, x.store_key as "storeKey", x.what, x.says, x.evidence,
      x.found_at as "foundAt", x.outcome
    from audit_findings x
    left join backup_records b on b.id = x.backup_id left join files f on f.id = b.file_id
    where x.audit_id = ${auditId} order by x.what = 'BAD' desc, x.what = 'UNREADABLE' desc, x.id limit ${first}`,
  );
}
