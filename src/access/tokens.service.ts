import { randomBytes } from 'node:crypto';
import { LockMode, type InferEntity } from '@mikro-orm/core';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { actions, demand, readScope, roles, type Role, type Viewer } from './policy.ts';
import { endOf, secretHash } from './token-check.service.ts';
import { TokenEntity } from './tokens.entity.ts';
import { isLine } from '../text.ts';

export type TokenRow = InferEntity<typeof TokenEntity>;

export interface CreateToken {
  readonly principal: string;
  readonly roles: readonly string[];
  /** Names of actions, or `read`; nothing = all that the roles allow. */
  readonly scopes?: readonly string[] | null | undefined;
  /** Nothing = every site. */
  readonly sites?: readonly string[] | null | undefined;
  readonly note?: string | null | undefined;
  readonly expiresAt?: Date | null | undefined;
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

async function insertToken(
  tx: Db,
  input: CreateToken,
  replaces?: number,
): Promise<{ text: string; row: TokenRow }> {
  checkToken(input);
  const prefix = randomBytes(6).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  const row = tx.create(TokenEntity, {
    principal: input.principal,
    roles: [...new Set(input.roles)],
    scopes: input.scopes ? [...new Set(input.scopes)] : null,
    sites: input.sites ? [...new Set(input.sites)] : null,
    replaces: replaces ?? null,
    prefix,
    secretSha256: secretHash(secret),
    note: input.note ?? null,
    expiresAt: input.expiresAt ?? null,
  });
  await tx.flush();
  await tx.refresh(row);
  return { text: `sbk_${prefix}_${secret}`, row };
}

const knownScopes: ReadonlySet<string> = new Set([readScope, ...actions]);
const siteName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function checkToken(input: CreateToken): void {
  if (input.principal === '' || input.principal.length > 128 || !isLine(input.principal)) {
    throw badInput('principal', input.principal, 'a name of 1 to 128 printable characters');
  }
  const unknown = input.roles.find((role) => !roles.includes(role as Role));
  if (input.roles.length === 0 || unknown !== undefined) {
    throw badInput('roles', input.roles, `give at least one of ${roles.join(', ')}`);
  }
  if (input.expiresAt && input.expiresAt.getTime() <= Date.now()) {
    throw badInput('expiresAt', input.expiresAt, 'a moment in the future, or nothing');
  }
  const { scopes, sites } = input;
  const strange = scopes?.find((scope) => !knownScopes.has(scope));
  if (scopes?.length === 0 || strange !== undefined) {
    const way = `${readScope}, or actions of docs/access.md (registerFiles for one); leave it out for all that the roles allow`;
    throw badInput('scopes', strange ?? scopes, way);
  }
  const odd = sites?.find((site) => !siteName.test(site));
  if (sites?.length === 0 || (sites?.length ?? 0) > 100 || odd !== undefined) {
    throw badInput('sites', odd ?? sites, '1 to 100 names of sites, or nothing for every site');
  }
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

/** Prefixes of tokens by id; the caller has looked whether they may be seen. */
export async function prefixesOf(db: Db, ids: readonly number[]): Promise<Map<number, string>> {
  const found = await rows(
    db.fork(),
    sql<{
      id: number;
      prefix: string;
    }>`select id, prefix from tokens where id = any (${[...ids]}::bigint[])`,
  );
  return new Map(found.map(({ id, prefix }) => [id, prefix]));
}

export interface RevokeToken {
  readonly prefix: string;
  /** What came of it by rotation, too. */
  readonly withSuccessors: boolean;
}

export interface Revoked {
  readonly row: TokenRow;
  /** What came of it by rotation, and of that, as far as it stood until now; the first ones first. */
  readonly successors: TokenRow[];
  /** Whether anything was ended. */
  readonly changed: boolean;
}

/** So many are told; all are ended: a thief may rotate again and again while the grace lasts. */
const mostSuccessors = 1000;

/** Ends a token, by its prefix, and if that is wanted what came of it. NOT_FOUND. */
export async function revokeToken(
  db: Db,
  viewer: Viewer,
  { prefix, withSuccessors }: RevokeToken,
): Promise<Revoked> {
  demand(viewer, 'manageTokens');
  return inTransaction(db, viewer, async (tx) => {
    const [row, ...all] = await lockChain(tx, prefix);
    if (row === undefined) {
      throw new SweepbookError('NOT_FOUND', `no token with the prefix ${prefix}`, { prefix });
    }
    const successors = all.filter((token) => endOf(token) === undefined);
    const ended = [row, ...(withSuccessors ? successors : [])].filter((token) => !token.revokedAt);
    for (const token of ended) token.revokedAt = new Date();
    await tx.flush();
    return { row, successors: successors.slice(0, mostSuccessors), changed: ended.length > 0 };
  });
}

/**
 * A token and what came of it by rotation, held against further rotation: who rotates a token holds it, so that each of
 * them is either seen here or finds its token ended.
 */
async function lockChain(tx: Db, prefix: string): Promise<TokenRow[]> {
  const chain = sql<{ id: number }>`
    with recursive chain (id) as (
      select id from tokens where prefix = ${prefix}
      union select next.id from tokens next join chain on next.replaces = chain.id
    ) select id from chain`;
  for (let known = 0; ;) {
    const ids = (await rows(tx, chain)).map((found) => found.id);
    if (ids.length === known) {
      return tx.find(TokenEntity, { id: { $in: ids } }, { orderBy: { id: 'asc' }, refresh: true });
    }
    known = ids.length;
    await rows(
      tx,
      sql<{
        id: number;
      }>`select id from tokens where id = any (${ids}::bigint[]) order by id for update`,
    );
  }
}

export interface RotateToken {
  /** Of which token; nothing = the one that is shown. */
  readonly prefix?: string | null | undefined;
  /** How long the old one is still good, for whoever has not got the new one yet. */
  readonly graceSeconds: number;
}

const longestGraceSeconds = 30 * 86_400;

/**
 * A new token for the same use. The old one ends when its grace is over. What its holder rotates ends when the old one
 * would have ended: nobody prolongs his own. NOT_FOUND.
 */
export async function rotateToken(
  db: Db,
  viewer: Viewer,
  { prefix, graceSeconds }: RotateToken,
): Promise<{ text: string; row: TokenRow; replaced: TokenRow }> {
  const own = viewer.credential?.kind === 'TOKEN' ? viewer.credential.prefix : undefined;
  const wanted = prefix ?? own;
  demand(viewer, 'rotateToken', wanted !== undefined && wanted === own ? viewer.principal : {});
  if (!Number.isInteger(graceSeconds) || graceSeconds < 0 || graceSeconds > longestGraceSeconds) {
    throw badInput('graceSeconds', graceSeconds, `0 to ${longestGraceSeconds}`);
  }
  return inTransaction(db, viewer, async (tx) => {
    const old = await tx.findOne(
      TokenEntity,
      { prefix: wanted ?? '' },
      { lockMode: LockMode.PESSIMISTIC_WRITE },
    );
    if (!old || endOf(old) !== undefined) {
      throw new SweepbookError('NOT_FOUND', `no token that stands has the prefix ${wanted}`, {
        prefix: wanted,
      });
    }
    const made = await insertToken(tx, { ...old, principal: old.principal }, old.id);
    const graceEnd = new Date(Date.now() + graceSeconds * 1000);
    if (graceSeconds === 0) old.revokedAt = new Date();
    else if (!old.expiresAt || old.expiresAt > graceEnd) old.expiresAt = graceEnd;
    await tx.flush();
    return { ...made, replaced: old };
  });
}

/** So long who came with a JWT keeps what goes on without him. */
const standingDays = 30;

/**
 * What a principal may do now, by all his tokens that stand and that read, and by what his issuer last said of him;
 * undefined = nothing.
 */
export async function standingOf(db: Db, principal: string): Promise<Viewer | undefined> {
  const row = await firstRow(
    db,
    sql<{ roles: Role[] | null }>`
    select array_agg(distinct role) as roles from (
      select unnest(roles) as role from tokens
      where principal = ${principal} and revoked_at is null and (expires_at is null or expires_at > now())
        and (scopes is null or scopes @> array[${readScope}])
        and not exists (select from identities where principal = ${principal} and blocked_at is not null)
      union all
      select unnest(roles) from identities
      where principal = ${principal} and blocked_at is null
        and last_seen_at > now() - make_interval(days => ${standingDays})) s`,
  );
  return row?.roles ? { principal, roles: row.roles } : undefined;
}
