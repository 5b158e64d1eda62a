import { counted, humanBytes } from './table.ts';

export interface StageProgress {
  readonly state: string;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly waiting: number;
  readonly recalling: number;
  readonly copying: number;
  readonly online: number;
  readonly failed: number;
  readonly gone: number;
  readonly copiedBytes: number;
  readonly pinnedUntil: string | null;
  readonly lastError: string | null;
}

export interface StageRow {
  readonly number: number;
  readonly pool: string;
  readonly dataset: string | null;
  readonly principal: string;
  readonly requestedAt: string;
  readonly pinSeconds: number;
  readonly releasedAt: string | null;
  readonly releasedBy: string | null;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly progress: StageProgress;
}

export const stageProgressFields =
  'state fileCount sizeBytes waiting recalling copying online failed gone copiedBytes pinnedUntil lastError';
export const stageFields = `number pool dataset principal requestedAt pinSeconds releasedAt releasedBy fileCount sizeBytes
  progress { ${stageProgressFields} }`;

/** Where its files are, in a few words. */
export function stageText(progress: StageProgress): string {
  const { fileCount, online, copying, recalling, waiting, failed, gone } = progress;
  return [
    `${online} of ${counted(fileCount, 'file')} online`,
    ...(copying > 0 ? [`${copying} being copied`] : []),
    ...(recalling > 0 ? [`${recalling} coming from tape`] : []),
    ...(waiting > 0 ? [`${waiting} waiting`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(gone > 0 ? [`${gone} gone`] : []),
  ].join(', ');
}

export const pinText = ({ pinnedUntil }: StageProgress): string | null =>
  pinnedUntil === null ? null : pinnedUntil.replace(/\.\d+Z$/, 'Z');

export const bytesText = ({ copiedBytes, sizeBytes }: StageProgress): string =>
  `${humanBytes(copiedBytes)} of ${humanBytes(sizeBytes)}`;
