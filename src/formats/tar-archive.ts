import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createAdler32 } from 'hash-wasm';
import { extract, pack } from 'tar-stream';
import { SweepbookError } from '../errors.ts';

/** Size and checksums of an archive. */
interface Checksums {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

/** A file that goes into an archive. */
export interface TarInput {
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  /** As it was found when it was checked. */
  readonly sha256: string;
  readonly modifiedAt: Date;
}

/** A member of an archive, as its index has it. */
export interface TarMember {
  readonly name: string;
  /** Where its bytes begin. */
  readonly offset: number;
  readonly sizeBytes: number;
  readonly sha256: string;
}

interface Writing {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (bytes: number) => void;
}

/**
 * Writes an archive (ustar, with pax headers for long and odd names), hashed as it is written, and synced. The same
 * inputs make the same bytes. SOURCE_CHANGED when one is no longer what was checked.
 */
export async function writeTar(
  output: string,
  inputs: readonly TarInput[],
  { signal, onProgress }: Writing = {},
): Promise<Checksums> {
  const archive = pack();
  const feeding = (async () => {
    for (const input of inputs) await addMember(archive, input, signal);
    archive.finalize();
  })();
  feeding.catch((error: unknown) => archive.destroy(error as Error));
  const adler32 = await createAdler32();
  const sha256 = createHash('sha256');
  let sizeBytes = 0;
  const file = await open(output, 'wx', 0o644);
  try {
    for await (const part of archive as AsyncIterable<Buffer>) {
      signal?.throwIfAborted();
      adler32.update(part);
      sha256.update(part);
      sizeBytes += part.length;
      for (let done = 0; done < part.length;) done += (await file.write(part, done)).bytesWritten;
      onProgress?.(sizeBytes);
    }
    await feeding;
    await file.sync();
  } finally {
    await file.close();
  }
  return { sizeBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
}

async function addMember(
  archive: ReturnType<typeof pack>,
  { path, name, sizeBytes, sha256, modifiedAt }: TarInput,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hash = createHash('sha256');
  const changed = () =>
    new SweepbookError('SOURCE_CHANGED', `${path} has changed since it was checked`, { path });
  // Whole seconds: others would need a header more, and say nothing to anybody.
  const mtime = new Date(Math.floor(modifiedAt.getTime() / 1000) * 1000);
  const entry = archive.entry({ name, size: sizeBytes, mode: 0o644, mtime });
  let left = sizeBytes;
  await pipeline(
    createReadStream(path, { signal }),
    async function* checked(source: AsyncIterable<Buffer>) {
      for await (const part of source) {
        hash.update(part);
        left -= part.length;
        if (left < 0) throw changed();
        yield part;
      }
      // Before the archive hears that the member is over.
      if (left !== 0 || hash.digest('hex') !== sha256) throw changed();
    },
    entry,
  );
}

/** Reads an archive through, and says what is in it and where. BAD_USER_INPUT when it is none. */
export async function readTar(
  path: string,
  { signal, onProgress }: Writing = {},
): Promise<TarMember[]> {
  const members: TarMember[] = [];
  const reading = extract();
  let bytes = 0;
  const source = createReadStream(path, { signal, highWaterMark: 1024 * 1024 });
  source.on('data', (part) => onProgress?.((bytes += part.length)));
  const fed = pipeline(source, reading);
  fed.catch(() => undefined);
  try {
    for await (const entry of reading) {
      // Counted by the library from the start of what it reads.
      const { name, size, byteOffset } = entry.header as typeof entry.header & {
        byteOffset: number;
      };
      const hash = createHash('sha256');
      for await (const part of entry as AsyncIterable<Buffer>) hash.update(part);
      members.push({ name, offset: byteOffset, sizeBytes: size ?? 0, sha256: hash.digest('hex') });
    }
    await fed;
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof Error && 'code' in error) throw error;
    throw new SweepbookError('BAD_USER_INPUT', `${path} is no tar archive, or is cut off`, {
      path,
    });
  }
  return members;
}

/** The index of an archive lies beside it. */
export const indexPath = (archive: string): string => `${archive}.idx`;

/** The first line tells of the archive, each other one of a member, in their order. */
interface IndexHead {
  readonly format: 'sweepbook-tar-index';
  readonly version: 1;
  readonly archive: { readonly sizeBytes: number; readonly sha256: string };
  readonly members: number;
}

export function writeIndex(archive: Checksums, members: readonly TarMember[]): string {
  const head: IndexHead = {
    format: 'sweepbook-tar-index',
    version: 1,
    archive: { sizeBytes: archive.sizeBytes, sha256: archive.sha256 },
    members: members.length,
  };
  const lines = members.map(({ name, offset, sizeBytes, sha256 }) => ({
    name,
    offset,
    sizeBytes,
    sha256,
  }));
  return `${[head, ...lines].map((line) => JSON.stringify(line)).join('\n')}\n`;
}

/** The members that an index names; undefined when it is none of ours, cut off, or of an archive of another size. */
export function readIndex(text: string, archiveBytes: number): TarMember[] | undefined {
  try {
    const [head, ...members] = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    const { format, version, archive, members: count } = head as IndexHead;
    const isOurs = format === 'sweepbook-tar-index' && version === 1;
    if (!isOurs || archive.sizeBytes !== archiveBytes || count !== members.length) return undefined;
    return members as TarMember[];
  } catch {
    return undefined;
  }
}
