import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { readConfig } from '../../src/config.ts';
import { logOptions } from '../../src/server/log.ts';
import { openSweepbook } from '../../src/main.ts';
import { openWorld } from '../migrations/world.ts';
import type { TestDatabase } from '../support/database.ts';

export interface Stage {
  readonly address: string;
  readonly token: string;
  readonly folder: string;
  readonly database: TestDatabase;
  /** Paths of what nobody may come to, as strangers would write them. */
  readonly forbidden: readonly string[];
  /** The log as it was written. */
  log(): string;
  /** Files below the folder, and what the database is made of. */
  state(): Promise<{ files: string[]; structure: unknown[] }>;
  close(): Promise<void>;
}

/** What stands in the file that nobody may come to. */
export const canary = 'canary-7f3a91c2';
export const planted = '/tmp/hostile-was-here';

/** The whole program with the world of test/migrations/world.ts, at its most talkative. */
export async function openStage(settings: Record<string, string> = {}): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-hostile-'));
  writeFileSync(join(folder, 'canary'), canary);
  mkdirSync(join(folder, 'home', 'store'), { recursive: true });
  const database = await openWorld();
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const config = readConfig({
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_PORT: '0',
    DATABASE_URL: database.url,
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_WEBHOOKS: 'false',
    SWEEPBOOK_SHUTDOWN_SECONDS: '1',
    // However fast they are asked, all of them are answered.
    SWEEPBOOK_LIMIT_RATE: '0',
    SWEEPBOOK_LIMIT_ANONYMOUS_RATE: '0',
    SWEEPBOOK_LIMIT_WRONG_TOKEN_RATE: '0',
    SWEEPBOOK_LOG_LEVEL: 'trace',
    ...settings,
  });
  const server = await openSweepbook(config, pino(logOptions(config), sink));
  return {
    address: server.address,
    token: server.token ?? '',
    folder,
    database,
    forbidden: [
      join(folder, 'canary'),
      '../canary',
      '../../canary',
      '/../canary',
      `file://${join(folder, 'canary')}`,
      join(folder, 'home/store/../../canary'),
      `${join(folder, 'home/store')}/..%2f..%2fcanary`,
      join(folder, 'home', 'operator-token'),
    ],
    log: () => lines.join(''),
    state: async () => ({
      files: readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted(),
      structure: await database.sql(structure),
    }),
    async close() {
      await server.close();
      // The world is planted by raw SQL, and is not the whole of what the program would have written.
      await database.close({ check: false });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const structure = `
  select 'table' as what, c.oid::regclass::text as name, c.relkind::text as kind from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where n.nspname not in ('pg_toast', 'pg_catalog', 'information_schema')
    and n.nspname !~ '^pg_temp|^pg_toast' and c.relname !~ '^j[0-9a-f]+'
  union all select 'trigger', tgname, tgenabled::text from pg_trigger where not tgisinternal
  union all select 'function', p.oid::regprocedure::text, md5(prosrc) from pg_proc p join pg_namespace n on n.oid = pronamespace
    where nspname = 'public'
  union all select 'role', rolname, rolsuper::text from pg_roles
  order by 1, 2, 3`;
