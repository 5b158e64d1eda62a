import { tmpdir } from 'node:os';
import { z } from 'zod';
import type { Evidence, PutOptions, ResidencyAnswer, StoreFeatures } from './contract.ts';

/** What stores that are reached by a tool have in the store file, besides what all have. */
export const toolSettings = {
  root: z
    .string()
    .regex(/^(\/[A-Za-z0-9._+=@,-]+)+$/, 'an absolute path of plain names')
    .refine((root) => !root.split('/').some((part) => part === '.' || part === '..'), 'no "."'),
  /** A folder of this host for files that are read back: one file at a time for each check that runs. */
  scratch: z.string().regex(/^\//, 'an absolute path').default(tmpdir()),
  /** How long a file may take to come from tape, in seconds. */
  stageSeconds: z.number().int().min(0).max(604_800).default(14_400),
};

export interface ToolStoreSettings {
  readonly name: string;
  readonly kind: string;
  readonly root: string;
  readonly scratch: string;
  readonly stageSeconds: number;
  readonly leastBytesPerSecond: number;
  readonly accessUrlPrefix?: string | undefined;
}

/** What lies at a path by the word of the tool. */
export interface Look {
  readonly isPresent: boolean;
  readonly isFile: boolean;
  /** undefined = not said. */
  readonly sizeBytes?: number | undefined;
  readonly evidence: Evidence;
}

export interface ListedByTool {
  readonly name: string;
  readonly isFolder: boolean;
  readonly sizeBytes: number;
  readonly changedAt: Date | undefined;
}

/** The single steps of a store that is reached by a tool. Paths are absolute, and were found to be harmless. */
export interface StoreTool {
  readonly features: Pick<StoreFeatures, 'says' | 'hasTape'>;
  /** What keeps a key from being a name there. */
  faultOf(key: string): string | undefined;
  look(path: string, options: PutOptions): Promise<Look>;
  /** The store's own checksum; nothing where it was not said positively, for this path. */
  sum(
    path: string,
    deadlineMs: number,
    options: PutOptions,
  ): Promise<{ readonly adler32?: string; readonly evidence: Evidence } | undefined>;
  makeFolder(path: string, options: PutOptions): Promise<void>;
  copyIn(source: string, path: string, deadlineMs: number, options: PutOptions): Promise<void>;
  copyOut(path: string, target: string, deadlineMs: number, options: PutOptions): Promise<void>;
  move(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** What a folder holds, every line of it understood; undefined = there is none, or it cannot be listed at all. */
  list(path: string, options: PutOptions): Promise<ListedByTool[] | undefined>;
  readonly canList: boolean;
  residencyOf(paths: readonly string[], options: PutOptions): Promise<Map<string, ResidencyAnswer>>;
}

/** What keeps a key from being a name for a tool that may read more into it: of plain names only nothing does. */
export function plainNames(key: string): string | undefined {
  const parts = key.split('/');
  const isPlain = parts.every((part) => /^[A-Za-z0-9._+=@,][A-Za-z0-9._+=@,-]{0,254}$/.test(part));
  if (!isPlain) return 'only letters, digits and ._+=@,- in names, none of them beginning with "-"';
  return parts.some((part) => part === '.' || part === '..') ? 'no "." or ".."' : undefined;
}
