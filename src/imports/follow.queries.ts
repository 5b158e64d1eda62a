import { may, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { firstRow, sql, type RawBuilder } from '../database/sql.ts';
import type { FollowFilter } from './follow-rule.ts';

export interface RuleRow {
  readonly id: number;
  readonly site: string;
  readonly filter: FollowFilter;
  readonly store: string;
  readonly mirror: string | null;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly lookedAt: Date | null;
  readonly nextLookAt: Date;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
}

const ruleColumns = sql`r.id, r.site, r.filter, m.name as store, r.mirror, r.created_by as "createdBy", r.created_at as "createdAt",
  r.looked_at as "lookedAt", r.next_look_at as "nextLookAt", r.last_error_code as "lastErrorCode",
  r.last_error as "lastError"`;
const ruleTables = sql`follow_rules r join mass_stores m on m.id = r.store_id`;

/** An importer sees his own rules, production all. */
const visibleRule = (viewer: Viewer): RawBuilder<unknown> => {
  if (may(viewer, 'readImports')) return sql`true`;
  return may(viewer, 'readImports', viewer.principal)
    ? sql`r.created_by = ${viewer.principal}`
    : sql`false`;
};

export async function findRule(db: Db, viewer: Viewer, id: number): Promise<RuleRow | undefined> {
  return firstRow(
    db,
    sql<RuleRow>`select ${ruleColumns} from ${ruleTables} where r.id = ${id} and ${visibleRule(viewer)}`,
  );
}

/** Standing rules, oldest first. */
export async function listRules(
  db: Db,
  viewer: Viewer,
  page: PageArguments,
): Promise<Page<RuleRow>> {
  return readPage<RuleRow>(
    db,
    {
      order: 'follow-rules:id',
      keys: [{ sql: sql`r.id`, type: 'bigint' }],
      select: ruleColumns,
      from: ruleTables,
      where: visibleRule(viewer),
    },
    page,
  );
}

export interface FollowedRow {
  readonly name: string;
  readonly foundAt: Date;
  readonly importId: number | null;
  readonly errorCode: string | null;
  readonly error: string | null;
  readonly badReason: string | null;
  readonly isMarked: boolean;
  readonly leftAt: Date | null;
  readonly leftReason: string | null;
}

/** What a rule has found, by name; the caller has looked whether the rule may be seen. */
export async function listFollowed(
  db: Db,
  ruleId: number,
  page: PageArguments,
): Promise<Page<FollowedRow>> {
  return readPage<FollowedRow>(
    db,
    {
      order: `followed:${ruleId}`,
      keys: [{ sql: sql`f.name`, type: 'text' }],
      select: sql`f.name, f.found_at as "foundAt", f.import_id as "importId", f.error_code as "errorCode", f.error,
        f.bad_reason as "badReason", f.bad_mark_id is not null as "isMarked", d.left_at as "leftAt", d.reason as "leftReason"`,
      from: sql`followed_datasets f left join followed_departures d on d.rule_id = f.rule_id and d.name = f.name`,
      where: sql`f.rule_id = ${ruleId}`,
    },
    page,
  );
}
