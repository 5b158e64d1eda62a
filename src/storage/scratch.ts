import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { SweepbookError } from '../errors.ts';

/** A name of this host for one file of this size, gone afterwards; NO_SPACE. */
export async function inScratch<T>(
  { name, scratch }: { readonly name: string; readonly scratch: string },
  sizeBytes: number,
  work: (local: string) => Promise<T>,
): Promise<T> {
  const { bavail, bsize } = await statfs(scratch);
  if (bavail * bsize < sizeBytes) {
    throw new SweepbookError(
      'NO_SPACE',
      `${scratch} has ${bavail * bsize} bytes free, ${sizeBytes} are needed to read a file back: make room, or set scratch of store ${name}`,
      { store: name, path: scratch },
    );
  }
  const folder = await mkdtemp(join(scratch, 'sweepbook-read-'));
  try {
    return await work(join(folder, 'file'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Of letters, digits and what no tool takes for more than a name. */
export function isPlainPath(path: string): boolean {
  return /^(\/[A-Za-z0-9._+=@,][A-Za-z0-9._+=@,-]*)+$/.test(path);
}
