import pg from 'pg';
import { SweepbookError } from '../errors.ts';
import { migrationFiles, openDatabase, type Db } from './orm.ts';
import { reaching } from './reach.ts';
import { rows, sql } from './sql.ts';
import { postgresCode } from './transaction.ts';

export interface MigrationState {
  readonly applied: string[];
  readonly pending: string[];
  /** Applied, but unknown to this program: the database is newer. */
  readonly unknown: string[];
}

/** What the database has and what it lacks. */
export async function migrationState(db: Db): Promise<MigrationState> {
  const known = migrationFiles().map((file) => file.name);
  const applied = await appliedMigrations(db);
  return {
    applied,
    pending: known.filter((name) => !applied.includes(name)),
    unknown: applied.filter((name) => !known.includes(name)),
  };
}

/** In one question: the migrator's own way asks the catalogs first, which takes longer than all else of a start. */
async function appliedMigrations(db: Db): Promise<string[]> {
  try {
    return (await rows(db, sql<{ name: string }>`select name from migrations order by id`)).map(
      ({ name }) => name,
    );
  } catch (error) {
    if (postgresCode(error) === undefinedTable) return [];
    throw error;
  }
}

const undefinedTable = '42P01';

// Any number; it only has to be the same in every process that migrates this database.
const migrationLock = 5_339_467_013;

/**
 * Applies what is missing, all or nothing; of several processes one does it and the others wait.
 * A database newer than the program is refused (UNAVAILABLE).
 */
export async function migrate(url: string): Promise<string[]> {
  const holder = await reaching(url, async () => {
    const client = new pg.Client({ connectionString: url, application_name: 'sweepbook-migrate' });
    await client.connect();
    return client;
  });
  const orm = await openDatabase({ url, poolSize: 2, applicationName: 'sweepbook-migrate' });
  try {
    await refuseOldServer(orm.em);
    await holder.query('select pg_advisory_lock($1)', [migrationLock]);
    const state = await migrationState(orm.em);
    refuseNewerDatabase(state);
    if (state.pending.length > 0) await reaching(url, () => orm.migrator.up());
    return state.pending;
  } finally {
    await orm.close();
    await holder.end();
  }
}

export function refuseNewerDatabase(state: MigrationState): void {
  if (state.unknown.length > 0) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `the database is newer than this program (${state.unknown.join(', ')}): install a newer Sweepbook`,
      { unknown: state.unknown },
    );
  }
}

export async function refuseOldServer(db: Db): Promise<void> {
  const [answer] = await rows(db, sql<{ server_version_num: string }>`show server_version_num`);
  const version = Number(answer?.server_version_num ?? 0);
  if (version < 150000) {
    throw new SweepbookError(
      'UNAVAILABLE',
      `PostgreSQL ${Math.floor(version / 10000)} is too old: Sweepbook needs 15 or later`,
    );
  }
}
