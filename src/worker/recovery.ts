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
import { LeasedWork, stopped } from './leased-work.ts';
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

/**
 * Reads copies on disk, restages them first where asked for, and moves incidents on. Its work is in the tables:
 * a claim is one statement with a lease, and what a dead worker left is claimed again when its lease is over.
 */
export class RecoveryWorker {
  private readonly o: RecoveryOptions;
  private readonly leased: LeasedWork<InHand>;

  constructor(options: RecoveryOptions) {
    this.o = options;
    const { db, log, leaseSeconds, shutdownSeconds, onChange } = options;
    this.leased = new LeasedWork<InHand>({
      what: 'recovery',
      log,
      leaseSeconds,
      graceSeconds: shutdownSeconds,
      look: () => this.look(),
      renew: (items) =>
        renewChecks(
          db,
          items.map(({ claim }) => claim),
          leaseSeconds,
        ),
      onChange,
    });
  }

  start(): void {
    this.leased.start();
  }

  ring(): void {
    this.leased.ring();
  }

  async stop(): Promise<void> {
    await this.leased.stop();
  }

  private async look(): Promise<number> {
    const moved = await advanceIncidents(this.o.db, this.o.jobs);
    if (moved > 0) this.o.onChange();
    return moved + (await this.takeChecks());
  }

  private async takeChecks(): Promise<number> {
    const free = this.o.concurrency - this.leased.inHand.size;
    if (free <= 0 || this.leased.isDraining) return 0;
    const claims = await claimChecks(this.o.db, this.o.name, this.o.leaseSeconds, free);
    for (const claim of claims) {
      const item: InHand = { claim, abort: new AbortController() };
      this.leased.hold(claim.checkId, item, () => this.work(item));
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
}
