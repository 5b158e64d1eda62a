import { open } from 'node:fs/promises';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { partSize, type Fetching } from './fetch-url.ts';
import type { Readable, XrootdClient } from './import-sources.ts';
import { statOf } from './read-back.ts';
import { readSecret } from './secrets.ts';
import { watched } from './stall-watch.ts';
import { copyDeadlineMs } from './store-settings.ts';
import { isFile, parseStat, runXrootd, wordsOf, type XrootdAnswer } from './xrootd-tools.ts';

/** A door that sends nothing for so long has gone. */
const silenceSeconds = 60;
/** Slower than this it would never end. */
const leastBytesPerSecond = 20_000;

/** What no later attempt mends: a bad request, no right to read, nothing there, a folder. */
const final = new Set([3000, 3006, 3010, 3011, 3013, 3016]);
const authenticationFailed = 52;

/**
 * Copies a file by xrdcp into `part`, from where an earlier attempt ended. UNAVAILABLE when the source is away or the
 * tools are not installed, SOURCE_UNREADABLE, SOURCE_CHANGED (another size), NO_SPACE.
 */
export async function fetchOverXrootd(
  { place: url, token, redirects, site }: Readable & { readonly site: string },
  part: string,
  { xrdcp, xrdfs }: XrootdClient,
  ask: Fetching,
): Promise<void> {
  const { sizeBytes, signal } = ask;
  const [, server = '', path = ''] = /^([a-z]+:\/\/[^/]+)\/(.*)$/s.exec(url) ?? [];
  const tools = { store: site, url: server, xrdfs, xrdcp, tokenFile: undefined, askSeconds: 30 };
  const env = environmentOf(site, token, redirects);
  try {
    const told = await runXrootd(tools, 'xrdfs', ['stat', `/${path.replace(/^\/+/, '')}`], {
      signal,
      env,
    });
    if (told.code !== 0) throw faultOf(url, told);
    const stat = parseStat(told.stdout);
    if (!stat || !isFile(stat)) throw unreadable(url, 'it is no file');
    if (stat.sizeBytes !== sizeBytes) throw otherSize(url, stat.sizeBytes, sizeBytes);
    await makePart(part, sizeBytes);
    const answer = await copyTo(part, url, ask, (args, stop) =>
      runXrootd(tools, 'xrdcp', args, {
        signal: stop,
        env,
        deadlineMs: copyDeadlineMs(sizeBytes, { leastBytesPerSecond }),
      }),
    );
    if (answer.code !== 0) throw faultOf(url, answer);
  } catch (error) {
    signal.throwIfAborted();
    throw ofSource(url, error);
  }
}

/** What is here of an earlier attempt stays; a part that is too long is none. */
async function makePart(part: string, sizeBytes: number): Promise<void> {
  const to = await open(part, 'a', 0o644);
  try {
    await partSize(to, sizeBytes);
  } finally {
    await to.close();
  }
}

/** The copy, broken off when nothing comes, or more than there should be. */
async function copyTo(
  part: string,
  url: string,
  { sizeBytes, signal, onProgress }: Fetching,
  copy: (args: string[], stop: AbortSignal) => Promise<XrootdAnswer>,
): Promise<XrootdAnswer> {
  const tooMuch = new AbortController();
  const options = {
    signal: AbortSignal.any([signal, tooMuch.signal]),
    onProgress: (bytes: number) => {
      if (bytes > sizeBytes) tooMuch.abort(otherSize(url, bytes, sizeBytes));
      else onProgress(bytes);
    },
  };
  const moved = async () => (await statOf(part))?.size;
  const watch = { store: url, sizeBytes, stallMs: silenceSeconds * 1000, options, moved };
  return watched(watch, (stop) => copy(['--nopbar', '--continue', url, part], stop));
}

/** A token goes to its own door, and none of this account's own to any other. */
function environmentOf(
  site: string,
  token: Readable['token'],
  redirects: boolean,
): Record<string, string> {
  return {
    // What has come is seen, and kept when it breaks off, in steps of this size.
    XRD_CPCHUNKSIZE: '2097152',
    ...(redirects ? {} : { XRD_REDIRECTLIMIT: '0' }),
    ...(token === undefined
      ? { XrdSecPROTOCOL: 'unix,host,gsi,krb5' }
      : { XrdSecPROTOCOL: 'ztn', BEARER_TOKEN: readSecret(site, 'token', token) }),
  };
}

function faultOf(url: string, answer: XrootdAnswer): SweepbookError {
  const words = wordsOf(answer);
  const isOurs = answer.serverCode === undefined;
  if (isOurs && /no space left|quota exceeded/i.test(words)) {
    return new SweepbookError(
      'NO_SPACE',
      'the disk that imports are put on is full: make room, it goes on by itself',
    );
  }
  if (/redirect limit/i.test(words)) {
    return new SweepbookError(
      'SOURCE_NOT_ALLOWED',
      `${url} sends readers on to other servers: an operator allows that by "redirects: true" in the import file`,
      { url },
    );
  }
  if (final.has(answer.serverCode ?? 0) || answer.code === authenticationFailed) {
    return unreadable(url, words);
  }
  return away(url, words);
}

/** What the tools, or their watch, say of a store is said of a source here. */
function ofSource(url: string, error: unknown): unknown {
  if (!(error instanceof SweepbookError) || error.code !== 'STORE_UNAVAILABLE') return error;
  if (!['ENOENT', 'EACCES'].includes(systemCode(error.cause) ?? '')) {
    return away(url, messageOf(error), error);
  }
  const { program } = error.facts as { program?: string };
  return away(
    url,
    `${program} is not installed here: install it (package xrootd-client), or name its path in the import file`,
    error,
  );
}

const away = (url: string, why: string, cause?: unknown) =>
  new SweepbookError('UNAVAILABLE', `${url} cannot be read right now: ${why}`, { url }, { cause });

const unreadable = (url: string, why: string) =>
  new SweepbookError('SOURCE_UNREADABLE', `${url} cannot be read: ${why}`, { url });

const otherSize = (url: string, found: number, told: number) =>
  new SweepbookError('SOURCE_CHANGED', `${url} has ${found} bytes, the manifest tells ${told}`, {
    url,
    found,
    told,
  });
