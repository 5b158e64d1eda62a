import { SweepbookError } from '../errors.ts';
import type { Step } from '../events/events.rules.ts';

export const importStatuses = ['RUNNING', 'ENTERED', 'FAILED', 'CANCELLED'] as const;
export type ImportStatus = (typeof importStatuses)[number];
export const importFileStatuses = ['WAITING', 'FETCHING', 'BACKING_UP', 'SAFE', 'FAILED'] as const;
export type ImportFileStatus = (typeof importFileStatuses)[number];

/** The life of an import; the trigger imports_guard holds it. */
export const importSteps: readonly Step<ImportStatus>[] = [
  {
    from: '',
    to: 'RUNNING',
    name: 'accept',
    when: 'the manifest is whole and contradicts nothing',
  },
  {
    from: 'RUNNING',
    to: 'ENTERED',
    name: 'enter',
    when: 'every file is here and backed up: its dataset is closed in the same transaction',
  },
  {
    from: 'RUNNING',
    to: 'FAILED',
    name: 'fail',
    when: 'nobody works on it any more, and something is missing',
  },
  { from: 'RUNNING', to: 'CANCELLED', name: 'cancel', when: 'somebody calls it off' },
  { from: 'FAILED', to: 'RUNNING', name: 'retry', when: 'somebody asks for it again' },
  { from: 'FAILED', to: 'CANCELLED', name: 'cancel', when: 'somebody calls it off' },
];

/** Refuses a step that is not one of its life; says whether it is there already. */
export function step(id: number, from: ImportStatus, to: ImportStatus): 'done' | 'move' {
  if (from === to) return 'done';
  const allowed = importSteps.filter((known) => known.from === from).map((known) => known.to);
  if (allowed.includes(to)) return 'move';
  const why = from === 'ENTERED' ? 'its dataset is published' : 'it was called off';
  throw new SweepbookError(
    'ILLEGAL_TRANSITION',
    `import ${id} is ${from} and cannot become ${to}: ${why}`,
    { import: id, from, to, allowed },
  );
}

/** Faults that another attempt with the same manifest cannot mend. */
const hopeless = new Set([
  'CHECKSUM_MISMATCH',
  'FORBIDDEN',
  'SOURCE_NOT_ALLOWED',
  'DUPLICATE',
  'BAD_USER_INPUT',
  'NOT_FOUND',
]);
/** Faults that pass by themselves: the source is away, the disk is full. They count by the clock. */
const passing = new Set(['UNAVAILABLE', 'NO_SPACE']);
const attemptLimit = 5;
const patienceMs = 72 * 3_600_000;

export interface FailedFetch {
  readonly errorCode: string;
  /** Failed attempts, this one included; those that pass by themselves are not counted. */
  readonly failureCount: number;
  /** Since when its source has been away, or the disk full. */
  readonly silentMs: number;
}

/** Whether a fault passes by itself. */
export const isPassingFault = (code: string): boolean => passing.has(code);

/** Try again later, or give up and say why. */
export function afterFailure({
  errorCode,
  failureCount,
  silentMs,
}: FailedFetch): 'WAITING' | 'FAILED' {
  if (hopeless.has(errorCode)) return 'FAILED';
  if (passing.has(errorCode)) return silentMs > patienceMs ? 'FAILED' : 'WAITING';
  return failureCount >= attemptLimit ? 'FAILED' : 'WAITING';
}
