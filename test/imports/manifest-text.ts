import { createHash } from 'node:crypto';

/* Lines of a manifest, as another site would write them. */
export const run = (number: number, more = {}) => ({
  run: {
    source: 'DATA',
    number,
    startedAt: null,
    endedAt: null,
    eventCount: null,
    luminosity: null,
    conditions: null,
    verdict: null,
    verdictComment: null,
    ...more,
  },
});
export const file = (lfn: string, more = {}) => ({
  file: {
    lfn,
    kind: 'MERGED_FILE',
    sizeBytes: 10,
    adler32: '00000001',
    sha256: null,
    eventCount: 5,
    stream: null,
    release: null,
    site: 'SLAC',
    runs: [{ source: 'DATA', number: 1, eventCount: 5 }],
    mergedFrom: 1,
    parents: { count: 0, first: [] },
    urls: ['https://door.example/a'],
    ...more,
  },
});
export const head = (files: number, more = {}, dataset = {}) => ({
  sweepbook: 'manifest',
  version: 1,
  site: 'SLAC',
  exportedAt: '2026-01-01T00:00:00.000Z',
  cursor: 'x',
  dataset: {
    id: '1',
    name: 'd',
    kind: 'PR',
    owner: 'o',
    stream: null,
    release: null,
    treeName: null,
    description: null,
    backupWaived: false,
    fileCount: files,
    sizeBytes: 10 * files,
    eventCount: 5 * files,
    runCount: 1,
    luminosity: null,
    closedAt: '2026-01-01T00:00:00.000Z',
    origins: [],
    ...dataset,
  },
  ...more,
});

/** Lines with a proper end. */
export function ended(lines: readonly (object | string)[], end = {}): string {
  const text = lines
    .map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`)
    .join('');
  const sha256 = createHash('sha256').update(text).digest('hex');
  const files = lines.filter((line) => typeof line === 'object' && 'file' in line).length;
  const runs = lines.filter((line) => typeof line === 'object' && 'run' in line).length;
  return `${text}${JSON.stringify({ end: { runs, files, sha256, signature: null, ...end } })}\n`;
}
