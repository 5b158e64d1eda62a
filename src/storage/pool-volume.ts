import { link, mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { SweepbookError, systemCode } from '../errors.ts';
import type { Expected, MassStore, PutOptions, StoreAnswer } from './contract.ts';
import { judge } from './judge.ts';
import { makeFolderBelow } from './place-file.ts';
import { readBack } from './read-back.ts';
import { restage } from './restage.ts';

/** Stands in the folder of every pool: without it this is an empty mount point, or another folder. */
const marker = '.sweepbook-pool';
const markerText = (pool: string) => `Sweepbook keeps pool ${pool} in this folder.\n`;

export interface PoolPlace {
  readonly name: string;
  readonly path: string;
}

/** Makes the folder of a new pool; what belongs to another pool is not taken (DUPLICATE). */
export async function preparePool({ name, path }: PoolPlace): Promise<void> {
  await mkdir(path, { recursive: true });
  const file = join(path, marker);
  const there = await readFile(file, 'utf8').catch(() => '');
  // Empty: whoever made it died before he could write.
  if (there === '') return writeFile(file, markerText(name));
  if (there === markerText(name)) return;
  throw new SweepbookError('DUPLICATE', `${path} belongs to another pool (${marker} says so)`, {
    pool: name,
    path,
  });
}

/** Whether this host has the pool mounted. */
export async function isPoolHere({ name, path }: PoolPlace): Promise<boolean> {
  try {
    return (await readFile(join(path, marker), 'utf8')) === markerText(name);
  } catch {
    return false;
  }
}

export interface Bringing {
  readonly pool: PoolPlace;
  readonly store: MassStore;
  readonly key: string;
  readonly path: string;
  readonly expected: Expected;
  readonly copyId: number;
  readonly attempt: number;
  readonly options: PutOptions;
}

/**
 * A file comes from its store into the pool: under a temporary name, read back, compared, renamed. What an earlier
 * attempt has put there is read and taken. Another file there is not ours, and is left alone (DUPLICATE).
 */
export async function bringIntoPool(wanted: Bringing): Promise<StoreAnswer> {
  const { pool, store, key, path, expected, copyId, attempt, options } = wanted;
  const there = await readBack(path, options);
  if (there.isPresent) {
    if (!judge(expected, there)) return there;
    throw new SweepbookError(
      'DUPLICATE',
      `another file is at ${path}, and nothing is replaced: look at it, then move it away`,
      { path, evidence: there.evidence },
    );
  }
  await makeFolderBelow(pool.path, path);
  const common = { store, key, path, expected, attempt, options };
  return restage({ ...common, mark: `p${copyId}`, roots: [pool.path] });
}

/** Where copies lie that are about to be removed, each under the name of its eviction. */
const asideFolder = '.evicting';
const asidePath = (pool: PoolPlace, mark: string) => join(pool.path, asideFolder, mark);

/** Takes a copy off its name, so that whatever comes there afterwards is another file. What is gone already is gone. */
export async function setAside(pool: PoolPlace, path: string, mark: string): Promise<void> {
  if (!path.startsWith(pool.path + sep)) throw new Error(`${path} is not in pool ${pool.name}`);
  await makeFolderBelow(pool.path, path);
  await mkdir(join(pool.path, asideFolder), { recursive: true });
  await rename(path, asidePath(pool, mark)).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error;
  });
}

/** What was set aside, and is neither removed nor back. */
export async function listAside(pool: PoolPlace): Promise<string[]> {
  return readdir(join(pool.path, asideFolder)).catch(() => []);
}

/** It was somebody else's by then: it gets its name again, unless that has another file. */
export async function putBack(pool: PoolPlace, path: string, mark: string): Promise<void> {
  await makeFolderBelow(pool.path, path);
  await link(asidePath(pool, mark), path).catch((error: unknown) => {
    if (!['ENOENT', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
  });
  await rm(asidePath(pool, mark), { force: true });
}

/** Removes what was set aside, and the folders that are empty then. */
export async function removeAside(pool: PoolPlace, path: string, mark: string): Promise<void> {
  await rm(asidePath(pool, mark), { force: true });
  for (let folder = dirname(path); folder.startsWith(pool.path + sep); folder = dirname(folder)) {
    try {
      await rmdir(folder);
    } catch {
      return;
    }
  }
}
