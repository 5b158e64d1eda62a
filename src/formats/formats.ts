import { documentFormats } from './documents.ts';
import type { Format } from './list.ts';
import { lineFormats } from './lines.ts';
import { tcl } from './tcl.ts';

export const exportFormats = [
  'txt',
  'jsonl',
  'csv',
  'tcl',
  'rdataframe',
  'coffea',
  'metalink',
  'runs',
] as const;
export type ExportFormat = (typeof exportFormats)[number];

export const formats: Readonly<Record<ExportFormat, Format>> = {
  ...lineFormats,
  tcl,
  ...documentFormats,
};
