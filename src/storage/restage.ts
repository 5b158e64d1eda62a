import { mkdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SweepbookError, systemCode } from '../errors.ts';
import type { Expected, MassStore, PutOptions, StoreAnswer } from './contract.ts';
import { syncFolder } from './copy-file.ts';
import { judge } from './judge.ts';
import { give, realFolderBelow } from './place-file.ts';
import { readBack } from './read-back.ts';

export interface Restage {
  readonly store: MassStore;
  readonly key: string;
  /** Absolute path on this host. */
  readonly path: string;
  readonly expected: Expected;
  /** For whom, as "c12", and the how many-th attempt: names of files under way are told apart by both. */
  readonly mark: string;
  readonly attempt: number;
  /** Folders below which this host's workers may write. */
  readonly roots: readonly string[];
  readonly options: PutOptions;
}

/**
 * Copies a file from a mass store to disk: under a name beside it, read back, compared, and only then
 * under its own. Nothing is ever replaced. Returns what was read.
 */
export async function restage(wanted: Restage): Promise<StoreAnswer> {
  const { store, key, path, expected, mark, attempt, roots, options } = wanted;
  const folder = await folderBelow(roots, path);
  await mkdir(folder, { recursive: true });
  // Looked at again: a link may stand where we made a folder.
  await folderBelow(roots, path);
  const nameOf = (of: number) => join(folder, `.sweepbook-${mark}.a${of}`);
  const temporary = nameOf(attempt);
  // What dead attempts left: whoever wrote it has lost his lease.
  for (let of = Math.max(1, attempt - mostEarlier); of <= attempt; of++) {
    await rm(nameOf(of), { force: true });
  }
  try {
    await store.fetch(key, temporary, expected, options);
    const answer = await readBack(temporary, options);
    const doubt = judge(expected, answer);
    if (doubt) throw doubt;
    options.signal?.throwIfAborted();
    await give(temporary, path, (cause) => taken(path, cause));
    await syncFolder(folder);
    return answer;
  } catch (error) {
    if (['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) {
      throw new SweepbookError(
        'NO_SPACE',
        `${folder} is full: make room`,
        { path },
        { cause: error },
      );
    }
    throw error;
  } finally {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}

/** Attempts whose files are looked for. */
const mostEarlier = 20;

/** The folder of a path, if it really lies below a root that this host gives away. */
async function folderBelow(roots: readonly string[], path: string): Promise<string> {
  const real = await realFolderBelow(roots, path);
  if (real !== undefined) return real;
  throw new SweepbookError(
    'FORBIDDEN',
    `${dirname(resolve(path))} is not below a folder that workers may write to here: name one in SWEEPBOOK_RESTAGE_ROOTS`,
    { path, roots },
  );
}

function taken(path: string, cause: unknown): SweepbookError {
  return new SweepbookError(
    'DUPLICATE',
    `another file is at ${path}, and nothing is replaced: look at it, then move it away or recover to another place`,
    { path },
    { cause },
  );
}
