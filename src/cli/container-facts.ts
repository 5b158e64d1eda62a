import { CliError, exitCode } from './exit-codes.ts';

export function noContainer(name: string): CliError {
  return new CliError(
    exitCode.notFound,
    `container ${name}: there is none; look at "container list"`,
    'NOT_FOUND',
  );
}

/** What a set of datasets holds; luminosity in 1/pb. */
export interface Totals {
  readonly datasetCount: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number;
  readonly luminosity: number | null;
}
export const totalsFields = 'datasetCount fileCount sizeBytes eventCount luminosity';

/** A time begins with its year; everything else is a marker. */
export function momentVariables(
  text: string | undefined,
  time: 'asOf' | 'since',
): Record<string, string> {
  if (text === undefined) return {};
  return { [/^\d{4}-/.test(text) ? time : 'marker']: text };
}
