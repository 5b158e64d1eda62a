export const exportFormats = ['txt', 'jsonl', 'csv'] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** A file as exports tell it. */
export interface ExportFile {
  readonly lfn: string;
  readonly url: string | null;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly runs: readonly number[];
}

export interface Writer {
  readonly contentType: string;
  readonly head: string;
  line(file: ExportFile): string;
  /** Says how many there were, so that a cut-off list is noticed. */
  tail(count: number): string;
}

const csvColumns = ['lfn', 'url', 'sizeBytes', 'eventCount', 'adler32', 'sha256', 'runs'] as const;

/** RFC 4180; a name that begins like a formula is no number to a spreadsheet either when it is quoted. */
const csvField = (value: string | number | null) =>
  typeof value === 'string' && /[",\n\r]|^[=+@-]/.test(value)
    ? `"${value.replaceAll('"', '""')}"`
    : String(value ?? '');

export const writers: Record<ExportFormat, Writer> = {
  txt: {
    contentType: 'text/plain; charset=utf-8',
    head: '',
    line: (file) => `${file.url ?? file.lfn}\n`,
    tail: (count) => `# sweepbook: ${count} files\n`,
  },
  jsonl: {
    contentType: 'application/x-ndjson; charset=utf-8',
    head: '',
    line: ({ url, ...file }) => `${JSON.stringify({ ...file, urls: url === null ? [] : [url] })}\n`,
    tail: (count) => `${JSON.stringify({ count })}\n`,
  },
  csv: {
    contentType: 'text/csv; charset=utf-8',
    head: `${csvColumns.join(',')}\r\n`,
    line: (file) =>
      `${csvColumns.map((name) => csvField(name === 'runs' ? file.runs.join(' ') : file[name])).join(',')}\r\n`,
    tail: (count) => `# sweepbook: ${count} files\r\n`,
  },
};
