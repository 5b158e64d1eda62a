import { lstat, readdir, realpath, stat, access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { CliError, exitCode } from './exit-codes.ts';
import { unreadable } from './source-files.ts';

/** A file of this host, as it is found below what was given. */
export interface DiskFile {
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly changedAt: Date;
}

export interface FoundFiles {
  /** By path, each once. */
  readonly files: readonly DiskFile[];
  /** Each as a line for the person. */
  readonly faults: readonly CliError[];
  /** What was passed by, and why. */
  readonly leftOut: ReadonlyMap<LeftOut, readonly string[]>;
}

export type LeftOut = 'hidden' | 'unfinished' | 'symbolic links' | 'no regular files';

/** What programs call a file that they are still writing, or their copy of an older one. */
const unfinished = /(?:\.(?:part|partial|tmp|temp|incomplete|crdownload|aria2|lock)|~)$/i;

/**
 * All files below the folders, and those that are named themselves, whatever their names. Links in folders are not
 * followed: what they lead to inside is found anyway, what is outside was not given.
 */
export async function findFiles(
  given: readonly string[],
  signal: AbortSignal,
): Promise<FoundFiles> {
  const search = new Search(signal);
  for (const name of given) await search.take(name);
  return search.found();
}

class Search {
  private readonly files = new Map<string, DiskFile>();
  private readonly faults = new Map<string, CliError>();
  private readonly leftOut = new Map<LeftOut, Set<string>>();

  constructor(private readonly signal: AbortSignal) {}

  /** One of the command line: a link is followed, since it was named. */
  async take(given: string): Promise<void> {
    try {
      const path = await realpath(given);
      const found = await stat(path);
      if (found.isDirectory()) await this.folder(path);
      else if (found.isFile()) await this.file(path);
      else throw new CliError(exitCode.failed, `${given}: is no regular file`);
    } catch (error) {
      this.fault(given, error);
    }
  }

  found(): FoundFiles {
    const files = [...this.files.values()].map((file) => ({ file, bytes: Buffer.from(file.path) }));
    const leftOut = [...this.leftOut].map(([why, paths]) => {
      const last = [...paths].filter((path) => !this.files.has(path));
      return [why, last] as const;
    });
    return {
      // As the server sorts them: by bytes, on every host alike.
      files: files.toSorted((a, b) => Buffer.compare(a.bytes, b.bytes)).map(({ file }) => file),
      faults: [...this.faults.values()],
      leftOut: new Map(leftOut.filter(([, paths]) => paths.length > 0)),
    };
  }

  private async folder(path: string): Promise<void> {
    const entries = await readdir(path, { withFileTypes: true });
    for (const entry of entries) {
      this.signal.throwIfAborted();
      const inner = join(path, entry.name);
      if (entry.isSymbolicLink()) this.leave('symbolic links', inner);
      else if (entry.name.startsWith('.')) this.leave('hidden', inner);
      else if (entry.isDirectory()) {
        await this.folder(inner).catch((error: unknown) => this.fault(inner, error));
      } else if (!entry.isFile()) this.leave('no regular files', inner);
      else if (unfinished.test(entry.name)) this.leave('unfinished', inner);
      else await this.file(inner).catch((error: unknown) => this.fault(inner, error));
    }
  }

  private async file(path: string): Promise<void> {
    const found = await lstat(path);
    if (found.size === 0) throw new CliError(exitCode.failed, `${path}: is empty`);
    await access(path, constants.R_OK);
    this.files.set(path, { path, sizeBytes: found.size, changedAt: found.mtime });
  }

  private leave(why: LeftOut, path: string): void {
    const paths = this.leftOut.get(why) ?? new Set();
    this.leftOut.set(why, paths.add(path));
  }

  private fault(path: string, error: unknown): void {
    this.signal.throwIfAborted();
    const isOdd = path.includes('\uFFFD');
    const fault = error instanceof CliError ? error : unreadable(path, error);
    this.faults.set(
      path,
      isOdd && fault.exit === exitCode.notFound
        ? new CliError(exitCode.failed, `${path}: its name is not UTF-8, and lists are: rename it`)
        : fault,
    );
  }
}
