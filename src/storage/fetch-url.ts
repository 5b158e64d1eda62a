import { constants } from 'node:fs';
import { open, realpath, type FileHandle } from 'node:fs/promises';
import { request as plainRequest, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';
import { sep } from 'node:path';
import type { Readable } from 'node:stream';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';

export interface Fetching {
  /** Size that it must have; not a byte more is taken. */
  readonly sizeBytes: number;
  readonly signal: AbortSignal;
  /** Bytes that are here by now, those of earlier attempts included. */
  readonly onProgress: (bytes: number) => void;
}

/** Headers for an address that may be asked, also after a redirect; undefined = it may not. */
export type Allow = (url: URL) => Record<string, string> | undefined;

/** A source that sends nothing for so long has gone. */
const silenceMs = 60_000;
const mostRedirects = 5;

/**
 * Reads a file over HTTP into `part`, from where an earlier attempt ended if the server gives ranges. UNAVAILABLE when
 * the source is away, SOURCE_UNREADABLE, SOURCE_CHANGED (another size), SOURCE_NOT_ALLOWED (a redirect to where we may not read).
 */
export async function fetchOverHttp(
  url: string,
  part: string,
  allow: Allow,
  ask: Fetching,
): Promise<void> {
  const to = await openPart(part);
  try {
    const here = await partSize(to, ask.sizeBytes);
    if (here === ask.sizeBytes) return;
    const response = await answerTo(new URL(url), here, allow, ask.signal);
    const from = await beginning(response, here, url, ask.sizeBytes);
    await to.truncate(from);
    await pour(response, to, from, url, ask);
  } finally {
    await to.close();
  }
}

/** Reads a file of this host into `part`. It must really lie below `root`. */
export async function fetchPath(
  path: string,
  root: string,
  part: string,
  ask: Fetching,
): Promise<void> {
  const real = await realpath(path).catch((error: unknown) => {
    throw unreadable(path, systemCode(error) ?? messageOf(error), error);
  });
  if (!real.startsWith((await realpath(root).catch(() => root)) + sep)) {
    throw new SweepbookError(
      'SOURCE_NOT_ALLOWED',
      `${path} is not below ${root}: a link leads out of it`,
      {
        path,
      },
    );
  }
  // A FIFO without a writer would hold us here for good.
  const from = await open(real, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw unreadable(path, systemCode(error) ?? messageOf(error), error);
    },
  );
  try {
    const stat = await from.stat();
    if (!stat.isFile()) throw unreadable(path, 'not a regular file');
    if (stat.size !== ask.sizeBytes) throw otherSize(path, stat.size, ask.sizeBytes);
    const to = await openPart(part);
    try {
      const here = await partSize(to, ask.sizeBytes);
      const source = from.createReadStream({
        start: here,
        autoClose: false,
        highWaterMark: 1024 * 1024,
      });
      if (here < ask.sizeBytes) await pour(source, to, here, path, ask);
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

const openPart = (part: string) => open(part, constants.O_RDWR | constants.O_CREAT, 0o644);

/** What is here of it; a part that is too long is none. */
export async function partSize(to: FileHandle, sizeBytes: number): Promise<number> {
  const { size } = await to.stat();
  if (size <= sizeBytes) return size;
  await to.truncate(0);
  return 0;
}

async function answerTo(
  url: URL,
  here: number,
  allow: Allow,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  let at = url;
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const headers = allow(at);
    if (!headers) {
      throw new SweepbookError(
        'SOURCE_NOT_ALLOWED',
        `${url.href} leads to ${at.origin}, where this site may not read`,
        {
          url: url.href,
          to: at.origin,
        },
      );
    }
    const response = await once(
      at,
      { ...headers, ...(here > 0 ? { range: `bytes=${here}-` } : {}) },
      signal,
    );
    const status = response.statusCode ?? 0;
    const { location } = response.headers;
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return response;
    response.destroy();
    if (!URL.canParse(location, at.href))
      throw unreadable(url.href, `a redirect to ${location.slice(0, 100)}`);
    at = new URL(location, at);
  }
  throw unreadable(url.href, `more than ${mostRedirects} redirects`);
}

async function once(
  url: URL,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const make = url.protocol === 'https:' ? secureRequest : plainRequest;
  const request = make(url, { headers: { ...headers, 'accept-encoding': 'identity' }, signal });
  request.setTimeout(silenceMs, () =>
    request.destroy(new Error(`silent for ${silenceMs / 1000} s`)),
  );
  request.end();
  try {
    return await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.once('error', reject);
    });
  } catch (error) {
    signal.throwIfAborted();
    throw away(url.href, systemCode(error) ?? messageOf(error), error);
  }
}

/** Where what comes belongs; refuses what is no answer, or another file. */
async function beginning(
  response: IncomingMessage,
  here: number,
  url: string,
  sizeBytes: number,
): Promise<number> {
  const status = response.statusCode ?? 0;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers['content-range'] ?? '');
  const length = Number(response.headers['content-length'] ?? NaN);
  const isRange = status === 206 && Number(range?.[1]) === here;
  const total = isRange ? Number(range?.[2]) : status === 200 ? length : NaN;
  if ((isRange || status === 200) && !(total !== sizeBytes && Number.isFinite(total))) {
    return isRange ? here : 0;
  }
  response.destroy();
  if (isRange || status === 200) throw otherSize(url, total, sizeBytes);
  if (status === 429 || status >= 500) throw away(url, `HTTP ${status}`);
  throw unreadable(
    url,
    status === 206 || status === 416 ? 'it gave another range' : `HTTP ${status}`,
  );
}

const tellEveryMs = 200;

async function pour(
  source: Readable,
  to: FileHandle,
  from: number,
  url: string,
  { sizeBytes, signal, onProgress }: Fetching,
): Promise<void> {
  let at = from;
  let toldAt = 0;
  const stop = () => source.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      if (at + chunk.length > sizeBytes) throw otherSize(url, at + chunk.length, sizeBytes);
      await writeAll(to, chunk, at);
      at += chunk.length;
      if (Date.now() - toldAt < tellEveryMs) continue;
      toldAt = Date.now();
      onProgress(at);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SweepbookError) throw error;
    throw away(
      url,
      `it broke off after ${at} of ${sizeBytes} bytes (${systemCode(error) ?? messageOf(error)})`,
      error,
    );
  } finally {
    signal.removeEventListener('abort', stop);
    source.destroy();
  }
  signal.throwIfAborted();
  if (at !== sizeBytes) throw away(url, `it ended after ${at} of ${sizeBytes} bytes`);
  await to.sync();
  onProgress(at);
}

async function writeAll(to: FileHandle, bytes: Buffer, position: number): Promise<void> {
  try {
    // write() may take less than it was given, on a full disk for one.
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await to.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  } catch (error) {
    throw diskFault(error);
  }
}

/** What a full disk says, as ours; anything else as a fault of this host. */
export function diskFault(error: unknown): unknown {
  if (error instanceof SweepbookError) return error;
  const code = systemCode(error) ?? '';
  if (!['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return error;
  return new SweepbookError(
    'NO_SPACE',
    `the disk that imports are put on is full (${code}): make room, it goes on by itself`,
    { code },
    { cause: error },
  );
}

const away = (url: string, why: string, cause?: unknown) =>
  new SweepbookError('UNAVAILABLE', `${url} cannot be read right now: ${why}`, { url }, { cause });

const unreadable = (url: string, why: string, cause?: unknown) =>
  new SweepbookError('SOURCE_UNREADABLE', `${url} cannot be read: ${why}`, { url }, { cause });

const otherSize = (url: string, found: number, told: number) =>
  new SweepbookError(
    'SOURCE_CHANGED',
    `${url} has ${found} bytes or more, the manifest tells ${told}`,
    {
      url,
      found,
      told,
    },
  );
