import { SweepbookError } from '../errors.ts';
import { countEvents, type EventCount } from '../formats/event-count.ts';
import type { Format } from '../formats/list.ts';
import type { DiskFile } from './disk-files.ts';
import { CliError, exitCode, exitCodeOf } from './exit-codes.ts';
import { hashFile } from './hash-file.ts';
import { startCounter, startProgress } from './progress.ts';
import { unreadable } from './source-files.ts';

/** A file with what its bytes say, as far as it is wanted. */
export interface KnownFile extends DiskFile {
  readonly events: number | null;
  readonly tree: string | null;
  readonly adler32: string | null;
  readonly sha256: string | null;
}

export interface Wanted {
  readonly events: boolean;
  readonly checksums: boolean;
  readonly tree: string | undefined;
  readonly command: readonly string[] | undefined;
}

/** What a format tells of the bytes, and what the options ask besides. */
export function wantedOf(
  { tells, needsTree }: Format,
  options: { split?: number; tree?: string; checksums: boolean },
  command: readonly string[] | undefined,
): Wanted {
  const { split, tree, checksums } = options;
  return {
    events: tells.events || split !== undefined || (needsTree && tree === undefined),
    checksums: tells.checksums && checksums,
    tree,
    command,
  };
}

/** Reads of each file what is wanted; what cannot be read is a fault, and the rest goes on. */
export async function readFacts(
  files: readonly DiskFile[],
  wanted: Wanted,
  signal: AbortSignal,
): Promise<{ readonly files: readonly KnownFile[]; readonly faults: readonly CliError[] }> {
  const bar = startBar(files, wanted);
  const known: KnownFile[] = [];
  const faults: CliError[] = [];
  try {
    for (const [at, file] of files.entries()) {
      signal.throwIfAborted();
      bar.begin(at, file);
      try {
        const counted = wanted.events ? await countEvents(file.path, { ...wanted, signal }) : none;
        const hashed = wanted.checksums
          ? await hashFile(file.path, signal, (done) => bar.read(done))
          : { sizeBytes: file.sizeBytes, adler32: null, sha256: null };
        known.push({ ...file, ...counted, ...hashed });
      } catch (error) {
        signal.throwIfAborted();
        faults.push(faultOf(file.path, error));
      }
    }
  } finally {
    bar.stop();
  }
  return { files: known, faults };
}

const none: EventCount = { events: null, tree: null };

function faultOf(path: string, error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (!(error instanceof SweepbookError)) return unreadable(path, error);
  const isInput = error.code === 'BAD_USER_INPUT';
  return new CliError(isInput ? exitCodeOf(error.code) : exitCode.failed, error.message);
}

interface Bar {
  begin(at: number, file: DiskFile): void;
  /** Bytes of the file that are read. */
  read(done: number): void;
  stop(): void;
}

/** By bytes where they are read, else by files. */
function startBar(files: readonly DiskFile[], { events, checksums }: Wanted): Bar {
  if (!checksums) {
    const counter = startCounter(events ? 'counting events' : 'looking', 'files');
    return {
      begin: (at, { path }) => counter.update(at, files.length, path),
      read: () => undefined,
      stop: () => counter.stop(),
    };
  }
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const progress = startProgress('reading', totalBytes);
  let before = 0;
  let last = 0;
  let now = '';
  return {
    begin: (at, { path, sizeBytes }) => {
      before += last;
      last = sizeBytes;
      now = `${at + 1}/${files.length} ${path}`;
      progress.update(before, now);
    },
    read: (done) => progress.update(before + done, now),
    stop: () => progress.stop(),
  };
}
