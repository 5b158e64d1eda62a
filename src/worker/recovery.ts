import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import {
  claimChecks,
  failCheck,
  renewChecks,
  type CheckClaim,
} from '../incidents/checks.service.ts';
import { advanceIncidents } from '../incidents/recovery-feed.service.ts';
import type { Evidence } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';
import { deadlineMs, inTime, runCheck } from './check.ts';
import type { WorkerLog } from './log.ts';

export interface RecoveryOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  readonly concurrency: number;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly shutdownSeconds: number;
  readonly restageRoots: readonly string[];
  readonly onChange: () => void;
}

interface InHand {
  readonly claim: CheckClaim;
  readonly abort: AbortController;
}

const pollMs = 1000;

/**
 * Reads copies on disk, restages them first where asked for, and moves incidents on. Its work is in the tables:
 * a claim is one statement with a lease, and what a dead worker left is claimed again when its lease is over.
 */
export class RecoveryWorker {
  private readonly o: RecoveryOptions;
  private readonly inHand = new Map<number, InHand>();
  private readonly running = new Set<Promise<void>>();
  private beatTimer: NodeJS.Timeout | undefined;
  private draining = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();
  private lastBeatAt = Date.now();

  constructor(options: RecoveryOptions) {
    this.o = options;
  }

  start(): void {
    const beatMs = (this.o.leaseSeconds * 1000) / 3;
    this.beatTimer = setInterval(() => void this.beat(), beatMs);
    this.loop = this.run();
  }

  /** There may be work: look now. */
  ring(): void {
    this.wakeUp?.();
  }

  /** Takes nothing more, lets what runs come to its end, and gives back what does not in time. */
  async stop(): Promise<void> {
    this.draining = true;
    this.ring();
    await this.loop;
    const late = setTimeout(() => {
      for (const item of this.inHand.values()) item.abort.abort(stopped);
    }, this.o.shutdownSeconds * 1000);
    await Promise.allSettled(this.running);
    clearTimeout(late);
    clearInterval(this.beatTimer);
  }

  private async run(): Promise<void> {
    while (!this.draining) {
      let did = 0;
      try {
        const moved = await advanceIncidents(this.o.db, this.o.jobs);
        if (moved > 0) this.o.onChange();
        did = moved + (await this.takeChecks());
      } catch (error) {
        this.o.log.warn({ error: messageOf(error) }, 'recovery: will try again');
      }
      if (did === 0 && !this.draining) await this.sleep();
    }
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pollMs);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async takeChecks(): Promise<number> {
    const free = this.o.concurrency - this.inHand.size;
    if (free <= 0 || this.draining) return 0;
    const claims = await claimChecks(this.o.db, this.o.name, this.o.leaseSeconds, free);
    for (const claim of claims) {
      const item: InHand = { claim, abort: new AbortController() };
      this.inHand.set(claim.checkId, item);
      const work = this.work(item).finally(() => {
        this.inHand.delete(claim.checkId);
        this.running.delete(work);
        this.o.onChange();
        this.ring();
      });
      this.running.add(work);
    }
    return claims.length;
  }

  private async work({ claim, abort }: InHand): Promise<void> {
    const { db, stores, log, restageRoots } = this.o;
    const facts = { lfn: claim.lfn, path: claim.path, attempt: claim.attempt };
    try {
      const found = await inTime(deadlineMs(claim.expected.sizeBytes), abort, (signal) =>
        runCheck({ db, stores, claim, restageRoots, signal }),
      );
      log.info({ ...facts, found }, 'recovery: a copy was read');
    } catch (error) {
      await this.failed(claim, error, facts);
    }
  }

  private async failed(claim: CheckClaim, error: unknown, facts: object): Promise<void> {
    const { db, log, retryBaseMs } = this.o;
    const isInnocent = error === stopped;
    const refusal =
      error instanceof SweepbookError ? error : new SweepbookError('INTERNAL', messageOf(error));
    if (refusal.code === 'LEASE_LOST') {
      log.warn(
        { ...facts, reason: refusal.message },
        'recovery: overtaken, its result is thrown away',
      );
      return;
    }
    const { code, message } = refusal;
    const evidence = refusal.facts['evidence'] as Evidence | undefined;
    try {
      const next = await failCheck(db, claim, { code, message, evidence, isInnocent }, retryBaseMs);
      log.warn({ ...facts, code, reason: message, next }, 'recovery: the copy could not be read');
    } catch (failure) {
      // The lease runs out, and the copy is taken again.
      log.warn({ ...facts, error: messageOf(failure) }, 'recovery: could not be recorded');
    }
  }

  /** Keeps leases alive; whoever has lost his lease stops. */
  private async beat(): Promise<void> {
    const items = [...this.inHand.values()];
    const { db, leaseSeconds, log } = this.o;
    try {
      const claims = items.map((item) => item.claim);
      const held = await renewChecks(db, claims, leaseSeconds);
      this.lastBeatAt = Date.now();
      for (const item of items) {
        const { checkId } = item.claim;
        if (!held.has(checkId) && this.inHand.has(checkId)) item.abort.abort(overtaken);
      }
    } catch (error) {
      if (Date.now() - this.lastBeatAt > leaseSeconds * 1000) {
        for (const item of items) item.abort.abort(overtaken);
      }
      log.warn({ error: messageOf(error) }, 'recovery: will try again');
    }
  }
}

const stopped = new Error('the worker is being stopped');
const overtaken = new SweepbookError('LEASE_LOST', 'the lease has run out');
