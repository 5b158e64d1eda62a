import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SweepbookError } from '../errors.ts';
import { hashFile, type Checksums } from './bytes.ts';
import { openSource, stampOf, withNames, type OpenSource } from './check-source.ts';
import type { PublishSettings } from './publish-settings.ts';
import { runTool, type ToolAnswer } from './run-tool.ts';
import { statOf } from './read-back.ts';
import { indexPath, readTar, writeIndex, writeTar } from '../formats/tar-archive.ts';

export interface CompositeInput {
  readonly id: number;
  /** As the user named it. */
  readonly given: string;
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
  /** Inputs lie below these. */
  readonly roots: readonly string[];
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

async function demandUnchanged(source: OpenSource, { stamp }: CompositeInput): Promise<void> {
  if ((await stampOf(source)) === stamp) return;
  throw new SweepbookError(
    'SOURCE_CHANGED',
    `${source.given} has changed since it was checked: leave it alone until it is published`,
    { path: source.given },
  );
}

/** The very file that was checked, open. */
async function openChecked(roots: readonly string[], input: CompositeInput): Promise<OpenSource> {
  const source = await openSource(roots, input.given);
  try {
    await demandUnchanged(source, input);
    return source;
  } catch (error) {
    await source.handle.close();
    throw error;
  }
}

/** An archive and its index, read back: what is in it is what was checked. */
async function makeArchive(
  temporary: string,
  inputs: readonly CompositeInput[],
  { roots, signal, onProgress }: Making,
): Promise<Checksums & { offsets: Map<number, number>; index: string }> {
  const sums = await writeTar(
    temporary,
    inputs.map((input) => ({
      ...input,
      open: async () => (await openChecked(roots, input)).handle,
      path: input.given,
      modifiedAt: modifiedAt(input.stamp),
    })),
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

/** The tool of the site gets the files that were checked, under names of ours. */
async function runMerge(
  { argv, seconds }: NonNullable<PublishSettings['merge']>,
  temporary: string,
  inputs: readonly CompositeInput[],
  { roots, folder, name, signal }: Making,
): Promise<void> {
  const sources: OpenSource[] = [];
  try {
    for (const input of inputs) sources.push(await openChecked(roots, input));
    const answer = await withNames(join(folder, `.in-${name}`), sources, (names) => {
      const filled = argv.flatMap((part) =>
        part === '{inputs}' ? names : [part.replaceAll('{output}', () => temporary)],
      ) as [string, ...string[]];
      return runSiteTool(filled, seconds, signal);
    });
    for (const [at, input] of inputs.entries()) {
      const source = sources[at];
      if (source) await demandUnchanged(source, input);
    }
    if (answer.code === 0) return;
    const words = `${answer.stderr} ${answer.stdout}`.replaceAll(/\s+/g, ' ').trim().slice(-500);
    throw new SweepbookError(
      /no space left|quota exceeded/i.test(words) ? 'NO_SPACE' : 'MERGE_FAILED',
      `${argv[0]} could not merge ${inputs.length} files (exit code ${answer.code}): ${words || 'it said nothing'}`,
      { first: inputs[0]?.given },
    );
  } finally {
    await Promise.all(sources.map(({ handle }) => handle.close()));
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
  if (!merge) {
    const { index, offsets, ...sums } = await makeArchive(temporary, inputs, making);
    await writeFile(indexPath(path), index, { flush: true });
    await rename(temporary, path);
    return { ...sums, path, offsets };
  }
  await runMerge(merge, temporary, inputs, making);
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
