import type { Db } from '../database/orm.ts';
import { SweepbookError } from '../errors.ts';
import { blockedAmong, rememberIdentity } from './identities.service.ts';
import { IssuerKeys } from './issuer-keys.ts';
import type { IssuersFile } from './issuers-file.ts';
import { credentialOf, grantsOf, issuerOf, looksLikeJwt, readJwt, vouchedGroups } from './jwt.ts';
import { anonymous, type Viewer } from './policy.ts';
import { authenticateToken, endedTokens, touchTokens } from './token-check.service.ts';

/** Somebody on an open connection: who he was found to be, and by what. */
export interface Standing {
  readonly viewer: Viewer;
  readonly token: string | undefined;
}

const tokenIds = (peers: readonly Standing[]) =>
  peers.flatMap(({ viewer: { credential } }) =>
    credential?.kind === 'TOKEN' ? [credential.id] : [],
  );

/** Why a token that was good is not good any more by the clock; undefined = it still is. */
export function expiryOf({ expiresAt }: Viewer): SweepbookError | undefined {
  if (!expiresAt || expiresAt.getTime() > Date.now()) return undefined;
  const why = `the token expired at ${expiresAt.toISOString()}: ask for a new one`;
  return new SweepbookError('UNAUTHENTICATED', why);
}

/** Who shows which token: one of this server, or a JWT of an issuer that is trusted. */
export class Identity {
  private readonly db: Db;
  private readonly file: IssuersFile | undefined;
  private readonly keys = new Map<string, IssuerKeys>();
  /** Of the keys that a viewer was found by. */
  private readonly generations = new WeakMap<Viewer, number>();

  constructor(db: Db, file: IssuersFile | undefined) {
    this.db = db;
    this.file = file;
    for (const issuer of file?.issuers.values() ?? []) {
      this.keys.set(issuer.issuer, new IssuerKeys(issuer));
    }
  }

  /** No token is anonymous, a wrong or ended one is UNAUTHENTICATED; UNAVAILABLE when its issuer does not answer. */
  async authenticate(token: string | undefined, from?: string): Promise<Viewer> {
    if (token === undefined || token === '') return anonymous;
    if (!looksLikeJwt(token)) return authenticateToken(this.db, token, from);
    return this.ofJwt(token, from);
  }

  private async ofJwt(token: string, from: string | undefined): Promise<Viewer> {
    const issuer = issuerOf(this.file?.issuers ?? new Map(), token);
    const keys = this.keys.get(issuer.issuer);
    if (!keys) throw new Error(`no keys for ${issuer.issuer}`);
    // Those it is read by, or older ones: then it is looked at once more.
    const { generation } = keys;
    const claims = await readJwt(issuer, keys, token);
    const { roles, sites } = grantsOf(claims);
    const principal = await rememberIdentity(this.db, { claims, roles, sites, from });
    const viewer: Viewer = {
      principal,
      roles,
      credential: credentialOf(claims),
      expiresAt: claims.expiresAt,
      groups: vouchedGroups(claims),
      ...(sites ? { sites } : {}),
    };
    this.generations.set(viewer, generation);
    return viewer;
  }

  /** They are still in use. */
  async touch(peers: readonly Standing[]): Promise<void> {
    await touchTokens(this.db, tokenIds(peers));
  }

  /** Those whose token stands no longer, each with why. One look at the database for all of them. */
  async ended<Peer extends Standing>(peers: readonly Peer[]): Promise<Map<Peer, SweepbookError>> {
    const ended = new Map<Peer, SweepbookError>();
    const tokens = await endedTokens(this.db, tokenIds(peers));
    const blocked = await blockedAmong(
      this.db,
      peers
        .filter(({ viewer }) => viewer.credential?.kind === 'JWT')
        .map(({ viewer }) => viewer.principal),
    );
    for (const peer of peers) {
      const { credential, principal } = peer.viewer;
      const why =
        credential?.kind === 'TOKEN'
          ? tokens.get(credential.id)
          : blocked.has(principal)
            ? `${principal} is kept out`
            : undefined;
      const error = why ? new SweepbookError('UNAUTHENTICATED', why) : await this.objectionTo(peer);
      if (error) ended.set(peer, error);
    }
    return ended;
  }

  /** A JWT is looked at once more when its issuer has other keys: the one it is signed with may be withdrawn. */
  private async objectionTo({ viewer, token }: Standing): Promise<SweepbookError | undefined> {
    const { credential } = viewer;
    if (credential?.kind !== 'JWT' || token === undefined) return undefined;
    const keys = this.keys.get(credential.issuer);
    // Nobody who is looked at here waits for somebody else's issuer: other keys are seen at the next look.
    void keys?.refresh();
    if (!keys || this.generations.get(viewer) === keys.generation) return undefined;
    const { generation } = keys;
    try {
      const issuer = issuerOf(this.file?.issuers ?? new Map(), token);
      await readJwt(issuer, keys.asKnown, token);
      this.generations.set(viewer, generation);
      return undefined;
    } catch (error) {
      if (error instanceof SweepbookError && error.code === 'UNAUTHENTICATED') return error;
      return undefined;
    }
  }
}
