import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { openEmbeddedPostgres, type EmbeddedPostgres } from '../../src/database/embedded.ts';
import { JobQueue } from '../../src/database/jobs.ts';
import { migrate } from '../../src/database/migrate.ts';
import { installAhead } from './installed.ts';
import { workers } from './workers.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A PostgreSQL for each worker, with the migrated database `sweepbook_template`. */
    databaseUrls: string[];
  }
}

export const templateName = 'sweepbook_template';

/**
 * The program built as its users run it, and a PostgreSQL for each worker: readers of the log stay below the oldest
 * transaction of the whole PostgreSQL, so tests that share one wait for each other. With TEST_DATABASE_URL, that one
 * for one worker.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // The whole suite, not some files of it.
  if (process.argv.slice(2).every((arg) => arg === 'run' || arg.startsWith('-'))) installAhead();
  const root = fileURLToPath(new URL('../..', import.meta.url));
  buildIfStale(root);
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-test-'));
  const given = process.env['TEST_DATABASE_URL'];
  const servers = given
    ? [{ url: given, close: async () => undefined }]
    : await Promise.all(
        Array.from({ length: workers }, (_, number) =>
          openHurried(join(folder, `postgres-${number}`)),
        ),
      );
  await Promise.all(servers.map((server) => makeTemplate(server.url)));
  project.provide(
    'databaseUrls',
    servers.map((server) => server.url),
  );
  return async () => {
    await Promise.all(servers.map((server) => server.close()));
    rmSync(folder, { recursive: true, force: true });
  };
}

/**
 * Processes are killed in tests, hosts never lose their power: nothing need wait for the disk. Of the password, a random
 * one, less is made: thousands of connections are opened with it.
 */
async function openHurried(folder: string): Promise<EmbeddedPostgres> {
  const server = await openEmbeddedPostgres({ folder, log: () => undefined });
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  for (const setting of ['fsync', 'full_page_writes']) {
    await admin.query(`alter system set ${setting} = off`);
  }
  await admin.query('select pg_reload_conf()');
  await admin.query('set scram_iterations = 1');
  const { username, password } = new URL(server.url);
  await admin.query(`alter role ${username} password '${password}'`);
  await admin.end();
  return server;
}

async function makeTemplate(server: string): Promise<void> {
  const admin = new pg.Client({ connectionString: server });
  await admin.connect();
  await admin.query(`drop database if exists ${templateName}`);
  await admin.query(`create database ${templateName}`);
  await admin.end();
  const url = new URL(server);
  url.pathname = `/${templateName}`;
  await migrate(url.href);
  const jobs = await JobQueue.open({ url: url.href, supervise: false, onError: () => undefined });
  await jobs.close();
}

/** What users run is compiled, by `npm ci` for one; built again only when a source has changed since. */
function buildIfStale(root: string): void {
  const changedAt = (...path: string[]) => statSync(join(root, ...path)).mtimeMs;
  const newest = Math.max(
    changedAt('tsconfig.build.json'),
    ...readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => changedAt('src', name)),
  );
  const built = join(root, 'dist', 'cli', 'main.js');
  if (existsSync(built) && statSync(built).mtimeMs > newest) return;
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  });
}
