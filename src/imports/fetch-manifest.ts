import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, SweepbookError, systemCode, type ErrorCode } from '../errors.ts';
import { readSecret } from '../storage/secrets.ts';
import { manifestLimits } from './manifest.ts';
import type { ImportSettings, ImportSource } from '../storage/import-sources.ts';
import { sourceOf } from '../storage/import-sources.ts';

/** The source that a person means: by the name of its site, or by the address of its server. */
export function sourceAt(settings: ImportSettings | undefined, from: string): ImportSource {
  const address = from.replace(/\/(graphql)?\/?$/, '');
  const byAddress = [...(settings?.sources.values() ?? [])].find(
    (source) => source.server === address,
  );
  return byAddress ?? sourceOf(settings, from);
}

/** A source that is silent for so long has gone. */
const silenceMs = 60_000;

export const headersTo = (source: ImportSource): Record<string, string> =>
  source.token === undefined
    ? {}
    : { authorization: `Bearer ${readSecret(source.site, 'token', source.token)}` };

/** The address of its server; BAD_USER_INPUT when its manifests come by hand. */
export function serverOf(source: ImportSource): string {
  if (source.server !== undefined) return source.server;
  throw new SweepbookError(
    'BAD_USER_INPUT',
    `no server of site ${source.site} is named in SWEEPBOOK_IMPORT_FROM: fetch the manifest there, and import that`,
    { site: source.site },
  );
}

export const unavailable = (source: ImportSource, url: string, why: string, cause?: unknown) =>
  new SweepbookError(
    'UNAVAILABLE',
    `site ${source.site} does not answer at ${url}: ${why}`,
    { site: source.site },
    { cause },
  );

/**
 * Asks the server of a source for the manifest of a dataset, into a file of this host. Goes to the named address and
 * nowhere else. NOT_FOUND, DATASET_BAD … as it says itself; UNAVAILABLE when it does not answer.
 */
export async function fetchManifest(
  source: ImportSource,
  dataset: string,
  target: string,
): Promise<void> {
  const url = `${serverOf(source)}/export/datasets/${encodeURIComponent(dataset)}/manifest`;
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), silenceMs);
  try {
    const response = await fetch(url, {
      headers: { ...headersTo(source), 'accept-encoding': 'gzip' },
      redirect: 'error',
      signal: stop.signal,
    });
    if (!response.ok || !response.body) throw await refusalOf(source, response);
    let bytes = 0;
    const limited = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), silenceMs);
        bytes += chunk.length;
        if (bytes > manifestLimits.bytes) {
          throw new SweepbookError(
            'BAD_USER_INPUT',
            `the manifest has more than ${manifestLimits.bytes} bytes`,
          );
        }
        yield chunk;
      }
    };
    await pipeline(
      Readable.fromWeb(response.body as never),
      limited,
      createWriteStream(target, { flags: 'wx', mode: 0o600 }),
    );
  } catch (error) {
    if (error instanceof SweepbookError) throw error;
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    const why = stop.signal.aborted ? 'silence' : (systemCode(cause) ?? messageOf(cause));
    throw unavailable(source, url, why, error);
  } finally {
    clearTimeout(timer);
  }
}

const passedOn: readonly ErrorCode[] = [
  'NOT_FOUND',
  'DATASET_BAD',
  'DATASET_NOT_CLOSED',
  'RATE_LIMITED',
];
const longestAnswer = 65_536;

/** What the other server says, in its own words. */
async function refusalOf(source: ImportSource, response: Response): Promise<SweepbookError> {
  const length = Number(response.headers.get('content-length') ?? longestAnswer + 1);
  const text = length <= longestAnswer ? await response.text() : '';
  let said: { code?: string; message?: string } = {};
  try {
    said = JSON.parse(text) as typeof said;
  } catch {
    // No server of ours.
  }
  const code = passedOn.find((known) => known === said.code);
  const isOurs = response.status === 401 || response.status === 403;
  return new SweepbookError(
    code ?? (isOurs ? 'SOURCE_NOT_ALLOWED' : 'UNAVAILABLE'),
    `site ${source.site} says: ${(said.message ?? `HTTP ${response.status}`).slice(0, 500)}`,
    { site: source.site, status: response.status },
  );
}
