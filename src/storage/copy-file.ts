import { constants, type Stats } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import type { PutOptions } from './contract.ts';

const mostChunkBytes = 4 * 1024 * 1024;
const tellEveryMs = 200;

/**
 * Copies a file to a name that is free, and to disk (fsync). The source must have the
 * registered size, and stay as it is until the end: SOURCE_UNREADABLE, SOURCE_CHANGED. Errors
 * of the target go up as they are.
 */
export async function copyFile(
  source: string,
  target: string,
  sizeBytes: number,
  options: PutOptions,
): Promise<void> {
  await withSource(source, sizeBytes, async (from) => {
    const to = await open(target, 'wx', 0o644);
    try {
      await copyBytes(from, to, source, sizeBytes, options);
      await to.sync();
    } finally {
      await to.close();
    }
  });
}

/** Writes a file under a name that is free, and to disk; a failure leaves nothing. */
export async function intoNewFile(
  target: string,
  write: (to: FileHandle) => Promise<void>,
): Promise<void> {
  const to = await open(target, 'wx', 0o644);
  try {
    await write(to);
    await to.sync();
  } catch (error) {
    await rm(target, { force: true }).catch(() => undefined);
    throw error;
  } finally {
    await to.close();
  }
}

/** Works with a source that has the registered size at the start, and that nobody has written to at the end. */
export async function withSource(
  source: string,
  sizeBytes: number,
  work: (from: FileHandle) => Promise<void>,
): Promise<void> {
  const from = await openSource(source);
  try {
    const before = await from.stat();
    if (!before.isFile()) throw unreadable(source, 'not a regular file');
    if (before.size !== sizeBytes) {
      throw changed(source, `it has ${before.size} bytes, registered are ${sizeBytes}`);
    }
    try {
      await work(from);
    } finally {
      // Also if the work failed: a source that changes is why.
      demandSame(source, before, await from.stat());
    }
  } finally {
    await from.close();
  }
}

async function openSource(source: string): Promise<FileHandle> {
  try {
    // A FIFO without a writer would hold us here for good.
    return await open(source, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreadable(source, systemCode(error) ?? messageOf(error), error);
  }
}

async function copyBytes(
  from: FileHandle,
  to: FileHandle,
  source: string,
  sizeBytes: number,
  { signal, onProgress }: PutOptions,
): Promise<void> {
  // One byte more than a small file should have: growth is noticed.
  const chunkBytes = Math.min(mostChunkBytes, sizeBytes + 1);
  // Two chunks: one is read while the other is written.
  const chunks = [Buffer.allocUnsafe(chunkBytes), Buffer.allocUnsafe(chunkBytes)] as const;
  let copied = 0;
  let toldAt = 0;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (let turn = 0; ; turn++) {
      signal?.throwIfAborted();
      const chunk = turn % 2 === 0 ? chunks[0] : chunks[1];
      const read = await from.read(chunk, 0, chunkBytes, copied).catch((error: unknown) => {
        throw unreadable(source, messageOf(error), error);
      });
      await writing;
      if (read.bytesRead === 0) break;
      if (copied + read.bytesRead > sizeBytes) throw changed(source, 'it grew while it was copied');
      writing = writeAll(to, chunk.subarray(0, read.bytesRead), copied);
      // Looked at with the next await; a failure meanwhile must not count as unhandled.
      writing.catch(() => undefined);
      copied += read.bytesRead;
      if (onProgress && Date.now() - toldAt >= tellEveryMs) {
        toldAt = Date.now();
        onProgress(copied);
      }
    }
  } finally {
    await writing.catch(() => undefined);
  }
  if (copied !== sizeBytes) throw changed(source, `it ended after ${copied} of ${sizeBytes} bytes`);
}

/** write() may take less than it was given, on a full disk for one. */
async function writeAll(to: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await to.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function demandSame(source: string, before: Stats, after: Stats): void {
  if (before.size !== after.size || before.mtimeMs !== after.mtimeMs) {
    throw changed(source, 'it was written to while it was copied');
  }
}

export function unreadable(source: string, why: string, cause?: unknown): SweepbookError {
  return new SweepbookError(
    'SOURCE_UNREADABLE',
    `${source} cannot be read here (${why}): check path and permissions, run a worker where it lies, or use --direct`,
    { path: source },
    { cause },
  );
}

/** Also for the worker, who finds out by hashing. */
export function changed(source: string, how: string): SweepbookError {
  return new SweepbookError(
    'SOURCE_CHANGED',
    `${source} is not the file that was registered: ${how}; register the new content under a new LFN`,
    { path: source },
  );
}

/** A name is on disk when its folder is. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
