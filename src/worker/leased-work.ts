import { messageOf, SweepbookError } from '../errors.ts';
import type { WorkerLog } from './log.ts';

/** Something that this worker holds the lease of, and works on. */
export interface Leased {
  readonly abort: AbortController;
}

export interface LeasedWorkOptions<Item extends Leased> {
  /** As the log calls it. */
  readonly what: string;
  readonly log: WorkerLog;
  readonly leaseSeconds: number;
  /** How long what is under way may come to its end when the worker stops; then it is given back. */
  readonly graceSeconds: number;
  /** Before the first look, once. */
  readonly prepare?: () => Promise<unknown>;
  /** Looks for work once, takes some by `hold`; says how much there was to do: 0 = sleep until somebody rings. */
  readonly look: () => Promise<number>;
  /** Renews the leases of these, and tells how far they are; returns the ids of those that are still ours. */
  readonly renew: (items: readonly Item[]) => Promise<ReadonlySet<number>>;
  /** Something came to its end. */
  readonly onChange: () => void;
  /** The longest time until the next look, ms. */
  readonly pauseMs?: () => number;
}

const pollMs = 1000;
const longestBeatMs = 1000;

/** The worker is being stopped: what is broken off for it has done nothing wrong. */
export const stopped = new Error('the worker is being stopped');
const overtaken = new SweepbookError('LEASE_LOST', 'the lease has run out, or it was called off');

/**
 * Work that stands in tables: a claim is one statement with a lease, leases are kept alive while there is work, and who
 * has lost his stops; what a dead worker left is claimed again when its lease is over.
 */
export class LeasedWork<Item extends Leased> {
  readonly inHand = new Map<number, Item>();
  isDraining = false;
  private readonly o: LeasedWorkOptions<Item>;
  private readonly running = new Set<Promise<void>>();
  private beatTimer: NodeJS.Timeout | undefined;
  private isRung = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();
  private lastBeatAt = Date.now();

  constructor(options: LeasedWorkOptions<Item>) {
    this.o = options;
  }

  start(): void {
    const ms = Math.min(longestBeatMs, (this.o.leaseSeconds * 1000) / 3);
    let isBusy = false;
    this.beatTimer = setInterval(() => {
      if (isBusy) return;
      isBusy = true;
      void this.beat().finally(() => (isBusy = false));
    }, ms);
    this.loop = this.run();
  }

  /** There may be work: look now. */
  ring(): void {
    this.isRung = true;
    this.wakeUp?.();
  }

  /** Takes nothing more, lets what runs come to its end, and gives back what does not in time. */
  async stop(): Promise<void> {
    this.isDraining = true;
    this.ring();
    await this.loop;
    const giveBack = () => {
      for (const { abort } of this.inHand.values()) abort.abort(stopped);
    };
    const late = setTimeout(giveBack, this.o.graceSeconds * 1000);
    await Promise.allSettled(this.running);
    clearTimeout(late);
    clearInterval(this.beatTimer);
  }

  /** Works on what was claimed, beside everything else. */
  hold(id: number, item: Item, work: () => Promise<void>): void {
    this.inHand.set(id, item);
    const running = work().finally(() => {
      this.inHand.delete(id);
      this.running.delete(running);
      this.o.onChange();
      this.ring();
    });
    this.running.add(running);
  }

  private async run(): Promise<void> {
    await this.o.prepare?.().catch((error: unknown) => this.willTryAgain(error));
    while (!this.isDraining) {
      this.isRung = false;
      let did = 0;
      try {
        did = await this.o.look();
      } catch (error) {
        this.willTryAgain(error);
      }
      if (did === 0 && !this.isDraining) await this.sleep();
    }
  }

  /** Whoever rang while there was a look is not forgotten. */
  private sleep(): Promise<void> {
    const ms = this.o.pauseMs?.() ?? pollMs;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.isRung ? 0 : ms);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async beat(): Promise<void> {
    const held = [...this.inHand];
    try {
      const ours = await this.o.renew(held.map(([, item]) => item));
      this.lastBeatAt = Date.now();
      for (const [id, { abort }] of held) {
        if (!ours.has(id) && this.inHand.has(id)) abort.abort(overtaken);
      }
    } catch (error) {
      if (Date.now() - this.lastBeatAt > this.o.leaseSeconds * 1000) {
        for (const [, { abort }] of held) abort.abort(overtaken);
      }
      this.willTryAgain(error);
    }
  }

  private willTryAgain(error: unknown): void {
    this.o.log.warn({ error: messageOf(error) }, `${this.o.what}: will try again`);
  }
}
