import type { FileHandle } from 'node:fs/promises';
import {
  request as plainRequest,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { messageOf, SweepbookError } from '../errors.ts';

export interface HttpAsk {
  readonly method: string;
  readonly url: string;
  /** As the standards spell them: XRootD knows no header in small letters. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A text, or an open file of this host, of which so many bytes are sent. */
  readonly body?: string | { readonly file: FileHandle; readonly sizeBytes: number };
  /** For all of it: connecting, sending and the last byte of the answer. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onSent?: (bytes: number) => void;
  /** Takes the body of a 2xx answer, all of it; else its beginning is kept as text. */
  readonly onBody?: (body: Readable) => Promise<void>;
  /** Of an answer that is kept as text; 1 MiB unless told. */
  readonly mostTextBytes?: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most as much as was asked for. */
  readonly text: string;
  /** More came than is kept: what is parsed from it is not the whole answer. */
  readonly isCut: boolean;
}

const usualTextBytes = 1024 * 1024;
const chunkBytes = 1024 * 1024;

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
        return withoutOurSecret(answer, ask.headers?.['Authorization']);
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
    // Each on a connection of its own: after an error XRootD loses the thread, and the next question hangs.
    agent: false,
    headers: { ...headers, ...(body === undefined ? {} : { 'Content-Length': String(length) }) },
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
  const told = await textOf(response, ask.mostTextBytes);
  if (!request.writableEnded) request.destroy();
  return { status, headers: response.headers, ...told };
}

/** A store may answer before it has read all, and then take no more. */
async function sendFile(
  { file, sizeBytes }: { readonly file: FileHandle; readonly sizeBytes: number },
  request: ClientRequest,
  answered: Promise<unknown>,
  onSent: ((bytes: number) => void) | undefined,
): Promise<void> {
  let isOver = false;
  const over = answered.then(
    () => void (isOver = true),
    () => void (isOver = true),
  );
  // Not a byte more than was announced: the server would take it for its next question.
  let sent = 0;
  while (sent < sizeBytes && !isOver) {
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, sizeBytes - sent));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, sent);
    // Fewer, and it would wait for the rest.
    if (bytesRead === 0)
      return void request.destroy(new Error(`the file ended after ${sent} bytes`));
    if (!request.write(chunk.subarray(0, bytesRead))) {
      await Promise.race([new Promise((resolve) => request.once('drain', resolve)), over]);
    }
    onSent?.((sent += bytesRead));
  }
  if (sent === sizeBytes) request.end();
}

async function textOf(
  stream: Readable,
  mostTextBytes = usualTextBytes,
): Promise<{ text: string; isCut: boolean }> {
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
