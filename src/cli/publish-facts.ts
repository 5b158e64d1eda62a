import { counted, humanBytes } from './table.ts';

export interface PublicationProgress {
  readonly status: string;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly checked: number;
  readonly faulty: number;
  readonly merged: number;
  readonly compositeCount: number;
  readonly made: number;
  readonly safe: number;
  readonly doneBytes: number;
  readonly lastError: string | null;
}

export interface PublicationRow {
  readonly number: number;
  readonly status: string;
  readonly datasetName: string;
  readonly requestedBy: string;
  readonly group: string | null;
  readonly description: string;
  readonly store: string;
  readonly mergeTool: string;
  readonly compositeBytes: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  readonly requestedAt: string;
  readonly decidedBy: string | null;
  readonly finishedAt: string | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly progress: PublicationProgress;
}

export const progressFields =
  'status fileCount sizeBytes checked faulty merged compositeCount made safe doneBytes lastError';
export const publicationFields = `number status datasetName requestedBy group description stream release treeName store
  mergeTool compositeBytes fileCount sizeBytes eventCount requestedAt decidedBy decidedAt finishedAt lastErrorCode
  lastError progress { ${progressFields} }`;

/** How far it is, in a few words. */
export function stateText(progress: PublicationProgress): string {
  const { status, fileCount, sizeBytes, checked, faulty, compositeCount, made, safe } = progress;
  const composites = counted(compositeCount, 'composite file');
  switch (status) {
    case 'CHECKING':
      return `${checked} of ${counted(fileCount, 'file')} checked${faulty > 0 ? `, ${faulty} not good` : ''}`;
    case 'MERGING':
      return `${made} of ${composites} made`;
    case 'BACKING_UP':
    case 'CLOSING':
      return `${safe} of ${composites} safe`;
    case 'PUBLISHED':
      return `${counted(fileCount, 'file')} (${humanBytes(sizeBytes)}) in ${composites}`;
    default:
      return `${counted(fileCount, 'file')} (${humanBytes(sizeBytes)})${faulty > 0 ? `, ${faulty} not good` : ''}`;
  }
}
