import { messageOf } from '../errors.ts';
import { pause } from './client.ts';
import type { Context } from './command.ts';
import { CliError, exitCode, isTransient } from './exit-codes.ts';
import { complain } from './print.ts';
import { subscribe } from './subscribe.ts';

/** What is followed, and what is done with each item. */
export interface Watched<Data> {
  readonly query: string;
  /** Asked for anew with each connection: the cursor has moved on. */
  readonly variables: () => Record<string, unknown>;
  /** true: it was the last one. */
  readonly take: (data: Data) => Promise<boolean>;
}

const backoffMs = { first: 250, longest: 10_000 };

/** Follows a subscription until its last item; a lost connection is made again for as long as it takes. */
export async function watchLog<Data>(context: Context, watched: Watched<Data>): Promise<void> {
  const { client, signal } = context;
  let delayMs = backoffMs.first;
  let isOutage = false;
  const onConnected = () => {
    delayMs = backoffMs.first;
    isOutage = false;
  };
  for (;;) {
    try {
      if (await listenOnce(context, watched, onConnected)) return;
    } catch (error) {
      signal.throwIfAborted();
      if (!isTransient(error)) throw error;
    }
    if (!isOutage) {
      isOutage = true;
      complain(`the connection to ${client.settings.url} is lost: trying again until it is back`);
    }
    await pause(delayMs * (0.5 + Math.random() / 2), signal);
    delayMs = Math.min(delayMs * 2, backoffMs.longest);
  }
}

async function listenOnce<Data>(
  context: Context,
  { query, variables, take }: Watched<Data>,
  onConnected: () => void,
): Promise<boolean> {
  const { client, signal } = context;
  const connection = subscribe<Data>(client.settings, query, variables(), onConnected);
  const stop = () => connection.dispose();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const { data, errors } of connection.items) {
      if (errors?.[0]) throw refusalOf(context, errors[0]);
      if (data && (await take(data))) return true;
    }
  } catch (error) {
    throw lostConnection(context, error);
  } finally {
    signal.removeEventListener('abort', stop);
    connection.dispose();
  }
  signal.throwIfAborted();
  return false;
}

const rememberedCursors = 10_000;

/** The server sends at least once; this says which come for the first time. */
export class SeenCursors {
  readonly #seen = new Set<string>();

  isNew(cursor: string): boolean {
    if (this.#seen.has(cursor)) return false;
    this.#seen.add(cursor);
    const [oldest] = this.#seen;
    if (this.#seen.size > rememberedCursors && oldest !== undefined) this.#seen.delete(oldest);
    return true;
  }
}

interface StreamError {
  readonly message: string;
  readonly extensions?: Readonly<Record<string, unknown>>;
}

function refusalOf({ client }: Context, error: StreamError): CliError {
  const code = error.extensions?.['code'];
  return client.refusal({
    code: typeof code === 'string' ? code : 'INTERNAL',
    message: error.message,
  });
}

/** A refusal ends the watch; whatever else happens to a connection is tried again. */
function lostConnection(context: Context, error: unknown): CliError {
  if (error instanceof CliError) return error;
  // A subscription that is refused ends with the list of its errors.
  if (Array.isArray(error) && error.length > 0) return refusalOf(context, error[0] as StreamError);
  const closed = error as { code?: unknown; reason?: unknown };
  if (closed.code === 4403) {
    if (context.client.renewToken())
      return new CliError(exitCode.tryLater, 'the token was renewed');
    const message = typeof closed.reason === 'string' ? closed.reason : '';
    return context.client.refusal({
      code: 'UNAUTHENTICATED',
      message,
    });
  }
  return new CliError(exitCode.tryLater, messageOf(error));
}
