import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { readCursor, writeCursor } from './cursor-file.ts';
import { historyOf, noDataset } from './dataset-facts.ts';
import { exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { readSweep } from './sweep-follow.ts';
import { SeenCursors, watchLog } from './watching.ts';

export function addWatchCommand(noun: Command, status: (text: string) => string): void {
  const command = addVerb(noun, 'watch <name>', 'each change of its status, as it happens')
    .option('--after <cursor>', 'go on after this line of an earlier watch; nothing is missed')
    .option('--until <status>', 'end when it is OPEN, BACKED_UP or CLOSED', status)
    .option('--cursor-file <file>', 'go on where this file says, and keep it up to date');
  runs<WatchOptions, [string]>(command, watch);
}

interface WatchOptions {
  readonly after?: string;
  readonly until?: string;
  readonly cursorFile?: string;
}

/** What is printed for an event. */
interface WatchLine {
  readonly dataset: string;
  readonly from: string | null;
  readonly to: string;
  readonly actor: string;
  readonly reason: string | null;
  readonly badMark: { readonly reason: string } | null;
  readonly occurredAt: string;
  readonly cursor: string;
}

async function watch(context: Context, options: WatchOptions, name: string): Promise<ExitCode> {
  const watcher = new Watcher(context, options, name);
  try {
    await watcher.run();
    return exitCode.done;
  } catch (error) {
    if (!(error instanceof Interrupted) && !context.signal.aborted) throw error;
    const { cursor } = watcher;
    throw new Interrupted(
      cursor === undefined
        ? 'interrupted'
        : `continue with: sweepbook dataset watch ${name} --after ${cursor}`,
    );
  }
}

class Watcher {
  cursor: string | undefined;
  readonly #context: Context;
  readonly #options: WatchOptions;
  readonly #name: string;
  readonly #seen = new SeenCursors();
  #isReached = false;

  constructor(context: Context, options: WatchOptions, name: string) {
    this.#context = context;
    this.#options = options;
    this.#name = name;
  }

  async run(): Promise<void> {
    this.cursor = this.#options.after ?? (await readCursor(this.#options.cursorFile));
    await this.#start();
    if (this.#isReached) return;
    await watchLog<WatchData>(this.#context, {
      query: watchQuery,
      variables: () => ({ filter: { dataset: this.#name }, after: this.cursor }),
      take: async ({ datasetStatusChanged }) => {
        const { dataset, ...event } = datasetStatusChanged;
        await this.#print({ dataset: dataset.name, ...event });
        return this.#isReached;
      },
    });
  }

  /** The present state, read from the history, so that its cursor and what follows fit together. */
  async #start(): Promise<void> {
    const state = await readSweep(this.#context, this.#name);
    if (state === null) throw noDataset(this.#name);
    if (this.cursor !== undefined) {
      // Reached before we came, and possibly before the cursor: nothing may ever follow.
      if (this.#hasPassed(state.status)) await this.#printRest();
      return;
    }
    let last: WatchLine | undefined;
    let cursor: string | undefined;
    for await (const event of historyOf(this.#context, this.#name, { all: true, limit: 0 })) {
      cursor = event.cursor;
      if (event.kind === 'DATASET_STATUS' && event.toState !== null) {
        last = {
          ...event,
          dataset: this.#name,
          from: event.fromState || null,
          to: event.toState,
          badMark: null,
        };
      }
    }
    if (last !== undefined) await this.#print({ ...last, cursor: cursor ?? last.cursor }, true);
    else this.#isReached = this.#hasPassed(state.status);
  }

  async #printRest(): Promise<void> {
    const after = this.cursor;
    let isAfter = false;
    for await (const event of historyOf(this.#context, this.#name, { all: true, limit: 0 })) {
      if (isAfter && event.kind === 'DATASET_STATUS' && event.toState !== null) {
        const { toState: to, fromState } = event;
        await this.#print({
          ...event,
          dataset: this.#name,
          from: fromState || null,
          to,
          badMark: null,
        });
      }
      isAfter ||= event.cursor === after;
    }
    // A cursor of somewhere else in the log is the server's to place.
    this.#isReached = isAfter;
  }

  #hasPassed(status: string): boolean {
    const order = ['OPEN', 'BACKED_UP', 'CLOSED'];
    const { until } = this.#options;
    if (until === undefined || until === 'OPEN') return status === until;
    return order.indexOf(status) >= order.indexOf(until);
  }

  async #print(event: WatchLine, isPresent = false): Promise<void> {
    if (!this.#seen.isNew(event.cursor)) return;
    await this.#context.output.result(
      isPresent ? { ...event, isPresent } : event,
      lineOf(event, isPresent),
    );
    this.cursor = event.cursor;
    await writeCursor(this.#options.cursorFile, event.cursor);
    this.#isReached = this.#hasPassed(event.to);
  }
}

function lineOf(event: WatchLine, isPresent: boolean): string {
  const from = event.from === null || event.from === '' ? '' : `${event.from} → `;
  const change = isPresent ? `is ${event.to}` : `${from}${event.to}`;
  const bad = event.badMark === null ? [] : [`bad: ${event.badMark.reason}`];
  const reason = event.reason === null || event.reason === '' ? [] : [`“${event.reason}”`];
  return [event.occurredAt, change, event.actor, ...bad, ...reason, event.cursor].join('  ');
}

interface WatchData {
  readonly datasetStatusChanged: Omit<WatchLine, 'dataset'> & {
    readonly dataset: { name: string };
  };
}

const watchQuery = `subscription Watch($filter: DatasetEventFilter, $after: String) {
  datasetStatusChanged(filter: $filter, after: $after) {
    cursor from to actor reason occurredAt badMark { reason } dataset { name }
  }
}`;
