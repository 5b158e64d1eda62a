import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { sep } from 'node:path';
import { messageOf, SweepbookError, systemCode, type ErrorCode } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type { PutOptions } from './contract.ts';

/** What a file of a user is. */
export interface CheckedSource {
  /** Without symbolic links. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** The same as long as nobody writes into it, or puts another in its place. */
  readonly stamp: string;
}

const faultOf = (path: string, code: ErrorCode, why: string) =>
  new SweepbookError(code, `${path} ${why}`, { path });

/** Device, inode, size and times of change, to the nanosecond. */
export async function stampOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true });
  return `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
}

/** Where a file really is, which must be below one of the roots. SOURCE_NOT_ALLOWED, SOURCE_UNREADABLE. */
export async function realSource(roots: readonly string[], path: string): Promise<string> {
  let real: string;
  try {
    real = await realpath(path);
  } catch (error) {
    throw unreadable(path, error);
  }
  for (const root of roots) {
    const realRoot = await realpath(root).catch(() => undefined);
    if (realRoot !== undefined && real.startsWith(realRoot === sep ? sep : realRoot + sep))
      return real;
  }
  throw faultOf(path, 'SOURCE_NOT_ALLOWED', 'is not in a folder that you may publish from');
}

/** Reads a user's file through. SOURCE_UNREADABLE, SOURCE_CHANGED, SOURCE_NOT_ALLOWED, BAD_USER_INPUT (empty). */
export async function checkSource(
  roots: readonly string[],
  given: string,
  options: PutOptions,
): Promise<CheckedSource> {
  const path = await realSource(roots, given);
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw faultOf(given, 'BAD_USER_INPUT', 'is a folder');
    if (!found.isFile()) throw faultOf(given, 'BAD_USER_INPUT', 'is no regular file');
    if (found.size === 0) throw faultOf(given, 'BAD_USER_INPUT', 'is empty: leave it out');
    await access(path, constants.R_OK);
    const before = await stampOf(path);
    const { sizeBytes, sha256 } = await hashFile(path, options);
    if ((await stampOf(path)) !== before) {
      throw faultOf(given, 'SOURCE_CHANGED', 'is being written: publish it when it is complete');
    }
    return { path, sizeBytes, sha256, stamp: before };
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error instanceof SweepbookError ? error : unreadable(given, error);
  }
}

function unreadable(path: string, error: unknown): SweepbookError {
  const code = systemCode(error);
  const why =
    {
      ENOENT: 'is not there, as the worker sees it',
      ENOTDIR: 'is not there, as the worker sees it',
      EACCES: 'cannot be read by the worker: give it the permission',
      EPERM: 'cannot be read by the worker: give it the permission',
      ELOOP: 'leads in a circle of symbolic links',
      ENAMETOOLONG: 'has too long a name',
    }[code ?? ''] ?? `cannot be read (${code ?? messageOf(error)})`;
  return faultOf(path, 'SOURCE_UNREADABLE', why);
}
