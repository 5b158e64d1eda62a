import { existsSync, readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { SweepbookError } from './errors.ts';

export type Environment = Record<string, string | undefined>;

/** Where a server is and lives when nobody says otherwise; clients of this host look there. */
export const usualServer = { host: '127.0.0.1', port: 4000, home: './var' } as const;

/** The environment, and behind it the file that SWEEPBOOK_CONFIG names (lines NAME=value). */
export function withFile(environment: Environment): Environment {
  const file = environment['SWEEPBOOK_CONFIG'];
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  if (file === undefined || file === '') return set;
  if (!existsSync(file)) {
    throw new SweepbookError('NOT_FOUND', `SWEEPBOOK_CONFIG ${file}: no such file`);
  }
  return { ...parseEnv(readFileSync(file, 'utf8')), ...set };
}
