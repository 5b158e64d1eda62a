import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { noContainer } from './container-facts.ts';
import { readCursor, writeCursor } from './cursor-file.ts';
import { exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { counted } from './table.ts';
import { watchLog } from './watching.ts';

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

async function watch(context: Context, options: WatchOptions, name: string): Promise<ExitCode> {
  const { client, signal } = context;
  const { container } = await client.call<{ container: { marker: string } | null }>(startQuery, {
    name,
  });
  if (container === null) throw noContainer(name);
  let cursor = options.after ?? (await readCursor(options.cursorFile)) ?? container.marker;
  try {
    await watchLog<{ containerChanged: Told }>(context, {
      query: watchQuery,
      variables: () => ({ filter: { container: name }, after: cursor }),
      take: async ({ containerChanged: told }) => {
        await context.output.result(told, lineOf(told));
        cursor = told.cursor;
        await writeCursor(options.cursorFile, cursor);
        return false;
      },
    });
    return exitCode.done;
  } catch (error) {
    if (!(error instanceof Interrupted) && !signal.aborted) throw error;
    throw new Interrupted(`continue with: sweepbook container watch ${name} --after ${cursor}`);
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
