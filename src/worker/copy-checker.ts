import { randomBytes } from 'node:crypto';
import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import type { OpenStores } from '../storage/open.ts';
import {
  checkOvertaken,
  claimCheck,
  giveBackCheck,
  renewCheck,
  settleCheck,
  type CheckClaim,
} from '../suspicions/checks.service.ts';
import { readCopy } from './copy-check.ts';
import type { WorkerLog } from './log.ts';

export interface CopyCheckerOptions {
  readonly db: Db;
  readonly stores: Pick<OpenStores, 'of'>;
  readonly log: WorkerLog;
  readonly hostname: string;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly shutdownSeconds: number;
  /** Called after each change of state. */
  readonly onChange: () => void;
}

const pollMs = 2000;
const stopped = new Error('the worker is being stopped');

/** Reads suspicious copies, one at a time: backups and jobs come first on the disks. */
export class CopyChecker {
  private readonly o: CopyCheckerOptions;
  private readonly name: string;
  private draining = false;
  private isRung = false;
  private wakeUp: (() => void) | undefined;
  private abort: AbortController | undefined;
  private loop: Promise<void> = Promise.resolve();

  constructor(options: CopyCheckerOptions) {
    this.o = options;
    this.name = `worker ${options.hostname}/${process.pid}-${randomBytes(3).toString('hex')}`;
  }

  start(): void {
    this.loop = this.run();
  }

  /** There may be a copy to read: look now. */
  ring(): void {
    this.isRung = true;
    this.wakeUp?.();
  }

  /** Takes nothing more; what is being read comes to its end, or is given back when it takes too long. */
  async stop(): Promise<void> {
    this.draining = true;
    this.ring();
    const late = setTimeout(() => this.abort?.abort(stopped), this.o.shutdownSeconds * 1000);
    await this.loop;
    clearTimeout(late);
  }

  private async run(): Promise<void> {
    while (!this.draining) {
      this.isRung = false;
      let isBusy = false;
      try {
        isBusy = await this.checkOne();
      } catch (error) {
        this.o.log.warn({ error: messageOf(error) }, 'check of a copy: will try again');
      }
      if (!isBusy && !this.draining) await this.sleep();
    }
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.isRung ? 0 : pollMs);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async checkOne(): Promise<boolean> {
    const { db, hostname, leaseSeconds, log, onChange } = this.o;
    const claim = await claimCheck(db, { worker: this.name, host: hostname, leaseSeconds });
    if (!claim) return false;
    onChange();
    const facts = { lfn: claim.lfn, place: claim.place, attempt: claim.attempt };
    log.info(facts, 'check of a copy: begun');
    try {
      const settled = await this.read(claim);
      log[settled.state === 'BAD' ? 'warn' : 'info']({ ...facts, ...settled }, 'check of a copy');
    } finally {
      onChange();
    }
    return true;
  }

  private async read(claim: CheckClaim) {
    const { db, stores, leaseSeconds, retryBaseMs } = this.o;
    const abort = (this.abort = new AbortController());
    const beat = setInterval(
      () => {
        // A database that is away for a moment does not end the reading; the fence does.
        void renewCheck(db, claim, leaseSeconds)
          .then((isHeld) => isHeld || abort.abort(checkOvertaken(claim)))
          .catch(() => undefined);
      },
      (leaseSeconds * 1000) / 3,
    );
    try {
      const { signal } = abort;
      const finding = await readCopy(claim, stores, { signal });
      return await settleCheck(db, claim, finding, retryBaseMs);
    } catch (error) {
      if (error === stopped) await giveBackCheck(db, claim);
      throw error;
    } finally {
      clearInterval(beat);
      this.abort = undefined;
    }
  }
}
