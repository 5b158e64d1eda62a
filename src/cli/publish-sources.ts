import { constants } from 'node:fs';
import { access, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import { CliError, exitCode, wrongUsage } from './exit-codes.ts';
import { unreadable } from './source-files.ts';

/** A file that is to be published, as requestPublication takes it. */
export interface FileToPublish {
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly eventCount?: number | undefined;
}

const mostFiles = 10_000;

/**
 * The files that are named, and all that lie below the folders that are named, by their names in these. What cannot be
 * published is told, all of it, before anything is asked for.
 */
export async function findFiles(
  given: readonly string[],
): Promise<{ good: FileToPublish[]; faults: CliError[] }> {
  const good: FileToPublish[] = [];
  const faults: CliError[] = [];
  const take = async (path: string, name: string) => {
    const refuse = (why: string) => faults.push(new CliError(exitCode.failed, `${path}: ${why}`));
    try {
      const found = await stat(path);
      if (!found.isFile()) return void refuse('is no regular file');
      if (found.size === 0) return void refuse('is empty: leave it out');
      await access(path, constants.R_OK);
      good.push({ path, name, sizeBytes: found.size });
    } catch (error) {
      faults.push(unreadable(path, error));
    }
    if (good.length > mostFiles) {
      throw wrongUsage(`more than ${mostFiles} files: publish them as several datasets`);
    }
  };
  for (const one of given) {
    const whole = resolve(one);
    const found = await stat(whole).catch(() => undefined);
    if (found?.isDirectory()) {
      for (const path of await filesBelow(whole)) await take(path, relative(whole, path));
    } else {
      await take(whole, basename(whole));
    }
  }
  return { good, faults };
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw unreadable(folder, error);
  });
  const found: string[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await filesBelow(path)));
    else found.push(path);
  }
  return found;
}

/** Event counts from a list: a line for each file, "COUNT NAME". */
export async function withEvents(
  files: readonly FileToPublish[],
  list: string | undefined,
): Promise<FileToPublish[]> {
  if (list === undefined) return [...files];
  const text = await readFile(list, 'utf8').catch((error: unknown) => {
    throw unreadable(list, error);
  });
  const counts = new Map<string, number>();
  for (const [at, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const parts = /^\s*(\d{1,15})\s(.+)$/.exec(line);
    if (!parts) throw wrongUsage(`${list}, line ${at + 1}: must be "COUNT NAME"`);
    counts.set(parts[2] ?? '', Number(parts[1]));
  }
  const known = new Set(files.map((file) => file.name));
  const odd = [...counts.keys()].find((name) => !known.has(name));
  if (odd !== undefined) throw wrongUsage(`${list}: no file is called ${odd}`);
  return files.map((file) => ({ ...file, eventCount: counts.get(file.name) }));
}

const units: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  PB: 1e15,
};

/** A size as people write it: 500MB, 1.5 TB, or bytes. */
export function sizeOf(text: string): number {
  const parts = /^(\d+(?:\.\d+)?)\s*([kKMGTP]?B)?$/.exec(text.trim());
  const value = Math.round(Number(parts?.[1]) * (units[(parts?.[2] ?? 'B').toUpperCase()] ?? NaN));
  if (!Number.isSafeInteger(value)) throw wrongUsage(`${text}: a size such as 500MB or 1.5TB`);
  return value;
}
