import { sayFailed } from './backup.ts';
import type { Context } from './command.ts';
import { CliError, exitCode, type ExitCode } from './exit-codes.ts';
import { follow } from './follow.ts';
import { complain } from './print.ts';
import { counted } from './table.ts';

/** A dataset as far as its sweep goes. */
export interface SweepState {
  readonly name: string;
  readonly status: 'OPEN' | 'BACKED_UP' | 'CLOSED';
  readonly backupWaived: boolean;
  readonly backedUpAt: string | null;
  readonly closedAt: string | null;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly confirmedCount: number;
  readonly sweep: {
    readonly isRunning: boolean;
    readonly total: number;
    readonly confirmed: number;
    readonly copying: number;
    readonly requested: number;
    readonly failed: number;
    readonly lastError: string | null;
  } | null;
}

const stateQuery = `query SweepState($name: String!) {
  dataset(name: $name) {
    name status backupWaived backedUpAt closedAt fileCount sizeBytes confirmedCount
    sweep { isRunning total confirmed copying requested failed lastError }
  }
}`;

/** The dataset, or null when there is none (or none that we may see). */
export async function readSweep({ client }: Context, name: string): Promise<SweepState | null> {
  return (await client.call<{ dataset: SweepState | null }>(stateQuery, { name })).dataset;
}

const sweepQuery = `mutation Sweep($input: DatasetTransitionInput!) {
  sweepDataset(input: $input) { changed }
}`;

/** Asks for the sweep; asked for once it needs no second push. */
export async function startSweep(
  { client }: Context,
  dataset: string,
  store: string | undefined,
  more: {
    readonly reason?: string | undefined;
    readonly expectedVersion?: number | undefined;
  } = {},
): Promise<void> {
  await client.call(sweepQuery, { input: { dataset, store, ...more } });
}

interface FollowOptions {
  readonly store?: string;
  readonly timeout?: number;
  /** Nothing will happen any more; what did is printed. */
  readonly wasClosed?: boolean;
}

/** Follows a sweep to its end; `files`: LFN and size of those whose confirmations are printed. */
export async function followSweep(
  context: Context,
  name: string,
  files: ReadonlyMap<string, number>,
  { store, timeout, wasClosed = false }: FollowOptions,
): Promise<ExitCode> {
  const end = new SweepEnd(wasClosed);
  const outcome = await follow(
    context,
    {
      files,
      dataset: name,
      wanted: { store, byPolicy: true },
      timeoutMs: timeout === undefined ? undefined : timeout * 1000,
      goesOn: `the sweep goes on in the server: watch it with "sweepbook dataset watch ${name}"`,
    },
    async (settle) => {
      const state = await readSweep(context, name);
      if (state === null) {
        throw new CliError(
          exitCode.notFound,
          `dataset ${name} cannot be seen any more`,
          'NOT_FOUND',
        );
      }
      if (end.isNewlyBackedUp(state)) {
        await settle();
        await context.output.say(`${name} is BACKED_UP`);
      }
      if (!end.isReached(state)) return false;
      await settle();
      return true;
    },
  );
  const { state } = end;
  if (state?.status === 'CLOSED') return sayClosed(context, state, wasClosed);
  sayFailed(outcome.failed);
  return notClosed(name, state);
}

async function sayClosed(
  { output }: Context,
  state: SweepState,
  wasClosed: boolean,
): Promise<ExitCode> {
  const { name, status, fileCount, sizeBytes, closedAt, backupWaived } = state;
  await output.result(
    { dataset: name, status, fileCount, sizeBytes, closedAt, backupWaived },
    `${name} is ${wasClosed ? 'already ' : ''}CLOSED: ${counted(fileCount, 'file')}, ${sizeBytes} bytes` +
      (backupWaived ? ' (backup waived)' : ''),
  );
  return exitCode.done;
}

function notClosed(name: string, state: SweepState | undefined): ExitCode {
  const sweep = state?.sweep;
  if (!sweep || sweep.failed === 0) {
    complain(
      `${name} is ${state?.status}: the sweep was called off; ask again with "sweepbook dataset sweep ${name}"`,
    );
    return exitCode.failed;
  }
  complain(
    `${name} is not closed: ${sweep.confirmed} of ${sweep.total} files confirmed, ${sweep.failed} failed ` +
      `(${sweep.lastError}); remove the cause, then "sweepbook dataset sweep ${name}"`,
  );
  return sweep.confirmed > 0 ? exitCode.partly : exitCode.failed;
}

/** Tells when nothing more will come. */
class SweepEnd {
  state: SweepState | undefined;
  #wasBackedUp: boolean;
  #standstills = 0;

  constructor(wasClosed: boolean) {
    this.#wasBackedUp = wasClosed;
  }

  isNewlyBackedUp(state: SweepState): boolean {
    if (this.#wasBackedUp || state.status === 'OPEN' || state.backedUpAt === null) return false;
    this.#wasBackedUp = true;
    return true;
  }

  isReached(state: SweepState): boolean {
    this.state = state;
    if (state.status === 'CLOSED') return true;
    const { sweep } = state;
    const isOver =
      !sweep?.isRunning || (sweep.failed > 0 && sweep.confirmed + sweep.failed >= sweep.total);
    this.#standstills = isOver ? this.#standstills + 1 : 0;
    // Twice in a row: a sweep may be seen between its last steps.
    return this.#standstills >= 2;
  }
}
