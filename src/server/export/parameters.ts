import { timeOf } from '../../api/scalars.ts';
import type { ListFilter, Moment } from '../../datasets/datasets-export.queries.ts';
import { badInput, SweepbookError } from '../../errors.ts';
import { readPlace } from '../../events/events.queries.ts';
import { accessProtocols, type AccessProtocol } from '../../pools/pools.rules.ts';
import { parseRunRanges } from '../../runs/runs.rules.ts';
import { exportFormats, formats, type ExportFormat } from '../../formats/formats.ts';
import { isLine } from '../../text.ts';

/** What is asked of an export, checked. */
export interface ExportParameters {
  readonly format: ExportFormat;
  /** Most events in a chunk; undefined = one list. */
  readonly split: number | undefined;
  /** The one chunk that is wanted, from 1. */
  readonly chunk: number | undefined;
  readonly tree: string | undefined;
  /** Only copies that are on disk now, by this protocol; undefined = the copy that is always named. */
  readonly protocol: AccessProtocol | undefined;
  readonly filter: ListFilter;
}

const names = [
  'format',
  'split',
  'chunk',
  'tree',
  'protocol',
  'runs',
  'goodRuns',
  'since',
  'asOf',
] as const;
const longestValue = 8192;

/** The parameters of an export's address; BAD_USER_INPUT names what does not fit. */
export function readParameters(query: Record<string, unknown>, epoch: string): ExportParameters {
  const unknown = Object.keys(query).find((name) => !names.some((known) => known === name));
  if (unknown !== undefined) {
    throw badInput('parameter', unknown, `exports know ${names.join(', ')}`);
  }
  const text = (name: (typeof names)[number]): string | undefined => {
    const value = query[name];
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw badInput(name, value, 'give it once');
    if (value.length > longestValue)
      throw badInput(name, value, `at most ${longestValue} characters`);
    return value;
  };
  const format = formatOf(text('format') ?? 'txt');
  const split = countIn('split', text('split'), 'the most events of a chunk');
  const chunk = countIn('chunk', text('chunk'), 'number of a chunk, from 1');
  if (chunk !== undefined && split === undefined) {
    throw badInput('chunk', chunk, 'there are chunks with split=EVENTS only');
  }
  if (split !== undefined && chunk === undefined && !formats[format].holdsChunks) {
    throw badInput(
      'split',
      split,
      `a ${format} document holds one chunk: ask for each with chunk=N`,
    );
  }
  return {
    format,
    split,
    chunk,
    tree: treeOf(text('tree')),
    protocol: protocolNamed(text('protocol')),
    filter: {
      runs: rangesOf(text('runs')),
      goodRuns: flagOf('goodRuns', text('goodRuns')),
      since: momentOf('since', text('since'), epoch),
      asOf: momentOf('asOf', text('asOf'), epoch),
    },
  };
}

function formatOf(text: string): ExportFormat {
  const format = exportFormats.find((known) => known === text);
  if (!format) throw badInput('format', text, `one of ${exportFormats.join(', ')}`);
  return format;
}

function protocolNamed(text: string | undefined): AccessProtocol | undefined {
  const protocol = accessProtocols.find((known) => known === text);
  if (text === undefined || protocol) return protocol;
  throw badInput('protocol', text, `one of ${accessProtocols.join(', ')}`);
}

function countIn(name: string, text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^[1-9]\d*$/.test(text) && Number.isSafeInteger(value)) return value;
  throw badInput(name, text, `${what}: a whole number of at least 1`);
}

function flagOf(name: string, text: string | undefined): boolean {
  if (text === undefined || text === 'false') return false;
  if (text === 'true') return true;
  throw badInput(name, text, 'true or false');
}

function treeOf(text: string | undefined): string | undefined {
  if (text === undefined || (text !== '' && text.length <= 200 && isLine(text))) return text;
  throw badInput('tree', text, '1 to 200 printable characters');
}

/** "36172-39320,40001" as PostgreSQL's multirange. */
function rangesOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const ranges = parseRunRanges(text, 'runs').map(({ first, last }) => `[${first},${last}]`);
  return `{${ranges.join(',')}}`;
}

/** RFC 3339, or the cursor of an event. */
function momentOf(name: string, text: string | undefined, epoch: string): Moment | undefined {
  if (text === undefined) return undefined;
  const time = timeOf(text);
  if (time) return time;
  try {
    return readPlace(epoch, text);
  } catch (error) {
    if (!(error instanceof SweepbookError) || error.code !== 'INVALID_CURSOR') throw error;
    throw badInput(name, text, 'a time like 2026-01-31T08:00:00Z, or the cursor of an event');
  }
}
