import { listMassStores, type MassStoreRow } from '../backups/mass-stores.service.ts';
import { prepareStore } from '../backups/prepare-stores.service.ts';
import { dueForTest, testMassStore } from '../backups/store-tests.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { messageOf } from '../errors.ts';
import type { OpenStores } from '../storage/open.ts';
import { tellSelfTest } from '../storage/self-test.ts';
import type { WorkerLog } from './log.ts';
import { lookAtTape } from './tape.ts';

export interface StoreWatchOptions {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly log: WorkerLog;
  /** As it stands in events. */
  readonly name: string;
  readonly retryBaseMs: number;
  readonly onChange: () => void;
}

const lookMs = 5000;

/** Looks after the stores themselves: their self-tests, and what waits in them for tape. */
export class StoreWatch {
  private readonly o: StoreWatchOptions;
  private timer: NodeJS.Timeout | undefined;
  private readonly stopping = new AbortController();
  private busy: Promise<void> | undefined;
  /** Each worker tests each store when it starts: from this host it may be another one. */
  private readonly tested = new Set<number>();

  constructor(options: StoreWatchOptions) {
    this.o = options;
  }

  start(): void {
    this.timer = setInterval(() => this.ring(), lookMs);
    this.ring();
  }

  ring(): void {
    this.busy ??= this.look()
      .catch((error: unknown) => {
        if (!this.stopping.signal.aborted) {
          this.o.log.warn({ error: messageOf(error) }, 'stores: will look again');
        }
      })
      .finally(() => (this.busy = undefined));
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await this.busy;
  }

  private async look(): Promise<void> {
    for (const row of await listMassStores(this.o.db)) {
      if (this.stopping.signal.aborted) return;
      try {
        await this.lookAt(row);
      } catch (error) {
        if (this.stopping.signal.aborted) return;
        const facts = { store: row.name, error: messageOf(error) };
        this.o.log.warn(facts, 'stores: will look again');
      }
    }
  }

  private async lookAt(row: MassStoreRow): Promise<void> {
    const { db, jobs, log, name, retryBaseMs, stores, onChange } = this.o;
    if (!row.isConfigured) return;
    const why = await prepareStore(db, stores, row);
    if (why !== undefined) throw new Error(`it cannot be prepared: ${why}`);
    const store = stores.of(row);
    if (!this.tested.has(row.id) || (await dueForTest(db, row.id))) {
      // A store that is down tells nothing about its word.
      if (!(await store.probe()).isUp) return;
      const test = await testMassStore(db, row, store, { signal: this.stopping.signal });
      this.tested.add(row.id);
      const facts = { store: row.name, passed: test.passed };
      if (test.passed) log.info(facts, tellSelfTest(test));
      else log.warn({ ...facts, trouble: test.trouble }, tellSelfTest(test));
      onChange();
    }
    if (row.confirmLevel !== 'ARCHIVED' || !store.features.hasTape) return;
    const common = { db, jobs, log, retryBaseMs, worker: name };
    if ((await lookAtTape({ ...common, storeId: row.id, store })) > 0) onChange();
  }
}
