import { z } from 'zod';
import type { SweepbookError } from '../errors.ts';
import { readYamlFile } from '../yaml-file.ts';
import { roles, type Role } from './policy.ts';
import { readCapability, type Capability } from './scope-paths.ts';

/** Signatures that are taken: of key pairs alone. A shared secret, or none, signs nothing here. */
const algorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
] as const;
export type Algorithm = (typeof algorithms)[number];

/** Which rules its tokens follow. */
export type Profile = 'oidc' | 'wlcg' | 'scitokens';

/** Who fits it has these roles, at these sites (undefined = every site). */
export interface Rule {
  /** Everything that is given has to fit. */
  readonly group: string | undefined;
  readonly scope: Capability | undefined;
  readonly subject: string | undefined;
  readonly claims: Readonly<Record<string, string>>;
  readonly roles: readonly Role[];
  readonly sites: readonly string[] | undefined;
}

/** An issuer whose tokens are taken. */
export interface Issuer {
  /** Part of the principal's name: `sub@name`. */
  readonly name: string;
  /** `iss` of its tokens, to the letter. */
  readonly issuer: string;
  readonly profile: Profile;
  readonly audience: readonly string[];
  /** Tokens that name no particular audience are taken as well. */
  readonly anyAudience: boolean;
  readonly algorithms: readonly Algorithm[];
  /** Where its keys are; undefined = its metadata says it. */
  readonly keysUrl: string | undefined;
  readonly keysSeconds: number;
  /** The claim that the principal is called by. */
  readonly nameClaim: string;
  readonly groupsClaim: string;
  /** Groups that it may speak of to others, and those below them; undefined = all. Its rules know all of them. */
  readonly vouchesFor: readonly string[] | undefined;
  readonly longestSeconds: number;
  readonly skewSeconds: number;
  readonly rules: readonly Rule[];
}

/** What SWEEPBOOK_ISSUERS says. */
export interface IssuersFile {
  readonly issuers: ReadonlyMap<string, Issuer>;
}

/** https, or plain http on this very host: whoever stands between could sign whatever he likes. */
function isTrustworthy(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, hash, search } = new URL(text);
  if (username || password || hash || search) return false;
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname));
}
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);

const address = z
  .string()
  .max(1000)
  .refine(
    isTrustworthy,
    'an https:// address (http:// for this host alone) without user and query',
  );
const word = z.string().min(1).max(255);
const seconds = (least: number, most: number, otherwise: number) =>
  z.number().int().min(least).max(most).default(otherwise);

const rule = z
  .strictObject({
    group: word.optional(),
    scope: word
      .transform((text, ctx) => {
        const capability = readCapability(text);
        if (!capability) ctx.addIssue('a scope like storage.modify:/path, or a plain word');
        return capability;
      })
      .optional(),
    subject: word.optional(),
    claims: z.record(word, word).default({}),
    everybody: z.literal(true).optional(),
    roles: z.array(z.enum(roles)).min(1),
    sites: z
      .array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/))
      .min(1)
      .max(100)
      .optional(),
  })
  .refine(
    ({ group, scope, subject, claims, everybody }) =>
      [group, scope, subject, everybody].some(Boolean) || Object.keys(claims).length > 0,
    'name whom it is for: group, scope, subject, claims, or everybody: true',
  );

const day = 86_400;
const issuersFile = z.strictObject({
  audience: z.array(word).max(20).default([]),
  issuers: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/),
        issuer: address,
        profile: z.enum(['oidc', 'wlcg', 'scitokens']),
        audience: z.array(word).min(1).max(20).optional(),
        anyAudience: z.boolean().default(false),
        algorithms: z.array(z.enum(algorithms)).min(1).default(['RS256', 'ES256']),
        keysUrl: address.optional(),
        keysSeconds: seconds(1, 4 * day, 3600),
        nameClaim: word.default('sub'),
        groupsClaim: word.optional(),
        vouchesFor: z.array(word).max(100).optional(),
        longestSeconds: seconds(60, 30 * day, day / 4),
        skewSeconds: seconds(0, 300, 60),
        rules: z.array(rule).max(1000).default([]),
      }),
    )
    .min(1)
    .max(100),
});

/** The issuers file (YAML). BAD_USER_INPUT names the line, the field and what was expected. */
export function readIssuersFile(path: string): IssuersFile {
  const { value, refuse } = readYamlFile(
    { path, what: 'issuers file', setting: 'SWEEPBOOK_ISSUERS' },
    issuersFile,
  );
  const issuers = new Map<string, Issuer>();
  for (const given of value.issuers) {
    const { groupsClaim, audience = value.audience, keysUrl, vouchesFor, rules, ...rest } = given;
    demandOnce(issuers, given, refuse);
    if (audience.length === 0) {
      throw refuse(`${given.name}: name the audience of its tokens, your own address for one`);
    }
    if (given.profile === 'wlcg' && groupsClaim !== undefined) {
      throw refuse(`${given.name}: groups of the WLCG profile stand in wlcg.groups`);
    }
    issuers.set(given.issuer, {
      ...rest,
      audience,
      keysUrl,
      vouchesFor,
      groupsClaim: groupsClaim ?? (given.profile === 'wlcg' ? 'wlcg.groups' : 'groups'),
      rules: rules.map(({ group, scope, subject, claims, roles: allowed, sites }) => ({
        group,
        scope,
        subject,
        claims,
        roles: allowed,
        sites,
      })),
    });
  }
  return { issuers };
}

function demandOnce(
  known: ReadonlyMap<string, Issuer>,
  { name, issuer }: { name: string; issuer: string },
  refuse: (why: string) => SweepbookError,
): void {
  for (const other of known.values()) {
    // Two people would have one name.
    if (other.name === name) throw refuse(`two issuers are called ${name}`);
    if (other.issuer === issuer) throw refuse(`${issuer} stands there twice`);
  }
}
