import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { MassStoreEntity, SiteEntity } from '../../src/backups/mass-stores.entity.ts';
import { TokenEntity } from '../../src/access/tokens.entity.ts';
import { openDatabase, type Db } from '../../src/database/orm.ts';
import { checkInvariants } from './check-invariants.ts';

export interface TestDatabase {
  readonly url: string;
  /** A handle as the program has it. */
  readonly db: Db;
  /** Any SQL, as a stranger with psql would send it. */
  sql<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    text: string,
    values?: unknown[],
  ): Promise<Row[]>;
  /** One connection of its own, for transactions and settings. Ended with the database. */
  client(): Promise<pg.Client>;
  /** Checks the invariants one last time (unless told not to), and drops the database. */
  close(options?: { check?: boolean }): Promise<void>;
}

/** The PostgreSQL of this worker. */
function server(): string {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 1);
  const url = inject('databaseUrls')[worker - 1];
  if (!url) throw new Error(`worker ${worker} has no PostgreSQL`);
  return url;
}

function urlOf(name: string): string {
  const url = new URL(server());
  url.pathname = `/${name}`;
  return url.href;
}

async function asAdmin(text: string): Promise<void> {
  const admin = new pg.Client({ connectionString: server() });
  await admin.connect();
  try {
    await admin.query(text);
  } finally {
    await admin.end();
  }
}

/** A fresh migrated database, cloned from the template. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const name = `t_${randomBytes(6).toString('hex')}`;
  await asAdmin(`create database ${name} template sweepbook_template`);
  const url = urlOf(name);
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  pool.on('error', () => undefined);
  const orm = await openDatabase({ url, entities: [TokenEntity, SiteEntity, MassStoreEntity] });
  const clients: pg.Client[] = [];
  // A clone is a database of its own.
  await pool.query('update meta set epoch = $1', [randomBytes(4).toString('hex')]);
  return {
    url,
    db: orm.em,
    async sql<Row extends pg.QueryResultRow>(text: string, values?: unknown[]) {
      return (await pool.query<Row>(text, values)).rows;
    },
    async client() {
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => undefined);
      await client.connect();
      clients.push(client);
      return client;
    },
    async close({ check = true } = {}) {
      try {
        if (check) {
          const violations = await checkInvariants(url);
          if (violations.length > 0)
            throw new Error(`invariants are broken:\n${violations.join('\n')}`);
        }
      } finally {
        await orm.close();
        await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
        await pool.end();
        await asAdmin(`drop database if exists ${name} with (force)`);
      }
    },
  };
}
