import { humanBytes, counted } from './table.ts';

export interface ImportRow {
  readonly number: number;
  readonly status: string;
  readonly datasetName: string;
  readonly sourceSite: string;
  readonly store: string;
  readonly signedBy: string | null;
  readonly manifestSha256: string;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly runCount: number;
  readonly requestedBy: string;
  readonly requestedAt: string;
  readonly finishedAt: string | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly progress: ImportProgress;
}

export interface ImportProgress {
  readonly status: string;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly waiting: number;
  readonly fetching: number;
  readonly backingUp: number;
  readonly safe: number;
  readonly failed: number;
  readonly fetchedBytes: number;
  readonly lastError: string | null;
}

export const progressFields =
  'status fileCount sizeBytes waiting fetching backingUp safe failed fetchedBytes lastError';
export const importFields = `number status datasetName sourceSite store signedBy manifestSha256 fileCount sizeBytes
  eventCount runCount requestedBy requestedAt finishedAt lastErrorCode lastError progress { ${progressFields} }`;

/** Where its files are, in a few words; with the bytes, where no bar tells them. */
export function stateText(progress: ImportProgress, withBytes = true): string {
  if (progress.status === 'CANCELLED') return `called off, ${counted(progress.fileCount, 'file')}`;
  const { fileCount, safe, backingUp, failed, waiting, fetching, fetchedBytes, sizeBytes } =
    progress;
  return [
    `${safe} of ${counted(fileCount, 'file')} safe`,
    ...(backingUp > 0 ? [`${backingUp} being backed up`] : []),
    ...(fetching + waiting > 0
      ? [
          `${fetching + waiting} to come` +
            (withBytes ? ` (${humanBytes(fetchedBytes)} of ${humanBytes(sizeBytes)} here)` : ''),
        ]
      : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ].join(', ');
}
