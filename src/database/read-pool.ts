import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from 'kysely';
import pg from 'pg';
import { Late, parametersFor, type Given } from './late.ts';
import type { RawBuilder } from './sql.ts';

/** A statement that was written once, to be run with many values. */
export interface WrittenStatement {
  readonly text: string;
  readonly parameters: readonly unknown[];
  /** PostgreSQL may keep its plan. */
  readonly isKept: boolean;
  /** How often it was run. */
  uses: number;
}

/** Connections that only read, each statement a look of its own at one moment. */
export interface ReadPool {
  /** The text in the only column of the only row. */
  text(statement: WrittenStatement, given: Given): Promise<string | null>;
  close(): Promise<void>;
}

export interface ReadPoolOptions {
  readonly url: string;
  readonly poolSize: number;
  /** A statement that takes longer is broken off; 0 = never. */
  readonly statementSeconds: number;
  readonly onTrouble: (message: string) => void;
}

/** Writes statements; runs none. */
const compiler = new Kysely<Record<string, never>>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

/**
 * A plan that is kept is made for any values: good where they are names, page sizes and places in a list, and bad where
 * a filter may fit nearly everything or next to nothing. `principal` is compared for equality alone.
 */
export function writeStatement(
  statement: RawBuilder<unknown>,
  principal: string,
): WrittenStatement {
  const { sql, parameters } = statement.compile(compiler);
  const isKept =
    sql.length <= longestKept &&
    parameters.every((value) => value instanceof Late || value === principal);
  return { text: sql, parameters, isKept, uses: 0 };
}

/** PostgreSQL keeps the plan of what is asked again and again, on each connection for as long as that lives. */
const usesBeforeKept = 5;
const longestKept = 32 * 1024;
/** Then all begin anew under other names. */
const mostNames = 300;
/** A connection ends after so many statements, and with it the plans that nobody asks for any more. */
const usesOfConnection = 5000;

/** Opens the pool; connects when first used. */
export function openReadPool(options: ReadPoolOptions): ReadPool {
  const pool = openPool(options);
  const names = new Map<string, string>();
  let made = 0;
  const nameOf = ({ text, isKept, uses }: WrittenStatement) => {
    if (!isKept || uses < usesBeforeKept) return undefined;
    const known = names.get(text);
    if (known !== undefined) return known;
    if (names.size >= mostNames) names.clear();
    const name = `read ${++made}`;
    names.set(text, name);
    return name;
  };
  return {
    async text(statement, given) {
      statement.uses++;
      const values = parametersFor(statement.parameters, given);
      const name = nameOf(statement);
      const { rows } = await pool.query<[string | null]>({
        text: statement.text,
        values,
        rowMode: 'array',
        ...(name === undefined ? {} : { name }),
      });
      return rows[0]?.[0] ?? null;
    },
    close: () => pool.end(),
  };
}

/** Compiling costs more than these statements. */
export const plannerSettings = 'set jit = off';

function openPool({ url, poolSize, statementSeconds, onTrouble }: ReadPoolOptions): pg.Pool {
  const settings = `${plannerSettings}; set default_transaction_read_only = on;
    set statement_timeout = ${statementSeconds * 1000}`;
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    application_name: 'sweepbook-reads',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    maxUses: usesOfConnection,
    // Whatever goes wrong here, it changes nothing. By SET, since `options` of the start would stand in the way of those
    // in DATABASE_URL or PGOPTIONS.
    // The pool waits for it, though its types do not say so.
    // eslint-disable-next-line typescript/no-misused-promises
    onConnect: async (client) => void (await client.query(settings)),
  });
  // Connections end when PostgreSQL does; the next statement gets a new one.
  pool.on('error', (error) => onTrouble(error.message));
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}
