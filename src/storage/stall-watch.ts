import { readFile } from 'node:fs/promises';
import { SweepbookError } from '../errors.ts';
import type { PutOptions } from './contract.ts';

const lookEveryMs = 200;

/**
 * Watches a copy: tells its progress, and breaks it off when no byte moves for so long. The signal given to the work
 * fires then, with STORE_UNAVAILABLE, and when the caller calls off. When all bytes have moved, the store may take
 * its time over them.
 */
export async function watched<T>(
  copy: {
    readonly store: string;
    readonly sizeBytes: number;
    readonly stallMs: number;
    readonly options: PutOptions;
    /** Bytes moved until now; undefined = cannot be seen here. */
    readonly moved: () => Promise<number | undefined> | number | undefined;
  },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { store, sizeBytes, stallMs, options, moved } = copy;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let last = 0;
  let lastAt = Date.now();
  const look = async () => {
    const bytes = await moved();
    if (bytes === undefined || bytes >= sizeBytes || bytes !== last) {
      if (bytes !== undefined && bytes !== last) options.onProgress?.(bytes);
      last = bytes ?? last;
      lastAt = Date.now();
    } else if (Date.now() - lastAt > stallMs) {
      stop.abort(
        new SweepbookError(
          'STORE_UNAVAILABLE',
          `store ${store}: no byte moved for ${Math.round(stallMs / 1000)} s: is it overloaded, or out of reach?`,
          { store },
        ),
      );
    }
  };
  const looking = setInterval(() => void look().catch(() => undefined), lookEveryMs);
  try {
    return await work(signal);
  } finally {
    clearInterval(looking);
  }
}

/** How far an open file has been read or written by whoever shares it with us; undefined = not told here. */
export async function positionOf(fd: number): Promise<number | undefined> {
  const text = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8').catch(() => '');
  const parts = /^pos:\s+(\d+)$/m.exec(text);
  return parts ? Number(parts[1]) : undefined;
}
