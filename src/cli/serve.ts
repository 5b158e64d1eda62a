import type { Command } from 'commander';

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('run the server, and a worker in it; ends on SIGTERM or Ctrl-C')
    .action(async () => {
      // Loaded here only: the client commands start without the server's weight.
      const { readConfig } = await import('../config.ts');
      const config = readConfig();
      const { serve } = await import('../main.ts');
      await serve(config);
    });
}
