import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { accountFor, canWorkIn, type Account, type Place } from './embedded-account.ts';
import { writeWhole } from './embedded-cluster.ts';

const elsewhere = '/var/lib/sweepbook';
const pointerName = 'location';

/**
 * The place of the database of `folder`: the folder itself; for root, when the
 * lent account cannot work there (a home with mode 700), one under /var/lib/sweepbook.
 * @throws SweepbookError UNAVAILABLE
 */
export async function choosePlace(folder: string, log: (line: string) => void): Promise<Place> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw new SweepbookError('UNAVAILABLE', `${folder} cannot be made: ${messageOf(error)}`, {
      folder,
    });
  });
  const pointed = await readPointer(folder);
  if (pointed !== undefined) return pointedPlace(folder, pointed);
  const base = await realpath(folder);
  const place = placeIn(base);
  if (place.account === undefined || canWorkIn(base, place.account)) return place;
  if (await exists(place.data)) {
    throw unreachable(base, place.account, `make its parent folders passable (chmod a+x)`);
  }
  const other = join(elsewhere, createHash('sha256').update(base).digest('hex').slice(0, 16));
  for (const made of [elsewhere, other]) await makePassable(made, base, place.account);
  if (!canWorkIn(other, place.account)) {
    throw unreachable(base, place.account, `nor can it work in ${other}`);
  }
  log(
    `${base} is closed to ${place.account.name}, as whom PostgreSQL runs: its data is in ${other}`,
  );
  return { ...placeIn(other), account: place.account };
}

/** The base folder of the database of `folder`, whether or not there is a database. */
export async function findBase(folder: string): Promise<string | undefined> {
  if (!(await exists(folder))) return undefined;
  return (await readPointer(folder)) ?? (await realpath(folder));
}

/** Notes in `folder` that its data is elsewhere; only when there is data, so the note can be believed. */
export async function rememberPlace(folder: string, place: Place): Promise<void> {
  if (place.base !== (await realpath(folder))) {
    await writeWhole(join(folder, pointerName), `${place.base}\n`);
  }
}

function placeIn(base: string): Place {
  const data = join(base, 'data');
  return { base, data, account: accountFor(data) };
}

async function pointedPlace(folder: string, base: string): Promise<Place> {
  if (await exists(join(base, 'data'))) return placeIn(base);
  // An empty database instead of the lost one would look as if nothing had ever been written.
  throw new SweepbookError(
    'UNAVAILABLE',
    `the data of ${folder} was in ${base} and is gone: bring it back, ` +
      `or remove ${join(folder, pointerName)} to begin with an empty database`,
    { folder, base },
  );
}

async function readPointer(folder: string): Promise<string | undefined> {
  try {
    return (await readFile(join(folder, pointerName), 'utf8')).trim();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function makePassable(made: string, base: string, account: Account): Promise<void> {
  try {
    await mkdir(made, { recursive: true });
    await chmod(made, 0o755);
  } catch (error) {
    throw unreachable(base, account, messageOf(error));
  }
}

function unreachable(base: string, account: Account, why: string): SweepbookError {
  return new SweepbookError(
    'UNAVAILABLE',
    `${base} is closed to ${account.name}, as whom PostgreSQL runs (${why}): ` +
      'set SWEEPBOOK_HOME to a folder it can reach, start as an ordinary user, or set DATABASE_URL',
    { folder: base, account: account.name },
  );
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
