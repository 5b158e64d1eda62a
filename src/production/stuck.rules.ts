import { badInput } from '../errors.ts';

/** How old something is before it counts as stuck, in seconds, if nothing is said. */
export const stuckAfterSeconds = {
  sweeps: 86_400,
  backups: 3600,
  datasets: 7 * 86_400,
} as const;

const longestSeconds = 10 * 366 * 86_400;

/** The moment before which something must have begun to count; BAD_USER_INPUT. */
export function momentBefore(now: Date, olderThanSeconds: number): Date {
  if (
    !Number.isInteger(olderThanSeconds) ||
    olderThanSeconds < 0 ||
    olderThanSeconds > longestSeconds
  ) {
    throw badInput('olderThanSeconds', olderThanSeconds, `0 to ${longestSeconds} (ten years)`);
  }
  return new Date(now.getTime() - olderThanSeconds * 1000);
}

export const waitingReasons = [
  'STORE_DOWN',
  'WORKER_SILENT',
  'SOURCE_UNREADABLE',
  'NEXT_ATTEMPT',
  'STORE_BUSY',
  'NO_WORKER',
  'LEFT_TO_PRODUCER',
  'TAPE_LATE',
  'AWAITS_TAPE',
  'COPYING',
] as const;
export type BackupWaitReason = (typeof waitingReasons)[number];

/** What helps, in a sentence. */
export const adviceOnWaiting: Record<BackupWaitReason, string> = {
  STORE_DOWN:
    'Bring the store back ("store check" says what is wrong); the copies then go on by themselves.',
  WORKER_SILENT: 'Nothing: another worker takes over within seconds, if one runs.',
  SOURCE_UNREADABLE:
    'Run "sweepbook worker" where the files lie, or copy them with "backup --direct".',
  NEXT_ATTEMPT:
    'Mend what the last error says; it is tried again by itself, or now with "dataset sweep" or "backup".',
  STORE_BUSY: 'Wait, or let the store take more copies at once (concurrency).',
  NO_WORKER:
    'No worker takes them: is one running and can it reach the store? Start "sweepbook worker".',
  LEFT_TO_PRODUCER:
    'Its producer said that he copies it himself; a worker tries when his hour is over.',
  TAPE_LATE:
    'Ask those who run the tapes: it has waited there for longer than retry.tapeHours of its store; it goes on waiting.',
  AWAITS_TAPE: 'Nothing: tape takes hours or days, and the store is asked again by itself.',
  COPYING: 'Nothing: a worker holds it and is alive. Slow store or very large files?',
};

const advice: Readonly<Record<string, string>> = {
  STORE_UNAVAILABLE: 'Is the store mounted where the workers run?',
  NO_SPACE: 'Make room in the store.',
  SOURCE_UNREADABLE: 'Run a worker where the files lie, or copy them with "backup --direct".',
  SOURCE_CHANGED:
    'The file is not what was registered: restore it, or register the new content under a new LFN.',
  CHECKSUM_MISMATCH: 'The store holds other bytes than were registered: look at the evidence.',
  NOT_CONFIRMED: 'The store gave no complete answer: look at the evidence.',
  DUPLICATE: 'Another file lies under that name in the store: look at it, and move it away.',
};
const adviceOnLoss =
  'An audit found the copy gone: a new one can be made while the file is still on disk.';

/** What to do about backups that were given up with this code. */
export function adviceOnFailure(status: 'FAILED' | 'LOST', code: string | null): string {
  const known = status === 'LOST' ? adviceOnLoss : advice[code ?? ''];
  return `${known ?? 'Mend what the error says.'} Then ask again: "sweepbook dataset sweep NAME", or "sweepbook backup FILE".`;
}

/** What decides what a running sweep waits for; counts are files. */
export interface SweepState {
  readonly total: number;
  readonly confirmed: number;
  readonly failed: number;
  readonly copying: number;
  readonly storeIsUp: boolean;
}

export type SweepTrouble = 'BACKUPS_FAILED' | 'STORE_DOWN' | 'COPYING' | 'WAITING';

/** The first thing to look at in a sweep that does not end. */
export function sweepTrouble(sweep: SweepState): SweepTrouble {
  if (sweep.failed > 0) return 'BACKUPS_FAILED';
  if (!sweep.storeIsUp) return 'STORE_DOWN';
  return sweep.copying > 0 ? 'COPYING' : 'WAITING';
}

export const adviceOnSweep: Record<SweepTrouble, string> = {
  BACKUPS_FAILED: 'Mend what the last error says, then "sweepbook dataset sweep NAME" tries again.',
  STORE_DOWN: 'Bring the store back; the sweep then goes on by itself.',
  COPYING: 'Nothing: copies are under way.',
  WAITING: 'Files wait for a worker or for their next attempt: look at the waiting backups.',
};

export type DatasetTrouble = 'EMPTY' | 'NOT_BACKED_UP' | 'READY_TO_MARK' | 'READY_TO_CLOSE';

/** Why a dataset that no sweep takes further is not closed. */
export function datasetTrouble(dataset: {
  readonly status: string;
  readonly backupWaived: boolean;
  readonly fileCount: number;
  readonly confirmedCount: number;
}): DatasetTrouble {
  if (dataset.fileCount === 0) return 'EMPTY';
  if (dataset.status === 'BACKED_UP' || dataset.backupWaived) return 'READY_TO_CLOSE';
  return dataset.confirmedCount < dataset.fileCount ? 'NOT_BACKED_UP' : 'READY_TO_MARK';
}

export const adviceOnDataset: Record<DatasetTrouble, string> = {
  EMPTY: 'It has no file: ask its owner whether it is needed.',
  NOT_BACKED_UP:
    'Nobody swept it: "sweepbook dataset sweep NAME" backs up what is missing and closes it.',
  READY_TO_MARK: 'Every file has its backup: "sweepbook dataset sweep NAME" closes it at once.',
  READY_TO_CLOSE: 'Nothing is missing: "sweepbook dataset close NAME".',
};
