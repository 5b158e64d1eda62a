import { lstat, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type { PutOptions, StoreAnswer } from './contract.ts';

/**
 * What a path of this host holds, read in full; a file of another size than `sizeBytes` need not be read.
 * "Nothing there" counts only where the volume is mounted: see findWitness.
 * SOURCE_UNREADABLE for whatever else keeps us from reading.
 */
export async function askDisk(
  path: string,
  sizeBytes: number,
  options: PutOptions = {},
): Promise<StoreAnswer> {
  const askedAt = new Date().toISOString();
  const evidence = (answer: unknown) => ({
    asked: `read ${path}`,
    answer: JSON.stringify(answer),
    askedAt,
    host: hostname(),
  });
  try {
    // Through links: jobs read what they lead to.
    const before = await stat(path).catch((error: unknown) => {
      if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return undefined;
      throw error;
    });
    if (!before?.isFile()) {
      const found = before ? 'not a regular file' : 'no such file';
      return { isPresent: false, evidence: evidence({ path, found }) };
    }
    const facts = { path, modifiedAt: before.mtime, inode: before.ino };
    if (before.size !== sizeBytes) {
      const size = { sizeBytes: before.size };
      return { isPresent: true, ...size, evidence: evidence({ ...facts, ...size }) };
    }
    const sums = await hashFile(path, options);
    return { isPresent: true, ...sums, evidence: evidence({ ...facts, ...sums }) };
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new SweepbookError(
      'SOURCE_UNREADABLE',
      `${path} cannot be read from ${hostname()}: ${messageOf(error)}`,
      { path },
      { cause: error },
    );
  }
}

export interface Witness {
  readonly path: string;
  readonly sizeBytes: number;
}

/** The first of these files that lies here as it was registered: then its volume is mounted on this host. */
export async function findWitness(witnesses: readonly Witness[]): Promise<Witness | undefined> {
  for (const witness of witnesses) {
    const found = await lstat(witness.path).catch(() => undefined);
    if (found?.isFile() && found.size === witness.sizeBytes) return witness;
  }
  return undefined;
}
