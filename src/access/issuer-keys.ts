import {
  createLocalJWKSet,
  type CryptoKey,
  errors,
  type FlattenedJWSInput,
  type JWSHeaderParameters,
} from 'jose';
import { z } from 'zod';
import { messageOf, SweepbookError } from '../errors.ts';
import { isLoopback, type Issuer } from './issuers-file.ts';

const answerMs = 5000;
const mostBytes = 256 * 1024;
/** An unknown key has the issuer asked again, and whoever makes up keys can have it asked so often. */
const longestRestMs = 30_000;
/** So long the last keys are good while their issuer does not answer. */
const staleMs = 4 * 86_400_000;

const metadata = z.object({ issuer: z.string(), jwks_uri: z.string().max(1000) });
const keySet = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(200) });

interface Known {
  readonly find: ReturnType<typeof createLocalJWKSet>;
  readonly text: string;
  readonly at: number;
}

/** What finds the key that a token is signed with. */
export type KeySource = Pick<IssuerKeys, 'find'>;

/** The public keys of one issuer: fetched when they are first needed, and again when they are old or one is missing. */
export class IssuerKeys {
  /** Counts up when there are other keys than before. */
  generation = 0;
  private readonly issuer: Issuer;
  private readonly restMs: number;
  private known: Known | undefined;
  private asking: Promise<void> | undefined;
  private askedAt = Number.NEGATIVE_INFINITY;
  private fault = '';

  constructor(issuer: Issuer) {
    this.issuer = issuer;
    this.restMs = Math.min(longestRestMs, issuer.keysSeconds * 1000);
  }

  /** The key that a token is signed with. UNAVAILABLE when the issuer must be asked and does not answer. */
  async find(header: JWSHeaderParameters, token: FlattenedJWSInput): Promise<CryptoKey> {
    await this.refresh();
    const { known } = this;
    if (!known || performance.now() - known.at > staleMs) throw this.unavailable();
    try {
      return await known.find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const isTried = await this.ask();
      // It may be a new one that could not be fetched.
      if (this.fault !== '') throw this.unavailable();
      if (!isTried && this.known === known) throw error;
      return (this.known ?? known).find(header, token);
    }
  }

  /** Among the keys that are known, whatever the issuer would say by now. */
  readonly asKnown: KeySource = {
    find: async (header, token) => {
      if (!this.known) throw this.unavailable();
      return this.known.find(header, token);
    },
  };

  /**
   * Asks for the keys if they are old; those that are known stay when nobody answers. Who has some does not wait for an
   * issuer that has just failed: it may take its time, and have everybody wait for it.
   */
  async refresh(): Promise<void> {
    const age = performance.now() - (this.known?.at ?? Number.NEGATIVE_INFINITY);
    if (age <= this.issuer.keysSeconds * 1000) return;
    const asking = this.ask();
    if (!this.known || this.fault === '') await asking;
  }

  /** Asks the issuer, one question at a time and with a rest between; false = not now. */
  private async ask(): Promise<boolean> {
    if (!this.asking) {
      if (performance.now() - this.askedAt < this.restMs) return false;
      this.askedAt = performance.now();
      this.asking = this.fetchKeys().finally(() => (this.asking = undefined));
    }
    await this.asking;
    return true;
  }

  private async fetchKeys(): Promise<void> {
    try {
      // For all that is asked, together.
      const signal = AbortSignal.timeout(answerMs);
      const url = this.issuer.keysUrl ?? (await this.keysUrl(signal));
      const read = keySet.parse(await fetchJson(url, signal));
      const keys = read.keys.filter(({ kty, use }) => kty !== 'oct' && use !== 'enc');
      if (keys.length === 0) throw new Error('it has no public keys');
      const text = JSON.stringify(keys);
      if (text !== this.known?.text) this.generation++;
      this.known = {
        find: createLocalJWKSet({ keys }),
        text,
        at: performance.now(),
      };
      this.fault = '';
    } catch (error) {
      this.fault = error instanceof z.ZodError ? 'its answer has another form' : messageOf(error);
    }
  }

  /** Where the keys are, as the issuer itself says it, and says it of itself. */
  private async keysUrl(signal: AbortSignal): Promise<string> {
    const { issuer, profile } = this.issuer;
    const base = issuer.replace(/\/$/, '');
    let answer: unknown;
    try {
      answer = await fetchJson(`${base}/.well-known/openid-configuration`, signal);
    } catch (error) {
      if (profile !== 'scitokens') throw error;
      answer = await fetchJson(`${base}/.well-known/oauth-authorization-server`, signal);
    }
    const read = metadata.parse(answer);
    if (read.issuer !== issuer) throw new Error('its metadata is of another issuer');
    const url = URL.canParse(read.jwks_uri) ? new URL(read.jwks_uri) : undefined;
    const isOwnHost = isLoopback(new URL(issuer).hostname) && isLoopback(url?.hostname ?? '');
    if (url?.protocol !== 'https:' && !(isOwnHost && url?.protocol === 'http:')) {
      throw new Error('its keys are not at an https address');
    }
    return url.href;
  }

  private unavailable(): SweepbookError {
    return new SweepbookError(
      'UNAVAILABLE',
      `the keys of the issuer ${this.issuer.issuer} cannot be had right now (${this.fault || 'it is asked again soon'}): try again in a moment`,
      { issuer: this.issuer.issuer },
    );
  }
}

/** A small JSON answer from exactly this address. */
async function fetchJson(url: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(url, {
    headers: { accept: 'application/json' },
    // An answer from elsewhere is not the issuer's.
    redirect: 'error',
    signal,
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status}`);
  }
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > mostBytes) throw new Error('its answer is too long');
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown;
}
