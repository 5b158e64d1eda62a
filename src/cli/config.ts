import type { Command } from 'commander';
import { addVerb } from './command.ts';
import { Output } from './print.ts';

/** Prints the settings as this process reads them; asks no server. */
export function addConfigCommand(program: Command): void {
  const command = addVerb(program, 'config', 'all settings, their values and what they are for');
  command.action(async () => {
    // What reads settings takes longer to load than most commands take.
    const { describeConfig } = await import('../config.ts');
    const output = new Output(command.optsWithGlobals<{ json?: boolean }>().json === true);
    await output.list(describeConfig(), [
      { title: 'NAME', value: (line) => line.name },
      { title: 'VALUE', value: (line) => line.value },
      { title: 'SET', value: (line) => (line.isDefault ? 'default' : 'set') },
      { title: 'WHAT', value: (line) => line.description },
    ]);
  });
}
