import type { Command } from 'commander';
import { addVerb } from './command.ts';
import { Output } from './print.ts';
import { counted } from './table.ts';

export function addMigrateCommand(program: Command): void {
  const command = addVerb(program, 'migrate', 'bring the database to this version');
  command.action(async () => {
    const output = new Output(command.optsWithGlobals<{ json?: boolean }>().json === true);
    const { readConfig } = await import('../config.ts');
    const config = readConfig();
    const { migrateDatabase } = await import('../main.ts');
    const { applied } = await migrateDatabase(config);
    for (const name of applied) await output.say(`applied ${name}`);
    const summary =
      applied.length === 0
        ? 'nothing to do: the database is at this version'
        : `${counted(applied.length, 'migration')} applied`;
    await output.result({ applied }, summary);
  });
}
