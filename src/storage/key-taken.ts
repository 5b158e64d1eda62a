import { SweepbookError } from '../errors.ts';

/** Something else has the name already; a store never replaces what it holds. */
export function keyTaken(store: string, key: string, why: string, cause?: unknown): SweepbookError {
  return new SweepbookError(
    'DUPLICATE',
    `store ${store}: ${key} is taken (${why}); nothing is replaced: look at it, then move it away or choose another LFN`,
    { store, key },
    { cause },
  );
}
