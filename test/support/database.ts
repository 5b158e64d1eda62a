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
  /** Checks the invariants one last time (unless told not to), and drops the database, or keeps it by another name. */
  close(options?: { check?: boolean; keptAs?: string }): Promise<void>;
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

let admin: Promise<pg.Client> | undefined;

/** On one connection of this worker, kept: to open one costs as much as a clone. */
async function asAdmin(text: string): Promise<void> {
  admin ??= connectAdmin();
  await (await admin).query(text);
}

async function connectAdmin(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server() });
  client.on('error', () => (admin = undefined));
  await client.connect();
  return client;
}

const templates = new Map<string, Promise<unknown>>();

/** A database of its own, cloned from one that is filled once by each worker. */
export async function openFilledDatabase(
  name: string,
  fill: (database: TestDatabase) => Promise<void>,
): Promise<TestDatabase> {
  const template = `sweepbook_${name}`;
  const make = async () => {
    await asAdmin(`drop database if exists ${template} with (force)`);
    const database = await openTestDatabase();
    await fill(database);
    await database.close({ keptAs: template });
  };
  const made = templates.get(template) ?? make();
  templates.set(template, made);
  await made;
  return openTestDatabase(template);
}

/** A fresh migrated database, cloned from the template. */
export async function openTestDatabase(template = 'sweepbook_template'): Promise<TestDatabase> {
  const name = `t_${randomBytes(6).toString('hex')}`;
  await asAdmin(`create database ${name} template ${template} strategy file_copy`);
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
    async close({ check = true, keptAs } = {}) {
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
        await asAdmin(
          keptAs === undefined
            ? `drop database if exists ${name} with (force)`
            : `alter database ${name} rename to ${keptAs}`,
        );
      }
    },
  };
}
