import type { Step } from '../events/events.rules.ts';
import { badInput, SweepbookError } from '../errors.ts';

export const datasetStatuses = ['OPEN', 'BACKED_UP', 'CLOSED'] as const;
export type DatasetStatus = (typeof datasetStatuses)[number];
export const datasetKinds = ['PR', 'SP', 'SKIM', 'IMPORT', 'USER'] as const;
export type DatasetKind = (typeof datasetKinds)[number];

/** The life of a dataset; the trigger datasets_guard holds it. */
export const datasetSteps: readonly Step<DatasetStatus>[] = [
  { from: '', to: 'OPEN', name: 'create', when: 'the name is free' },
  {
    from: 'OPEN',
    to: 'BACKED_UP',
    name: 'mark backed up',
    when: 'at least one file, and every file has a confirmed backup',
  },
  { from: 'OPEN', to: 'CLOSED', name: 'close', when: 'backup waived, at least one file' },
  { from: 'BACKED_UP', to: 'OPEN', name: 'reopen', when: 'a reason is given' },
  {
    from: 'BACKED_UP',
    to: 'CLOSED',
    name: 'close',
    when: 'every file still has a confirmed backup',
  },
];

/** What the rules look at. */
export interface DatasetState {
  readonly name: string;
  readonly status: DatasetStatus;
  readonly sealed: boolean;
  readonly backupWaived: boolean;
  readonly fileCount: number;
  readonly confirmedCount: number;
  readonly version: number;
}

export type Move =
  | { readonly kind: 'done' }
  | { readonly kind: 'move'; readonly to: DatasetStatus };

const allowedFrom = (status: DatasetStatus) =>
  datasetSteps.filter((step) => step.from === status).map((step) => step.to);

function illegal(dataset: DatasetState, to: DatasetStatus, wayOut: string): SweepbookError {
  const allowed = allowedFrom(dataset.status);
  return new SweepbookError(
    'ILLEGAL_TRANSITION',
    `dataset ${dataset.name} is ${dataset.status} and cannot become ${to}: ${wayOut}`,
    { dataset: dataset.name, from: dataset.status, to, allowed },
  );
}

/** The version the caller saw must still be the present one. */
export function expectVersion(dataset: DatasetState, expected: number | null | undefined): void {
  if (expected == null || expected === dataset.version) return;
  throw new SweepbookError(
    'STALE_VERSION',
    `dataset ${dataset.name} is at version ${dataset.version}, not ${expected}: read it again, then decide`,
    { dataset: dataset.name, version: dataset.version, expectedVersion: expected },
  );
}

function demandSafe(dataset: DatasetState): void {
  if (dataset.fileCount === 0) {
    throw new SweepbookError(
      'DATASET_EMPTY',
      `dataset ${dataset.name} has no file: add files first`,
      {
        dataset: dataset.name,
      },
    );
  }
  const missing = dataset.fileCount - dataset.confirmedCount;
  if (missing > 0) {
    throw new SweepbookError(
      'FILES_NOT_BACKED_UP',
      `${missing} of ${dataset.fileCount} files of ${dataset.name} have no confirmed backup: sweep it, or back them up`,
      { dataset: dataset.name, missing, fileCount: dataset.fileCount },
    );
  }
}

/** OPEN → BACKED_UP; already there or further is done. */
export function markBackedUp(dataset: DatasetState): Move {
  if (dataset.status !== 'OPEN') return { kind: 'done' };
  demandSafe(dataset);
  return { kind: 'move', to: 'BACKED_UP' };
}

/** BACKED_UP → CLOSED, or OPEN → CLOSED where the backup is waived. */
export function close(dataset: DatasetState): Move {
  if (dataset.status === 'CLOSED') return { kind: 'done' };
  if (dataset.status === 'OPEN') {
    if (!dataset.backupWaived) {
      throw illegal(dataset, 'CLOSED', 'mark it backed up first, or sweep it');
    }
    if (dataset.fileCount === 0) demandSafe(dataset);
    return { kind: 'move', to: 'CLOSED' };
  }
  if (!dataset.backupWaived) demandSafe(dataset);
  return { kind: 'move', to: 'CLOSED' };
}

/** BACKED_UP → OPEN; an OPEN dataset that is being swept is unsealed. Needs a reason. */
export function reopen(
  dataset: DatasetState,
  reason: string | null | undefined,
): Move | { kind: 'unseal' } {
  if (dataset.status === 'CLOSED') {
    throw illegal(
      dataset,
      'OPEN',
      'a closed dataset never changes; make a new one, or mark it bad',
    );
  }
  if (dataset.status === 'OPEN' && !dataset.sealed) return { kind: 'done' };
  demandReason(reason);
  return dataset.status === 'OPEN' ? { kind: 'unseal' } : { kind: 'move', to: 'OPEN' };
}

/** Files come and go only while the dataset is OPEN and no sweep is under way. */
export function demandChangeable(dataset: DatasetState): void {
  if (dataset.status !== 'OPEN') {
    throw new SweepbookError(
      'ILLEGAL_TRANSITION',
      dataset.status === 'CLOSED'
        ? `dataset ${dataset.name} is CLOSED and its files never change: make a new dataset`
        : `dataset ${dataset.name} is BACKED_UP: reopen it before you change its files`,
      { dataset: dataset.name, from: dataset.status, allowed: allowedFrom(dataset.status) },
    );
  }
  if (dataset.sealed) {
    throw new SweepbookError(
      'DATASET_SEALED',
      `dataset ${dataset.name} is being swept and sealed: wait for the close, or reopen it to call the sweep off`,
      { dataset: dataset.name },
    );
  }
}

const longestReason = 2000;

/** Whatever lowers trust says why. */
export function demandReason(reason: string | null | undefined): string {
  const text = reason?.trim() ?? '';
  if (text === '' || text.length > longestReason) {
    throw badInput(
      'reason',
      text,
      `say why, in 1 to ${longestReason} characters: it stays in the history`,
    );
  }
  return text;
}

/** What a dataset may be called. */
export function checkDatasetName(name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$/.test(name)) {
    throw badInput(
      'name',
      name,
      '1 to 200 letters, digits and . _ : / + = @ -, the first a letter or digit',
    );
  }
}
