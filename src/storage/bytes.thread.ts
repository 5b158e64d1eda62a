import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { MessagePort } from 'node:worker_threads';
import { createAdler32 } from 'hash-wasm';

/** Work on bytes, run in a thread of its own: hashing a big file must not hold up the server. */
export interface ByteTask {
  readonly path: string;
  readonly port: MessagePort;
  /** Another thread sets it to stop the work. */
  readonly stop: Int32Array;
}

export interface Checksums {
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string;
}

const chunkBytes = 4 * 1024 * 1024;
const tellEveryMs = 200;

/** Reads a file once and returns its size and both checksums. */
export async function hashFile({ path, port, stop }: ByteTask): Promise<Checksums> {
  const adler32 = await createAdler32();
  const sha256 = createHash('sha256');
  const file = await open(path, 'r');
  try {
    const chunk = Buffer.allocUnsafe(chunkBytes);
    let sizeBytes = 0;
    let toldAt = 0;
    for (;;) {
      if (Atomics.load(stop, 0) !== 0) throw new Error('stopped');
      const { bytesRead } = await file.read(chunk, 0, chunkBytes, null);
      if (bytesRead === 0) break;
      const part = chunk.subarray(0, bytesRead);
      adler32.update(part);
      sha256.update(part);
      sizeBytes += bytesRead;
      if (Date.now() - toldAt >= tellEveryMs) {
        toldAt = Date.now();
        port.postMessage(sizeBytes);
      }
    }
    return { sizeBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
  } finally {
    await file.close();
    port.close();
  }
}
