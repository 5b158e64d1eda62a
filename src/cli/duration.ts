import { InvalidArgumentError } from 'commander';

const seconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** A length of time as people write it, "90s", "30m", "12h", "1d", "2w", in seconds. */
export function durationSeconds(text: string): number {
  const found = /^(\d{1,9})([smhdw])$/.exec(text);
  const value = Number(found?.[1]) * (seconds[found?.[2] ?? ''] ?? Number.NaN);
  if (!Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('Write it like 90s, 30m, 12h, 1d or 2w.');
  }
  return value;
}

/** How long ago a moment was, in its largest unit: "3 d", "5 h". */
export function ageOf(moment: string, now = Date.now()): string {
  const age = Math.max(0, Math.floor((now - Date.parse(moment)) / 1000));
  const unit = (['d', 'h', 'm'] as const).find((name) => age >= (seconds[name] ?? 1)) ?? 's';
  return `${Math.floor(age / (seconds[unit] ?? 1))} ${unit === 'm' ? 'min' : unit}`;
}
