import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import {
  askForRecalls,
  letGoRecalls,
  lookAtRecalls,
  recallStores,
} from '../pools/recalls.service.ts';
import type { OpenStores } from '../storage/open.ts';
import type { WorkerLog } from './log.ts';

export interface RecallWatchOptions {
  readonly db: Db;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  readonly retryBaseMs: number;
  readonly onChange: () => void;
}

const lookMs = 1000;

/** Has tape stores bring what pools wait for, asks how far they are, and tells them what is needed no more. */
export class RecallWatch {
  private readonly o: RecallWatchOptions;
  private timer: NodeJS.Timeout | undefined;
  private isStopping = false;
  private busy: Promise<void> | undefined;

  constructor(options: RecallWatchOptions) {
    this.o = options;
  }

  start(): void {
    this.timer = setInterval(() => this.ring(), lookMs);
    this.ring();
  }

  ring(): void {
    if (this.isStopping) return;
    this.busy ??= this.look()
      .catch((error: unknown) =>
        this.o.log.warn({ error: messageOf(error) }, 'recalls: will look again'),
      )
      .finally(() => (this.busy = undefined));
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    clearInterval(this.timer);
    await this.busy;
  }

  private async look(): Promise<void> {
    const { db, stores, log, name, retryBaseMs, onChange } = this.o;
    for (const row of await recallStores(db)) {
      const store = stores.of(row).recalling;
      // Of another worker's store file.
      if (!store || this.isStopping) continue;
      const options = { db, storeId: row.id, store, worker: name, retryBaseMs };
      for (const step of [askForRecalls, lookAtRecalls, letGoRecalls]) {
        try {
          if ((await step(options)) > 0 && step !== letGoRecalls) onChange();
        } catch (error) {
          // The others do not depend on it.
          log.warn({ store: row.name, error: messageOf(error) }, 'recalls: will look again');
        }
      }
    }
  }
}
