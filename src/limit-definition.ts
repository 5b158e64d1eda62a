export const KiB = 1024;
export const MiB = 1024 * KiB;

/** What may be limited: each is a setting, a field of Limits and a line of docs/limits.md. */
export interface Definition {
  readonly default: number;
  /** Of the figure; '' = it is a count. */
  readonly unit: '' | 'bytes' | 'characters' | 'seconds' | 'milliseconds' | 'each second';
  readonly least: number;
  readonly most: number;
  readonly what: string;
  /** What who goes beyond it gets. */
  readonly refusal: string;
}

export const limit = (
  defaultValue: number,
  unit: Definition['unit'],
  [least, most]: readonly [number, number],
  what: string,
  refusal: string,
): Definition => ({ default: defaultValue, unit, least, most, what, refusal });

export const some: readonly [number, number] = [1, 1_000_000];
export const bytes: readonly [number, number] = [1024, 4096 * MiB];
export const seconds: readonly [number, number] = [1, 86_400];
export const rate: readonly [number, number] = [0, 1_000_000];

export const tooComplex = '`QUERY_TOO_COMPLEX`';
export const rateLimited = '`RATE_LIMITED`, HTTP 429 with `retry-after`';
export const closed = 'the connection is closed';
