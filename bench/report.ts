import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

const file = new URL('./RESULTS.md', import.meta.url);

export interface Report {
  /** Name of the measurement: its section in RESULTS.md. */
  readonly name: string;
  readonly title: string;
  /** What was measured, and how; one paragraph each. */
  readonly about: readonly string[];
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

export const number = (value: number, digits = 2): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : value.toFixed(digits);

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? 0)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

const head = `# What was measured

Written by \`npm run bench -- NAME\`; each section is replaced by its own run. All contestants of a section run in the same
minutes on the same machine: ratios hold, absolute figures are of that machine and hour.
`;

/** Writes a section of RESULTS.md, in place of what it was, and prints it. */
export function writeReport(report: Report, machine: string): void {
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
  const section = [
    `## ${report.name}: ${report.title}`,
    '',
    `${new Date().toISOString().slice(0, 10)}, ${machine}`,
    '',
    ...report.about.flatMap((paragraph) => [paragraph, '']),
    line(report.columns),
    line(report.columns.map(() => '---')),
    ...report.rows.map(line),
    '',
  ].join('\n');
  const known = existsSync(file) ? readFileSync(file, 'utf8') : head;
  const [intro = head, ...sections] = known.split(/^(?=## )/m);
  const others = sections.filter((text) => !text.startsWith(`## ${report.name}:`));
  const all = [...others.map((text) => `${text.trimEnd()}\n`), section].toSorted();
  writeFileSync(file, [`${intro.trimEnd()}\n`, ...all].join('\n'));
  process.stdout.write(`\n${section}\n`);
}

export function describeMachine(postgres: string): string {
  const memory = Math.round(totalmem() / 2 ** 30);
  return (
    `${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}), ${memory} GB, ` +
    `PostgreSQL ${postgres}, Node ${process.version.slice(1)}`
  );
}
