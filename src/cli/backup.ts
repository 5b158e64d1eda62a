import type { Command } from 'commander';
import { addVerb, runs, wholeNumber, type Context } from './command.ts';
import { copyDirectly } from './direct-copy.ts';
import { exitCode, wrongUsage, type CliError, type ExitCode } from './exit-codes.ts';
import { follow } from './follow.ts';
import { complain } from './print.ts';
import type { FileRecord } from './records.ts';
import {
  demandServer,
  exitOfFaults,
  hashAndRegister,
  noneGood,
  type Description,
  type RegisteredFile,
} from './register.ts';
import { requestBackups } from './request-backup.ts';
import { checkFiles, checkPrefix, lfnOf } from './source-files.ts';

/** What `backup` and `sweep` have in common. */
export interface SourceOptions {
  readonly store?: string;
  readonly lfnPrefix?: string;
  readonly direct?: boolean;
  readonly events?: number;
  readonly stream?: string;
  readonly release?: string;
  readonly timeout?: number;
}

export function addSourceOptions(command: Command, prefixDefault: string): Command {
  return command
    .option(
      '--store <name>',
      'mass store; if not given: all that the policy of a file names, or the default one',
    )
    .option(
      '--lfn-prefix <path>',
      `what stands before the file’s name in its LFN (${prefixDefault})`,
    )
    .option('--stream <name>', 'stream of the files')
    .option('--release <name>', 'software release that wrote them')
    .option('--events <count>', 'number of events in the file; with one file only', wholeNumber)
    .option('--direct', 'copy from here, for files that no worker can read')
    .option('--timeout <seconds>', 'stop waiting after so long (exit 5)', wholeNumber);
}

export function addBackupCommand(program: Command): void {
  const command = addVerb(
    program,
    'backup <file...>',
    'back up files, registering them if need be; exit 0 only when every copy is confirmed',
  );
  addSourceOptions(command, 'default /local and the folder');
  runs<SourceOptions, [string[]]>(command, backup);
}

async function backup(
  context: Context,
  options: SourceOptions,
  given: string[],
): Promise<ExitCode> {
  checkSourceOptions(options, given);
  context.output.outliveReader();
  const local = (folder: string) => `/local${folder === '/' ? '' : folder}`;
  const checked = await checkFiles(given, (name) => lfnOf(name, options.lfnPrefix, local));
  const exit = noneGood(checked);
  if (exit !== undefined) return exit;
  await demandServer(context);
  const { files, faults } = await hashAndRegister(context, checked, describe(options));
  if (files.length === 0) return exitOfFaults(faults);
  return backUp(context, files, faults, options);
}

/** Refuses what cannot be right, before anything is done. */
export function checkSourceOptions(options: SourceOptions, given: readonly string[]): void {
  checkPrefix(options.lfnPrefix);
  if (options.events !== undefined && given.length > 1) {
    throw wrongUsage('--events is the count of one file: register several files in several calls');
  }
}

/** What is told of every file. */
export function describe(options: SourceOptions): Description {
  const { stream, release, events } = options;
  return { kind: 'MERGED_FILE', stream, release, eventCount: events };
}

/** Asks for the backup of registered files and waits for its end. `faults`: of files left out before. */
export async function backUp(
  context: Context,
  files: readonly RegisteredFile[],
  faults: readonly CliError[],
  options: SourceOptions,
): Promise<ExitCode> {
  const { store, timeout } = options;
  const lfns = files.map((file) => file.lfn);
  const refused = options.direct
    ? await copyDirectly(context, files, store)
    : (await requestBackups(context, lfns, store, false)).faults;
  const asked = files.filter((file) => !refused.has(file.lfn));
  const outcome = await follow(
    context,
    {
      files: new Map(asked.map((file) => [file.lfn, file.hashed.sizeBytes])),
      wanted: { store, byPolicy: store === undefined },
      timeoutMs: timeout === undefined ? undefined : timeout * 1000,
      goesOn: 'the backup goes on in the server: run the same command again to wait for it',
    },
    (_settle, isSettled) => Promise.resolve(isSettled),
  );
  sayFailed(outcome.failed);
  const allFaults = [...faults, ...refused.values()];
  const badCount = allFaults.length + new Set(outcome.failed.map(({ lfn }) => lfn)).size;
  if (badCount === 0) return exitCode.done;
  if (outcome.confirmedCount === 0) {
    return outcome.failed.length > 0 ? exitCode.failed : exitOfFaults(allFaults);
  }
  const total = files.length + faults.length;
  complain(
    `${outcome.confirmedCount} of ${total} files confirmed, ${badCount} not: ` +
      'remove the cause, then run the same command again',
  );
  return exitCode.partly;
}

/** A line for each copy that the server has given up, with the way to go on. */
export function sayFailed(failed: readonly FileRecord[]): void {
  for (const record of failed) {
    complain(
      `${record.lfn}: backup to ${record.store} FAILED after ${record.failureCount} attempts: ${record.lastError}; ` +
        (record.lastErrorCode === 'SOURCE_UNREADABLE'
          ? 'run the same command with --direct'
          : 'run the same command again to try once more'),
    );
  }
}
