import type { Command } from 'commander';

export function addWorkerCommand(program: Command): void {
  program
    .command('worker')
    .description('run a worker only, on a host that can read the files; ends on SIGTERM or Ctrl-C')
    .action(async () => {
      const { readConfig } = await import('../config.ts');
      const config = readConfig();
      const { runWorker } = await import('../main.ts');
      await runWorker(config);
    });
}
