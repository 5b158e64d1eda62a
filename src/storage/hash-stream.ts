import { createHash } from 'node:crypto';
import { createAdler32 } from 'hash-wasm';
import type { Checksums } from './bytes.thread.ts';

/**
 * Size and checksums of what comes in, in one pass. It is hashed here, chunk by chunk as it comes from the network,
 * so that other work gets its turn between the chunks.
 */
export async function hashStream(
  stream: AsyncIterable<Uint8Array>,
  moved: (bytes: number) => void,
): Promise<Checksums> {
  const adler32 = await createAdler32();
  const sha256 = createHash('sha256');
  let sizeBytes = 0;
  for await (const part of stream) {
    adler32.update(part);
    sha256.update(part);
    sizeBytes += part.length;
    moved(sizeBytes);
  }
  return { sizeBytes, adler32: adler32.digest('hex'), sha256: sha256.digest('hex') };
}
