import { wrongUsage } from './exit-codes.ts';

const mostRuns = 10_000;

/** Runs as people write them, "36172-39320,40001", one by one and each once. */
export function parseRunList(text: string): number[] {
  const numbers = new Set<number>();
  for (const part of text.split(',')) {
    const range = /^\s*(\d{1,15})(?:-(\d{1,15}))?\s*$/.exec(part);
    const first = Number(range?.[1]);
    const last = Number(range?.[2] ?? range?.[1]);
    if (!range || last < first) {
      throw wrongUsage(`runs ${JSON.stringify(text)}: write them like 36172-39320,40001`);
    }
    if (numbers.size + last - first >= mostRuns) {
      throw wrongUsage(`runs ${JSON.stringify(text)}: at most ${mostRuns} in one file`);
    }
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return [...numbers];
}
