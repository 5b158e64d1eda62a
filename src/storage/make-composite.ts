import { mkdir, open, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { SweepbookError } from '../errors.ts';
import { hashFile, type Checksums } from './bytes.ts';
import { stampOf } from './check-source.ts';
import type { PublishSettings } from './publish-settings.ts';
import { runTool, type ToolAnswer } from './run-tool.ts';
import { statOf } from './read-back.ts';
import { indexPath, readTar, writeIndex, writeTar } from '../formats/tar-archive.ts';

export interface CompositeInput {
  readonly id: number;
  /** As the user named it. */
  readonly given: string;
  /** Without symbolic links. */
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly stamp: string;
}

export interface MadeComposite extends Checksums {
  readonly path: string;
  /** Where the bytes of each input begin, of archives. */
  readonly offsets: ReadonlyMap<number, number>;
}

interface Making {
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  /** Of this attempt alone. */
  readonly folder: string;
  /** Name of the file in it. */
  readonly name: string;
}

/** The stamp has the time of change in nanoseconds. */
const modifiedAt = (stamp: string) =>
  new Date(Number(BigInt(stamp.split(':')[3] ?? 0) / 1_000_000n));

async function demandUnchanged(inputs: readonly CompositeInput[]): Promise<void> {
  for (const { given, path, stamp } of inputs) {
    if ((await stampOf(path).catch(() => undefined)) === stamp) continue;
    throw new SweepbookError(
      'SOURCE_CHANGED',
      `${given} has changed since it was checked: leave it alone until it is published`,
      { path: given },
    );
  }
}

/** An archive and its index, read back: what is in it is what was checked. */
async function makeArchive(
  temporary: string,
  inputs: readonly CompositeInput[],
  { signal, onProgress }: Making,
): Promise<Checksums & { offsets: Map<number, number>; index: string }> {
  const sums = await writeTar(
    temporary,
    inputs.map((input) => ({ ...input, modifiedAt: modifiedAt(input.stamp) })),
    { signal, onProgress: (bytes) => onProgress(bytes / 2) },
  );
  const members = await readTar(temporary, {
    signal,
    onProgress: (bytes) => onProgress((sums.sizeBytes + bytes) / 2),
  });
  const offsets = new Map<number, number>();
  for (const [at, input] of inputs.entries()) {
    const member = members[at];
    if (member?.name !== input.name || member.sha256 !== input.sha256) {
      throw new SweepbookError(
        'CHECKSUM_MISMATCH',
        `${input.given} does not come out of the archive as it went in`,
        { path: input.given },
      );
    }
    offsets.set(input.id, member.offset);
  }
  return { ...sums, offsets, index: writeIndex(sums, members) };
}

/** UNAVAILABLE when it is not installed here, or does not end in time. */
async function runSiteTool(
  argv: [string, ...string[]],
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<ToolAnswer> {
  try {
    return await runTool(argv[0], { argv, deadlineMs: seconds * 1000, signal });
  } catch (error) {
    if (!(error instanceof SweepbookError) || error.code !== 'STORE_UNAVAILABLE') throw error;
    throw new SweepbookError(
      'UNAVAILABLE',
      `${argv[0]} is not installed here, or did not end within ${seconds} s: look at the publish file (SWEEPBOOK_PUBLISH)`,
      { program: argv[0] },
      { cause: error },
    );
  }
}

/**
 * The tool of the site is given names of ours, which lead to the files: no name of a user is ever taken for an option,
 * a pattern, a list or an address.
 */
async function runMerge(
  { argv, seconds }: NonNullable<PublishSettings['merge']>,
  temporary: string,
  inputs: readonly CompositeInput[],
  { folder, name, signal }: Making,
): Promise<void> {
  const links = join(folder, `.in-${name}`);
  await rm(links, { recursive: true, force: true });
  await mkdir(links);
  const named = await Promise.all(
    inputs.map(async ({ path }, at) => {
      const given = extname(path);
      const extension = /^\.[A-Za-z0-9]{1,10}$/.test(given) ? given : '';
      const link = join(links, `${String(at + 1).padStart(6, '0')}${extension}`);
      await symlink(path, link);
      return link;
    }),
  );
  const filled = argv.flatMap((part) =>
    part === '{inputs}' ? named : [part.replaceAll('{output}', () => temporary)],
  ) as [string, ...string[]];
  try {
    const answer = await runSiteTool(filled, seconds, signal);
    if (answer.code === 0) return;
    const words = `${answer.stderr} ${answer.stdout}`.replaceAll(/\s+/g, ' ').trim().slice(-500);
    throw new SweepbookError(
      /no space left|quota exceeded/i.test(words) ? 'NO_SPACE' : 'MERGE_FAILED',
      `${argv[0]} could not merge ${inputs.length} files (exit code ${answer.code}): ${words || 'it said nothing'}`,
      { first: inputs[0]?.given },
    );
  } finally {
    await rm(links, { recursive: true, force: true });
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Merges files into one, under a temporary name, and gives it its name when it is whole. MERGE_FAILED, SOURCE_CHANGED,
 * CHECKSUM_MISMATCH, NO_SPACE.
 */
export async function makeComposite(
  merge: PublishSettings['merge'],
  inputs: readonly CompositeInput[],
  making: Making,
): Promise<MadeComposite> {
  const { folder, name } = making;
  const path = join(folder, name);
  const temporary = join(folder, `.part-${name}`);
  await mkdir(folder, { recursive: true });
  await rm(temporary, { force: true });
  await demandUnchanged(inputs);
  if (!merge) {
    const { index, offsets, ...sums } = await makeArchive(temporary, inputs, making);
    await writeFile(indexPath(path), index, { flush: true });
    await rename(temporary, path);
    return { ...sums, path, offsets };
  }
  await runMerge(merge, temporary, inputs, making);
  await demandUnchanged(inputs);
  if (!((await statOf(temporary))?.size ?? 0)) {
    throw new SweepbookError(
      'MERGE_FAILED',
      `${merge.argv[0]} ended well and made no file, or an empty one`,
    );
  }
  await sync(temporary);
  const sums = await hashFile(temporary, making);
  await rename(temporary, path);
  return { ...sums, path, offsets: new Map() };
}

/** How many events a file has, as the tool of the site says; null = nobody says. EVENT_COUNT_MISMATCH: it does not. */
export async function countEvents(
  { countEvents: counter }: PublishSettings,
  path: string,
  signal: AbortSignal | undefined,
): Promise<number | null> {
  if (!counter) return null;
  const argv = counter.argv.map((part) => part.replaceAll('{file}', () => path)) as [
    string,
    ...string[],
  ];
  const answer = await runSiteTool(argv, counter.seconds, signal);
  const said = answer.stdout.trim();
  if (answer.code === 0 && /^\d{1,15}$/.test(said)) return Number(said);
  const words = `${said} ${answer.stderr}`.replaceAll(/\s+/g, ' ').trim().slice(0, 300);
  throw new SweepbookError(
    'EVENT_COUNT_MISMATCH',
    `${path}: its events cannot be counted (${argv[0]}, exit code ${answer.code}: ${words || 'it said nothing'})`,
    { path },
  );
}
