import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { badInput, SweepbookError } from '../errors.ts';
import { credentialOf, type Claims } from './jwt.ts';
import { unknownViewer } from './audit-trail.ts';
import { demand, KnownRefusal, type Role, type RoleSites, type Viewer } from './policy.ts';

interface Known {
  readonly principal: string;
  readonly blockedReason: string | null;
  readonly isStale: boolean;
}

export interface Seen {
  readonly claims: Claims;
  readonly roles: readonly Role[];
  readonly sites: RoleSites | undefined;
  readonly from: string | undefined;
}

/** As often as this it is written down that somebody came. */
const touchEverySeconds = 60;

/**
 * The principal of who came with a JWT: the name that the subject had when he was first seen. UNAUTHENTICATED when he is
 * blocked, or when his name belongs to another subject: names are given to others, subjects are not.
 */
export async function rememberIdentity(db: Db, seen: Seen): Promise<string> {
  const { issuer, name } = seen.claims;
  const principal = `${name}@${issuer.name}`;
  const known = (await look(db, seen)) ?? (await add(db, seen, principal));
  if (!known) {
    throw refusal(
      seen,
      unknownViewer.principal,
      `${principal} is known here as another subject of ${issuer.issuer}: ask an admin`,
    );
  }
  if (known.blockedReason !== null) {
    throw refusal(seen, known.principal, `${known.principal} is kept out: ${known.blockedReason}`);
  }
  if (known.isStale) await touch(db, seen);
  return known.principal;
}

const refusal = ({ claims, roles }: Seen, principal: string, why: string) =>
  new KnownRefusal(why, { principal, roles, credential: credentialOf(claims) });

/** Which of these principals are kept out. */
export async function blockedAmong(db: Db, principals: readonly string[]): Promise<Set<string>> {
  if (principals.length === 0) return new Set();
  const found = await rows(
    db.fork(),
    sql<{ principal: string }>`select principal from identities
      where blocked_at is not null and principal = any (${[...principals]}::text[])`,
  );
  return new Set(found.map((row) => row.principal));
}

const rights = ({ claims, roles, sites }: Seen) => ({
  roles: [...roles].toSorted(),
  groups: [...claims.groups],
  sites: sites === undefined ? null : JSON.stringify(sites),
});

async function look(db: Db, seen: Seen): Promise<Known | undefined> {
  const { roles, groups, sites } = rights(seen);
  return firstRow(
    db.fork(),
    sql<Known>`select principal, blocked_reason as "blockedReason",
        (last_seen_at < now() - make_interval(secs => ${touchEverySeconds})
          or (roles, groups, sites) is distinct from (${roles}::text[], ${groups}::text[], ${sites}::jsonb)) as "isStale"
      from identities where issuer = ${seen.claims.issuer.issuer} and subject = ${seen.claims.subject}`,
  );
}

async function add(db: Db, seen: Seen, principal: string): Promise<Known | undefined> {
  const { roles, groups, sites } = rights(seen);
  const { issuer, subject } = seen.claims;
  await rows(
    db.fork(),
    sql`insert into identities (principal, issuer, subject, roles, groups, sites, last_seen_from)
      values (${principal}, ${issuer.issuer}, ${subject}, ${roles}::text[], ${groups}::text[], ${sites}::jsonb,
        ${seen.from ?? null})
      on conflict do nothing`,
  );
  return look(db, seen);
}

async function touch(db: Db, seen: Seen): Promise<void> {
  const { roles, groups, sites } = rights(seen);
  await rows(
    db.fork(),
    sql`update identities set roles = ${roles}::text[], groups = ${groups}::text[], sites = ${sites}::jsonb,
        last_seen_at = now(), last_seen_from = ${seen.from ?? null}
      where issuer = ${seen.claims.issuer.issuer} and subject = ${seen.claims.subject}`,
  );
}

export interface IdentityRow {
  readonly principal: string;
  readonly issuer: string;
  readonly subject: string;
  readonly roles: Role[];
  readonly sites: RoleSites | null;
  readonly groups: string[];
  readonly firstSeenAt: Date;
  readonly lastSeenAt: Date;
  readonly lastSeenFrom: string | null;
  readonly blockedAt: Date | null;
  readonly blockedBy: string | null;
  readonly blockedReason: string | null;
}

const columns = sql`i.principal, i.issuer, i.subject, i.roles, i.sites, i.groups, i.first_seen_at as "firstSeenAt",
  i.last_seen_at as "lastSeenAt", i.last_seen_from as "lastSeenFrom", i.blocked_at as "blockedAt",
  i.blocked_by as "blockedBy", i.blocked_reason as "blockedReason"`;

/** Who came with a JWT, by name. */
export async function listIdentities(
  db: Db,
  viewer: Viewer,
  page: PageArguments,
): Promise<Page<IdentityRow>> {
  demand(viewer, 'manageIdentities');
  return readPage<IdentityRow>(
    db,
    {
      order: 'identities:principal',
      keys: [{ sql: sql`i.principal`, type: 'text' }],
      select: columns,
      from: sql`identities i`,
      where: sql`true`,
    },
    page,
  );
}

/** Keeps somebody out (a reason), or lets him in again (null); NOT_FOUND for who never came. */
export async function blockIdentity(
  db: Db,
  viewer: Viewer,
  principal: string,
  reason: string | null,
): Promise<{ identity: IdentityRow; changed: boolean }> {
  demand(viewer, 'manageIdentities');
  const why = reason?.trim() ?? null;
  if (why === '' || (why?.length ?? 0) > 2000) {
    throw badInput('reason', reason, 'say why, in 1 to 2000 characters');
  }
  return inTransaction(db, viewer, async (tx) => {
    const changed = await changedRows(
      tx,
      why === null
        ? sql`update identities set blocked_at = null, blocked_by = null, blocked_reason = null
            where principal = ${principal} and blocked_at is not null`
        : sql`update identities set blocked_at = now(), blocked_by = ${viewer.principal}, blocked_reason = ${why}
            where principal = ${principal} and blocked_at is null`,
    );
    const identity = await firstRow(
      tx,
      sql<IdentityRow>`select ${columns} from identities i where i.principal = ${principal}`,
    );
    if (!identity) {
      throw new SweepbookError(
        'NOT_FOUND',
        `nobody called ${principal} ever came: look at the list`,
        {
          principal,
        },
      );
    }
    return { identity, changed: changed > 0 };
  });
}
