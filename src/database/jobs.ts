import { fromKysely, PgBoss } from 'pg-boss';
import type { Db } from './orm.ts';
import { rows, sql } from './sql.ts';

/** A job carries an id and nothing else: the truth is in our rows. */
export interface BackupJob {
  readonly backupId: number;
}

export interface JobInHand {
  readonly id: string;
  readonly backupId: number;
}

/** pg-boss marks a job of a silent worker for another one after this time; 10 s is its least. */
const heartbeatSeconds = 10;
/** Redeliveries after crashes; the limit that counts is in the backup record. */
const retryLimit = 10_000;
const insertAtOnce = 5000;

/** The queues, one for each mass store, so that each has its own concurrency. */
export class JobQueue {
  private readonly boss: PgBoss;
  private readonly queues = new Set<string>();

  private constructor(boss: PgBoss) {
    this.boss = boss;
  }

  /** `supervise`: this process also brings back the jobs of workers that died. */
  static async open(options: {
    url: string;
    supervise: boolean;
    onError: (error: Error) => void;
  }): Promise<JobQueue> {
    const boss = new PgBoss({
      connectionString: options.url,
      application_name: 'sweepbook-jobs',
      max: 4,
      supervise: options.supervise,
      superviseIntervalSeconds: 5,
      monitorIntervalSeconds: 5,
      maintenanceIntervalSeconds: 300,
      schedule: false,
    });
    boss.on('error', options.onError);
    await boss.start();
    return new JobQueue(boss);
  }

  private static nameOf(storeId: number): string {
    return `backup-${storeId}`;
  }

  async prepare(storeId: number): Promise<void> {
    const name = JobQueue.nameOf(storeId);
    if (this.queues.has(name)) return;
    await this.boss.createQueue(name, {
      // With the record's id as the key: asked for twice while it waits is asked for once.
      policy: 'short',
      heartbeatSeconds,
      retryLimit,
      retryDelay: 0,
      // Longer than any copy: the heartbeat tells the dead from the slow.
      expireInSeconds: 86_000,
      deleteAfterSeconds: 3600,
    });
    this.queues.add(name);
  }

  /** Asks for the work, in the caller's transaction: rolled back with it. */
  async enqueue(
    tx: Db,
    storeId: number,
    backupIds: readonly number[],
    startAfter?: Date,
  ): Promise<void> {
    await this.prepare(storeId);
    const db = fromKysely(tx.getKysely());
    if (startAfter === undefined) await this.bringForward(tx, storeId, backupIds);
    for (let i = 0; i < backupIds.length; i += insertAtOnce) {
      const jobs = backupIds.slice(i, i + insertAtOnce).map((backupId) => ({
        data: { backupId },
        singletonKey: String(backupId),
        ...(startAfter ? { startAfter } : {}),
      }));
      await this.boss.insert(JobQueue.nameOf(storeId), jobs, { db });
    }
  }

  /** A job that waits for its time would swallow the new one, which has none: wanted now means now. */
  private async bringForward(tx: Db, storeId: number, backupIds: readonly number[]): Promise<void> {
    await rows(
      tx,
      sql`update pgboss.job set start_after = now()
        where name = ${JobQueue.nameOf(storeId)} and singleton_key = any (${backupIds.map(String)}::text[])
          and state = 'created' and start_after > now()`,
    );
  }

  async fetch(storeId: number, most: number): Promise<JobInHand[]> {
    await this.prepare(storeId);
    const jobs = await this.boss.fetch<BackupJob>(JobQueue.nameOf(storeId), { batchSize: most });
    return jobs.map((job) => ({ id: job.id, backupId: job.data.backupId }));
  }

  /** Done with it, whatever came of it: what remains to be done stands in the record. */
  async finish(storeId: number, jobId: string): Promise<void> {
    await this.boss.complete(JobQueue.nameOf(storeId), jobId);
  }

  async stillHeld(storeId: number, jobIds: readonly string[]): Promise<void> {
    if (jobIds.length > 0) await this.boss.touch(JobQueue.nameOf(storeId), [...jobIds]);
  }

  async close(): Promise<void> {
    await this.boss.stop({ graceful: false, close: true });
  }
}
