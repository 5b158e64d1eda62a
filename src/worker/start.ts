import type { Config } from '../config.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import type { OpenStores } from '../storage/open.ts';
import { Auditor } from './auditor.ts';
import type { ImportSettings } from '../storage/import-sources.ts';
import type { PublishSettings } from '../storage/publish-settings.ts';
import { CopyChecker } from './copy-checker.ts';
import { FollowWorker } from './follower.ts';
import { ImportWorker } from './importer.ts';
import { PoolWorker } from './pool.ts';
import { RecallWatch } from './recall.ts';
import { PublishWorker } from './publisher.ts';
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
  readonly publish: PublishSettings | undefined;
}

/** Only where the folder of imports is. */
function importParts(
  { site, followSeconds }: Config,
  common: Omit<ConstructorParameters<typeof ImportWorker>[0], 'site'>,
) {
  return [
    new ImportWorker({ ...common, site }),
    new FollowWorker({ ...common, site, followSeconds }),
  ];
}

/**
 * One worker for backups, one for what incidents ask for, one that reads suspicious copies, two for pools and for
 * imports each, one for publications.
 */
export function startWorkers(
  config: Config,
  { db, jobs, stores, imports, publish }: Means,
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
    new Auditor({ ...common, name: backups.name }),
    new PoolWorker({ ...common, name: backups.name }),
    new RecallWatch({ ...common, name: backups.name }),
    ...(imports ? importParts(config, { ...common, imports, name: backups.name }) : []),
    ...(publish
      ? [new PublishWorker({ ...common, publish, name: backups.name, site: config.site })]
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
