import { request as requestHttp, type IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { messageOf, systemCode } from '../errors.ts';
import { isPublicAddress, noPublicAddress, publicLookup } from './addresses.ts';
import type { Answer } from './webhooks.rules.ts';

export interface Posting {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMs: number;
  /** Addresses of this host and of private networks, too. */
  readonly isPrivateAllowed: boolean;
}

/** What a receiver says beyond its status is nobody's business: so much is taken, so that it may end in peace. */
const mostAnswerBytes = 64 * 1024;

/**
 * Sends one notice, once: no redirect is followed, no connection kept, no answer read but its status.
 * Whatever goes wrong is an answer, never an error.
 */
export function post(posting: Posting): Promise<Answer> {
  const { url, body, timeoutMs, isPrivateAllowed } = posting;
  const { protocol, hostname } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  // A bare address is not looked up, so it is judged here.
  if (!isPrivateAllowed && isIP(host) && !isPublicAddress(host)) {
    return Promise.resolve({ error: noPublicAddress });
  }
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve) => {
    const request = (protocol === 'https:' ? requestHttps : requestHttp)(
      url,
      {
        method: 'POST',
        headers: {
          ...posting.headers,
          'content-type': 'application/json; charset=utf-8',
          'content-length': Buffer.byteLength(body),
          'user-agent': 'Sweepbook',
        },
        agent: false,
        maxHeaderSize: 16 * 1024,
        signal,
        ...(isPrivateAllowed ? {} : { lookup: publicLookup }),
      },
      (response) => {
        resolve(judged(response));
        drain(response);
      },
    );
    request.on('error', (error) =>
      resolve({
        error: signal.aborted
          ? `no answer within ${timeoutMs / 1000} s`
          : words(error, isPrivateAllowed),
      }),
    );
    request.end(body);
  });
}

function judged(response: IncomingMessage): Answer {
  const status = response.statusCode ?? 0;
  if (status >= 200 && status < 300) return { status };
  const retryAfterMs = retryAfter(response.headers['retry-after']);
  const what =
    status >= 300 && status < 400
      ? `HTTP ${status}: redirects are not followed, give the final address`
      : `HTTP ${status}`;
  return { status, error: what, retryAfterMs };
}

/** Seconds, or a date. */
function retryAfter(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return ms > 0 ? ms : undefined;
}

function drain(response: IncomingMessage): void {
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > mostAnswerBytes) response.destroy();
  });
  // The status has been said: what happens to the rest changes nothing.
  response.on('error', () => undefined);
}

const longestWords = 300;

/** Short, and of the network only: a private one is not described to strangers. */
function words(error: Error, isPrivateAllowed: boolean): string {
  const code = systemCode(error);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return isPrivateAllowed ? `its name cannot be resolved (${code})` : noPublicAddress;
  }
  return `no answer: ${code ?? messageOf(error)}`.slice(0, longestWords);
}
