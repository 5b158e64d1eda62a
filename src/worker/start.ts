import { CopyChecker } from './copy-checker.ts';
import { Worker, type WorkerOptions } from './worker.ts';

export interface RunningWorker {
  readonly name: string;
  ring(): void;
  stop(): Promise<void>;
}

/** All that a worker does: backups, and beside them the reading of suspicious copies. */
export function startWorker(options: WorkerOptions): RunningWorker {
  const backups = new Worker(options);
  const parts = [backups, new CopyChecker(options)];
  for (const part of parts) part.start();
  return {
    name: backups.name,
    ring() {
      for (const part of parts) part.ring();
    },
    async stop() {
      await Promise.all(parts.map((part) => part.stop()));
    },
  };
}
