import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { SweepbookError, systemCode } from '../errors.ts';

/** Where a secret stands: in a file or in a variable of the environment, never in the store file itself. */
export const secret = z.union([
  z.strictObject({ file: z.string().min(1) }),
  z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
]);
export type Secret = z.infer<typeof secret>;

/** Read anew each time, so that it can be renewed while the program runs. */
export function readSecret(store: string, what: string, from: Secret): string {
  if ('env' in from) {
    const value = process.env[from.env];
    if (value) return value.trim();
    throw unreadable(store, what, `${from.env} is not set`);
  }
  try {
    const value = readFileSync(from.file, 'utf8').trim();
    if (value) return value;
  } catch (error) {
    throw unreadable(store, what, `${from.file} cannot be read (${systemCode(error)})`);
  }
  throw unreadable(store, what, `${from.file} is empty`);
}

function unreadable(store: string, what: string, why: string): SweepbookError {
  return new SweepbookError('STORE_UNAVAILABLE', `store ${store}: no ${what}: ${why}`, { store });
}
