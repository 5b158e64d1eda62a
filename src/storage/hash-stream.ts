import { createHash } from 'node:crypto';
import { createAdler32 } from 'hash-wasm';
import type { Checksums } from './bytes.ts';

/** Size, adler32 and sha256 of what comes through a stream, in one pass. */
export async function hashStream(
  stream: AsyncIterable<Uint8Array>,
  onProgress?: (bytes: number) => void,
): Promise<Checksums> {
  const adler32 = await createAdler32();
  const sha256 = createHash('sha256');
  let sizeBytes = 0;
  for await (const part of stream) {
    adler32.update(part);
    sha256.update(part);
    sizeBytes += part.length;
    onProgress?.(sizeBytes);
  }
  return { sizeBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
}
