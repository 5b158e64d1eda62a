import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PutOptions, StoredFile } from './contract.ts';
import { statOf } from './read-back.ts';

/**
 * All regular files below a folder, by name, keys relative to it. Links are not followed: what they lead to is
 * elsewhere. Errors of the file system go up: a listing with a hole is none.
 */
export async function* filesBelow(
  root: string,
  leftOut: readonly string[],
  options: PutOptions,
  folder = '',
): AsyncGenerator<StoredFile> {
  const entries = await readdir(join(root, folder), { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    options.signal?.throwIfAborted();
    const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (leftOut.includes(key)) continue;
    if (entry.isDirectory()) {
      yield* filesBelow(root, leftOut, options, key);
      continue;
    }
    const stat = await statOf(join(root, key));
    if (stat?.isFile()) yield { key, sizeBytes: stat.size, changedAt: stat.mtime };
  }
}
