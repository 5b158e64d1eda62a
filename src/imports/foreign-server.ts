import { messageOf, SweepbookError } from '../errors.ts';
import { unavailable, headersTo, serverOf } from './fetch-manifest.ts';
import type { ImportSource } from '../storage/import-sources.ts';

export interface ForeignError {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions?: { readonly code?: string; readonly facts?: Record<string, unknown> };
}

export interface ForeignAnswer<Data> {
  readonly data: Data | null;
  readonly errors: readonly ForeignError[];
}

const deadlineMs = 60_000;
const mostBytes = 8 * 1024 * 1024;

/** Asks the server of another site, at its named address and nowhere else. UNAVAILABLE when it gives no answer of ours. */
export async function askForeign<Data>(
  source: ImportSource,
  query: string,
  variables: Record<string, unknown>,
): Promise<ForeignAnswer<Data>> {
  const url = `${serverOf(source)}/graphql`;
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headersTo(source), 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
      redirect: 'error',
      signal: AbortSignal.timeout(deadlineMs),
    });
    const answer = JSON.parse(await limitedText(response)) as Partial<ForeignAnswer<Data>> | null;
    if (answer?.data === undefined && !Array.isArray(answer?.errors)) {
      throw unavailable(source, url, `HTTP ${response.status}`);
    }
    return { data: answer.data ?? null, errors: Array.isArray(answer.errors) ? answer.errors : [] };
  } catch (error) {
    if (error instanceof SweepbookError) throw error;
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw unavailable(source, url, messageOf(cause), error);
  }
}

async function limitedText(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    if (bytes > mostBytes) throw new Error(`an answer of more than ${mostBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** The data of an answer; what the other server refuses is passed on in its words. */
export function dataOf<Data>(source: ImportSource, { data, errors }: ForeignAnswer<Data>): Data {
  const [first] = errors;
  if (data !== null && !first) return data;
  const code = first?.extensions?.code;
  const isOfToken = code === 'UNAUTHENTICATED' || code === 'FORBIDDEN';
  const isOfCursor = code === 'CURSOR_TOO_OLD' || code === 'INVALID_CURSOR';
  throw new SweepbookError(
    isOfToken ? 'SOURCE_NOT_ALLOWED' : isOfCursor ? code : 'UNAVAILABLE',
    `site ${source.site} says: ${(first?.message ?? 'nothing').slice(0, 500)}`,
    { site: source.site, code },
  );
}
