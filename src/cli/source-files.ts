import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { messageOf, systemCode } from '../errors.ts';
import { CliError, exitCode, wrongUsage } from './exit-codes.ts';

/** A file of this host that is to be registered. */
export interface SourceFile {
  /** As it was given. */
  readonly given: string;
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly lfn: string;
  readonly sizeBytes: number;
}

export interface CheckedFiles {
  readonly good: readonly SourceFile[];
  readonly faults: readonly CliError[];
}

/** The logical name of a file: the prefix, or for want of one what `fallback` makes of its folder. */
export function lfnOf(
  given: string,
  prefix: string | undefined,
  fallback: (folder: string) => string,
): string {
  const absolute = resolve(given);
  const folder = (prefix ?? fallback(dirname(absolute))).replace(/\/+$/, '');
  return `${folder}/${basename(absolute)}`;
}

/** The prefix as given must be an absolute path. */
export function checkPrefix(prefix: string | undefined): void {
  if (prefix === undefined || prefix.startsWith('/')) return;
  throw wrongUsage(`--lfn-prefix ${prefix}: must start with "/", as in /store/PR`);
}

/** Looks at every file before anything is done: regular, not empty, readable; each once. */
export async function checkFiles(
  given: readonly string[],
  lfn: (given: string) => string,
): Promise<CheckedFiles> {
  const good = new Map<string, SourceFile>();
  const faults: CliError[] = [];
  for (const name of given) {
    try {
      const file = await checkFile(name, lfn(name));
      const same = good.get(file.lfn);
      if (same !== undefined && same.path !== file.path) {
        throw wrongUsage(
          `${name} and ${same.given} would both be ${file.lfn}: ` +
            'rename one, or register them in two calls with different --lfn-prefix',
        );
      }
      good.set(file.lfn, file);
    } catch (error) {
      if (!(error instanceof CliError) || error.exit === exitCode.usage) throw error;
      faults.push(error);
    }
  }
  return { good: [...good.values()], faults };
}

async function checkFile(given: string, lfn: string): Promise<SourceFile> {
  const refuse = (why: string) => new CliError(exitCode.failed, `${given}: ${why}`);
  try {
    const path = await realpath(given);
    const found = await stat(path);
    if (found.isDirectory()) throw refuse('is a folder: name the files in it');
    if (!found.isFile()) throw refuse('is no regular file');
    if (found.size === 0)
      throw refuse('is empty: an empty file holds no data and is not registered');
    await access(path, constants.R_OK);
    return { given, path, lfn, sizeBytes: found.size };
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw unreadable(given, error);
  }
}

/** The operating system's refusal in the words of the command line. */
export function unreadable(given: string, error: unknown): CliError {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new CliError(exitCode.notFound, `${given}: no such file`);
    case 'EACCES':
    case 'EPERM':
      return new CliError(exitCode.failed, `${given}: no permission to read it`);
    case 'ELOOP':
      return new CliError(exitCode.failed, `${given}: symbolic links that lead in a circle`);
    case 'ENAMETOOLONG':
      return new CliError(exitCode.failed, `${given}: the name is too long`);
    case undefined:
    default:
      return new CliError(
        exitCode.failed,
        `${given}: cannot be read (${systemCode(error) ?? messageOf(error)})`,
      );
  }
}
