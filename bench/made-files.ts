import { randomFillSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files of random bytes in a new folder. */
export function makeFiles(folder: string, count: number, bytes: number): string[] {
  mkdirSync(folder, { recursive: true });
  const content = Buffer.alloc(bytes);
  return Array.from({ length: count }, (_, at) => {
    // All different at little cost.
    if (bytes < 10_000 || at === 0) randomFillSync(content);
    else content.writeUInt32LE(at, 0);
    const path = join(folder, `file${String(at).padStart(6, '0')}.root`);
    writeFileSync(path, content);
    return path;
  });
}
