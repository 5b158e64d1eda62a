import type { Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import type { Page, PageArguments } from '../database/page.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import {
  eventsAfter,
  readPlace,
  settled,
  writePlace,
  type EventRow,
} from '../events/events.queries.ts';
import { runConditions, type RunConditions } from './runs.queries.ts';
import type { RunVerdict } from './runs.rules.ts';

/** Written out, so that the planner knows the index events_of_available_runs again. */
const becameAvailable = sql`(e.kind = 'RUN_STATUS' and e.to_state = 'AVAILABLE')`;

/** The runs that left production, in the order of the log; the cursors are those of runBecameAvailable. */
export async function listAvailable(
  db: Db,
  epoch: string,
  viewer: Viewer,
  filter: RunConditions,
  page: PageArguments,
): Promise<Page<EventRow>> {
  const place = page.after ? readPlace(epoch, page.after) : { xid: '0', id: 0 };
  // The log's runs stand under the alias r.
  const where = allOf([becameAvailable, runConditions(viewer, filter)]);
  const found = await eventsAfter(db, place, page.first + 1, where);
  return {
    edges: found.slice(0, page.first).map((node) => ({ cursor: writePlace(epoch, node), node })),
    hasNextPage: found.length > page.first,
    hasPreviousPage: Boolean(page.after),
    total: async () => {
      const counted = await firstRow(
        db,
        sql<{ n: number }>`select count(*) as n from events e join runs r on r.id = e.run_id
          where ${settled} and ${where}`,
      );
      return counted?.n ?? 0;
    },
  };
}

/** One change of DQM's word on a run. */
export interface VerdictRow {
  readonly runId: number;
  readonly from: RunVerdict | null;
  readonly to: RunVerdict | null;
  readonly comment: string | null;
  readonly actor: string;
  readonly occurredAt: Date;
}

export const mostVerdicts = 100;
const verdictColumns = sql`e.from_state as "from", e.to_state as "to", e.reason as comment, e.actor,
  e.occurred_at as "occurredAt"`;
/** The last hundred words on a run, in any order, as e; `runId` is a column. */
const verdictTable = (runId: RawBuilder<unknown>) => sql`(
  select * from events e where e.run_id = ${runId} and e.kind = 'RUN_VERDICT'
  order by e.xid desc, e.id desc limit ${sql.lit(mostVerdicts)}) e`;

/** Of one run, oldest first. */
export const verdictRows = (runId: RawBuilder<unknown>) => ({
  select: verdictColumns,
  from: verdictTable(runId),
  orderBy: sql`e.xid, e.id`,
});

/** What DQM said of these runs, oldest first; of each the last hundred words. */
export async function verdictsOf(db: Db, runIds: readonly number[]): Promise<VerdictRow[]> {
  return rows(
    db,
    sql<VerdictRow>`
    select i.id as "runId", ${verdictColumns}
    from unnest(${runIds}::bigint[]) i (id) cross join lateral ${verdictTable(sql`i.id`)}
    order by i.id, e.xid, e.id`,
  );
}
