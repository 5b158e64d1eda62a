import { link, mkdir, realpath, rename } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { SweepbookError, systemCode } from '../errors.ts';
import { statOf } from './read-back.ts';

/** The folder of a path, if it really lies below one of these; undefined = it does not. */
export async function realFolderBelow(
  roots: readonly string[],
  path: string,
): Promise<string | undefined> {
  const folder = dirname(resolve(path));
  let there = folder;
  while ((await statOf(there)) === undefined && dirname(there) !== there) there = dirname(there);
  const real = join(await realpath(there), folder.slice(there.length));
  for (const root of roots) {
    const real0 = await realpath(root).catch(() => undefined);
    if (real0 !== undefined && (real === real0 || real.startsWith(real0 + sep))) return real;
  }
  return undefined;
}

/** Makes the folder of a path below a root and returns it; FORBIDDEN when a link leads out of it. */
export async function makeFolderBelow(root: string, path: string): Promise<string> {
  await mkdir(root, { recursive: true });
  for (const isMade of [false, true]) {
    const folder = await realFolderBelow([root], path);
    if (folder === undefined) {
      throw new SweepbookError(
        'FORBIDDEN',
        `${path} is not below ${root}: a link leads out of it`,
        {
          path,
          root,
        },
      );
    }
    // Looked at again: a link may stand where we made a folder.
    if (isMade) return folder;
    await mkdir(folder, { recursive: true });
  }
  return dirname(path);
}

/** link() never replaces anything; a file system without hard links gets a look and a rename. */
export async function give(
  temporary: string,
  path: string,
  taken: (cause: unknown) => SweepbookError,
): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    const code = systemCode(error) ?? '';
    if (code === 'EEXIST') throw taken(error);
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
    if (await statOf(path)) throw taken(error);
    await rename(temporary, path);
  }
}
