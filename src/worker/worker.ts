import { randomBytes } from 'node:crypto';
import {
  claimBackup,
  failAttempt,
  freeSlots,
  renewLeases,
  reviveForgotten,
  type Claim,
  type StoredCopy,
} from '../backups/attempts.service.ts';
import { listMassStores, type MassStoreRow } from '../backups/mass-stores.service.ts';
import { notifyProgress } from '../database/doorbell.ts';
import type { JobInHand, JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import type { Evidence } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';
import { advanceForgotten } from '../sweeps/sweeps.service.ts';
import { runAttempt, type Attempt } from './attempt.ts';
import type { WorkerLog } from './log.ts';
import { sweepLeftovers } from './leftovers.ts';

export interface WorkerOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  readonly hostname: string;
  readonly concurrency: number;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly shutdownSeconds: number;
  /** Called after each change of state, so that those who watch look now. */
  readonly onChange: () => void;
}

interface InHand {
  readonly claim: Claim;
  readonly job: JobInHand;
  readonly abort: AbortController;
  bytes: number;
  toldBytes: number;
}

const pollMs = 1000;
const progressMs = 500;
const netMs = 2000;
const storesMs = 5000;
const leftoversMs = 3_600_000;
/** pg-boss gives a job that is silent for 10 s to another worker. */
const mostBetweenBeatsMs = 3000;

/** Takes backups from the queues of all stores it can reach, and sees each to its end. */
export class Worker {
  readonly name: string;
  private readonly o: WorkerOptions;
  private readonly inHand = new Map<string, InHand>();
  private readonly running = new Set<Promise<void>>();
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly upUntil = new Map<number, number>();
  private readonly downStores = new Set<string>();
  private draining = false;
  private wakeUp: (() => void) | undefined;
  private loop: Promise<void> = Promise.resolve();
  private lastBeatAt = Date.now();
  private leftoversAt = 0;
  private knownStores: MassStoreRow[] = [];
  private storesAt = 0;

  constructor(options: WorkerOptions) {
    this.o = options;
    this.name = `worker ${options.hostname}/${process.pid}-${randomBytes(3).toString('hex')}`;
  }

  start(): void {
    const beatMs = Math.min(mostBetweenBeatsMs, (this.o.leaseSeconds * 1000) / 3);
    this.every(beatMs, () => this.beat());
    this.every(progressMs, () => this.tellProgress());
    this.every(netMs, () => this.castNet());
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
    for (const timer of this.timers) clearInterval(timer);
  }

  private every(ms: number, what: () => Promise<void>): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy) return;
      busy = true;
      void what()
        .catch((error: unknown) =>
          this.o.log.warn({ error: messageOf(error) }, 'worker: will try again'),
        )
        .finally(() => (busy = false));
    }, ms);
    this.timers.push(timer);
  }

  private async run(): Promise<void> {
    while (!this.draining) {
      let took = 0;
      try {
        took = await this.takeWork();
      } catch (error) {
        this.o.log.warn(
          { error: messageOf(error) },
          'worker: the queue cannot be read, will try again',
        );
      }
      if (took === 0 && !this.draining) await this.sleep();
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

  private async takeWork(): Promise<number> {
    let took = 0;
    for (const row of await this.stores()) {
      const mine = [...this.inHand.values()].filter((item) => item.claim.storeId === row.id).length;
      const free = this.o.concurrency - mine;
      const most = free > 0 ? Math.min(free, await freeSlots(this.o.db.fork(), row.id)) : 0;
      if (most <= 0 || this.draining || !(await this.reaches(row))) continue;
      const jobs = await this.o.jobs.fetch(row.id, most);
      took += jobs.length;
      // All are claimed before the next look, so that what is in hand is known.
      await Promise.all(jobs.map((job) => this.take(row, job)));
    }
    return took;
  }

  /** A new store is noticed within seconds; asking at each look would cost more than the looks. */
  private async stores(): Promise<MassStoreRow[]> {
    if (Date.now() - this.storesAt > storesMs) {
      // One that left the store file is kept for what it holds.
      this.knownStores = (await listMassStores(this.o.db)).filter((row) => row.isConfigured);
      this.storesAt = Date.now();
    }
    return this.knownStores;
  }

  /** A store that this host cannot use is left to others, and its files keep their attempts. */
  private async reaches(row: MassStoreRow): Promise<boolean> {
    if ((this.upUntil.get(row.id) ?? 0) > Date.now()) return true;
    const askedAt = Date.now();
    const { isUp, detail } = await this.o.stores.of(row).probe();
    if (isUp) {
      // What costs more is asked more rarely.
      this.upUntil.set(row.id, Date.now() + 20 * (Date.now() - askedAt));
      this.downStores.delete(row.name);
    } else if (!this.downStores.has(row.name)) {
      this.downStores.add(row.name);
      this.o.log.warn({ store: row.name, detail }, 'worker: the store cannot be used from here');
    }
    return isUp;
  }

  private async take(row: MassStoreRow, job: JobInHand): Promise<void> {
    const { db, jobs, leaseSeconds } = this.o;
    const answer = await claimBackup(db, job.backupId, this.name, leaseSeconds);
    switch (answer.kind) {
      case 'nothing to do':
        await jobs.finish(row.id, job.id);
        return;
      case 'later':
        await jobs.enqueue(db.fork(), row.id, [job.backupId], answer.at);
        await jobs.finish(row.id, job.id);
        return;
      case 'claimed': {
        const item: InHand = {
          claim: answer.claim,
          job,
          abort: new AbortController(),
          bytes: 0,
          toldBytes: -1,
        };
        this.inHand.set(job.id, item);
        this.o.onChange();
        const copies = await this.copiesOf(answer.copies);
        const work = this.work(row, item, { sources: answer.sources, copies }).finally(() => {
          this.inHand.delete(job.id);
          this.running.delete(work);
          this.o.onChange();
          this.ring();
        });
        this.running.add(work);
      }
    }
  }

  /** Copies in stores that can be reached from here by what is configured. */
  private async copiesOf(copies: readonly StoredCopy[]): Promise<Attempt['copies']> {
    if (copies.length === 0) return [];
    const stores = new Map((await this.stores()).map((row) => [row.id, row]));
    return copies.flatMap(({ storeId, key }) => {
      const row = stores.get(storeId);
      return row ? [{ store: this.o.stores.of(row), key }] : [];
    });
  }

  private async work(
    row: MassStoreRow,
    item: InHand,
    from: Pick<Attempt, 'sources' | 'copies'>,
  ): Promise<void> {
    const { claim, job, abort } = item;
    const { db, log, leaseSeconds } = this.o;
    const facts = { lfn: claim.lfn, store: row.name, attempt: claim.attempt };
    log.info(facts, 'backup: begun');
    try {
      await runAttempt({
        db,
        store: this.o.stores.of(row),
        claim,
        ...from,
        leaseSeconds,
        signal: abort.signal,
        onProgress: (bytes) => (item.bytes = bytes),
      });
      log.info(facts, 'backup: confirmed');
    } catch (error) {
      await this.failed(item, error, facts);
    }
    await this.o.jobs.finish(row.id, job.id).catch((error: unknown) => {
      // The job comes back, and finds nothing to do.
      log.warn({ ...facts, error: messageOf(error) }, 'backup: the queue did not hear of the end');
    });
  }

  private async failed({ claim }: InHand, error: unknown, facts: object): Promise<void> {
    const { db, jobs, log, retryBaseMs } = this.o;
    if (error === stopped) {
      const failure = { code: 'UNAVAILABLE', message: 'the worker was stopped', isInnocent: true };
      await failAttempt(db, jobs, claim, failure, retryBaseMs).catch(() => undefined);
      return;
    }
    const refusal =
      error instanceof SweepbookError ? error : new SweepbookError('INTERNAL', messageOf(error));
    if (refusal.code === 'LEASE_LOST') return this.overtaken(facts, refusal.message);
    try {
      const { code, message } = refusal;
      const evidence = refusal.facts['evidence'] as Evidence | undefined;
      const next = await failAttempt(db, jobs, claim, { code, message, evidence }, retryBaseMs);
      if (next === 'LEASE_LOST') return this.overtaken(facts, message);
      log.warn({ ...facts, code, reason: message, next }, 'backup: the attempt failed');
    } catch (failure) {
      // The lease runs out, and the file is taken again.
      log.warn(
        { ...facts, reason: refusal.message, error: messageOf(failure) },
        'backup: could not be recorded',
      );
    }
  }

  private overtaken(facts: object, reason: string): void {
    this.o.log.warn({ ...facts, reason }, 'backup: overtaken, its result is thrown away');
  }

  /** Keeps leases and jobs alive; whoever has lost his lease stops writing. */
  private async beat(): Promise<void> {
    const items = [...this.inHand.values()];
    const { db, jobs, leaseSeconds } = this.o;
    try {
      const held = await renewLeases(
        db,
        items.map((item) => item.claim),
        leaseSeconds,
      );
      this.lastBeatAt = Date.now();
      for (const item of items) {
        if (!held.has(item.claim.backupId) && this.inHand.has(item.job.id))
          item.abort.abort(overtaken);
      }
    } catch (error) {
      if (Date.now() - this.lastBeatAt > leaseSeconds * 1000) {
        for (const item of items) item.abort.abort(overtaken);
      }
      throw error;
    }
    for (const [storeId, ofStore] of Map.groupBy(items, (item) => item.claim.storeId)) {
      const ids = ofStore.map((item) => item.job.id).filter((id) => this.inHand.has(id));
      await jobs.stillHeld(storeId, ids);
    }
  }

  private async tellProgress(): Promise<void> {
    const moved = [...this.inHand.values()].filter((item) => item.bytes !== item.toldBytes);
    if (moved.length === 0) return;
    for (const item of moved) item.toldBytes = item.bytes;
    await notifyProgress(
      this.o.db,
      JSON.stringify(moved.map((item) => [item.claim.backupId, item.claim.attempt, item.bytes])),
    );
  }

  /** Catches what fell through: silent workers, lost jobs, sweeps that nobody moved on, leftover files. */
  private async castNet(): Promise<void> {
    const { db, jobs, log } = this.o;
    const revived = await reviveForgotten(db, jobs);
    if (revived > 0) this.ring();
    const moved = await advanceForgotten(db, jobs);
    if (moved > 0) this.o.onChange();
    if (Date.now() - this.leftoversAt < leftoversMs) return;
    this.leftoversAt = Date.now();
    for (const row of await listMassStores(db)) {
      if (!(await this.reaches(row))) continue;
      const removed = await sweepLeftovers(db, row.id, this.o.stores.of(row), Date.now());
      if (removed > 0)
        log.info({ store: row.name, removed }, 'worker: leftovers of dead attempts removed');
    }
  }
}

const stopped = new Error('the worker is being stopped');
const overtaken = new SweepbookError('LEASE_LOST', 'the lease has run out');
