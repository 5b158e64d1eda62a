import { badInput, SweepbookError } from '../errors.ts';
import type { Step } from '../events/events.rules.ts';
import type { RunSource } from '../runs/runs.rules.ts';
import { isLine } from '../text.ts';

export const fileKinds = ['RUN_FILE', 'MERGED_FILE'] as const;
export type FileKind = (typeof fileKinds)[number];
export const replicaStatuses = ['AVAILABLE', 'STAGING', 'LOST', 'EVICTED'] as const;
export type ReplicaStatus = (typeof replicaStatuses)[number];

/** The life of a copy on disk; the trigger replicas_changed holds it. */
export const replicaSteps: readonly Step<ReplicaStatus>[] = [
  { from: '', to: 'AVAILABLE', name: 'register', when: 'the file is not lost' },
  { from: '', to: 'STAGING', name: 'tell', when: 'it is to be read before it counts, or restaged' },
  { from: 'AVAILABLE', to: 'LOST', name: 'lose', when: 'an incident is reported' },
  { from: 'LOST', to: 'STAGING', name: 'tell again', when: 'it is said to be back, or recovered' },
  { from: 'LOST', to: 'AVAILABLE', name: 'undo', when: 'its incident was a mistake' },
  {
    from: 'STAGING',
    to: 'AVAILABLE',
    name: 'confirm',
    when: 'a worker read it and found size and checksums as registered (or its incident was a mistake)',
  },
  {
    from: 'STAGING',
    to: 'LOST',
    name: 'reject',
    when: 'a worker found something else, or nothing',
  },
  { from: 'AVAILABLE', to: 'EVICTED', name: 'evict', when: 'its pool needs the room' },
  { from: 'EVICTED', to: 'AVAILABLE', name: 'stage', when: 'its pool has brought and read it' },
];

const longestLfn = 1024;
const longestSegment = 255;

/**
 * A logical file name: an absolute path of plain segments. What would leave a store's
 * root, break a list of one name a line, or fit on no file system is refused.
 */
export function checkLfn(lfn: string): void {
  const refuse = (wayOut: string) => badInput('lfn', lfn, wayOut);
  if (!lfn.isWellFormed()) throw refuse('must be well-formed Unicode text');
  if (!lfn.startsWith('/')) throw refuse('must start with "/", as in /store/PR/run1.root');
  if (Buffer.byteLength(lfn) > longestLfn) throw refuse(`at most ${longestLfn} bytes`);
  if (!isLine(lfn)) {
    throw refuse('no line breaks or control characters: lists of files have one name a line');
  }
  const segments = lfn.slice(1).split('/');
  for (const segment of segments) {
    if (segment === '') throw refuse('no empty segment ("//" or a "/" at the end)');
    if (segment === '.' || segment === '..') throw refuse('no "." or ".." segment');
    if (Buffer.byteLength(segment) > longestSegment) {
      throw refuse(`at most ${longestSegment} bytes between two "/"`);
    }
  }
  if (segments[0]?.startsWith('.')) throw refuse('the first segment must not start with "."');
}

export interface FileRun {
  readonly number: number;
  readonly source: RunSource;
  readonly eventCount?: number | null | undefined;
}

/** A file as its producer tells it. */
export interface FileDescription {
  readonly lfn: string;
  readonly kind: FileKind;
  readonly site?: string | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly sizeBytes: number;
  /** 8 hexadecimal digits. */
  readonly adler32: string;
  /** 64 hexadecimal digits. */
  readonly sha256?: string | null | undefined;
  /** null = not known */
  readonly eventCount?: number | null | undefined;
  readonly runs?: readonly FileRun[] | null | undefined;
  /** LFNs of the files that it was derived from. */
  readonly parents?: readonly string[] | null | undefined;
  /** Absolute path of the copy on disk. */
  readonly path?: string | null | undefined;
  readonly volume?: string | null | undefined;
}

const mostRunsPerFile = 10_000;
const mostParentsPerFile = 10_000;

/** The form of a description; throws BAD_USER_INPUT with the field, the value and the way out. */
export function checkDescription(file: FileDescription): void {
  checkLfn(file.lfn);
  if (!Number.isSafeInteger(file.sizeBytes) || file.sizeBytes < 1) {
    throw badInput(
      'sizeBytes',
      file.sizeBytes,
      'an empty file holds no data and tape never archives one: do not register it',
    );
  }
  checkChecksums(file);
  if (file.eventCount != null && (file.eventCount < 0 || !Number.isSafeInteger(file.eventCount))) {
    throw badInput('eventCount', file.eventCount, 'a count from 0 to 2^53−1');
  }
  const runs = file.runs ?? [];
  if (file.kind === 'RUN_FILE' && (runs.length !== 1 || !file.stream)) {
    throw badInput('runs', runs.length, 'a RUN_FILE is of exactly one run and names its stream');
  }
  if (runs.length > mostRunsPerFile)
    throw badInput('runs', runs.length, `at most ${mostRunsPerFile}`);
  const parents = file.parents ?? [];
  if (parents.length > mostParentsPerFile)
    throw badInput('parents', parents.length, `at most ${mostParentsPerFile}`);
  if (parents.includes(file.lfn))
    throw badInput('parents', file.lfn, 'no file is derived from itself');
  for (const [field, text] of [
    ['stream', file.stream],
    ['release', file.release],
    ['volume', file.volume],
    ['site', file.site],
  ] as const) {
    if (text != null && (text === '' || text.length > 200 || !isLine(text))) {
      throw badInput(field, text, '1 to 200 printable characters');
    }
  }
  if (file.path != null && !(file.path.startsWith('/') && isLine(file.path))) {
    throw badInput(
      'path',
      file.path,
      'must be an absolute path without line breaks: lists of files have one name a line',
    );
  }
  if (file.path != null && Buffer.byteLength(file.path) > 4096) {
    throw badInput('path', file.path, 'at most 4096 bytes');
  }
}

function checkChecksums(file: FileDescription): void {
  if (!/^[0-9a-f]{8}$/i.test(file.adler32)) {
    throw badInput('adler32', file.adler32, 'must be 8 hexadecimal digits, with leading zeros');
  }
  if (file.sha256 != null && !/^[0-9a-f]{64}$/i.test(file.sha256)) {
    throw badInput('sha256', file.sha256, 'must be 64 hexadecimal digits');
  }
}

/** Ten thousand names fit in no message. */
const brief = <T>(value: T) =>
  typeof value === 'string' && value.length > 200 ? `${value.slice(0, 199)}…` : value;

/** A set of names as one text. */
const namesOf = (lfns: readonly string[]) => [...new Set(lfns)].toSorted().join(' ') || 'none';

/** What is compared when a file is registered again. */
export interface KnownFile {
  readonly lfn: string;
  readonly kind: FileKind;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly parents: readonly string[];
}

/** The same file again is no change; other content under a known name is refused (DUPLICATE). */
export function registerAgain(known: KnownFile, told: FileDescription): void {
  const difference = [
    ['kind', known.kind, told.kind],
    ['sizeBytes', known.sizeBytes, told.sizeBytes],
    ['adler32', known.adler32, told.adler32.toLowerCase()],
    ['sha256', known.sha256, told.sha256?.toLowerCase() ?? known.sha256],
    ['eventCount', known.eventCount, told.eventCount ?? known.eventCount],
    ['parents', namesOf(known.parents), namesOf(told.parents ?? known.parents)],
  ].find(([, registered, now]) => registered !== null && registered !== now);
  if (difference === undefined) return;
  const [field, registered, now] = difference.map(brief);
  throw new SweepbookError(
    'DUPLICATE',
    `${known.lfn} is registered with ${field} ${registered}, not ${now}: register other content under another LFN`,
    { lfn: known.lfn, field, registered, told: now },
  );
}

export interface MergeInput {
  readonly lfn: string;
  readonly kind: FileKind;
  readonly eventCount: number | null;
  /** LFN of the merged file that it already went into. */
  readonly mergedInto: string | null;
}

/** I7: a merge takes run files that were never merged, and their events add up to the output's. */
export function merge(
  output: { readonly lfn: string; readonly kind: FileKind; readonly eventCount: number | null },
  inputs: readonly MergeInput[],
): void {
  if (output.kind !== 'MERGED_FILE') {
    throw new SweepbookError(
      'NOT_MERGED',
      `${output.lfn} is a RUN_FILE: a merge makes a MERGED_FILE`,
    );
  }
  const wrongKind = inputs.find((input) => input.kind !== 'RUN_FILE');
  if (wrongKind || inputs.length === 0) {
    throw new SweepbookError(
      'NOT_MERGED',
      wrongKind
        ? `${wrongKind.lfn} is no RUN_FILE: only run files are merged`
        : `${output.lfn}: name the run files that were merged`,
      { lfn: wrongKind?.lfn },
    );
  }
  const taken = inputs.filter((input) => input.mergedInto !== null);
  if (taken.length > 0) {
    throw new SweepbookError(
      'ALREADY_MERGED',
      `${taken.length} of ${inputs.length} inputs are merged already, ${taken[0]?.lfn} into ${taken[0]?.mergedInto}: ` +
        'a run file goes into one merged file',
      {
        count: taken.length,
        first: taken.slice(0, 20).map(({ lfn, mergedInto }) => ({ lfn, mergedInto })),
      },
    );
  }
  const uncounted = inputs.find((input) => input.eventCount === null);
  const total = inputs.reduce((sum, input) => sum + (input.eventCount ?? 0), 0);
  if (uncounted || output.eventCount === null || total !== output.eventCount) {
    throw new SweepbookError(
      'EVENT_COUNT_MISMATCH',
      uncounted
        ? `${uncounted.lfn} has no event count: a merge needs those of all inputs`
        : `${output.lfn} has ${output.eventCount ?? 'no known'} events, its ${inputs.length} inputs ${total}: merge again`,
      { output: output.eventCount, inputs: total, inputCount: inputs.length },
    );
  }
}
