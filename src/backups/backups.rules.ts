import type { ConfirmLevel } from '../storage/contract.ts';
import type { Asking } from '../storage/judge.ts';
import type { Step } from '../events/events.rules.ts';

export const backupStatuses = [
  'REQUESTED',
  'COPYING',
  'COPIED',
  'CONFIRMED',
  'FAILED',
  'LOST',
] as const;
export type BackupStatus = (typeof backupStatuses)[number];

/** The life of a backup record; the trigger backup_records_guard holds it. */
export const backupSteps: readonly Step<BackupStatus>[] = [
  { from: '', to: 'REQUESTED', name: 'request', when: 'the file is registered' },
  { from: 'REQUESTED', to: 'COPYING', name: 'claim', when: 'a worker takes it: a new attempt' },
  { from: 'REQUESTED', to: 'FAILED', name: 'give up', when: 'no attempt is left' },
  { from: 'COPYING', to: 'COPIED', name: 'copied', when: 'by the holder of the attempt' },
  { from: 'COPYING', to: 'REQUESTED', name: 'retry', when: 'the attempt failed, others are left' },
  { from: 'COPYING', to: 'FAILED', name: 'fail', when: 'no attempt is left, or none can help' },
  {
    from: 'COPIED',
    to: 'CONFIRMED',
    name: 'confirm',
    when: 'the store answered size and checksums equal to the registered ones',
  },
  {
    from: 'COPIED',
    to: 'COPYING',
    name: 'take over',
    when: 'the lease has run out: a new attempt',
  },
  { from: 'COPIED', to: 'REQUESTED', name: 'retry', when: 'the store did not confirm' },
  { from: 'COPIED', to: 'FAILED', name: 'fail', when: 'no attempt is left, or none can help' },
  { from: 'CONFIRMED', to: 'LOST', name: 'lose', when: 'an audit finds it gone or corrupt' },
  { from: 'FAILED', to: 'REQUESTED', name: 'request again', when: 'somebody asks for it' },
  { from: 'LOST', to: 'REQUESTED', name: 'request again', when: 'somebody asks for it' },
];

/** Faults that no further attempt with the same source can mend. */
const hopeless = new Set(['SOURCE_CHANGED', 'CHECKSUM_MISMATCH', 'DUPLICATE', 'BAD_USER_INPUT']);
/** A path that this worker cannot read, another may: a few tries, then it is told. */
const attemptsWithoutSource = 3;

export interface FailedAttempt {
  readonly errorCode: string;
  /** Failed attempts since the backup was asked for, this one included. */
  readonly failureCount: number;
  readonly attemptLimit: number;
}

/** Try again later, or give up and say why. */
export function afterFailure(failed: FailedAttempt): 'REQUESTED' | 'FAILED' {
  if (hopeless.has(failed.errorCode)) return 'FAILED';
  const limit =
    failed.errorCode === 'SOURCE_UNREADABLE'
      ? Math.min(attemptsWithoutSource, failed.attemptLimit)
      : failed.attemptLimit;
  return failed.failureCount >= limit ? 'FAILED' : 'REQUESTED';
}

/** How a request meets what is there. */
export function request(status: BackupStatus | undefined): 'REGISTERED' | 'EXISTING' {
  switch (status) {
    case undefined:
    case 'FAILED':
    case 'LOST':
      return 'REGISTERED';
    case 'REQUESTED':
    case 'COPYING':
    case 'COPIED':
    case 'CONFIRMED':
      return 'EXISTING';
  }
}

export interface StorePolicy {
  readonly confirmLevel: ConfirmLevel;
  /** It passed its last self-test, or was never tested. */
  readonly isTrusted: boolean;
}

/** How a copy in this store is asked for: its word, if that is its level and it can be believed. */
export function askingOf({ confirmLevel, isTrusted }: StorePolicy): Asking {
  switch (confirmLevel) {
    case 'COPIED':
    case 'ARCHIVED':
      return isTrusted ? 'SAYS' : 'READ_BACK';
    case 'READ_BACK':
      return 'READ_BACK';
  }
}

/** What a confirmation covers that was asked for like this; tape comes on top, by the store's own word. */
export function levelOf(asking: Asking): ConfirmLevel {
  return asking === 'SAYS' ? 'COPIED' : 'READ_BACK';
}
