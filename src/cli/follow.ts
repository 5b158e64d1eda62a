import type { Context } from './command.ts';
import { CliError, exitCode, Interrupted } from './exit-codes.ts';
import { complain } from './print.ts';
import { startProgress, type Progress } from './progress.ts';
import {
  confirmationLine,
  readRecords,
  recordsPerCall,
  type FileCopies,
  type FileRecord,
  type Wanted,
} from './records.ts';
import { subscribe } from './subscribe.ts';
import { counted } from './table.ts';

/** What is followed to its end. */
interface Followed {
  /** LFN and size in bytes. */
  readonly files: ReadonlyMap<string, number>;
  readonly dataset?: string | undefined;
  readonly wanted: Wanted;
  readonly timeoutMs?: number | undefined;
  /** Said on Ctrl-C and on timeout: what goes on without us, and how to see it. */
  readonly goesOn: string;
}

interface Outcome {
  /** Files of which every copy is confirmed that is waited for. */
  readonly confirmedCount: number;
  /** Copies, of which a file may have several. */
  readonly failed: readonly FileRecord[];
}

/** `gather`: files that are done within this time are asked for together. */
const pollMs = { first: 100, longest: 1000, gather: 200 };
const patienceMs = 300_000;

/**
 * Prints the confirmation of each copy as it comes, with a bar meanwhile, until every one is
 * CONFIRMED or FAILED and `isOver` says so. What is true is read from the server again and
 * again; its messages only move the bar and make us look sooner.
 */
export async function follow(
  context: Context,
  followed: Followed,
  isOver: (settle: () => Promise<void>, isSettled: boolean) => Promise<boolean>,
): Promise<Outcome> {
  const { client, signal } = context;
  const deadline = Date.now() + (followed.timeoutMs ?? Infinity);
  const state = new FollowState(context, followed);
  const messages = listen(context, followed, state);
  client.patienceMs = Math.min(patienceMs, Math.max(0, followed.timeoutMs ?? Infinity));
  try {
    for (let delayMs = pollMs.first; ; delayMs = Math.min(delayMs * 1.5, pollMs.longest)) {
      await state.look();
      if (await isOver(() => state.lookAtAll(), state.isSettled)) break;
      if (Date.now() >= deadline) throw timedOut(state, followed);
      signal.throwIfAborted();
      await state.sleep(Math.min(delayMs, deadline - Date.now()));
    }
    return { confirmedCount: state.confirmedCount, failed: [...state.failed.values()] };
  } catch (error) {
    if (error instanceof Interrupted) throw new Interrupted(`interrupted; ${followed.goesOn}`);
    throw error;
  } finally {
    messages.dispose();
    state.progress.stop();
  }
}

function timedOut(state: FollowState, followed: Followed): CliError {
  const seconds = Math.round((followed.timeoutMs ?? 0) / 1000);
  const counts = [
    `${state.confirmedCount} of ${counted(followed.files.size, 'file')} confirmed`,
    ...(state.failed.size > 0
      ? [`${state.failed.size} ${state.failed.size === 1 ? 'copy' : 'copies'} failed`]
      : []),
    ...(state.lastError === undefined ? [] : [`last error: ${state.lastError}`]),
  ];
  return new CliError(
    exitCode.tryLater,
    `after ${seconds} s ${counts.join(', ')}; ${followed.goesOn}`,
  );
}

class FollowState {
  readonly pending: Set<string>;
  readonly failed = new Map<string, FileRecord>();
  readonly progress: Progress;
  confirmedCount = 0;
  lastError: string | undefined;
  readonly #context: Context;
  readonly #followed: Followed;
  /** Of these a message said that they are done. */
  readonly #reported = new Set<string>();
  /** By LFN and store. */
  readonly #copiedBytes = new Map<string, Map<string, number>>();
  readonly #owed = new Map<string, number>();
  /** Copies that came to their end, by LFN and store. */
  readonly #ended = new Set<string>();
  readonly #notedErrors = new Set<string>();
  #doneBytes = 0;
  #turnAt = 0;
  #wake: () => void = () => undefined;
  #stop: () => void = () => undefined;

  constructor(context: Context, followed: Followed) {
    this.#context = context;
    this.#followed = followed;
    this.pending = new Set(followed.files.keys());
    const totalBytes = [...followed.files.values()].reduce((sum, size) => sum + size, 0);
    this.progress = startProgress('backing up', totalBytes);
    context.signal.addEventListener('abort', () => this.#stop(), { once: true });
  }

  get isSettled(): boolean {
    return this.pending.size === 0;
  }

  /** What a message told; it is believed for the bar only. */
  hear(lfn: string, store: string, status: string, copiedBytes: number): void {
    if (!this.pending.has(lfn)) return;
    const copied = this.#copiedBytes.get(lfn) ?? new Map<string, number>();
    this.#copiedBytes.set(lfn, copied);
    copied.set(store, status === 'COPYING' ? copiedBytes : this.#sizeOf(lfn));
    if (status === 'CONFIRMED' || status === 'FAILED') {
      this.#reported.add(lfn);
      this.#wake();
    }
    this.#draw((this.#owed.get(lfn) ?? 1) > 1 ? `${lfn} to ${store}` : lfn);
  }

  /** Asks about those that are said to be done, and once in a while about some others in turn. */
  async look(): Promise<void> {
    const asked = [...this.#reported];
    this.#reported.clear();
    if (asked.length > 0 && Date.now() - this.#turnAt < pollMs.longest) return this.#settle(asked);
    this.#turnAt = Date.now();
    const isAsked = new Set(asked);
    for (const lfn of [...this.pending].slice(0, recordsPerCall)) {
      if (!isAsked.has(lfn)) asked.push(lfn);
      // To the end of the queue, for its next turn.
      this.pending.delete(lfn);
      this.pending.add(lfn);
    }
    await this.#settle(asked);
  }

  async lookAtAll(): Promise<void> {
    await this.#settle([...this.pending]);
  }

  /** Until the time is over or something was heard. */
  sleep(timeMs: number): Promise<void> {
    return new Promise((resolve) => {
      let timer = setTimeout(resolve, Math.max(0, timeMs));
      this.#wake = () => {
        clearTimeout(timer);
        timer = setTimeout(resolve, Math.min(timeMs, pollMs.gather));
        this.#wake = () => undefined;
      };
      this.#stop = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#reported.size > 0) this.#wake();
    });
  }

  async #settle(lfns: readonly string[]): Promise<void> {
    if (lfns.length === 0) return;
    const found = await readRecords(this.#context.client, lfns, this.#followed.wanted);
    for (const file of found) {
      if (this.pending.has(file.lfn)) await this.#settleFile(file);
    }
    this.#draw('');
  }

  async #settleFile({ lfn, copies, owed }: FileCopies): Promise<void> {
    this.#owed.set(lfn, owed);
    const ends = copies.filter(({ status }) => status === 'CONFIRMED' || status === 'FAILED');
    for (const record of copies) {
      if (record.lastError !== null) this.#note(record);
    }
    for (const record of ends) {
      const copy = `${lfn} ${record.store}`;
      if (this.#ended.has(copy)) continue;
      this.#ended.add(copy);
      if (record.status === 'FAILED') this.failed.set(copy, record);
      else await this.#context.output.result(record, confirmationLine(record));
    }
    if (ends.length < owed) return;
    this.pending.delete(lfn);
    this.#copiedBytes.delete(lfn);
    this.#doneBytes += this.#sizeOf(lfn);
    if (ends.every(({ status }) => status === 'CONFIRMED')) this.confirmedCount++;
  }

  /** One line for each kind of trouble, while the server tries again by itself. */
  #note(record: FileRecord): void {
    this.lastError = record.lastError ?? undefined;
    const kind = record.lastErrorCode ?? '';
    if (record.status === 'FAILED' || this.#notedErrors.has(kind)) return;
    this.#notedErrors.add(kind);
    complain(`${record.lfn}: ${record.lastError} (the server tries again by itself)`);
  }

  #sizeOf(lfn: string): number {
    return this.#followed.files.get(lfn) ?? 0;
  }

  #draw(what: string): void {
    let bytes = this.#doneBytes;
    for (const [lfn, copied] of this.#copiedBytes) {
      const sum = [...copied.values()].reduce((all, one) => all + one, 0);
      bytes += Math.min(this.#sizeOf(lfn), sum / (this.#owed.get(lfn) ?? 1));
    }
    const total = this.#followed.files.size;
    this.progress.update(bytes, `${total - this.pending.size}/${total} ${what}`);
  }
}

const progressQuery = `subscription Progress($dataset: String, $lfn: String) {
  backupProgress(dataset: $dataset, lfn: $lfn) { lfn store status copiedBytes }
}`;

interface ProgressData {
  readonly backupProgress: {
    readonly lfn: string;
    readonly store: string;
    readonly status: string;
    readonly copiedBytes: number;
  };
}

const listenAgainMs = 2000;

function listen(
  { client, signal }: Context,
  { dataset, files }: Followed,
  state: FollowState,
): { dispose(): void } {
  const [onlyLfn] = files.size === 1 && dataset === undefined ? files.keys() : [];
  const variables = { dataset, lfn: onlyLfn };
  let current: { dispose(): void } | undefined;
  let isStopped = false;
  const listenOnce = async (): Promise<void> => {
    const connection = subscribe<ProgressData>(client.settings, progressQuery, variables);
    current = connection;
    try {
      for await (const { data } of connection.items) {
        if (!data) continue;
        const { lfn, store, status, copiedBytes } = data.backupProgress;
        state.hear(lfn, store, status, copiedBytes);
      }
    } catch {
      // The bar stands still; the polling goes on.
    }
    connection.dispose();
    if (!isStopped && !signal.aborted) setTimeout(() => void listenOnce(), listenAgainMs).unref();
  };
  void listenOnce();
  return {
    dispose: () => {
      isStopped = true;
      current?.dispose();
    },
  };
}
