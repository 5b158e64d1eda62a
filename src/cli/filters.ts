import { InvalidArgumentError, type Command } from 'commander';
import { wholeNumber } from './command.ts';

/** The options of lists of things that have a time and events. */
export interface SpanOptions {
  readonly since?: string;
  readonly until?: string;
  readonly minEvents?: number;
}

export function addSpanOptions(command: Command, what: string): Command {
  return command
    .option('--since <time>', `${what} then or later: 2026-01-31, or with time and zone`, moment)
    .option('--until <time>', `${what} before then`, moment)
    .option('--min-events <number>', 'with so many events or more', wholeNumber);
}

/** A day is its first moment, in UTC. */
function moment(text: string): string {
  const full = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00Z` : text;
  if (!/T.*(Z|[+-]\d\d:\d\d)$/i.test(full) || Number.isNaN(Date.parse(full))) {
    throw new InvalidArgumentError('Write it as 2026-01-31 or 2026-01-31T12:00:00Z.');
  }
  return full;
}

/** The span as the filters take it; nothing if none is asked for. */
export function spanOf({ since, until }: SpanOptions): { gte?: string; lt?: string } | undefined {
  if (since === undefined && until === undefined) return undefined;
  return {
    ...(since === undefined ? {} : { gte: since }),
    ...(until === undefined ? {} : { lt: until }),
  };
}
