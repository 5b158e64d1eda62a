/** What keeps a run in production, in the order in which production works. */
export const waitReasons = [
  'NOT_ENDED',
  'NOT_WRITTEN',
  'NOT_MERGED',
  'NOT_BACKED_UP',
  'NO_MERGED_FILE',
] as const;
export type RunWaitReason = (typeof waitReasons)[number];

export type StreamState = 'NOT_WRITTEN' | 'NOT_MERGED' | 'NOT_BACKED_UP' | 'DONE';

/** The files of one stream of a run, counted. */
export interface StreamFiles {
  /** null: merged files that name no stream. */
  readonly stream: string | null;
  readonly isExpected: boolean;
  readonly runFileCount: number;
  readonly mergedRunFileCount: number;
  readonly mergedFileCount: number;
  readonly backedUpFileCount: number;
  readonly oldestUnmergedAt: Date | null;
  readonly oldestUnsafeAt: Date | null;
}

export interface RunTimes {
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  readonly createdAt: Date;
}

export interface Wait {
  readonly reason: RunWaitReason;
  readonly stream: string | null;
  /** Files that it waits for; 0 where none is there yet. */
  readonly fileCount: number;
  readonly since: Date;
}

/** How far a stream is: the first thing that is missing. */
export function streamState(files: StreamFiles): StreamState {
  if (files.runFileCount + files.mergedFileCount === 0) return 'NOT_WRITTEN';
  if (files.mergedRunFileCount < files.runFileCount) return 'NOT_MERGED';
  return files.backedUpFileCount < files.mergedFileCount ? 'NOT_BACKED_UP' : 'DONE';
}

/** Everything that a run waits for; nothing = its production is done, as done_runs() of the database says. */
export function waits(run: RunTimes, streams: readonly StreamFiles[]): Wait[] {
  const toldAt = run.endedAt ?? run.createdAt;
  const found = streams.flatMap((files) => waitsOf(files, toldAt));
  if (found.length === 0 && streams.every((files) => files.mergedFileCount === 0)) {
    found.push({ reason: 'NO_MERGED_FILE', stream: null, fileCount: 0, since: toldAt });
  }
  if (run.endedAt === null) {
    const since = run.startedAt ?? run.createdAt;
    found.push({ reason: 'NOT_ENDED', stream: null, fileCount: 0, since });
  }
  return found.toSorted((a, b) => waitReasons.indexOf(a.reason) - waitReasons.indexOf(b.reason));
}

function waitsOf(files: StreamFiles, toldAt: Date): Wait[] {
  const { stream } = files;
  const found: Wait[] = [];
  if (streamState(files) === 'NOT_WRITTEN') {
    found.push({ reason: 'NOT_WRITTEN', stream, fileCount: 0, since: toldAt });
  }
  if (files.oldestUnmergedAt !== null) {
    const fileCount = files.runFileCount - files.mergedRunFileCount;
    found.push({ reason: 'NOT_MERGED', stream, fileCount, since: files.oldestUnmergedAt });
  }
  if (files.oldestUnsafeAt !== null) {
    const fileCount = files.mergedFileCount - files.backedUpFileCount;
    found.push({ reason: 'NOT_BACKED_UP', stream, fileCount, since: files.oldestUnsafeAt });
  }
  return found;
}
