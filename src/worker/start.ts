import type { Config } from '../config.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import type { OpenStores } from '../storage/open.ts';
import { RecoveryWorker } from './recovery.ts';
import { Worker, type WorkerLog } from './worker.ts';

export interface Workers {
  readonly name: string;
  ring(): void;
  stop(): Promise<void>;
}

interface Means {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
}

/** One worker for backups, one for what incidents ask for. */
export function startWorkers(
  config: Config,
  { db, jobs, stores }: Means,
  log: WorkerLog,
  onChange: () => void,
): Workers {
  const common = {
    db,
    jobs,
    stores,
    log,
    hostname: config.hostname,
    concurrency: config.workerConcurrency,
    leaseSeconds: config.leaseSeconds,
    retryBaseMs: config.retryBaseMs,
    shutdownSeconds: config.shutdownSeconds,
    onChange,
  };
  const worker = new Worker(common);
  const recovery = new RecoveryWorker({
    ...common,
    name: worker.name,
    restageRoots: config.restageRoots,
  });
  worker.start();
  recovery.start();
  return {
    name: worker.name,
    ring: () => {
      worker.ring();
      recovery.ring();
    },
    stop: async () => void (await Promise.allSettled([worker.stop(), recovery.stop()])),
  };
}
