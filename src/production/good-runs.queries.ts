import type { Viewer } from '../access/policy.ts';
import { findDataset, runsOfDataset } from '../datasets/datasets.queries.ts';
import type { Db } from '../database/orm.ts';
import { allOf, rows, sql } from '../database/sql.ts';
import { badInput } from '../errors.ts';
import { parseRunRanges, type RunSource } from '../runs/runs.rules.ts';
import { rangesText } from './good-runs.rules.ts';

export const mostGoodRuns = 100_000;

export interface GoodRunsRow {
  readonly numbers: readonly number[];
  readonly ranges: string;
  readonly eventCount: number;
  /** Sum, 1/pb; null when none of them has one. */
  readonly luminosity: number | null;
}

interface GoodRun {
  readonly number: number;
  readonly eventCount: number | null;
  readonly luminosity: number | null;
}

/**
 * The runs that DQM calls good, of a dataset if one is named (undefined: there is none that the viewer
 * sees). A good run is AVAILABLE, so everybody may know it. More than 100,000 are refused.
 */
export async function goodRuns(
  db: Db,
  viewer: Viewer,
  asked: {
    readonly source: RunSource;
    readonly numbers?: string | null;
    readonly dataset?: string | null;
  },
): Promise<GoodRunsRow | undefined> {
  const ranges = asked.numbers == null ? undefined : parseRunRanges(asked.numbers);
  const dataset = asked.dataset == null ? undefined : await findDataset(db, viewer, asked.dataset);
  if (asked.dataset != null && dataset === undefined) return undefined;
  const found = await rows(
    db,
    sql<GoodRun>`
    select r.number, r.event_count as "eventCount", r.luminosity from runs r
    where ${allOf([
      sql`r.verdict = 'GOOD' and r.production_status = 'AVAILABLE' and r.source = ${asked.source}`,
      ranges &&
        sql`exists (select from jsonb_to_recordset(${JSON.stringify(ranges)}::jsonb) as x (first integer, last integer)
          where r.number between x.first and x.last)`,
      dataset && runsOfDataset(dataset.id),
    ])}
    order by r.number limit ${mostGoodRuns + 1}`,
  );
  if (found.length > mostGoodRuns) {
    throw badInput(
      'numbers',
      asked.numbers ?? null,
      `more than ${mostGoodRuns} good runs: ask for fewer, as 36172-39320`,
    );
  }
  const numbers = found.map((run) => run.number);
  const lit = found.flatMap((run) => (run.luminosity === null ? [] : [run.luminosity]));
  return {
    numbers,
    ranges: rangesText(numbers),
    eventCount: found.reduce((sum, run) => sum + (run.eventCount ?? 0), 0),
    luminosity: lit.length === 0 ? null : lit.reduce((sum, value) => sum + value, 0),
  };
}
