import type { Step } from '../events/events.rules.ts';
import { badInput, SweepbookError } from '../errors.ts';

export const runSources = ['DATA', 'SIMULATION'] as const;
export type RunSource = (typeof runSources)[number];
export const productionStatuses = ['IN_PRODUCTION', 'AVAILABLE'] as const;
export type ProductionStatus = (typeof productionStatuses)[number];
export const runVerdicts = ['GOOD', 'BAD'] as const;
export type RunVerdict = (typeof runVerdicts)[number];

/** The life of a run. The database takes the second step by itself (migrations/0004). */
export const runSteps: readonly Step<ProductionStatus>[] = [
  { from: '', to: 'IN_PRODUCTION', name: 'register', when: 'always' },
  {
    from: 'IN_PRODUCTION',
    to: 'AVAILABLE',
    name: 'production done',
    when: 'ended; every expected stream written; every run file merged; every merged file backed up',
  },
];

/** What can be said of a run when it is registered, at its start or later. */
export interface RunFacts {
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  readonly eventCount: number | null;
  /** 1/pb */
  readonly luminosity: number | null;
  readonly conditions: string | null;
  readonly expectedStreams: readonly string[] | null;
}

const factNames = [
  'startedAt',
  'endedAt',
  'eventCount',
  'luminosity',
  'conditions',
  'expectedStreams',
] as const;

export type RunRegistration = 'EXISTING' | 'UPDATED';

/** A run does not end before it starts, whichever of the two is told first. */
export function demandOrder(startedAt: Date | null, endedAt: Date | null): void {
  if (startedAt && endedAt && endedAt < startedAt) {
    const start = startedAt.toISOString();
    throw badInput('endedAt', endedAt, `a run does not end before it starts, at ${start}`);
  }
}

const asText = (fact: RunFacts[keyof RunFacts]) =>
  fact instanceof Date ? fact.toISOString() : JSON.stringify(fact);

/**
 * A run that is known is told again: what was not known yet is filled in, the same
 * is no change, and a contradiction is refused (DUPLICATE), since someone may have used it.
 */
export function registerAgain(number: number, known: RunFacts, told: RunFacts): RunRegistration {
  let filled = false;
  for (const name of factNames) {
    if (told[name] === null) continue;
    const unknown =
      known[name] === null ||
      (name === 'expectedStreams' && known.expectedStreams?.length === 0 && told[name] !== null);
    if (unknown) {
      filled ||= asText(told[name]) !== asText(known[name]);
    } else if (asText(known[name]) !== asText(told[name])) {
      throw new SweepbookError(
        'DUPLICATE',
        `run ${number} is registered with ${name} ${asText(known[name])}, not ${asText(told[name])}: ` +
          'what is registered stays; leave the field out, or ask an operator',
        { number, field: name, registered: known[name], told: told[name] },
      );
    }
  }
  demandOrder(told.startedAt ?? known.startedAt, told.endedAt ?? known.endedAt);
  return filled ? 'UPDATED' : 'EXISTING';
}

const mostRanges = 1000;
/** Run numbers are 32-bit integers. */
const highestRun = 2 ** 31 - 1;

export interface RunNumberRange {
  readonly first: number;
  readonly last: number;
}

/** Run ranges as people write them, "36172-39320,40001". */
export function parseRunRanges(text: string, field = 'numbers'): RunNumberRange[] {
  const parts = text.split(',', mostRanges + 1).map((part) => part.trim());
  if (parts.length > mostRanges) throw badInput(field, text, `at most ${mostRanges} ranges`);
  return parts.map((part) => {
    const found = /^(\d{1,10})(?:\s*-\s*(\d{1,10}))?$/.exec(part);
    const first = Number(found?.[1]);
    const last = Number(found?.[2] ?? found?.[1]);
    if (!found || first > last || last > highestRun) {
      throw badInput(field, text, 'write run ranges as 36172-39320,40001');
    }
    return { first, last };
  });
}
