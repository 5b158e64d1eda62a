import type { Config } from '../config.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import type { OpenStores } from '../storage/open.ts';
import type { ImportSettings } from '../storage/import-sources.ts';
import { CopyChecker } from './copy-checker.ts';
import { ImportWorker } from './importer.ts';
import { RecoveryWorker } from './recovery.ts';
import type { WorkerLog } from './log.ts';
import { StoreWatch } from './store-watch.ts';
import { Worker } from './worker.ts';

export interface Workers {
  readonly name: string;
  ring(): void;
  stop(): Promise<void>;
}

interface Means {
  readonly db: Db;
  readonly jobs: JobQueue;
  readonly stores: OpenStores;
  readonly imports: ImportSettings | undefined;
}

/** One worker for backups, one for what incidents ask for, one that reads suspicious copies, one that imports. */
export function startWorkers(
  config: Config,
  { db, jobs, stores, imports }: Means,
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
  const backups = new Worker(common);
  const parts = [
    backups,
    new RecoveryWorker({ ...common, name: backups.name, restageRoots: config.restageRoots }),
    new StoreWatch({ ...common, name: backups.name }),
    new CopyChecker(common),
    // Only where the folder of imports is.
    ...(imports
      ? [new ImportWorker({ ...common, name: backups.name, site: config.site, imports })]
      : []),
  ];
  for (const part of parts) part.start();
  return {
    name: backups.name,
    ring() {
      for (const part of parts) part.ring();
    },
    async stop() {
      await Promise.allSettled(parts.map((part) => part.stop()));
    },
  };
}
