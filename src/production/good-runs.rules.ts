/** Run numbers as people write them, "36172-36180,36185": ascending numbers in, each stands for itself alone. */
export function rangesText(numbers: readonly number[]): string {
  const ranges: string[] = [];
  let first: number | undefined;
  for (const [at, number] of numbers.entries()) {
    first ??= number;
    if (numbers[at + 1] === number + 1) continue;
    ranges.push(first === number ? String(number) : `${first}-${number}`);
    first = undefined;
  }
  return ranges.join(',');
}
