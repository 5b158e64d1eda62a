import { createHash, timingSafeEqual } from 'node:crypto';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import { SweepbookError } from '../errors.ts';
import { KnownRefusal, type Role, type Viewer } from './policy.ts';
import { TokenEntity } from './tokens.entity.ts';

const form = /^sbk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

/** What is kept of the secret of a token. */
export function secretHash(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

interface ShownToken {
  readonly id: number;
  readonly principal: string;
  readonly roles: Role[];
  readonly scopes: string[] | null;
  readonly sites: string[] | null;
  readonly prefix: string;
  readonly secretSha256: string;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  readonly lastUsedAt: Date | null;
  readonly lastUsedFrom: string | null;
  /** Why he in whose name it acts is kept out. */
  readonly blockedReason: string | null;
}

const shownToken = (db: Db, prefix: string) =>
  firstRow(
    db.fork(),
    sql<ShownToken>`
    select t.id, t.principal, t.roles, t.scopes, t.sites, t.prefix, encode(t.secret_sha256, 'hex') as "secretSha256",
      t.expires_at as "expiresAt", t.revoked_at as "revokedAt", t.last_used_at as "lastUsedAt",
      t.last_used_from as "lastUsedFrom",
      (select i.blocked_reason from identities i where i.principal = t.principal) as "blockedReason"
    from tokens t where t.prefix = ${prefix}`,
  );

/** Who shows this token of ours. UNAUTHENTICATED when it is wrong or has ended. */
export async function authenticateToken(
  db: Db,
  text: string,
  from: string | undefined,
): Promise<Viewer> {
  const parts = form.exec(text);
  const row = parts && (await shownToken(db, parts[1] ?? ''));
  const hash = Buffer.from(row?.secretSha256 ?? '', 'hex');
  if (!parts || !row || !timingSafeEqual(hash, secretHash(parts[2] ?? ''))) {
    throw new SweepbookError('UNAUTHENTICATED', 'the token is not known here: ask for a new one');
  }
  const { principal, roles: tokenRoles } = row;
  const credential = { kind: 'TOKEN', id: row.id, prefix: row.prefix } as const;
  const why = endOf(row);
  if (why !== undefined) throw new KnownRefusal(why, { principal, roles: tokenRoles, credential });
  await touchToken(db, row, from);
  return {
    principal,
    roles: tokenRoles,
    credential,
    ...(row.expiresAt ? { expiresAt: row.expiresAt } : {}),
    ...(row.scopes ? { scopes: row.scopes } : {}),
    ...(row.sites
      ? { sites: Object.fromEntries(tokenRoles.map((role) => [role, row.sites ?? []])) }
      : {}),
  };
}

/** What ends a token. */
interface End {
  readonly revokedAt?: Date | null | undefined;
  readonly expiresAt?: Date | null | undefined;
  readonly principal: string;
  readonly blockedReason?: string | null;
}

/** Why a token is not good any more; undefined = it is. */
export function endOf({ revokedAt, expiresAt, principal, blockedReason }: End): string | undefined {
  if (revokedAt) return 'the token has been revoked: ask for a new one';
  if (expiresAt && expiresAt.getTime() <= Date.now()) {
    return `the token expired at ${expiresAt.toISOString()}: ask for a new one`;
  }
  if (blockedReason != null) return `${principal} is kept out: ${blockedReason}`;
  return undefined;
}

/** Which of these tokens have ended, and why; one that is gone has. */
export async function endedTokens(db: Db, ids: readonly number[]): Promise<Map<number, string>> {
  const wanted = [...new Set(ids)];
  if (wanted.length === 0) return new Map();
  const found = await rows(
    db.fork(),
    sql<End & { id: number }>`
    select t.id, t.principal, t.revoked_at as "revokedAt", t.expires_at as "expiresAt",
      i.blocked_reason as "blockedReason"
    from tokens t left join identities i on i.principal = t.principal where t.id = any (${wanted}::bigint[])`,
  );
  const known = new Map(found.map((row) => [row.id, row]));
  return new Map(
    wanted.flatMap((id) => {
      const row = known.get(id);
      const why = row ? endOf(row) : 'the token is not known here any more: ask for a new one';
      return why === undefined ? [] : [[id, why] as const];
    }),
  );
}

/** A token, and when and from where it was last shown. */
interface Used {
  readonly id: number;
  readonly lastUsedAt: Date | null;
  readonly lastUsedFrom: string | null;
}

const touchEveryMs = 60_000;

/** Tokens of connections that are open are in use. */
export async function touchTokens(db: Db, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await rows(
    db.fork(),
    // One that is just being changed is looked at again soon; nobody waits for it.
    sql`update tokens set last_used_at = now() where id in (
      select id from tokens where id = any (${[...new Set(ids)]}::bigint[])
        and last_used_at < now() - make_interval(secs => ${touchEveryMs / 1000}) for update skip locked)`,
  );
}

/** By database, the tokens whose last use is being written. */
const touching = new WeakMap<Db, Set<number>>();

/**
 * Last use, to the minute: a write for every request would cost more than it tells. One of those that ask at once writes
 * it: all of them would wait for each other, and whoever asks next for a connection.
 */
export async function touchToken(
  db: Db,
  { id, lastUsedAt, lastUsedFrom }: Used,
  from: string | undefined,
): Promise<void> {
  if (lastUsedAt && Date.now() - lastUsedAt.getTime() < touchEveryMs) return;
  const underWay = touching.get(db) ?? new Set();
  touching.set(db, underWay);
  if (underWay.has(id)) return;
  underWay.add(id);
  try {
    const use = { lastUsedAt: new Date(), lastUsedFrom: from ?? lastUsedFrom ?? null };
    await db.fork().nativeUpdate(TokenEntity, { id }, use);
  } finally {
    underWay.delete(id);
  }
}
