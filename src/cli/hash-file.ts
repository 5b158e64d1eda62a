import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { CliError, exitCode } from './exit-codes.ts';

/** What the bytes of a file are. */
export interface Hashed {
  readonly sizeBytes: number;
  /** 8 hexadecimal digits. */
  readonly adler32: string;
  /** 64 hexadecimal digits. */
  readonly sha256: string;
}

const mostChunkBytes = 4 * 1024 * 1024;

/** Size and checksums in one pass; CliError when the file changes while it is read. */
export async function hashFile(
  path: string,
  signal: AbortSignal,
  onProgress: (doneBytes: number) => void,
): Promise<Hashed> {
  const { createAdler32 } = await import('hash-wasm');
  const file = await open(path, 'r');
  try {
    const before = await file.stat();
    const adler32 = (await createAdler32()).init();
    const sha256 = createHash('sha256');
    // Large buffers for a small file would cost more than its bytes do.
    const chunkBytes = Math.min(mostChunkBytes, Math.max(65_536, before.size + 1));
    // Two buffers: one is filled while the other is hashed.
    const buffers = [Buffer.allocUnsafe(chunkBytes), Buffer.allocUnsafe(chunkBytes)] as const;
    let doneBytes = 0;
    let reading = file.read(buffers[0], 0, chunkBytes, 0);
    for (let turn = 1; ; turn++) {
      signal.throwIfAborted();
      const { bytesRead, buffer } = await reading;
      if (bytesRead === 0) break;
      doneBytes += bytesRead;
      reading = file.read(buffers[turn % 2 === 0 ? 0 : 1], 0, chunkBytes, doneBytes);
      // Looked at in the next turn; a failure meanwhile must not count as unhandled.
      reading.catch(() => undefined);
      const bytes = buffer.subarray(0, bytesRead);
      adler32.update(bytes);
      sha256.update(bytes);
      onProgress(doneBytes);
    }
    demandUnchanged(path, before, await file.stat(), doneBytes);
    return { sizeBytes: doneBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
  } finally {
    await file.close();
  }
}

function demandUnchanged(path: string, before: Stats, after: Stats, doneBytes: number): void {
  if (
    doneBytes === before.size &&
    before.size === after.size &&
    before.mtimeMs === after.mtimeMs &&
    before.ino === after.ino
  ) {
    return;
  }
  throw new CliError(
    exitCode.failed,
    `${path} changed while it was read (${before.size} bytes, then ${after.size}): ` +
      'run the command again when it is written to the end',
  );
}
