import { createHmac } from 'node:crypto';
import { generateKeyPair, SignJWT, type JWK } from 'jose';
import {
  oidcClaims,
  sciClaims,
  wlcgClaims,
  type Claims,
  type Signed,
  type TestIssuer,
} from '../support/issuer.ts';

/** Issuers as a server knows them that is called https://book.example.org. */
export interface Issuers {
  /** Takes tokens for anybody. */
  readonly wlcg: TestIssuer;
  readonly oidc: TestIssuer;
  readonly sci: TestIssuer;
  /** Nobody trusts it. */
  readonly stranger: TestIssuer;
  /** Of the WLCG profile, too, for tokens that are meant for us. */
  readonly strict: TestIssuer;
}

const now = () => Math.floor(Date.now() / 1000);

/** HS256 with what everybody knows, the public key, as the secret. */
function confused(key: JWK, claims: object): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg: 'HS256', kid: key.kid })}.${encode(claims)}`;
  const mac = createHmac('sha256', JSON.stringify(key)).update(text).digest('base64url');
  return `${text}.${mac}`;
}
const unsigned = (kid: string, claims: object) =>
  [{ alg: 'none', kid }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
    .concat('.AA');
/** Tokens that are refused: what is wrong with each, what is said of that, and how it is made. */
export function wrongTokens(of: () => Issuers): [string, RegExp, () => string | Promise<string>][] {
  const signed = (more: Claims, how?: Signed) => of().wlcg.sign(wlcgClaims(of().wlcg, more), how);
  return [
    ['has ended', /expired at 20/, () => signed({ exp: now() - 120 })],
    ['is not good yet', /nbf/, () => signed({ nbf: now() + 600 })],
    ['comes from the future', /future/, () => signed({ iat: now() + 600 })],
    ['lives too long', /longer than 21600 s/, () => signed({ exp: now() + 86_400 })],
    ['is for others', /another audience/, () => signed({ aud: 'https://store.example.org' })],
    [
      'is for ours in other letters',
      /another audience/,
      () => signed({ aud: 'https://BOOK.example.org' }),
    ],
    ['has a strange version', /unknown version/, () => signed({ 'wlcg.ver': '2.0' })],
    ['has a bare scope', /storage.read without a path/, () => signed({ scope: 'storage.read' })],
    ['has a subject of two lines', /says no subject/, () => signed({ sub: 'a\nb' })],
    ['has an endless subject', /too long/, () => signed({ sub: 'x'.repeat(200) })],
    ['names no key', /kid/, () => signed({}, { header: { kid: undefined } })],
    ['names an unknown key', /unknown key/, () => signed({}, { header: { kid: 'key-99' } })],
    [
      'is no access token',
      /of the type "logout\+jwt"/,
      () => signed({}, { header: { typ: 'logout+jwt' } }),
    ],
    ['is of a stranger', /not trusted/, () => of().stranger.sign(wlcgClaims(of().stranger))],
    [
      'says it is of another',
      /does not hold|unknown key/,
      () => of().stranger.sign(wlcgClaims(of().wlcg)),
    ],
    [
      'brings its key',
      /does not hold|unknown key/,
      () => of().stranger.sign(wlcgClaims(of().wlcg), { header: { jwk: of().stranger.key.jwk } }),
    ],
    [
      'says where its key is',
      /does not hold|unknown key/,
      () =>
        of().stranger.sign(wlcgClaims(of().wlcg), { header: { jku: `${of().stranger.url}/keys` } }),
    ],
    [
      'says where its certificate is',
      /does not hold|unknown key/,
      () =>
        of().stranger.sign(wlcgClaims(of().wlcg), { header: { x5u: `${of().stranger.url}/keys` } }),
    ],
    [
      'has its key at an address',
      /unknown key/,
      () =>
        of().stranger.sign(wlcgClaims(of().wlcg), { header: { kid: `${of().stranger.url}/keys` } }),
    ],
    [
      'is signed on another curve',
      /not taken/,
      async () => {
        const { privateKey } = await generateKeyPair('ES384');
        const header = { alg: 'ES384', kid: of().wlcg.key.kid };
        return new SignJWT(wlcgClaims(of().wlcg)).setProtectedHeader(header).sign(privateKey);
      },
    ],
    [
      'is signed by a public secret',
      /not taken/,
      () => confused(of().wlcg.key.jwk, wlcgClaims(of().wlcg)),
    ],
    ['is not signed', /not taken/, () => unsigned(of().wlcg.key.kid, wlcgClaims(of().wlcg))],
    [
      'was changed',
      /does not hold/,
      async () =>
        (await signed({})).replace(
          /\.[^.]*\./,
          (part) =>
            `.${Buffer.from(JSON.stringify(wlcgClaims(of().wlcg, { sub: 'the-admin' }))).toString('base64url')}${part.slice(-1)}`,
        ),
    ],
    ...(['aud', 'iat', 'jti', 'wlcg.ver', 'exp', 'sub'] as const).map(
      (claim): [string, RegExp, () => Promise<string>] => [
        `lacks ${claim}`,
        new RegExp(`lacks the claim ${claim}`),
        () => signed({ [claim]: undefined }),
      ],
    ),
    ['of no issuer', /not trusted/, () => signed({ iss: undefined })],
    ['of its issuer with a slash more', /not trusted/, () => signed({ iss: `${of().wlcg.url}/` })],
    [
      'of its issuer in other letters',
      /not trusted/,
      () => signed({ iss: of().wlcg.url.replace('vo', 'v\u043e') }),
    ],
    [
      'of OIDC without iat',
      /lacks the claim iat/,
      () => of().oidc.sign(oidcClaims(of().oidc, { iat: undefined })),
    ],
    [
      'of OIDC without aud',
      /lacks the claim aud/,
      () => of().oidc.sign(oidcClaims(of().oidc, { aud: undefined })),
    ],
    [
      'of SciTokens without ver',
      /lacks the claim ver/,
      () => of().sci.sign(sciClaims(of().sci, { ver: undefined })),
    ],
    [
      'of SciTokens without aud',
      /lacks the claim aud/,
      () => of().sci.sign(sciClaims(of().sci, { aud: undefined })),
    ],
    [
      'of SciTokens for ANY',
      /another audience/,
      () => of().sci.sign(sciClaims(of().sci, { aud: 'ANY' })),
    ],
    [
      'of WLCG for anybody, where it is not wanted',
      /another audience/,
      () => of().strict.sign(wlcgClaims(of().strict, { aud: 'https://wlcg.cern.ch/jwt/v1/any' })),
    ],
    ['says when it ends in words', /exp is not/, () => signed({ exp: 'soon' })],
    [
      'has a subject that is a number',
      /sub/,
      () => of().oidc.sign(oidcClaims(of().oidc, { sub: 17 })),
    ],
    ['has an empty subject', /sub/, () => of().oidc.sign(oidcClaims(of().oidc, { sub: '' }))],
    [
      'has a subject with a NUL',
      /sub/,
      () => of().oidc.sign(oidcClaims(of().oidc, { sub: 'a\0b' })),
    ],
    [
      'has a long subject',
      /sub/,
      () => of().oidc.sign(oidcClaims(of().oidc, { sub: 's'.repeat(1001) })),
    ],
    ['has a jti that is a number', /jti/, () => signed({ jti: 5 })],
    ['has a jti that is half a sign', /jti/, () => signed({ jti: '\ud800' })],
    ['has a type that is no text', /type/, () => signed({}, { header: { typ: 5 } })],
    ['has no type', /type/, () => signed({}, { header: { typ: null } })],
    ['has a key name that is no text', /kid/, () => signed({}, { header: { kid: 5 } })],
    [
      'is no SciToken',
      /unknown version of SciTokens/,
      () => of().sci.sign(sciClaims(of().sci, { ver: 'other:1' })),
    ],
    ['is too long', /characters/, () => signed({ padding: 'x'.repeat(9500) })],
    ['is no JSON', /cannot be read/, () => 'eyJhbGciOiJFUzI1NiJ9.bm90IGpzb24.AAAA'],
  ];
}
