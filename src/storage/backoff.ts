export interface Backoff {
  readonly baseMs: number;
  readonly maxMs: number;
  /** What the bound grows by with each failure; 2 if not given. */
  readonly factor?: number;
  readonly random?: () => number;
}

/**
 * How long to wait after the n-th failure (n from 1): anywhere up to a bound that grows, so that
 * those who failed together do not come back together. At least a tenth of the bound.
 */
export function nextDelayMs(
  failureCount: number,
  { baseMs, maxMs, factor = 2, random = Math.random }: Backoff,
): number {
  const bound = Math.min(maxMs, baseMs * factor ** Math.min(failureCount - 1, 30));
  return Math.round(bound * (0.1 + 0.9 * random()));
}
