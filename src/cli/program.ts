import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { SweepbookError, messageOf } from '../errors.ts';
import { addAuditCommands } from './audit.ts';
import { addAuditTrailCommand } from './audit-trail.ts';
import { addBackupCommand } from './backup.ts';
import { addGlobalOptions } from './command.ts';
import { addConfigCommand } from './config.ts';
import { addContainerCommands } from './containers.ts';
import { addDatasetCommands } from './datasets.ts';
import { CliError, exitCode, exitCodeOf } from './exit-codes.ts';
import { addExportCommand } from './export.ts';
import { addFileCommands } from './files.ts';
import { addIdentityCommands } from './identities.ts';
import { addGroupCommands } from './groups.ts';
import { addImportCommands } from './imports.ts';
import { addInSituCommand } from './in-situ.ts';
import { addIncidentCommands } from './incidents.ts';
import { addLoginCommands } from './login.ts';
import { addMigrateCommand } from './migrate.ts';
import { complain } from './print.ts';
import { addPublishCommands } from './publish.ts';
import { addRunCommands } from './runs.ts';
import { addServeCommand } from './serve.ts';
import { addPoolCommands } from './pools.ts';
import { addStageCommands } from './stage.ts';
import { addStoreCommands } from './stores.ts';
import { addStuckCommand } from './stuck.ts';
import { addSweepCommand } from './sweep.ts';
import { addTokenCommands } from './tokens.ts';
import { addTotalsCommand } from './totals.ts';
import { addWebhookCommands } from './webhooks.ts';
import { addWhoamiCommand } from './whoami.ts';
import { addWorkerCommand } from './worker.ts';

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** All commands and their options. */
export function makeProgram(): Command {
  const program = new Command('sweepbook')
    .description('Bookkeeping of physics production data: what a user can see, a user can read.')
    .version(version())
    // Options stand after their command, so that "--" can protect odd file names.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: (text) => complain(oneLine(text)) });
  addGlobalOptions(program);
  addSweepCommand(program);
  addBackupCommand(program);
  addDatasetCommands(program);
  addContainerCommands(program);
  addRunCommands(program);
  addFileCommands(program);
  addInSituCommand(program);
  addExportCommand(program);
  addImportCommands(program);
  addPublishCommands(program);
  addIncidentCommands(program);
  addStoreCommands(program);
  addPoolCommands(program);
  addStageCommands(program);
  addAuditCommands(program);
  addStuckCommand(program);
  addTotalsCommand(program);
  addTokenCommands(program);
  addIdentityCommands(program);
  addAuditTrailCommand(program);
  addGroupCommands(program);
  addWebhookCommands(program);
  addLoginCommands(program);
  addWhoamiCommand(program);
  addConfigCommand(program);
  addServeCommand(program);
  addWorkerCommand(program);
  addMigrateCommand(program);
  program.addHelpText(
    'after',
    `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found, 5 try again later,
6 refused by a rule, 7 not allowed, 130 interrupted.`,
  );
  return program;
}

/** Commander's sentence in our form: one line, and where the help is. */
function oneLine(text: string): string {
  const sentence = text
    .replace(/^error: /, '')
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ');
  return `${sentence.replace(/\.$/, '')}; see --help`;
}

/** The exit code for what ended a command; says it on stderr, never with a stack. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help that was asked for is no error; help for want of a command is wrong usage.
    return error.exitCode === 0 ? exitCode.done : exitCode.usage;
  }
  if (error instanceof CliError) {
    complain(error.message);
    return error.exit;
  }
  if (error instanceof SweepbookError) {
    complain(error.message);
    return exitCodeOf(error.code);
  }
  complain(messageOf(error));
  return exitCode.failed;
}
