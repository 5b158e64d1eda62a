import { visible } from '../text.ts';

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string | number | null | undefined;
  readonly align?: 'right';
}

const isColourful = () => process.stdout.isTTY && !process.env['NO_COLOR'];
const widthOf = (text: string) => Array.from(text).length;

/** Aligned columns, never wrapped; the header is bold on a terminal. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = rows.map((row) =>
    columns.map((column) => {
      const value = column.value(row);
      return visible(value == null || value === '' ? '-' : String(value));
    }),
  );
  const widths = columns.map((column, at) =>
    cells.reduce(
      (widest, line) => Math.max(widest, widthOf(line[at] ?? '')),
      widthOf(column.title),
    ),
  );
  const render = (line: readonly string[]) =>
    line
      .map((text, at) => {
        const space = ' '.repeat((widths[at] ?? 0) - widthOf(text));
        return columns[at]?.align === 'right' ? space + text : text + space;
      })
      .join('  ')
      .trimEnd();
  const header = render(columns.map((column) => column.title));
  const lines = [isColourful() ? `\u001b[1m${header}\u001b[0m` : header, ...cells.map(render)];
  return `${lines.join('\n')}\n`;
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Bytes for people, in powers of 1000, as disks and networks are sold. */
export function humanBytes(bytes: number | null | undefined): string {
  if (bytes == null) return '';
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** "1 file", "2 files". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
