import { createReadStream } from 'node:fs';
import { request as plainRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, SweepbookError } from '../errors.ts';

export interface HttpAsk {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A text, or a file of this host with its size. */
  readonly body?: string | { readonly path: string; readonly sizeBytes: number };
  /** For all of it: connecting, sending and the last byte of the answer. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onSent?: (bytes: number) => void;
  /** Takes the body of a 2xx answer, all of it; else its beginning is kept as text. */
  readonly onBody?: (body: Readable) => Promise<void>;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most 1 MiB. */
  readonly text: string;
  /** More came than is kept: what is parsed from it is not the whole answer. */
  readonly isCut: boolean;
}

const mostTextBytes = 1024 * 1024;

/**
 * One question to a store over HTTP. A status is returned, not believed; redirects are followed once for each of at
 * most three hosts, without the credentials when the host changes. STORE_UNAVAILABLE when nothing comes in time.
 */
export async function askOverHttp(store: string, ask: HttpAsk): Promise<HttpAnswer> {
  const late = AbortSignal.timeout(ask.deadlineMs);
  const signal = ask.signal ? AbortSignal.any([ask.signal, late]) : late;
  try {
    let url = new URL(ask.url);
    let headers = ask.headers ?? {};
    for (let hop = 0; ; hop++) {
      const answer = await once(url, headers, ask, signal);
      const to = answer.headers.location;
      if (![301, 302, 307, 308].includes(answer.status) || to === undefined || hop === 3)
        return withoutOurSecret(answer, ask.headers?.['authorization']);
      const next = new URL(to, url);
      if (next.host !== url.host) headers = withoutCredentials(headers);
      url = next;
    }
  } catch (error) {
    ask.signal?.throwIfAborted();
    if (error instanceof SweepbookError) throw error;
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      late.aborted
        ? `store ${store}: ${ask.method} ${hostOf(ask.url)} did not end within ${Math.round(ask.deadlineMs / 1000)} s`
        : `store ${store} cannot be reached: ${ask.method} ${hostOf(ask.url)}: ${messageOf(error)}`,
      { store },
      { cause: error },
    );
  }
}

/** Some doors tell in their answers what they were asked with, and answers are logged, kept and shown. */
function withoutOurSecret(answer: HttpAnswer, authorization: string | undefined): HttpAnswer {
  const secret = authorization?.split(' ')[1];
  if (!secret) return answer;
  const hidden = (text: string) => text.replaceAll(secret, '***');
  const headers = Object.entries(answer.headers).map(([name, value]) => [
    name,
    typeof value === 'string' ? hidden(value) : value?.map(hidden),
  ]);
  return {
    ...answer,
    text: hidden(answer.text),
    headers: Object.fromEntries(headers) as IncomingHttpHeaders,
  };
}

const hostOf = (url: string) => new URL(url).host;

function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'),
  );
}

async function once(
  url: URL,
  headers: Readonly<Record<string, string>>,
  ask: HttpAsk,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { body } = ask;
  const length = typeof body === 'string' ? Buffer.byteLength(body) : (body?.sizeBytes ?? 0);
  const make = url.protocol === 'https:' ? secureRequest : plainRequest;
  const request = make(url, {
    method: ask.method,
    headers: { ...headers, ...(body === undefined ? {} : { 'content-length': String(length) }) },
    signal,
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  // Looked at below; a failure while the body is sent must not count as unhandled.
  answered.catch(() => undefined);
  if (body === undefined || typeof body === 'string') request.end(body);
  else await sendFile(body, request, answered, ask.onSent);
  const response = await answered;
  const status = response.statusCode ?? 0;
  if (ask.onBody && status >= 200 && status < 300) {
    await ask.onBody(response);
    return { status, headers: response.headers, text: '', isCut: false };
  }
  return { status, headers: response.headers, ...(await textOf(response)) };
}

/** A store may answer before it has read all, and then take no more. */
async function sendFile(
  { path }: { path: string },
  request: NodeJS.WritableStream,
  answered: Promise<unknown>,
  onSent: ((bytes: number) => void) | undefined,
): Promise<void> {
  let sent = 0;
  const source = createReadStream(path, { highWaterMark: 1024 * 1024 });
  source.on('data', (part) => onSent?.((sent += part.length)));
  const sending = pipeline(source, request);
  sending.catch(() => undefined);
  await Promise.race([sending, answered]);
  if (!source.closed) source.destroy();
}

async function textOf(stream: Readable): Promise<{ text: string; isCut: boolean }> {
  const parts: Buffer[] = [];
  let kept = 0;
  for await (const part of stream as AsyncIterable<Buffer>) {
    if (kept + part.length > mostTextBytes) {
      parts.push(part.subarray(0, mostTextBytes - kept));
      // An endless answer is not read to its end.
      stream.destroy();
      return { text: Buffer.concat(parts).toString('utf8'), isCut: true };
    }
    parts.push(part);
    kept += part.length;
  }
  return { text: Buffer.concat(parts).toString('utf8'), isCut: false };
}
