import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** What a thread runs: `NAME.thread`, compiled beside who asks; run from the sources, its source. */
export function threadFile(name: string, beside: string): string {
  const compiled = fileURLToPath(new URL(`./${name}.thread.js`, beside));
  return existsSync(compiled) ? compiled : fileURLToPath(new URL(`./${name}.thread.ts`, beside));
}
