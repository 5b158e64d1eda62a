import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SweepbookError } from '../errors.ts';
import type { Expected } from './contract.ts';
import { syncFolder } from './copy-file.ts';
import { fetchOverXrootd } from './fetch-root.ts';
import { diskFault, fetchOverHttp, fetchPath, type Allow, type Fetching } from './fetch-url.ts';
import { readableAt, type ImportSource, type XrootdClient } from './import-sources.ts';
import { judge } from './judge.ts';
import { give, makeFolderBelow } from './place-file.ts';
import { readBack, statOf } from './read-back.ts';
import { readSecret } from './secrets.ts';

export interface ImportFetch {
  readonly source: ImportSource;
  readonly area: string;
  readonly xrootd: XrootdClient;
  readonly lfn: string;
  readonly expected: Expected;
  readonly urls: readonly string[];
  /** Which file, and its how many-th attempt: names of files under way are told apart by both. */
  readonly id: number;
  readonly attempt: number;
  /** What lies under the final name was put there by an earlier attempt. */
  readonly isBrought: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  /** Called before the file gets its final name. */
  readonly announce: (path: string) => Promise<void>;
}

export interface Fetched {
  readonly path: string;
  /** Where it was read; null = it was there already. */
  readonly from: string | null;
}

export const partFolder = (area: string): string => join(area, '.incoming');
const partName = /^i(\d{1,15})\.a(\d{1,9})$/;

/** The final place of a file: its LFN below the area. LFNs never lead out of it. */
export const placeBelow = (area: string, lfn: string): string => join(area, lfn);

/**
 * Brings a file of another site to this disk: under a name of its own, going on where an earlier attempt ended; read
 * back, compared, and only then under its own. Nothing is ever replaced. Errors: UNAVAILABLE (its source is away),
 * SOURCE_UNREADABLE, SOURCE_CHANGED, CHECKSUM_MISMATCH, SOURCE_NOT_ALLOWED, NO_SPACE, DUPLICATE.
 */
export async function fetchImport(wanted: ImportFetch): Promise<Fetched> {
  const { area, lfn } = wanted;
  const path = placeBelow(area, lfn);
  try {
    const folder = await makeFolderBelow(area, path);
    if (await isThereAlready(wanted, path)) return { path, from: null };
    await mkdir(partFolder(area), { recursive: true });
    const { part, isResumed } = await takePart(wanted);
    const from = await fetchFromAny(wanted, part, isResumed);
    wanted.signal.throwIfAborted();
    await wanted.announce(path);
    await give(part, path, (cause) => taken(path, cause));
    await syncFolder(folder);
    await rm(part, { force: true });
    return { path, from };
  } catch (error) {
    throw diskFault(error);
  }
}

/** What has the final name: the file itself, as an earlier attempt left it or as somebody else did; or another one. */
async function isThereAlready(
  { expected, isBrought, signal }: ImportFetch,
  path: string,
): Promise<boolean> {
  if (!(await statOf(path))) return false;
  const answer = await readBack(path, { signal });
  if (judge(expected, answer) === undefined) return true;
  if (!isBrought) throw taken(path);
  // Ours, and broken since.
  await rm(path, { force: true });
  return false;
}

/** The part of the last attempt, under the name of this one: whoever wrote it has lost his lease. */
async function takePart({
  area,
  id,
  attempt,
}: ImportFetch): Promise<{ part: string; isResumed: boolean }> {
  const nameOf = (of: number) => join(partFolder(area), `i${id}.a${of}`);
  const part = nameOf(attempt);
  let isResumed = (await statOf(part)) !== undefined;
  for (let of = attempt - 1; of >= Math.max(1, attempt - mostEarlier); of--) {
    if (!(await statOf(nameOf(of)))) continue;
    if (isResumed) {
      await rm(nameOf(of), { force: true });
      continue;
    }
    await rename(nameOf(of), part);
    isResumed = true;
  }
  return { part, isResumed };
}

/** Attempts whose parts are looked for. */
const mostEarlier = 50;

/** From the first place that gives the right bytes; the fault of the last one is told. */
async function fetchFromAny(
  wanted: ImportFetch,
  part: string,
  isResumed: boolean,
): Promise<string> {
  const { urls, lfn, signal } = wanted;
  let fault: unknown = new SweepbookError(
    'SOURCE_NOT_ALLOWED',
    `${lfn} is nowhere that this site may read`,
    { lfn },
  );
  let isOld = isResumed;
  for (const url of urls) {
    // Twice from the first place, if the beginning may be of another file.
    for (let again = isOld ? 0 : 1; again < 2; again++) {
      try {
        await fetchOne(wanted, url, part);
        return url;
      } catch (error) {
        signal.throwIfAborted();
        fault = error;
        const isWrong = error instanceof SweepbookError && error.code === 'CHECKSUM_MISMATCH';
        if (isWrong) await rm(part, { force: true });
        if (!isWrong) break;
      }
    }
    isOld = false;
    if (!(fault instanceof SweepbookError) || fault.code === 'NO_SPACE') throw fault;
  }
  throw fault;
}

async function fetchOne(
  { source, xrootd, expected, signal, onProgress }: ImportFetch,
  url: string,
  part: string,
): Promise<void> {
  const place = readableAt(source, url);
  if (!place) {
    throw new SweepbookError(
      'SOURCE_NOT_ALLOWED',
      `${url} is not where this site may read files of ${source.site}`,
      { url },
    );
  }
  const ask: Fetching = { sizeBytes: expected.sizeBytes, signal, onProgress };
  if (place.kind === 'path') {
    await fetchPath(place.place, place.root, part, ask);
  } else if (place.kind === 'http') {
    await fetchOverHttp(place.place, part, allowedBy(source), ask);
  } else {
    await fetchOverXrootd({ ...place, site: source.site }, part, xrootd, ask);
  }
  const answer = await readBack(part, { signal });
  const doubt = judge(expected, answer);
  if (!doubt) return;
  const { what, registered, stored } = doubt.facts;
  throw new SweepbookError(
    doubt.code,
    `${url} gave a file with ${String(what)} ${String(stored)}, the manifest tells ${String(registered)}`,
    { url, ...doubt.facts },
    { cause: doubt },
  );
}

/** Redirects too are followed only to where the source may be read; a token goes with its own address alone. */
function allowedBy(source: ImportSource): Allow {
  return (url): Record<string, string> | undefined => {
    const place = readableAt(source, url.href);
    if (place?.kind !== 'http') return undefined;
    return place.token === undefined
      ? {}
      : { authorization: `Bearer ${readSecret(source.site, 'token', place.token)}` };
  };
}

const taken = (path: string, cause?: unknown) =>
  new SweepbookError(
    'DUPLICATE',
    `another file is at ${path}, and nothing is replaced: look at it, then move it away and try again`,
    { path },
    { cause },
  );

/** Parts that lie below an area, with the file that each belongs to. */
export async function listParts(area: string): Promise<{ id: number; path: string }[]> {
  const names = await readdir(partFolder(area)).catch(() => []);
  return names.flatMap((name) => {
    const parts = partName.exec(name);
    return parts ? [{ id: Number(parts[1]), path: join(partFolder(area), name) }] : [];
  });
}

/** Removes a file that an import brought; folders that are empty after it stay. */
export async function removeBrought(area: string, path: string): Promise<void> {
  if (!path.startsWith(`${area}/`)) return;
  // A link that leads out of the area was not made by us.
  await makeFolderBelow(area, path);
  await rm(path, { force: true });
}

/** Whether a path of this host holds a file of this size. */
export async function isThere(path: string, sizeBytes: number): Promise<boolean> {
  const stat = await statOf(path);
  return stat !== undefined && stat.isFile() && stat.size === sizeBytes;
}
