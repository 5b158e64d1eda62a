import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { createAdler32 } from 'hash-wasm';
import { extract, pack } from 'tar-stream';
import { messageOf, SweepbookError } from '../errors.ts';

/** Size and checksums of an archive. */
interface Checksums {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

/** A file that goes into an archive. */
export interface TarInput {
  /** For messages. */
  readonly path: string;
  /** Called when its turn comes; closed after it. */
  readonly open: () => Promise<FileHandle>;
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
  signal?.throwIfAborted();
  const archive = pack();
  const stop = endOn(archive, signal);
  const feeding = (async () => {
    for (const input of inputs) await addMember(archive, input);
    archive.finalize();
  })();
  feeding.catch((error: unknown) => archive.destroy(error as Error));
  const adler32 = await createAdler32();
  const sha256 = createHash('sha256');
  let sizeBytes = 0;
  const file = await open(output, 'wx', 0o644);
  try {
    for await (const part of archive as AsyncIterable<Buffer>) {
      adler32.update(part);
      sha256.update(part);
      sizeBytes += part.length;
      for (let done = 0; done < part.length;) done += (await file.write(part, done)).bytesWritten;
      onProgress?.(sizeBytes);
    }
    signal?.throwIfAborted();
    await feeding;
    await file.sync();
  } finally {
    stop();
    await file.close();
  }
  return { sizeBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
}

interface Endable {
  destroy(error?: Error): void;
  on(event: 'error', listener: () => void): unknown;
}

/** Its reader hears of an abort; errors of its own he hears, too. Returns what takes it back. */
function endOn(stream: Endable, signal: AbortSignal | undefined): () => void {
  stream.on('error', () => undefined);
  const end = () => stream.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', end, { once: true });
  return () => signal?.removeEventListener('abort', end);
}

async function addMember(
  archive: ReturnType<typeof pack>,
  { path, open: openInput, name, sizeBytes, sha256, modifiedAt }: TarInput,
): Promise<void> {
  const hash = createHash('sha256');
  const changed = () =>
    new SweepbookError('SOURCE_CHANGED', `${path} has changed since it was checked`, { path });
  // Whole seconds: others would need a header more, and say nothing to anybody.
  const mtime = new Date(Math.floor(modifiedAt.getTime() / 1000) * 1000);
  const file = await openInput();
  try {
    const entry = archive.entry({ name, size: sizeBytes, mode: 0o644, mtime });
    entry.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => entry.once('close', () => resolve()));
    let left = sizeBytes;
    const parts = file.createReadStream({ autoClose: false }) as AsyncIterable<Buffer>;
    for await (const part of parts) {
      hash.update(part);
      left -= part.length;
      if (left < 0) throw changed();
      if (entry.write(part)) continue;
      await new Promise<void>((resolve) => {
        entry.once('drain', () => resolve());
        void closed.then(resolve);
      });
      if (entry.destroyed) throw new Error('the archive is given up');
    }
    // Before the archive hears that the member is over.
    if (left !== 0 || hash.digest('hex') !== sha256) throw changed();
    entry.end(undefined);
    await closed;
  } finally {
    await file.close();
  }
}

/** Reads an archive through, and says what is in it and where. BAD_USER_INPUT when it is none. */
export async function readTar(
  path: string,
  { signal, onProgress }: Writing = {},
): Promise<TarMember[]> {
  signal?.throwIfAborted();
  const members: TarMember[] = [];
  const reading = extract();
  const source = createReadStream(path, { highWaterMark: 1024 * 1024 });
  const stop = endOn(reading, signal);
  let bytes = 0;
  let trouble: unknown;
  source.on('data', (part) => onProgress?.((bytes += part.length)));
  source.once('error', (error) => {
    trouble = error;
    reading.destroy(error);
  });
  source.pipe(reading);
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
  } catch (error) {
    signal?.throwIfAborted();
    throw new SweepbookError(
      trouble === undefined ? 'BAD_USER_INPUT' : 'SOURCE_UNREADABLE',
      trouble === undefined
        ? `${path} is no tar archive, or is cut off`
        : `${path} cannot be read (${messageOf(trouble)})`,
      { path },
      { cause: error },
    );
  } finally {
    stop();
    source.destroy();
  }
  signal?.throwIfAborted();
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
