export interface Backoff {
  readonly baseMs: number;
  readonly maxMs: number;
  readonly random?: () => number;
}

/**
 * How long to wait after the n-th failure (n from 1): anywhere up to a bound that doubles, so that
 * those who failed together do not come back together. At least a tenth of the bound.
 */
export function nextDelayMs(
  failureCount: number,
  { baseMs, maxMs, random = Math.random }: Backoff,
): number {
  const bound = Math.min(maxMs, baseMs * 2 ** Math.min(failureCount - 1, 30));
  return Math.round(bound * (0.1 + 0.9 * random()));
}
