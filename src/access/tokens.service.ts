import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { InferEntity } from '@mikro-orm/core';
import type { Db } from '../database/orm.ts';
import { firstRow, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { anonymous, demand, roles, type Role, type Viewer } from './policy.ts';
import { TokenEntity } from './tokens.entity.ts';

export type TokenRow = InferEntity<typeof TokenEntity>;

export interface CreateToken {
  readonly principal: string;
  readonly roles: readonly string[];
  readonly note?: string | null | undefined;
  readonly expiresAt?: Date | null | undefined;
}

const form = /^sbk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

function secretHash(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** Makes a token and returns its text, which is shown once and kept nowhere. */
export async function createToken(
  db: Db,
  viewer: Viewer,
  input: CreateToken,
): Promise<{ text: string; row: TokenRow }> {
  demand(viewer, 'manageTokens');
  return inTransaction(db, viewer, (tx) => insertToken(tx, input));
}

async function insertToken(tx: Db, input: CreateToken): Promise<{ text: string; row: TokenRow }> {
  // eslint-disable-next-line no-control-regex
  if (!/^[^\u0000-\u001f\u007f]{1,128}$/.test(input.principal)) {
    throw badInput('principal', input.principal, 'a name of 1 to 128 printable characters');
  }
  const unknown = input.roles.find((role) => !roles.includes(role as Role));
  if (input.roles.length === 0 || unknown !== undefined) {
    throw badInput('roles', input.roles, `give at least one of ${roles.join(', ')}`);
  }
  if (input.expiresAt && input.expiresAt.getTime() <= Date.now()) {
    throw badInput('expiresAt', input.expiresAt, 'a moment in the future, or nothing');
  }
  const prefix = randomBytes(6).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  const row = tx.create(TokenEntity, {
    principal: input.principal,
    roles: [...new Set(input.roles)],
    prefix,
    secretSha256: secretHash(secret),
    note: input.note ?? null,
    expiresAt: input.expiresAt ?? null,
  });
  await tx.flush();
  await tx.refresh(row);
  return { text: `sbk_${prefix}_${secret}`, row };
}

/**
 * The token of the very first start; undefined when any token was ever made. `keep` stores its text
 * before the commit: whatever dies when, nobody is locked out of a new server.
 */
export async function createFirstToken(
  db: Db,
  principal: string,
  keep: (text: string) => void,
): Promise<string | undefined> {
  return inTransaction(db, { principal: 'first start' }, async (tx) => {
    // Two servers starting at once must not both think they are the first.
    await tx.execute('lock table tokens in share row exclusive mode');
    if ((await tx.count(TokenEntity)) > 0) return undefined;
    const made = await insertToken(tx, {
      principal,
      roles: ['OPERATOR', 'ADMIN'],
      note: 'made at the first start',
    });
    keep(made.text);
    return made.text;
  });
}

export async function listTokens(db: Db, viewer: Viewer): Promise<TokenRow[]> {
  demand(viewer, 'manageTokens');
  return db.fork().find(TokenEntity, {}, { orderBy: { id: 'asc' } });
}

/** Ends a token, by its prefix; already ended: changed is false. */
export async function revokeToken(
  db: Db,
  viewer: Viewer,
  prefix: string,
): Promise<{ row: TokenRow; changed: boolean }> {
  demand(viewer, 'manageTokens');
  return inTransaction(db, viewer, async (tx) => {
    const row = await tx.findOne(TokenEntity, { prefix });
    if (row === null) {
      throw new SweepbookError('NOT_FOUND', `no token with the prefix ${prefix}`, { prefix });
    }
    if (row.revokedAt) return { row, changed: false };
    row.revokedAt = new Date();
    await tx.flush();
    return { row, changed: true };
  });
}

/** Who shows this token; no token is anonymous, a wrong or ended one is UNAUTHENTICATED. */
export async function authenticate(db: Db, text: string | undefined): Promise<Viewer> {
  if (text === undefined || text === '') return anonymous;
  const parts = form.exec(text);
  const row = parts && (await db.fork().findOne(TokenEntity, { prefix: parts[1] ?? '' }));
  if (!parts || !row || !timingSafeEqual(row.secretSha256, secretHash(parts[2] ?? ''))) {
    throw new SweepbookError('UNAUTHENTICATED', 'the token is not known here: ask for a new one');
  }
  if (row.revokedAt) {
    throw new SweepbookError('UNAUTHENTICATED', 'the token has been revoked: ask for a new one');
  }
  if (row.expiresAt && row.expiresAt.getTime() <= Date.now()) {
    throw new SweepbookError(
      'UNAUTHENTICATED',
      `the token expired at ${row.expiresAt.toISOString()}: ask for a new one`,
    );
  }
  await touch(db, row);
  return {
    principal: row.principal,
    roles: row.roles as Role[],
    tokenId: row.id,
    ...(row.expiresAt ? { expiresAt: row.expiresAt } : {}),
  };
}

/** What a principal may do now, by all his tokens that stand; undefined = he has none. */
export async function standingOf(db: Db, principal: string): Promise<Viewer | undefined> {
  const row = await firstRow(
    db,
    sql<{ roles: Role[] | null }>`
    select array_agg(distinct role) as roles from tokens, unnest(roles) as role
    where principal = ${principal} and revoked_at is null and (expires_at is null or expires_at > now())`,
  );
  return row?.roles ? { principal, roles: row.roles } : undefined;
}

const touchEveryMs = 60_000;

/** Last use, to the minute: a write for every request would cost more than it tells. */
async function touch(db: Db, row: TokenRow): Promise<void> {
  if (row.lastUsedAt && Date.now() - row.lastUsedAt.getTime() < touchEveryMs) return;
  await db.fork().nativeUpdate(TokenEntity, { id: row.id }, { lastUsedAt: new Date() });
}
