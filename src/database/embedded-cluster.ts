import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chown,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SweepbookError, systemCode } from '../errors.ts';
import { runAs, type Account, type Place } from './embedded-account.ts';
import type { Binaries } from './embedded-binaries.ts';

/** Superuser and database of the embedded PostgreSQL. */
export const role = 'sweepbook';

/** What PostgreSQL’s programs get of the environment: a site’s LD_LIBRARY_PATH or PG… would mislead them. */
export const cleanEnvironment = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * Makes the data folder unless there is one of the right version.
 * @returns the password
 * @throws SweepbookError UNAVAILABLE or NO_SPACE
 */
export async function ensureCluster(place: Place, binaries: Binaries): Promise<string> {
  await removeLeftovers(place.base);
  const version = await dataVersion(place.data);
  if (version === undefined) {
    const password = (await readPassword(place.base)) ?? randomBytes(24).toString('hex');
    await writeWhole(join(place.base, 'password'), `${password}\n`);
    await createCluster(place, binaries, password);
    return password;
  }
  const major = binaries.version.split('.')[0];
  if (version !== major) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `the data in ${place.data} is of PostgreSQL ${version}, the embedded one is ${major}: ` +
        `dump it with PostgreSQL ${version} (pg_dump) and restore it into an empty SWEEPBOOK_HOME, ` +
        `or run PostgreSQL ${version} on it yourself and set DATABASE_URL`,
      { folder: place.data, found: version, expected: major },
    );
  }
  const password = await readPassword(place.base);
  if (password !== undefined) return password;
  throw new SweepbookError(
    'UNAVAILABLE',
    `${join(place.base, 'password')} is missing: bring it back from a backup of the folder`,
    { folder: place.base },
  );
}

/** The password of the database; undefined: there is none yet. */
export async function readPassword(base: string): Promise<string | undefined> {
  try {
    return (await readFile(join(base, 'password'), 'utf8')).trim() || undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes a file that is either whole or not there; only its owner can read it. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const unfinished = `${path}.${process.pid}`;
  await writeFile(unfinished, text, { mode: 0o600, flush: true });
  await giveToOwner(unfinished);
  await rename(unfinished, path);
}

/** What root writes into the folder of an ordinary user stays readable for that user. */
export async function giveToOwner(path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dirname(path));
  await chown(path, uid, gid);
}

async function dataVersion(data: string): Promise<string | undefined> {
  try {
    return (await readFile(join(data, 'PG_VERSION'), 'utf8')).trim();
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  const found = await readdir(data).catch(() => undefined);
  if (found === undefined) return undefined;
  throw new SweepbookError(
    'UNAVAILABLE',
    `${data} is there but is no data folder of PostgreSQL: move it away, or set another SWEEPBOOK_HOME`,
    { folder: data },
  );
}

/** In a folder beside, then renamed: a data folder that is there is whole. */
async function createCluster(place: Place, binaries: Binaries, password: string): Promise<void> {
  const beside = await mkdtemp(join(place.base, 'init-'));
  try {
    const passwordFile = join(beside, 'password');
    await writeFile(passwordFile, password, { mode: 0o600 });
    for (const path of [beside, passwordFile]) await give(path, place.account);
    await initialise(beside, passwordFile, binaries, place.account);
    await rename(join(beside, 'data'), place.data);
    await flushFolder(dirname(place.data));
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

async function initialise(
  beside: string,
  passwordFile: string,
  binaries: Binaries,
  account: Account | undefined,
): Promise<void> {
  const options = [
    ['-D', join(beside, 'data'), '-U', role, `--pwfile=${passwordFile}`],
    ['--auth=scram-sha-256', '--data-checksums', '--encoding=UTF8', '--no-instructions'],
    // PostgreSQL's own C.UTF-8: the same order on every host, no locale needed there.
    ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
  ].flat();
  const child = spawn(join(binaries.folder, 'bin', 'initdb'), options, {
    cwd: beside,
    env: cleanEnvironment,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...runAs(account),
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-8192)));
  }
  const end = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal ?? `exit ${code}`));
  });
  if (end !== 'exit 0') throw failed('the embedded database could not be made', said, end);
}

/** What PostgreSQL says at any end; the reason stands before it. */
const noise =
  /database system is|terminating any other|shutting down|startup process|Consult recent|removing/;

/** A failure with the last lines of what the program said; NO_SPACE when that was the reason. */
export function failed(what: string, said: string, end: string): SweepbookError {
  const lines = said
    .trim()
    .split('\n')
    .filter((line) => !noise.test(line))
    .slice(-6)
    .join('\n');
  const full = /no space left|disk quota|check free disk space/i.test(said);
  return new SweepbookError(
    full ? 'NO_SPACE' : 'UNAVAILABLE',
    `${what}${full ? ': the disk is full, make room and start again' : ''} (${end}):\n${lines}`,
    { lines, end },
  );
}

async function give(path: string, account: Account | undefined): Promise<void> {
  if (account !== undefined) await chown(path, account.uid, account.gid);
}

/** What a crash in the middle has left; we own the folder, so nobody is at work on it. */
async function removeLeftovers(base: string): Promise<void> {
  for (const name of await readdir(base)) {
    if (!/^init-\w{6}$/.test(name)) continue;
    await rm(join(base, name), { recursive: true, force: true, maxRetries: 5 });
  }
}

async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
