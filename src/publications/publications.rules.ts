import { SweepbookError } from '../errors.ts';
import type { Step } from '../events/events.rules.ts';

export const publicationStatuses = [
  'REQUESTED',
  'AWAITING_APPROVAL',
  'CHECKING',
  'MERGING',
  'BACKING_UP',
  'CLOSING',
  'PUBLISHED',
  'FAILED',
  'WITHDRAWN',
] as const;
export type PublicationStatus = (typeof publicationStatuses)[number];

const withdraw = (from: PublicationStatus): Step<PublicationStatus> => ({
  from,
  to: 'WITHDRAWN',
  name: 'withdraw',
  when: 'its owner or an operator calls it off',
});
const fail = (from: PublicationStatus, when: string): Step<PublicationStatus> => ({
  from,
  to: 'FAILED',
  name: 'fail',
  when,
});

/** The life of a publication; the trigger publications_guard holds it. */
export const publicationSteps: readonly Step<PublicationStatus>[] = [
  { from: '', to: 'REQUESTED', name: 'request', when: 'the quota allows it and the name is free' },
  {
    from: 'REQUESTED',
    to: 'AWAITING_APPROVAL',
    name: 'ask an operator',
    when: 'the site wants each to be approved of',
  },
  { from: 'REQUESTED', to: 'CHECKING', name: 'begin', when: 'a worker takes it' },
  withdraw('REQUESTED'),
  { from: 'AWAITING_APPROVAL', to: 'CHECKING', name: 'approve', when: 'an operator says yes' },
  fail('AWAITING_APPROVAL', 'an operator says no'),
  withdraw('AWAITING_APPROVAL'),
  {
    from: 'CHECKING',
    to: 'MERGING',
    name: 'plan',
    when: 'every file was read, is not empty, stands once and is counted',
  },
  fail('CHECKING', 'a file is not as it must be'),
  withdraw('CHECKING'),
  {
    from: 'MERGING',
    to: 'BACKING_UP',
    name: 'register',
    when: 'every composite file is made, and its events add up',
  },
  fail('MERGING', 'the files cannot be merged'),
  withdraw('MERGING'),
  {
    from: 'BACKING_UP',
    to: 'CLOSING',
    name: 'confirm',
    when: 'every composite file has its confirmed backups',
  },
  fail('BACKING_UP', 'what was to be backed up is gone from disk'),
  withdraw('BACKING_UP'),
  { from: 'CLOSING', to: 'BACKING_UP', name: 'go back', when: 'a backup was found lost meanwhile' },
  {
    from: 'CLOSING',
    to: 'PUBLISHED',
    name: 'publish',
    when: 'its dataset is made and closed in the same transaction',
  },
  fail('CLOSING', 'the name was taken meanwhile'),
  withdraw('CLOSING'),
];

/** Refuses a step that is not one of its life; says whether it is there already. */
export function step(id: number, from: PublicationStatus, to: PublicationStatus): 'done' | 'move' {
  if (from === to) return 'done';
  const allowed = publicationSteps.filter((known) => known.from === from).map((known) => known.to);
  if (allowed.includes(to)) return 'move';
  const why = {
    PUBLISHED: 'its dataset is published, for good: mark that bad if it must go',
    FAILED: 'it is over: publish again',
    WITHDRAWN: 'it was withdrawn: publish again',
  }[from as string];
  throw new SweepbookError(
    'ILLEGAL_TRANSITION',
    `publication ${id} is ${from} and cannot become ${to}: ${why ?? 'it is on its way'}`,
    { publication: id, from, to, allowed },
  );
}

/** What passes by itself: the disk is full or away. It counts by the clock. */
const passing = new Set(['NO_SPACE', 'UNAVAILABLE', 'STORE_UNAVAILABLE']);
/** What may have been an accident: tried so many times. */
const accidents = new Set(['MERGE_FAILED', 'INTERNAL']);
const attemptLimit = 3;
const patienceMs = 24 * 3_600_000;

export interface FailedWork {
  readonly errorCode: string;
  /** Failed attempts, this one included; those that pass by themselves are not counted. */
  readonly failureCount: number;
  /** Since when the disk has been full, or away. */
  readonly silentMs: number;
}

export const isPassingFault = (code: string): boolean => passing.has(code);

/** Try again later, or give up and say why. */
export function afterFailure({ errorCode, failureCount, silentMs }: FailedWork): 'again' | 'over' {
  if (passing.has(errorCode)) return silentMs > patienceMs ? 'over' : 'again';
  return accidents.has(errorCode) && failureCount < attemptLimit ? 'again' : 'over';
}

export interface Grouped<T> {
  readonly members: T[];
  readonly bytes: number;
}

/** Files that one call of a tool takes at most. */
const mostMembers = 1000;

/**
 * Groups files, in their order, into composites of about a wanted size: a composite is closed before it grows beyond
 * it, unless one file alone does. A last one of less than a quarter goes into the one before.
 */
export function groupFiles<T extends { readonly sizeBytes: number }>(
  files: readonly T[],
  wantedBytes: number,
): Grouped<T>[] {
  const groups: { members: T[]; bytes: number }[] = [];
  for (const file of files) {
    const last = groups.at(-1);
    const fits =
      last && last.bytes + file.sizeBytes <= wantedBytes && last.members.length < mostMembers;
    if (!fits) groups.push({ members: [file], bytes: file.sizeBytes });
    else {
      last.members.push(file);
      last.bytes += file.sizeBytes;
    }
  }
  const last = groups.at(-1);
  const before = groups.at(-2);
  if (
    last &&
    before &&
    last.bytes * 4 < wantedBytes &&
    before.members.length + last.members.length <= mostMembers
  ) {
    groups.pop();
    before.members.push(...last.members);
    before.bytes += last.bytes;
  }
  return groups;
}

/** LFN of a composite: no two publications ever make the same. */
export function compositeLfn(
  prefix: string,
  dataset: string,
  id: number,
  at: { readonly number: number; readonly extension: string },
): string {
  const name = dataset.replaceAll('/', '_');
  return `${prefix}/${name}/${name}-${id}-${String(at.number).padStart(4, '0')}${at.extension}`;
}
