/**
 * Cases that cost much and find the same kind of fault take turns: each run tries some of them, and a few runs all.
 * TURN_SEED says which again; TEST_ALL=1 tries all.
 */
const seed = Number(process.env['TURN_SEED'] ?? Math.floor(Math.random() * 1000));
const all = process.env['TEST_ALL'] === '1';
console.log(all ? 'TEST_ALL=1' : `TURN_SEED=${seed}`);

/** Whether case number `at` is tried, of every `outOf` so many. */
export const isTried = (at: number, many: number, outOf: number): boolean =>
  all || (at + seed) % outOf < many;
