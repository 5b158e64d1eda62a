import { setTimeout as pause } from 'node:timers/promises';
import { SweepbookError, errorCodes, systemCode, type ErrorCode } from '../errors.ts';
import type { Db } from './orm.ts';
import { waitingRider } from './rider.ts';
import { sql } from './sql.ts';

/** On whose behalf a transaction writes; the triggers put it into the events. */
export interface Actor {
  readonly principal: string;
  readonly reason?: string | undefined;
}

/** Deadlock, serialization failure: nothing was written, the same again may work. */
const worthRepeating = new Set(['40P01', '40001']);
/** Another one has made the same meanwhile: the next time it is there to be seen. */
const madeMeanwhile = '23505';
const tries = 8;
const pauseMs = 50;
/** statement_timeout. */
export const brokenOff = '57014';
/** Connection failures and shutdowns of PostgreSQL, by SQLSTATE class; all pass. */
const passing = /^(08|53|57P)/;
const passingSystemCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
]);
/** A NUL in a text, in a text within JSON: PostgreSQL keeps none, so nothing can be called so. */
export const unstorable = new Set(['22021', '22P05']);

/**
 * One use case, one transaction. It is repeated when the database says that
 * another one stood in the way, so `work` must not touch anything else.
 * Refusals of the database come out as SweepbookError.
 */
export async function inTransaction<T>(
  db: Db,
  actor: Actor,
  work: (tx: Db) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      const rider = waitingRider();
      const answer = await withTransaction(db, async (tx) => {
        await sql`select set_config('sweepbook.actor', ${actor.principal}, true),
          set_config('sweepbook.reason', ${actor.reason ?? ''}, true),
          set_config('statement_timeout', '0', true)`.execute(tx.getKysely());
        await rider?.write(tx);
        return work(tx);
      });
      if (rider) rider.isWritten = true;
      return answer;
    } catch (error) {
      const code = postgresCode(error) ?? '';
      if (attempt === tries || !(worthRepeating.has(code) || code === madeMeanwhile))
        throw asRefusal(error);
      // Who was in the way is let past: at once, the same would meet again.
      await pause(Math.random() * pauseMs * attempt);
    }
  }
}

/**
 * Kysely's own transaction, with the entity manager in it. MikroORM's would keep the connection for
 * good when PostgreSQL dies in its midst: its rollback fails, and then nobody gives it back.
 */
async function withTransaction<T>(db: Db, work: (tx: Db) => Promise<T>): Promise<T> {
  const tx = db.fork();
  return tx
    .getKysely()
    .transaction()
    .execute(async (context) => {
      tx.setTransactionContext(context);
      return work(tx);
    });
}

/** SQLSTATE of an error of the database, if it is one. */
export function postgresCode(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    const code = systemCode(at);
    if (code !== undefined && /^[0-9A-Z]{5}$/.test(code)) return code;
  }
  return undefined;
}

/** The database cannot be reached right now. */
export function isPassing(error: unknown): boolean {
  if (passing.test(postgresCode(error) ?? '')) return true;
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if (passingSystemCodes.has(systemCode(at) ?? '')) return true;
    if (
      /Connection terminated|timeout exceeded when trying to connect|database system is/.test(
        at.message,
      )
    )
      return true;
  }
  return false;
}

/** A refusal that a trigger raised, as the program's own error; anything else unchanged. */
export function asRefusal(error: unknown): unknown {
  const sqlState = postgresCode(error);
  if (unstorable.has(sqlState ?? '')) {
    return new SweepbookError(
      'BAD_USER_INPUT',
      'a text holds a NUL character, which no name has: leave it out',
      {},
      { cause: error },
    );
  }
  if (worthRepeating.has(sqlState ?? '')) {
    return new SweepbookError(
      'UNAVAILABLE',
      'others changed the same at the same time, again and again; nothing was written: try again',
      {},
      { cause: error },
    );
  }
  if (sqlState === brokenOff) {
    return new SweepbookError(
      'QUERY_TOO_COMPLEX',
      'the answer took too long to find: narrow the question by a name, a dataset, a run or a time, or leave out totalCount',
      {},
      { cause: error },
    );
  }
  if (sqlState !== 'SW001') return error;
  let at: unknown = error;
  while (at instanceof Error && !('constraint' in at && 'detail' in at) && at.cause) at = at.cause;
  const fields = at as { message: string; constraint?: string; hint?: string };
  const code = errorCodes.find((known): known is ErrorCode => known === fields.constraint);
  const message = fields.message.split('\n').at(-1) ?? fields.message;
  return new SweepbookError(
    code ?? 'ILLEGAL_TRANSITION',
    fields.hint ? `${message}: ${fields.hint}` : message,
    {},
    { cause: error },
  );
}
