import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { systemCode } from '../errors.ts';
import { hashFile } from './bytes.ts';
import type { PutOptions, StoreAnswer } from './contract.ts';

/** What lies there, not followed through a symbolic link; undefined = nothing. */
export async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}

/** Reads a file of this host, all of it: size and checksums, with the evidence. Errors of the disk go up. */
export async function readBack(path: string, options: PutOptions = {}): Promise<StoreAnswer> {
  const askedAt = new Date().toISOString();
  const evidence = (answer: unknown) => ({
    asked: `read back ${path}`,
    answer: JSON.stringify(answer),
    askedAt,
    host: hostname(),
  });
  const before = await statOf(path);
  if (!before?.isFile()) {
    const found = before ? 'not a regular file' : 'no such file';
    return { isPresent: false, evidence: evidence({ path, found }) };
  }
  const sums = await hashFile(path, options);
  const after = await statOf(path);
  const facts = { path, ...sums, modifiedAt: before.mtime, inode: before.ino };
  if (
    !after ||
    after.ino !== before.ino ||
    after.mtimeMs !== before.mtimeMs ||
    after.size !== sums.sizeBytes
  ) {
    return {
      isPresent: true,
      evidence: evidence({ ...facts, found: 'changed while it was read' }),
    };
  }
  return { isPresent: true, ...sums, evidence: evidence(facts) };
}
