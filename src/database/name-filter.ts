import { badInput } from '../errors.ts';
import { allOf, sql, type RawBuilder } from './sql.ts';

/** How names are asked for; several given = all must hold. */
export interface NameConditions {
  readonly eq?: string | null | undefined;
  readonly in?: readonly string[] | null | undefined;
  readonly startsWith?: string | null | undefined;
  /** * = anything, ? = one character. */
  readonly glob?: string | null | undefined;
}

const mostNames = 1000;
const longestPattern = 1024;

const escapeLike = (text: string) => text.replace(/[\\%_]/g, (sign) => `\\${sign}`);

/** The conditions on a column, so that its index is used: patterns are anchored at the start. */
export function nameIs(
  column: RawBuilder<unknown>,
  filter: NameConditions | null | undefined,
): RawBuilder<unknown> | undefined {
  if (!filter) return undefined;
  if (filter.in && filter.in.length > mostNames) {
    throw badInput('in', filter.in.length, `at most ${mostNames} names in one query`);
  }
  for (const pattern of [filter.startsWith, filter.glob]) {
    if (pattern && pattern.length > longestPattern) {
      throw badInput('name filter', pattern, `at most ${longestPattern} characters`);
    }
  }
  return allOf([
    filter.eq == null ? undefined : sql`${column} = ${filter.eq}`,
    filter.in == null ? undefined : sql`${column} = any (${filter.in}::text[])`,
    filter.startsWith == null
      ? undefined
      : sql`${column} like ${`${escapeLike(filter.startsWith)}%`}`,
    filter.glob == null
      ? undefined
      : sql`${column} like ${escapeLike(filter.glob).replaceAll('*', '%').replaceAll('?', '_')}`,
  ]);
}
