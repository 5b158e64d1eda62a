import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Migration, Migrator } from '@mikro-orm/migrations';
import { MikroORM, type SqlEntityManager } from '@mikro-orm/postgresql';
import pg from 'pg';
import { SweepbookError } from '../errors.ts';
import type { EntitySchema } from '@mikro-orm/core';

export type Orm = MikroORM;
/** A handle on the database: a pool, or the transaction one is in. */
export type Db = SqlEntityManager;

const migrationsFolder = fileURLToPath(new URL('../../migrations/', import.meta.url));

export interface DatabaseOptions {
  readonly url: string;
  /** Connections at the most. */
  readonly poolSize?: number;
  readonly applicationName?: string;
  /** A statement outside of a transaction that takes longer is broken off; 0 = never. */
  readonly statementSeconds?: number;
  /** Tables that are used row by row; set-based SQL needs none. */
  readonly entities?: readonly EntitySchema[];
}

/** Opens the pool; connects when first used. */
export async function openDatabase(options: DatabaseOptions): Promise<Orm> {
  return MikroORM.init({
    clientUrl: options.url,
    entities: [...(options.entities ?? [])],
    extensions: [Migrator],
    pool: { min: 0, max: options.poolSize ?? 12 },
    driverOptions: {
      // MikroORM itself reads host, user and name only; what else the URL says (sslmode, options) is for the driver.
      connectionString: options.url,
      types: plainTypes(),
      application_name: options.applicationName ?? 'sweepbook',
      // A forgotten transaction would hold up the event log for everybody (readers stay below the oldest one).
      idle_in_transaction_session_timeout: 60_000,
      // A question that no index answers must not occupy a connection for hours; inTransaction lifts it.
      statement_timeout: (options.statementSeconds ?? 0) * 1000,
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
    },
    // Table and column names are written out in the SQL; nothing is discovered.
    discovery: { warnWhenNoEntities: false },
    migrations: {
      tableName: 'migrations',
      snapshot: false,
      silent: true,
      migrationsList: readMigrations(),
      allOrNothing: true,
    },
  });
}

/** int8 as a number (the columns are bounded to 2^53−1), times as Date. */
function plainTypes(): pg.CustomTypesConfig {
  const types = new pg.TypeOverrides();
  types.setTypeParser(pg.types.builtins.INT8, (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value)) {
      throw new SweepbookError('INTERNAL', `${text} does not fit in a number`);
    }
    return value;
  });
  types.setTypeParser(pg.types.builtins.NUMERIC, Number);
  return types;
}

export interface MigrationFile {
  readonly name: string;
  readonly sql: string;
}

/** The migrations, in order: one SQL file each, never edited once released. */
export function migrationFiles(): MigrationFile[] {
  return readdirSync(migrationsFolder)
    .filter((name) => name.endsWith('.sql'))
    .toSorted()
    .map((name) => ({
      name: name.replace(/\.sql$/, ''),
      sql: readFileSync(`${migrationsFolder}${name}`, 'utf8'),
    }));
}

function readMigrations() {
  return migrationFiles().map(({ name, sql }) => ({
    name,
    class: class extends Migration {
      override up(): void {
        this.addSql(sql);
      }
    },
  }));
}
