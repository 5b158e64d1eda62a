import { setTimeout as wait } from 'node:timers/promises';
import { certificateTrouble } from '../certificates.ts';
import type { ClientSettings } from '../client-settings.ts';
import { messageOf, systemCode } from '../errors.ts';
import { CliError, exitCode, exitCodeOf, Interrupted, isTransient } from './exit-codes.ts';
import { complain } from './print.ts';

/** An error as GraphQL and the export answer it. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly facts?: { readonly retryAfterSeconds?: number } | undefined;
}

interface GraphqlError {
  readonly message: string;
  readonly extensions?: { readonly code?: string; readonly facts?: Refusal['facts'] };
}

interface GraphqlAnswer {
  readonly data?: unknown;
  readonly errors?: readonly GraphqlError[];
  readonly code?: string;
  readonly message?: string;
  readonly facts?: Refusal['facts'];
}

const isUnauthenticated = (error: unknown) =>
  error instanceof CliError && error.code === 'UNAUTHENTICATED';

/** How long to wait, when the server says so: it has too much to do, and nothing was begun. */
const restOf = (error: unknown): number | undefined =>
  error instanceof CliError && error.retryAfterSeconds !== undefined
    ? error.retryAfterSeconds * 1000
    : undefined;

const answerTimeoutMs = 120_000;
/** So long a call waits in all for a server that has too much to do. */
const mostRestMs = 60_000;
const retryMs = { first: 250, longest: 5000 };

/** Talks GraphQL with the server; everything it throws is a CliError. */
export class Client {
  settings: ClientSettings;
  readonly signal: AbortSignal;
  /** How long a call is tried again while the server does not answer; every call may be repeated. */
  patienceMs = 0;

  readonly #readSettings: () => ClientSettings;

  constructor(readSettings: () => ClientSettings, signal: AbortSignal) {
    this.#readSettings = readSettings;
    this.settings = readSettings();
    this.signal = signal;
  }

  /** Looks for the token once more: programs of the grid put a new one where the old one was. false = the same. */
  renewToken(): boolean {
    const { token } = this.settings;
    this.settings = this.#readSettings();
    return this.settings.token !== undefined && this.settings.token !== token;
  }

  /** The answer's data; a refusal becomes a CliError with the exit code that fits. */
  async call<Data>(query: string, variables: Record<string, unknown> = {}): Promise<Data> {
    const begunAt = Date.now();
    const giveUpAt = begunAt + this.patienceMs;
    for (let delayMs = retryMs.first; ; delayMs = Math.min(delayMs * 2, retryMs.longest)) {
      try {
        return (await this.#callOnce(query, variables)) as Data;
      } catch (error) {
        if (isUnauthenticated(error) && this.renewToken()) continue;
        const restMs = restOf(error);
        if (restMs !== undefined && Date.now() + restMs <= begunAt + mostRestMs) {
          await pause(restMs * (1 + Math.random() / 4), this.signal);
          continue;
        }
        if (!isTransient(error) || Date.now() + delayMs > giveUpAt) throw error;
        // Said once an outage, and not for a hiccup.
        if (delayMs === retryMs.first * 4) complain(`${messageOf(error)} (trying again)`);
        await pause(delayMs * (0.5 + Math.random() / 2), this.signal);
      }
    }
  }

  async #callOnce(query: string, variables: Record<string, unknown>): Promise<unknown> {
    const response = await this.fetch('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
      timeoutMs: answerTimeoutMs,
    });
    const answer = await this.json<GraphqlAnswer>(response);
    if (answer.code !== undefined) {
      // Refused before GraphQL came to it.
      const { code, message = code, facts } = answer;
      throw this.refusal({ code, message, facts });
    }
    const [first] = answer.errors ?? [];
    if (first) {
      const { code = 'INTERNAL', facts } = first.extensions ?? {};
      throw this.refusal({ code, message: first.message, facts });
    }
    if (!answer.data) throw this.strange(response);
    return answer.data;
  }

  /** A request with the token; CliError when nobody answers. `timeoutMs`: until the last byte. */
  async fetch(path: string, options: RequestInit & { timeoutMs?: number } = {}): Promise<Response> {
    const { timeoutMs, ...request } = options;
    const headers = new Headers(request.headers);
    const { url, token } = this.settings;
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    const signals = [this.signal];
    if (timeoutMs !== undefined) signals.push(AbortSignal.timeout(timeoutMs));
    try {
      return await fetch(`${url}${path}`, {
        ...request,
        headers,
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      throw this.noAnswer(error);
    }
  }

  /** The body as JSON; what is no JSON did not come from our server. */
  async json<Body>(response: Response): Promise<Body> {
    let text: string;
    try {
      text = await response.text();
    } catch (error) {
      throw this.noAnswer(error);
    }
    try {
      return JSON.parse(text) as Body;
    } catch {
      throw this.strange(response);
    }
  }

  /** The server refused: its sentence, and for tokens where ours came from. */
  refusal(refusal: Refusal): CliError {
    const { code, message, facts } = refusal;
    const exit = exitCodeOf(code);
    if (code === 'UNAUTHENTICATED') {
      const way =
        'sweepbook login, or set SWEEPBOOK_TOKEN, or name its file with --token-file or SWEEPBOOK_TOKEN_FILE';
      const { token, tokenFrom, url } = this.settings;
      const what =
        token === undefined
          ? `this needs a token, and there is none: ${way}`
          : `the token (from ${tokenFrom}) was not accepted by ${url} (${message}): ${way}; --anonymous shows none`;
      return new CliError(exit, what, code);
    }
    if (code.startsWith('GRAPHQL_')) {
      const what = `the server at ${this.settings.url} does not know this request (${message})`;
      return new CliError(exit, `${what}: use the command line of its version`, code);
    }
    return new CliError(exit, message, code, facts?.retryAfterSeconds);
  }

  /** Nothing came back, or not all of it. */
  noAnswer(error: unknown): CliError {
    if (error instanceof CliError) return error;
    if (this.signal.aborted) return new Interrupted();
    const { url } = this.settings;
    if (error instanceof Error && error.name === 'TimeoutError') {
      const seconds = answerTimeoutMs / 1000;
      return new CliError(
        exitCode.tryLater,
        `the server at ${url} gave no answer within ${seconds} s: try again, or look at its log`,
      );
    }
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    const why = systemCode(cause) ?? messageOf(cause);
    const trouble = certificateTrouble(why, 'NODE_EXTRA_CA_CERTS=/path/to/ca.pem');
    if (trouble !== undefined) {
      return new CliError(exitCode.failed, `the server at ${url} is not believed: ${trouble}`);
    }
    return new CliError(
      exitCode.tryLater,
      `no server answers at ${url} (${why}): start one with "npm start", or give its address with --url`,
    );
  }

  /** An answer that is none of ours: a proxy's page, another program on the port. */
  strange(response: Response): CliError {
    const isLater = [429, 502, 503, 504].includes(response.status);
    return new CliError(
      isLater ? exitCode.tryLater : exitCode.failed,
      `what answers at ${this.settings.url} is no Sweepbook server (HTTP ${response.status})` +
        (isLater ? ', or it is not ready: try again' : ': check --url'),
    );
  }
}

/** Waits; Interrupted when the command is stopped meanwhile. */
export async function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  await wait(timeMs, undefined, { signal }).catch(() => {
    throw new Interrupted();
  });
}
