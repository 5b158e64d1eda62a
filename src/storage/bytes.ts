import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { adler32 } from 'hash-wasm';
import { Piscina } from 'piscina';
import { threadFile } from '../threads.ts';
import type { ByteTask, Checksums } from './bytes.thread.ts';
import type { PutOptions } from './contract.ts';

export type { Checksums };

/** Handing a file to a thread costs more than hashing one of this size. */
const smallBytes = 256 * 1024;

async function hashSmall(path: string): Promise<Checksums> {
  const bytes = await readFile(path);
  return {
    sizeBytes: bytes.length,
    adler32: await adler32(bytes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

let pool: Piscina<ByteTask, Checksums> | undefined;

function threads(): Piscina<ByteTask, Checksums> {
  pool ??= new Piscina<ByteTask, Checksums>({
    filename: threadFile('bytes', import.meta.url),
    name: 'hashFile',
    minThreads: 0,
    maxThreads: Math.max(2, availableParallelism()),
    idleTimeout: 10_000,
  });
  return pool;
}

/** Size, adler32 and sha256 of a file of this host, in one pass over its bytes, apart from the main thread. */
export async function hashFile(path: string, options: PutOptions = {}): Promise<Checksums> {
  const { size } = await stat(path);
  if (size <= smallBytes) return hashSmall(path);
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const onAbort = () => Atomics.store(stop, 0, 1);
  options.signal?.addEventListener('abort', onAbort);
  if (options.signal?.aborted) onAbort();
  port1.on('message', (bytes: number) => options.onProgress?.(bytes));
  port1.unref();
  try {
    return await threads().run({ path, port: port2, stop }, { transferList: [port2] });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    port1.close();
  }
}
