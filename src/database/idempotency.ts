import { createHash } from 'node:crypto';
import { badInput, SweepbookError } from '../errors.ts';
import type { Db } from './orm.ts';
import { changedRows, firstRow, rows, sql } from './sql.ts';

export interface IdempotentCall {
  readonly principal: string;
  readonly operation: string;
  readonly key: string | null | undefined;
  readonly request: unknown;
}

/**
 * Runs `work` once for a key, within the caller's transaction: sent again, the same call gets
 * the first answer (plain JSON); another call with the key is IDEMPOTENCY_KEY_REUSED.
 */
export async function onceForKey<T>(
  tx: Db,
  call: IdempotentCall,
  work: () => Promise<T>,
): Promise<T> {
  const { key } = call;
  if (key == null) return work();
  if (key.length < 1 || key.length > 200) {
    throw badInput('idempotencyKey', key, '1 to 200 characters');
  }
  const hash = createHash('sha256')
    .update(JSON.stringify([call.operation, call.request]))
    .digest();
  // A second call with the key waits here until the first has ended.
  const isNew = await changedRows(
    tx,
    sql`insert into idempotency_keys (principal, key, operation, request_sha256)
      values (${call.principal}, ${key}, ${call.operation}, ${hash}) on conflict do nothing returning key`,
  );
  if (isNew === 0) {
    const earlier = await firstRow(
      tx,
      sql<{ request: Buffer; response: string }>`
      select request_sha256 as request, response #>> '{}' as response from idempotency_keys
      where principal = ${call.principal} and key = ${key}`,
    );
    if (!earlier?.request.equals(hash)) {
      throw new SweepbookError(
        'IDEMPOTENCY_KEY_REUSED',
        `idempotencyKey ${key} was used for another call: take a new key for a new call`,
        { idempotencyKey: key },
      );
    }
    return JSON.parse(earlier.response) as T;
  }
  const answer = await work();
  // As one JSON string: an answer may quote what jsonb cannot hold, a NUL or half a character.
  const response = JSON.stringify(JSON.stringify(answer));
  await rows(
    tx,
    sql`update idempotency_keys set response = ${response}::jsonb
      where principal = ${call.principal} and key = ${key}`,
  );
  return answer;
}
