import type { Command } from 'commander';
import { pause } from './client.ts';
import { addVerb, runs, type Context } from './command.ts';
import { noContainer } from './container-facts.ts';
import { readCursor, writeCursor } from './cursor-file.ts';
import { lostConnection, refusalOf } from './dataset-watch.ts';
import { Interrupted, isTransient, type ExitCode } from './exit-codes.ts';
import { complain } from './print.ts';
import { subscribe } from './subscribe.ts';
import { counted } from './table.ts';

export function addContainerWatchCommand(noun: Command): void {
  const command = addVerb(noun, 'watch <name>', 'each change of its content, as it happens')
    .option('--after <cursor>', 'go on after this line of an earlier watch; nothing is missed')
    .option('--cursor-file <file>', 'go on where this file says, and keep it up to date');
  runs<WatchOptions, [string]>(command, watch);
}

interface WatchOptions {
  readonly after?: string;
  readonly cursorFile?: string;
}

interface Told {
  readonly cursor: string;
  readonly actor: string;
  readonly reason: string | null;
  readonly occurredAt: string;
  readonly container: { readonly name: string };
  readonly change: {
    readonly kind: string;
    readonly added: { readonly datasetCount: number };
    readonly removed: { readonly datasetCount: number };
    readonly total: { readonly datasetCount: number };
  } | null;
}

const startQuery = 'query Container($name: String!) { container(name: $name) { marker } }';
const watchQuery = `subscription Watch($filter: ContainerEventFilter, $after: String) {
  containerChanged(filter: $filter, after: $after) {
    cursor actor reason occurredAt container { name }
    change { kind added { datasetCount } removed { datasetCount } total { datasetCount } }
  }
}`;

const backoffMs = { first: 250, longest: 10_000 };

async function watch(context: Context, options: WatchOptions, name: string): Promise<ExitCode> {
  const { client, signal } = context;
  const { container } = await client.call<{ container: { marker: string } | null }>(startQuery, {
    name,
  });
  if (container === null) throw noContainer(name);
  let cursor = options.after ?? (await readCursor(options.cursorFile)) ?? container.marker;
  let delayMs = backoffMs.first;
  let isOutage = false;
  const onConnected = () => {
    delayMs = backoffMs.first;
    isOutage = false;
  };
  try {
    for (;;) {
      try {
        for await (const told of listen(context, name, cursor, onConnected)) {
          await context.output.result(told, lineOf(told));
          cursor = told.cursor;
          await writeCursor(options.cursorFile, cursor);
        }
      } catch (error) {
        signal.throwIfAborted();
        if (!isTransient(error)) throw error;
      }
      signal.throwIfAborted();
      if (!isOutage) {
        complain(`the connection to ${client.settings.url} is lost: trying again until it is back`);
      }
      isOutage = true;
      await pause(delayMs * (0.5 + Math.random() / 2), signal);
      delayMs = Math.min(delayMs * 2, backoffMs.longest);
    }
  } catch (error) {
    if (!(error instanceof Interrupted) && !signal.aborted) throw error;
    throw new Interrupted(`continue with: sweepbook container watch ${name} --after ${cursor}`);
  }
}

async function* listen(
  context: Context,
  container: string,
  after: string,
  onConnected: () => void,
): AsyncGenerator<Told, void, undefined> {
  const { client, signal } = context;
  const connection = subscribe<{ containerChanged: Told }>(
    client.settings,
    watchQuery,
    { filter: { container }, after },
    onConnected,
  );
  const stop = () => connection.dispose();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const { data, errors } of connection.items) {
      if (errors?.[0]) throw refusalOf(context, errors[0]);
      if (data) yield data.containerChanged;
    }
  } catch (error) {
    throw lostConnection(context, error);
  } finally {
    signal.removeEventListener('abort', stop);
    connection.dispose();
  }
}

function lineOf({ occurredAt, actor, reason, change, cursor }: Told): string {
  const what =
    change === null
      ? 'created'
      : `${change.kind} +${change.added.datasetCount} −${change.removed.datasetCount}: ` +
        counted(change.total.datasetCount, 'dataset');
  const why = reason === null || reason === '' ? [] : [`“${reason}”`];
  return [occurredAt, what, actor, ...why, cursor].join('  ');
}
