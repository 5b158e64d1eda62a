import { badInput } from '../errors.ts';
import { isKept } from '../text.ts';
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

/** A condition of equality; undefined = not asked for. What cannot be a value fits nothing. */
export function textIs(
  column: RawBuilder<unknown>,
  value: string | null | undefined,
): RawBuilder<unknown> | undefined {
  if (value == null) return undefined;
  return isKept(value) ? sql`${column} = ${value}` : sql`false`;
}

/** One of these values; a single one as equality, which lets an index give the order too. */
export function oneOf(
  column: RawBuilder<unknown>,
  values: readonly string[] | null | undefined,
): RawBuilder<unknown> | undefined {
  if (values == null) return undefined;
  if (values.length > mostNames) {
    throw badInput('in', values.length, `at most ${mostNames} names in one query`);
  }
  const unique = [...new Set(values)].filter(isKept);
  if (unique.length === 0) return sql`false`;
  if (unique.length === 1) return sql`${column} = ${unique[0]}`;
  return sql`${column} = any (${unique}::text[])`;
}

/** What there is to know of the names of a list. */
export interface NameOptions {
  /** A list too long to be walked through: a glob must say how its names begin, in so many characters. */
  readonly globPrefix?: number;
}

/** The conditions on a column, so that its index is used: what a pattern begins with narrows the walk. */
export function nameIs(
  column: RawBuilder<unknown>,
  filter: NameConditions | null | undefined,
  { globPrefix = 0 }: NameOptions = {},
): RawBuilder<unknown> | undefined {
  if (!filter) return undefined;
  for (const pattern of [filter.startsWith, filter.glob]) {
    if (pattern && pattern.length > longestPattern) {
      throw badInput('name filter', pattern, `at most ${longestPattern} characters`);
    }
  }
  return allOf([
    textIs(column, filter.eq),
    oneOf(column, filter.in),
    filter.startsWith == null ? undefined : beginsWith(column, filter.startsWith),
    filter.glob == null ? undefined : fitsGlob(column, filter.glob, globPrefix),
  ]);
}

function beginsWith(column: RawBuilder<unknown>, start: string): RawBuilder<unknown> {
  return isKept(start) ? sql`${column} like ${`${escapeLike(start)}%`}` : sql`false`;
}

function fitsGlob(
  column: RawBuilder<unknown>,
  glob: string,
  globPrefix: number,
): RawBuilder<unknown> {
  const literal = /^[^*?]*/.exec(glob)?.[0] ?? '';
  if (literal === glob) return textIs(column, glob) ?? sql`false`;
  if (literal.length < globPrefix) {
    throw badInput(
      'glob',
      glob,
      `say how the names begin, in ${globPrefix} characters or more, as in /store/PR/*.root`,
    );
  }
  if (!isKept(glob)) return sql`false`;
  // Several stars in a row mean one, and cost one.
  const pattern = escapeLike(glob).replaceAll(/\*+/g, '%').replaceAll('?', '_');
  return sql`${column} like ${pattern}`;
}

/** The span of names that a filter leaves: from what all begin with up to what no such name reaches. */
export function spanOf(filter: NameConditions | null | undefined): {
  from?: RawBuilder<unknown>;
  to?: RawBuilder<unknown>;
} {
  const start = filter?.startsWith ?? /^[^*?]*/.exec(filter?.glob ?? '')?.[0] ?? '';
  if (start === '' || !isKept(start)) return {};
  const end = nextAfter(start);
  return { from: sql`${start}::text`, ...(end === undefined ? {} : { to: sql`${end}::text` }) };
}

const highestCharacter = 0x10ffff;
const isSurrogate = (code: number) => code >= 0xd800 && code <= 0xdfff;

/** The first text, character by character, behind all that begin with this one. */
function nextAfter(start: string): string | undefined {
  const codes = Array.from(start, (character) => character.codePointAt(0) ?? 0);
  for (let last = codes.pop(); last !== undefined; last = codes.pop()) {
    if (last >= highestCharacter) continue;
    const next = isSurrogate(last + 1) ? 0xe000 : last + 1;
    return String.fromCodePoint(...codes, next);
  }
  return undefined;
}
