import { constants } from 'node:fs';
import {
  mkdir,
  open,
  readlink,
  realpath,
  rm,
  stat,
  symlink,
  type FileHandle,
} from 'node:fs/promises';
import { extname, join, sep } from 'node:path';
import { messageOf, SweepbookError, systemCode, type ErrorCode } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type { PutOptions } from './contract.ts';

/** What a file of a user is. */
export interface CheckedSource {
  readonly sizeBytes: number;
  readonly sha256: string;
  /** The same as long as nobody writes into it, or puts another in its place. */
  readonly stamp: string;
}

/** A file of a user, open: what is read of it is what was looked at, wherever its name leads by now. */
export interface OpenSource {
  readonly handle: FileHandle;
  /** As the user named it. */
  readonly given: string;
  /** Leads to it as long as it is open: from this process, and from those that it starts. */
  readonly place: string;
  /** Where it really is, without symbolic links. */
  readonly path: string;
}

const faultOf = (path: string, code: ErrorCode, why: string) =>
  new SweepbookError(code, `${path} ${why}`, { path });

/** Device, inode, size and times of change, to the nanosecond. */
export async function stampOf({ place }: OpenSource): Promise<string> {
  const found = await stat(place, { bigint: true });
  return `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
}

async function demandBelow(roots: readonly string[], given: string, real: string): Promise<void> {
  for (const root of roots) {
    const realRoot = await realpath(root).catch(() => undefined);
    if (realRoot !== undefined && real.startsWith(realRoot === sep ? sep : realRoot + sep)) return;
  }
  throw faultOf(given, 'SOURCE_NOT_ALLOWED', 'is not in a folder that you may publish from');
}

/**
 * Opens a file that really lies below one of the roots, for the caller to close. Where it lies is asked of the open
 * file: who changes links meanwhile gets nothing read that is not his. SOURCE_NOT_ALLOWED, SOURCE_UNREADABLE.
 */
export async function openSource(roots: readonly string[], given: string): Promise<OpenSource> {
  let handle: FileHandle | undefined;
  try {
    const real = await realpath(given);
    await demandBelow(roots, given, real);
    // A FIFO without a writer would hold us here for good.
    handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const path = await whereIs(handle);
    await demandBelow(roots, given, path);
    return { handle, given, place: `/proc/${process.pid}/fd/${handle.fd}`, path };
  } catch (error) {
    await handle?.close();
    throw error instanceof SweepbookError ? error : unreadable(given, error);
  }
}

async function whereIs({ fd }: FileHandle): Promise<string> {
  try {
    return await readlink(`/proc/self/fd/${fd}`);
  } catch (error) {
    const why = 'what users publish is read on Linux alone, with /proc mounted';
    throw new SweepbookError('UNAVAILABLE', why, {}, { cause: error });
  }
}

/** Opens it as above, and closes it after the work. */
export async function withOpened<T>(
  roots: readonly string[],
  given: string,
  work: (source: OpenSource) => Promise<T>,
): Promise<T> {
  const source = await openSource(roots, given);
  try {
    return await work(source);
  } finally {
    await source.handle.close();
  }
}

/** Reads a user's file through. SOURCE_UNREADABLE, SOURCE_CHANGED, BAD_USER_INPUT (empty). */
export async function checkSource(source: OpenSource, options: PutOptions): Promise<CheckedSource> {
  const { given, handle, place } = source;
  try {
    const found = await handle.stat();
    if (found.isDirectory()) throw faultOf(given, 'BAD_USER_INPUT', 'is a folder');
    if (!found.isFile()) throw faultOf(given, 'BAD_USER_INPUT', 'is no regular file');
    if (found.size === 0) throw faultOf(given, 'BAD_USER_INPUT', 'is empty: leave it out');
    const before = await stampOf(source);
    const { sizeBytes, sha256 } = await hashFile(place, options);
    if ((await stampOf(source)) !== before) {
      throw faultOf(given, 'SOURCE_CHANGED', 'is being written: publish it when it is complete');
    }
    return { sizeBytes, sha256, stamp: before };
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error instanceof SweepbookError ? error : unreadable(given, error);
  }
}

/**
 * Names of ours that lead to open files, for the tools of the site: no name of a user is ever taken for an option, a
 * pattern, a list or an address, and none leads elsewhere when the tool comes to it. In a folder that is gone after.
 */
export async function withNames<T>(
  folder: string,
  sources: readonly OpenSource[],
  work: (names: readonly string[]) => Promise<T>,
): Promise<T> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    const names = sources.map(({ path }, at) => {
      const extension = /^\.[A-Za-z0-9]{1,10}$/.exec(extname(path))?.[0] ?? '';
      return join(folder, `${String(at + 1).padStart(6, '0')}${extension}`);
    });
    await Promise.all(names.map((name, at) => symlink(sources[at]?.place ?? '', name)));
    return await work(names);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function unreadable(path: string, error: unknown): SweepbookError {
  const code = systemCode(error);
  if (code === 'EMFILE' || code === 'ENFILE') {
    return new SweepbookError(
      'UNAVAILABLE',
      'too many files are open here: raise the limit (ulimit -n)',
    );
  }
  const why =
    {
      ENOENT: 'is not there, as the worker sees it',
      ENXIO: 'is no regular file',
      ENOTDIR: 'is not there, as the worker sees it',
      EACCES: 'cannot be read by the worker: give it the permission',
      EPERM: 'cannot be read by the worker: give it the permission',
      ELOOP: 'leads in a circle of symbolic links',
      ENAMETOOLONG: 'has too long a name',
    }[code ?? ''] ?? `cannot be read (${code ?? messageOf(error)})`;
  return faultOf(path, 'SOURCE_UNREADABLE', why);
}
