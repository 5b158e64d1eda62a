import type { Command } from 'commander';
import { readConfig } from '../config.ts';

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('run the server, and a worker in it; ends on SIGTERM or Ctrl-C')
    .action(async () => {
      const config = readConfig();
      // Loaded here only: the client commands start without the server's weight.
      const { serve } = await import('../main.ts');
      await serve(config);
    });
}
