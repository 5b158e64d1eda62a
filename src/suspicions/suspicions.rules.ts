import type { Step } from '../events/events.rules.ts';
import type { StoreAnswer } from '../storage/contract.ts';

export const suspicionStates = [
  'REPORTED',
  'SUSPICIOUS',
  'CHECKING',
  'CHECKED_GOOD',
  'BAD',
  'UNREADABLE_FROM_HERE',
  'OBSOLETE',
] as const;
export type SuspicionState = (typeof suspicionStates)[number];

/** The life of a suspicion; the trigger suspicions_guard holds it. */
export const suspicionSteps: readonly Step<SuspicionState>[] = [
  { from: '', to: 'REPORTED', name: 'report', when: 'a job could not read the copy' },
  {
    from: 'REPORTED',
    to: 'SUSPICIOUS',
    name: 'suspect',
    when: 'enough different jobs said so, or an operator asks for the check',
  },
  {
    from: 'SUSPICIOUS',
    to: 'CHECKING',
    name: 'claim',
    when: 'a worker takes it: a new attempt',
  },
  { from: 'CHECKING', to: 'SUSPICIOUS', name: 'pass on', when: 'this worker cannot read there' },
  {
    from: 'CHECKING',
    to: 'CHECKED_GOOD',
    name: 'clear',
    when: 'read in full: size and checksums are the registered ones',
  },
  {
    from: 'CHECKING',
    to: 'BAD',
    name: 'find bad',
    when: 'read twice and not what was registered, or not there although its volume or store is',
  },
  {
    from: 'CHECKING',
    to: 'UNREADABLE_FROM_HERE',
    name: 'give up',
    when: 'no worker can read there',
  },
  { from: 'CHECKING', to: 'OBSOLETE', name: 'drop', when: 'the copy is known as lost meanwhile' },
  { from: 'SUSPICIOUS', to: 'OBSOLETE', name: 'drop', when: 'the copy is known as lost meanwhile' },
  {
    from: 'UNREADABLE_FROM_HERE',
    to: 'SUSPICIOUS',
    name: 'suspect again',
    when: 'another job said so later, or an operator asks for the check',
  },
];

/** What decides whether a copy is checked after a report. */
export interface Reported {
  readonly state: SuspicionState;
  readonly jobCount: number;
  /** The job had not said so before. */
  readonly isNewJob: boolean;
  /** Since this copy was last read by us; undefined = never. */
  readonly sinceCheckMs: number | undefined;
}

/** A copy that was read is not read again sooner, however many say that they cannot read it. */
export const leastBetweenChecksMs = 3_600_000;

/** In how many milliseconds the copy is to be checked after this report; undefined = not because of it. */
export function checkAfterReport(reported: Reported, suspicionJobs: number): number | undefined {
  const { state, jobCount, isNewJob, sinceCheckMs } = reported;
  const waitMs = sinceCheckMs === undefined ? 0 : Math.max(0, leastBetweenChecksMs - sinceCheckMs);
  if (state === 'REPORTED') return jobCount >= suspicionJobs ? waitMs : undefined;
  return state === 'UNREADABLE_FROM_HERE' && isNewJob ? waitMs : undefined;
}

/** A host tries so often before it says that it cannot read there; the others try meanwhile. */
const triesPerHost = 3;
const mostTries = 60;

/** Where no worker can read: the next try, or the end. */
export function afterBlindCheck(host: string, blindHosts: readonly string[]): 'again' | 'give up' {
  const tries = blindHosts.filter((each) => each === host).length;
  return tries >= triesPerHost || blindHosts.length >= mostTries ? 'give up' : 'again';
}

/** Whether two answers say the same of the bytes. */
export function isSameAnswer(one: StoreAnswer, other: StoreAnswer): boolean {
  return (
    one.isPresent === other.isPresent &&
    one.sizeBytes === other.sizeBytes &&
    one.adler32 === other.adler32 &&
    one.sha256 === other.sha256
  );
}
