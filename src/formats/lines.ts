import { placeOf, type ExportFile, type Format, type ListTotals } from './list.ts';

/** "# sweepbook: 12 files", with the chunks of a list that is split. */
export const countLine = ({ files, chunks }: ListTotals) =>
  `# sweepbook: ${files} files${chunks === undefined ? '' : ` in ${chunks} chunks`}`;

/** "# chunk 2" before the first file of each chunk. */
export class ChunkLines {
  private last: number | undefined;

  before({ chunk }: ExportFile): string {
    if (chunk === this.last) return '';
    this.last = chunk;
    return `# chunk ${chunk}\n`;
  }
}

const csvColumns = ['lfn', 'url', 'sizeBytes', 'eventCount', 'adler32', 'sha256', 'runs'] as const;

/** RFC 4180; a name that begins like a formula is no number to a spreadsheet either when it is quoted. */
const csvField = (value: string | number | null) =>
  typeof value === 'string' && /[",\n\r]|^[=+@-]/.test(value)
    ? `"${value.replaceAll('"', '""')}"`
    : String(value ?? '');

type LineFormat = 'txt' | 'jsonl' | 'csv';

/** Formats with one file a line. */
export const lineFormats: Readonly<Record<LineFormat, Format>> = {
  txt: {
    contentType: 'text/plain; charset=utf-8',
    detail: 'none',
    tells: { events: false, checksums: false },
    holdsChunks: true,
    needsTree: false,
    writer: () => {
      const chunks = new ChunkLines();
      return {
        head: () => '',
        file: (file) => `${chunks.before(file)}${placeOf(file)}\n`,
        tail: (totals) => `${countLine(totals)}\n`,
      };
    },
  },
  jsonl: {
    contentType: 'application/x-ndjson; charset=utf-8',
    detail: 'numbers',
    tells: { events: true, checksums: true },
    holdsChunks: true,
    needsTree: false,
    writer: () => ({
      head: () => '',
      file: (file) => {
        const { chunk, lfn, url, sizeBytes, eventCount, adler32, sha256, runs } = file;
        const checksums = {
          ...(adler32 === null ? {} : { adler32 }),
          ...(sha256 === null ? {} : { sha256 }),
        };
        const line = {
          chunk,
          lfn,
          urls: url === null ? [] : [url],
          sizeBytes,
          events: eventCount,
          checksums,
          runs,
        };
        return `${JSON.stringify(line)}\n`;
      },
      tail: ({ files, chunks }) => `${JSON.stringify({ count: files, chunks })}\n`,
    }),
  },
  csv: {
    contentType: 'text/csv; charset=utf-8',
    detail: 'numbers',
    tells: { events: true, checksums: true },
    holdsChunks: true,
    needsTree: false,
    writer: () => {
      let isFirst = true;
      const header = (chunk: number | undefined) =>
        `${chunk === undefined ? '' : 'chunk,'}${csvColumns.join(',')}\r\n`;
      return {
        head: () => '',
        file: (file) => {
          const { runs, chunk } = file;
          const fields = csvColumns.map((name) =>
            csvField(name === 'runs' ? (runs ?? []).join(' ') : file[name]),
          );
          const line = `${chunk === undefined ? '' : `${chunk},`}${fields.join(',')}\r\n`;
          if (!isFirst) return line;
          isFirst = false;
          return header(chunk) + line;
        },
        tail: (totals) => `${isFirst ? header(totals.chunks) : ''}${countLine(totals)}\r\n`,
      };
    },
  },
};
