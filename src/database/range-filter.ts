import { allOf, sql, type RawBuilder } from './sql.ts';

/** From gte on, and before lt; both given = both must hold. */
export interface TimeConditions {
  readonly gte?: Date | null | undefined;
  readonly lt?: Date | null | undefined;
}

/** At least gte, and less than lt; both given = both must hold. */
export interface CountConditions {
  readonly gte?: number | null | undefined;
  readonly lt?: number | null | undefined;
}

/** PostgreSQL knows no year 0. */
export const asMoment = (time: Date): RawBuilder<unknown> =>
  sql`${time.getUTCFullYear() < 1 ? '-infinity' : time.toISOString()}::timestamptz`;

export function timeIn(
  column: RawBuilder<unknown>,
  filter: TimeConditions | null | undefined,
): RawBuilder<unknown> | undefined {
  if (!filter) return undefined;
  return allOf([
    filter.gte == null ? undefined : sql`${column} >= ${asMoment(filter.gte)}`,
    filter.lt == null ? undefined : sql`${column} < ${asMoment(filter.lt)}`,
  ]);
}

export function countIn(
  column: RawBuilder<unknown>,
  filter: CountConditions | null | undefined,
): RawBuilder<unknown> | undefined {
  if (!filter) return undefined;
  return allOf([
    filter.gte == null ? undefined : sql`${column} >= ${filter.gte}::bigint`,
    filter.lt == null ? undefined : sql`${column} < ${filter.lt}::bigint`,
  ]);
}
