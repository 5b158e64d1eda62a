import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { timeIn, type TimeConditions } from '../database/range-filter.ts';
import { allOf, sql } from '../database/sql.ts';
import type { AuditKind } from './audit-trail.ts';
import { demand, type AnyRole, type Viewer } from './policy.ts';

export type AuditOutcome = 'DONE' | 'REFUSED';

export interface AuditEntryRow {
  readonly id: number;
  readonly at: Date;
  readonly keptUntil: Date | null;
  readonly requestId: string | null;
  readonly principal: string;
  readonly roles: AnyRole[];
  readonly tokenPrefix: string | null;
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly jti: string | null;
  readonly address: string | null;
  readonly kind: AuditKind;
  readonly operation: string | null;
  readonly field: string;
  readonly outcome: AuditOutcome;
  readonly code: string | null;
  readonly times: number;
}

export interface AuditConditions {
  readonly principal?: string | null | undefined;
  readonly address?: string | null | undefined;
  readonly tokenPrefix?: string | null | undefined;
  readonly field?: string | null | undefined;
  readonly kind?: readonly AuditKind[] | null | undefined;
  readonly outcome?: AuditOutcome | null | undefined;
  readonly code?: string | null | undefined;
  readonly at?: TimeConditions | null | undefined;
}

/** The audit trail, newest first. For admins. */
export async function listAuditTrail(
  db: Db,
  viewer: Viewer,
  filter: AuditConditions,
  page: PageArguments,
): Promise<Page<AuditEntryRow>> {
  demand(viewer, 'readAuditTrail');
  const is = (column: string, value: string | null | undefined) =>
    value == null ? undefined : sql`${sql.ref(`a.${column}`)} = ${value}`;
  return readPage<AuditEntryRow>(
    db,
    {
      order: 'audit trail:id',
      keys: [{ sql: sql`a.id`, type: 'bigint', descending: true }],
      select: sql`a.id, a.at, a.kept_until as "keptUntil", a.request_id as "requestId", a.principal, a.roles,
        a.token_prefix as "tokenPrefix", a.issuer, a.subject, a.jti, a.address, a.kind, a.operation, a.field, a.outcome,
        a.code, a.times`,
      from: sql`audit_trail a`,
      where: allOf([
        is('principal', filter.principal),
        is('address', filter.address),
        is('token_prefix', filter.tokenPrefix),
        is('field', filter.field),
        filter.kind == null ? undefined : sql`a.kind = any (${[...filter.kind]}::text[])`,
        is('outcome', filter.outcome),
        is('code', filter.code),
        timeIn(sql`a.at`, filter.at),
      ]),
    },
    page,
  );
}
