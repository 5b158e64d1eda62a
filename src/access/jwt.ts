import {
  decodeJwt,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type CryptoKey,
  type JWTPayload,
  type JWTVerifyOptions,
} from 'jose';
import { shown, SweepbookError } from '../errors.ts';
import type { KeySource } from './issuer-keys.ts';
import type { Issuer } from './issuers-file.ts';
import { unknownViewer } from './audit-trail.ts';
import { KnownRefusal, type Credential, type Role, type RoleSites } from './policy.ts';
import { covers, readCapability, type Capability } from './scope-paths.ts';
import { isLine } from '../text.ts';

/** What a JWT says that was found to be true. */
export interface Claims {
  readonly issuer: Issuer;
  readonly subject: string;
  /** The principal's name at his issuer. */
  readonly name: string;
  readonly jti: string | undefined;
  readonly expiresAt: Date;
  readonly groups: readonly string[];
  readonly scopes: readonly string[];
  readonly payload: JWTPayload;
}

/** Longer ones are looked at by nobody. */
const longestToken = 12 * 1024;
const form = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const anyAudience = { wlcg: 'https://wlcg.cern.ch/jwt/v1/any', scitokens: 'ANY' } as const;
/** An ID token or an access token; what else an issuer signs is for others. */
const tokenTypes = new Set(['jwt', 'at+jwt']);
const mostGroups = 500;
/** As long as the database and the trail keep them. */
const longest = { subject: 1000, jti: 1000, group: 255 } as const;

/** Claims are whatever their issuer wrote: a text of one line, or nothing that could be kept or shown. */
const isWord = (value: unknown, most: number): value is string =>
  typeof value === 'string' && value !== '' && value.length <= most && isLine(value);

export const looksLikeJwt = (text: string): boolean => form.test(text);

const refused = (why: string) => new SweepbookError('UNAUTHENTICATED', `the token ${why}`);

/** The issuer that a token names, if it is trusted: before anything is fetched, and before anything else is believed. */
export function issuerOf(issuers: ReadonlyMap<string, Issuer>, text: string): Issuer {
  if (text.length > longestToken) throw refused(`has more than ${longestToken} characters`);
  let named: unknown;
  try {
    named = decodeJwt(text).iss;
  } catch {
    throw refused('cannot be read: ask for a new one');
  }
  const issuer = typeof named === 'string' ? issuers.get(named) : undefined;
  if (!issuer) throw refused('is of an issuer that is not trusted here');
  return issuer;
}

/** The same for one whose signature holds: so its issuer has said whose it is. */
function refusedOf({ issuer }: Issuer, { sub: subject, jti }: JWTPayload, why: string): Error {
  if (!isWord(subject, longest.subject)) return refused(why);
  const known = isWord(jti, longest.jti) ? jti : undefined;
  const credential = { kind: 'JWT', issuer, subject, jti: known } as const;
  return new KnownRefusal(`the token ${why}`, { ...unknownViewer, credential });
}

/** Checks a token of this issuer by the rules of its profile. UNAUTHENTICATED, or UNAVAILABLE without its keys. */
export async function readJwt(issuer: Issuer, keys: KeySource, text: string): Promise<Claims> {
  const { profile, skewSeconds } = issuer;
  const { kid, typ = 'JWT' } = headerOf(text);
  if (profile === 'wlcg' && (typeof kid !== 'string' || kid === '')) {
    throw refused('does not name its key (kid)');
  }
  if (typeof typ !== 'string' || !tokenTypes.has(typ.toLowerCase().replace(/^application\//, ''))) {
    throw refused(`is of the type ${shown(typ)}`);
  }
  const payload = await verified(issuer, keys, text);
  const now = Date.now() / 1000;
  const { iat, exp = 0 } = payload;
  if (iat !== undefined && iat > now + skewSeconds) throw refused('was issued in the future');
  if (exp - (iat ?? now) > issuer.longestSeconds + skewSeconds) {
    throw refused(`is good for longer than ${issuer.longestSeconds} s: ask for a shorter one`);
  }
  const scopes = scopesOf(payload);
  demandProfile(issuer, payload, scopes);
  const { sub, jti } = payload as Record<string, unknown>;
  if (!isWord(sub, longest.subject)) throw refused('says no subject (sub) of one line');
  if (jti !== undefined && !isWord(jti, longest.jti)) throw refused('has a jti that is no word');
  const name = payload[issuer.nameClaim];
  if (typeof name !== 'string' || name === '' || !isLine(name)) {
    throw refused(`says no name (${issuer.nameClaim})`);
  }
  if (`${name}@${issuer.name}`.length > 128) throw refused('has a name that is too long');
  return {
    issuer,
    subject: sub,
    name,
    jti,
    expiresAt: new Date(exp * 1000),
    groups: groupsOf(payload[issuer.groupsClaim]),
    scopes,
    payload,
  };
}

/** What stands in the header; nobody has vouched for it, nor for what kind of thing it is. */
function headerOf(text: string): { readonly kid?: unknown; readonly typ?: unknown } {
  try {
    return decodeProtectedHeader(text);
  } catch {
    throw refused('cannot be read: ask for a new one');
  }
}

async function verified(issuer: Issuer, keys: KeySource, text: string): Promise<JWTPayload> {
  const { profile, audience, algorithms, skewSeconds } = issuer;
  const any = issuer.anyAudience && profile !== 'oidc' ? [anyAudience[profile]] : [];
  const always = ['sub', 'exp', 'iss', 'aud'];
  const demands: JWTVerifyOptions = {
    issuer: issuer.issuer,
    audience: [...audience, ...any],
    algorithms: [...algorithms],
    clockTolerance: skewSeconds,
    requiredClaims: {
      oidc: [...always, 'iat'],
      wlcg: [...always, 'iat', 'jti', 'wlcg.ver'],
      scitokens: [...always, 'ver'],
    }[profile],
  };
  try {
    const { payload } = await jwtVerify(text, (header, token) => keys.find(header, token), demands);
    return payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw told(error, issuer);
    return verifiedByOneOf(error, text, demands).catch((why: unknown) => {
      throw told(why, issuer);
    });
  }
}

/** It does not say which key it is signed with, and there are several, as there are while one follows another. */
async function verifiedByOneOf(
  keys: AsyncIterable<CryptoKey>,
  text: string,
  demands: JWTVerifyOptions,
): Promise<JWTPayload> {
  for await (const key of keys) {
    try {
      return (await jwtVerify(text, key, demands)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
    }
  }
  throw new errors.JWSSignatureVerificationFailed();
}

/** What jose found, in words for who has the token. */
function told(error: unknown, issuer: Issuer): unknown {
  const { audience } = issuer;
  if (error instanceof errors.JWTExpired) {
    const { exp } = error.payload;
    const at = exp === undefined ? '' : ` at ${new Date(exp * 1000).toISOString()}`;
    return refusedOf(issuer, error.payload, `expired${at}: ask for a new one`);
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim, payload, reason } = error;
    if (claim === 'aud' && reason !== 'missing')
      return refusedOf(issuer, payload, `is for another audience than ${audience.join(', ')}`);
    return refusedOf(
      issuer,
      payload,
      reason === 'missing'
        ? `lacks the claim ${claim}`
        : `does not hold: ${claim} is not as it must be`,
    );
  }
  if (error instanceof errors.JOSEAlgNotAllowed)
    return refused('is signed in a way that is not taken');
  if (error instanceof errors.JWKSNoMatchingKey) return refused('is signed by an unknown key');
  if (error instanceof errors.JOSEError) return refused('does not hold: its signature is wrong');
  // Too short, or nothing at all: what its issuer has published is no key.
  if (error instanceof TypeError || error instanceof DOMException) {
    return refused('is signed by a key that cannot be used: tell its issuer');
  }
  return error;
}

function demandProfile({ profile }: Issuer, payload: JWTPayload, scopes: readonly string[]): void {
  if (profile === 'wlcg' && !isVersion(payload['wlcg.ver'], /^1\.\d+$/)) {
    throw refused('is of an unknown version of the WLCG profile');
  }
  // By the profile such a token is to be rejected as a whole.
  const bare = scopes.find((scope) => /^storage\.[a-z]+$/.test(scope));
  if (profile === 'wlcg' && bare !== undefined) throw refused(`has ${bare} without a path`);
  if (profile === 'scitokens' && !isVersion(payload['ver'], /^scitokens?:2\.\d+$/)) {
    throw refused('is of an unknown version of SciTokens');
  }
}
const isVersion = (value: unknown, known: RegExp) => typeof value === 'string' && known.test(value);

function scopesOf({ scope, scp }: JWTPayload): string[] {
  const given = scope ?? scp;
  const list = typeof given === 'string' ? given.split(' ') : Array.isArray(given) ? given : [];
  return list.filter((word): word is string => typeof word === 'string' && word !== '');
}

/** As they stand there, in their order; a group of a group says nothing of that one. */
function groupsOf(claim: unknown): string[] {
  if (!Array.isArray(claim)) return [];
  const groups = claim.filter((group) => isWord(group, longest.group));
  if (groups.length > mostGroups) throw refused(`names more than ${mostGroups} groups`);
  return groups;
}

/** How scopes with a path begin; of OIDC any word may. */
const pathScopes: Partial<Record<Issuer['profile'], RegExp>> = {
  wlcg: /^storage\.[a-z]+:/,
  scitokens: /^(read|write):/,
};

/** The groups that count where something is shared with one: issuers may call theirs alike. */
export const vouchedGroups = ({ issuer: { vouchesFor }, groups }: Claims): readonly string[] =>
  vouchesFor === undefined
    ? groups
    : groups.filter((group) =>
        vouchesFor.some((one) => group === one || group.startsWith(`${one.replace(/\/$/, '')}/`)),
      );

/** By what its holder is known. */
export const credentialOf = ({ issuer, subject, jti }: Claims): Credential => ({
  kind: 'JWT',
  issuer: issuer.issuer,
  subject,
  jti,
});

/** What the rules of the issuer give to this token. None that fits: it is known, and may what everybody may. */
export function grantsOf(claims: Claims): { roles: Role[]; sites: RoleSites | undefined } {
  const { rules } = claims.issuer;
  const granted = claims.scopes.flatMap((scope) => readCapability(scope) ?? []);
  // Who tells what may be done means just that, also where it cannot be read: then the groups are not asked.
  const { scopes } = claims;
  const isCapable =
    rules.some(({ scope }) => scope !== undefined) &&
    (granted.some(({ path }) => path !== undefined) ||
      scopes.some((scope) => pathScopes[claims.issuer.profile]?.test(scope)));
  const found = new Map<Role, Set<string> | 'every'>();
  for (const rule of rules) {
    if (isCapable && rule.group !== undefined && rule.scope === undefined) continue;
    if (!fits(rule, claims, granted)) continue;
    for (const role of rule.roles) {
      const known = found.get(role);
      if (rule.sites === undefined) found.set(role, 'every');
      else if (known !== 'every') found.set(role, new Set([...(known ?? []), ...rule.sites]));
    }
  }
  const bound = [...found].flatMap(([role, sites]) =>
    sites === 'every' ? [] : [[role, [...sites]] as const],
  );
  return {
    roles: [...found.keys()],
    sites: bound.length === 0 ? undefined : Object.fromEntries(bound),
  };
}

function fits(
  rule: Issuer['rules'][number],
  { groups, subject, payload }: Claims,
  granted: readonly Capability[],
): boolean {
  const { group, scope, subject: named } = rule;
  if (group !== undefined && !groups.includes(group)) return false;
  if (named !== undefined && named !== subject) return false;
  if (scope !== undefined && !granted.some((capability) => covers(capability, scope))) return false;
  return Object.entries(rule.claims).every(([claim, value]) => {
    const said = payload[claim];
    return said === value || (Array.isArray(said) && said.includes(value));
  });
}
