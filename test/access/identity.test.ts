import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JWTPayload } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readIssuersFile } from '../../src/access/issuers-file.ts';
import { covers, readCapability } from '../../src/access/scope-paths.ts';
import { clientOf } from '../support/client.ts';
import { TestIssuer, wlcgClaims, type Manner, type Signed } from '../support/issuer.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-issuers-'));
let server: TestServer;
let wlcg: TestIssuer;
let oidc: TestIssuer;
let sci: TestIssuer;
/** Nobody trusts it. */
let stranger: TestIssuer;
/** Trusted, and not asked for anything yet. */
let moody: TestIssuer;
const all = () => [wlcg, oidc, sci, stranger, moody];

beforeAll(async () => {
  [wlcg, oidc, sci, stranger, moody] = await Promise.all([
    TestIssuer.open(),
    TestIssuer.open('RS256'),
    TestIssuer.open(),
    TestIssuer.open(),
    TestIssuer.open(),
  ]);
  const file = join(folder, 'issuers.yaml');
  writeFileSync(
    file,
    `audience: [https://book.example.org]
issuers:
  - name: dune
    issuer: ${wlcg.url}
    profile: wlcg
    keysSeconds: 1
    anyAudience: true
    rules:
      - { group: /dune, roles: [USER] }
      - { group: /dune/pro, roles: [PRODUCER, OPERATOR], sites: [SLAC, local] }
      - { scope: storage.modify:/book/john, roles: [DQM] }
      - { subject: the-admin, roles: [ADMIN] }
  - name: sso
    issuer: ${oidc.url}
    profile: oidc
    nameClaim: preferred_username
    rules:
      - { group: shifters, claims: { email_verified: 'yes' }, roles: [DQM] }
      - { everybody: true, roles: [USER] }
  - name: osg
    issuer: ${sci.url}
    profile: scitokens
    rules:
      - { scope: write:/book, roles: [IMPORTER] }
  - name: moody
    issuer: ${moody.url}
    profile: wlcg
    keysSeconds: 1
    rules: []
`,
  );
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false', SWEEPBOOK_ISSUERS: file });
});
afterAll(async () => {
  await Promise.all(all().map((issuer) => issuer.close()));
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

const whoami = '{ viewer { principal roles token { prefix issuer subject scopes sites groups } } }';
interface Who {
  viewer: { principal: string; roles: string[]; token: Record<string, unknown> };
}
const ask = async (token: string) =>
  (await clientOf(server.address, token).call<Who>(whoami)).viewer;
/** Status, code and message of the answer to this token. */
async function answerTo(token: string): Promise<string> {
  const response = await fetch(`${server.address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: whoami }),
  });
  const { errors } = (await response.json()) as {
    errors?: { message: string; extensions: { code: string } }[];
  };
  return `${response.status} ${errors?.[0]?.extensions.code ?? ''} ${errors?.[0]?.message ?? ''}`;
}
const now = () => Math.floor(Date.now() / 1000);
const oidcClaims = (more: JWTPayload = {}) => ({
  iss: oidc.url,
  sub: '17',
  aud: ['other', 'https://book.example.org'],
  iat: now(),
  exp: now() + 600,
  preferred_username: 'shifter',
  ...more,
});
const sciClaims = (more: JWTPayload = {}) => ({
  iss: sci.url,
  sub: 'robot',
  aud: 'https://book.example.org',
  exp: now() + 600,
  ver: 'scitoken:2.0',
  ...more,
});

describe('a token of a trusted issuer is known, and may what the rules say', () => {
  test('WLCG: groups as they are told, a child is not its parent, sites go with the role', async () => {
    const member = await wlcg.sign(wlcgClaims(wlcg, { 'wlcg.groups': ['/dune', '/dune/calib'] }));
    expect(await ask(member)).toEqual({
      principal: 'f81d-physicist@dune',
      roles: ['USER'],
      token: {
        prefix: null,
        issuer: wlcg.url,
        subject: 'f81d-physicist',
        scopes: null,
        sites: null,
        groups: ['/dune', '/dune/calib'],
      },
    });
    const producer = await wlcg.sign(wlcgClaims(wlcg, { 'wlcg.groups': ['/dune/pro'] }));
    expect(await ask(producer)).toMatchObject({
      roles: ['PRODUCER', 'OPERATOR'],
      token: { sites: ['SLAC', 'local'] },
    });
    const nobody = await wlcg.sign(wlcgClaims(wlcg, { 'wlcg.groups': ['/dunes', '/dune/prod'] }));
    expect(await ask(nobody)).toMatchObject({ roles: [] });
    const refused = await clientOf(server.address, nobody).raw('{ stuck { asOf } }');
    expect(refused.errors?.[0]?.extensions.code).toBe('FORBIDDEN');
    const anywhere = { aud: 'https://wlcg.cern.ch/jwt/v1/any', sub: 'the-admin' };
    expect(await ask(await wlcg.sign(wlcgClaims(wlcg, anywhere)))).toMatchObject({
      roles: ['ADMIN'],
    });
  });

  test.each([
    ['storage.modify:/', ['DQM']],
    ['storage.modify:/book', ['DQM']],
    ['openid storage.modify:/book/john/ storage.read:/', ['DQM']],
    ['storage.modify:/book/john/deeper', []],
    ['storage.modify:/book/joh', []],
    ['storage.modify:/boo', []],
    ['storage.modify:/book/../book/john', []],
    ['storage.modify:/book%2fjohn', []],
    ['storage.read:/book/john', []],
    ['storage.create:/', []],
  ])('WLCG: %s gives %j, and the groups are not asked', async (scope, roles) => {
    const claims = wlcgClaims(wlcg, { scope, 'wlcg.groups': ['/dune/pro'] });
    const viewer = await ask(await wlcg.sign(claims));
    // What is no capability at all leaves the groups to say it.
    const isCapability = !/\.\.|%2f/.test(scope);
    expect(viewer.roles).toEqual(isCapability ? roles : ['PRODUCER', 'OPERATOR']);
  });

  test('OIDC: called by the claim that is named, by its first subject only', async () => {
    const shifter = oidcClaims({ groups: ['shifters'], email_verified: 'yes' });
    expect(await ask(await oidc.sign(shifter))).toMatchObject({
      principal: 'shifter@sso',
      roles: ['DQM', 'USER'],
    });
    const plain = oidcClaims({ groups: ['shifters'] });
    expect(await ask(await oidc.sign(plain))).toMatchObject({ roles: ['USER'] });
    const renamed = oidcClaims({ preferred_username: 'other' });
    expect(await ask(await oidc.sign(renamed))).toMatchObject({ principal: 'shifter@sso' });
    const heir = oidcClaims({ sub: '18' });
    expect(await answerTo(await oidc.sign(heir))).toMatch(/^401 UNAUTHENTICATED.*another subject/);
  });

  test('SciTokens: write:/ is what storage.modify is elsewhere', async () => {
    const writer = sciClaims({ scope: 'read:/ write:/' });
    expect(await ask(await sci.sign(writer))).toMatchObject({
      principal: 'robot@osg',
      roles: ['IMPORTER'],
    });
    const reader = sciClaims({ scope: 'read:/ write:/books' });
    expect(await ask(await sci.sign(reader))).toMatchObject({ roles: [] });
  });
});

/** HS256 with what everybody knows, the public key, as the secret. */
function confused(claims: JWTPayload): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg: 'HS256', kid: wlcg.key.kid })}.${encode(claims)}`;
  const mac = createHmac('sha256', JSON.stringify(wlcg.key.jwk)).update(text).digest('base64url');
  return `${text}.${mac}`;
}
const unsigned = (claims: JWTPayload) =>
  [{ alg: 'none', kid: wlcg.key.kid }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
    .concat('.AA');
const signed = (more: JWTPayload, how?: Signed) => wlcg.sign(wlcgClaims(wlcg, more), how);

test.each<[string, RegExp, () => string | Promise<string>]>([
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
  ['has no jti', /lacks the claim jti/, () => signed({ jti: undefined })],
  ['has no version', /lacks the claim wlcg.ver/, () => signed({ 'wlcg.ver': undefined })],
  ['has a strange version', /unknown version/, () => signed({ 'wlcg.ver': '2.0' })],
  ['has no end', /lacks the claim exp/, () => signed({ exp: undefined })],
  ['has no subject', /lacks the claim sub/, () => signed({ sub: undefined })],
  ['has a bare scope', /storage.read without a path/, () => signed({ scope: 'storage.read' })],
  ['has a subject of two lines', /says no name/, () => signed({ sub: 'a\nb' })],
  ['has an endless subject', /too long/, () => signed({ sub: 'x'.repeat(200) })],
  ['names no key', /kid/, () => signed({}, { header: { kid: undefined } })],
  ['names an unknown key', /unknown key/, () => signed({}, { header: { kid: 'key-99' } })],
  [
    'is no access token',
    /of the type logout\+jwt/,
    () => signed({}, { header: { typ: 'logout+jwt' } }),
  ],
  ['is of a stranger', /not trusted/, () => stranger.sign(wlcgClaims(stranger))],
  ['says it is of another', /does not hold|unknown key/, () => stranger.sign(wlcgClaims(wlcg))],
  [
    'brings its key',
    /does not hold|unknown key/,
    () => stranger.sign(wlcgClaims(wlcg), { header: { jwk: stranger.key.jwk } }),
  ],
  [
    'says where its key is',
    /does not hold|unknown key/,
    () => stranger.sign(wlcgClaims(wlcg), { header: { jku: `${stranger.url}/keys` } }),
  ],
  ['is signed by a public secret', /not taken/, () => confused(wlcgClaims(wlcg))],
  ['is not signed', /not taken/, () => unsigned(wlcgClaims(wlcg))],
  [
    'was changed',
    /does not hold/,
    async () =>
      (await signed({})).replace(
        /\.[^.]*\./,
        (part) =>
          `.${Buffer.from(JSON.stringify(wlcgClaims(wlcg, { sub: 'the-admin' }))).toString('base64url')}${part.slice(-1)}`,
      ),
  ],
  ['is no SciToken', /unknown version of SciTokens/, () => sci.sign(sciClaims({ ver: 'other:1' }))],
  ['is too long', /characters/, () => signed({ padding: 'x'.repeat(9500) })],
  ['is no JSON', /cannot be read/, () => 'eyJhbGciOiJFUzI1NiJ9.bm90IGpzb24.AAAA'],
])('a token that %s is refused', async (_what, why, make) => {
  expect(await answerTo(await make())).toMatch(
    new RegExp(`^401 UNAUTHENTICATED .*(?:${why.source})`),
  );
  // Checked before anything is fetched.
  expect(stranger.asked).toEqual([]);
});

test('keys change: a new one is taken at once, a withdrawn one ends what it signed, also on a WebSocket', async () => {
  const old = await signed({ sub: 'rotating' });
  const socket = await openSocket(server.address, old);
  const asked = wlcg.asked.length;
  expect(await answerTo(old)).toMatch(/^200/);
  expect(wlcg.asked.length - asked).toBeLessThanOrEqual(2);
  await wlcg.addKey();
  const fresh = await signed({ sub: 'rotating' });
  await until('the new key is known', async () => (await answerTo(fresh)).startsWith('200'));
  expect(await answerTo(old)).toMatch(/^200/);
  wlcg.withdrawOld();
  await until('the old key is gone', async () => (await answerTo(old)).includes('unknown key'));
  expect(await socket.closed).toMatchObject({ code: 4403 });
  // It does not answer: its keys are known, and good.
  wlcg.manner = 'down';
  await until('it was asked in vain', async () => {
    expect(await answerTo(fresh)).toMatch(/^200/);
    return wlcg.asked.length > asked + 6;
  });
  wlcg.manner = 'well';
});

test.each<Manner>(['down', 'page', 'redirects', 'huge', 'lies', 'shared secret'])(
  'an issuer whose keys are not to be had (%s) is no reason to refuse for good',
  async (manner) => {
    moody.manner = manner;
    const token = await moody.sign(wlcgClaims(moody));
    expect(await answerTo(token)).toMatch(/^503 UNAVAILABLE .*cannot be had right now/);
    const asked = moody.asked.length;
    expect(await answerTo(token)).toMatch(/^503/);
    // Whoever comes meanwhile does not have it asked again.
    expect(moody.asked.length - asked).toBeLessThanOrEqual(1);
  },
);

test('an admin keeps somebody out, whatever his issuer says, also on an open WebSocket', async () => {
  const token = await signed({ sub: 'leaver', 'wlcg.groups': ['/dune'] });
  const socket = await openSocket(server.address, token);
  const list = '{ identities(first: 200) { nodes { principal roles groups blockedReason } } }';
  expect(await server.operator.call(list)).toMatchObject({
    identities: {
      nodes: expect.arrayContaining([
        { principal: 'leaver@dune', roles: ['USER'], groups: ['/dune'], blockedReason: null },
      ]),
    },
  });
  const block = { principal: 'leaver@dune', reason: 'left the collaboration' };
  expect(await mutate(server.operator, 'blockIdentity', block)).toEqual({ changed: true });
  expect(await mutate(server.operator, 'blockIdentity', block)).toEqual({ changed: false });
  expect(await answerTo(token)).toMatch(/^401 .*left the collaboration/);
  expect(await socket.closed).toMatchObject({ code: 4403 });
  const unblock = 'mutation { unblockIdentity(principal: "leaver@dune") { changed } }';
  expect(await server.operator.call(unblock)).toEqual({ unblockIdentity: { changed: true } });
  expect(await answerTo(token)).toMatch(/^200/);
  const unknown = { principal: 'ghost@dune', reason: 'x' };
  expect(await refusalOf(mutate(server.operator, 'blockIdentity', unknown))).toMatchObject({
    code: 'NOT_FOUND',
  });
});

test('what lies at other sites is not for a role that is bound to some', async () => {
  await server.database.sql(
    `insert into sites (name) values ('SLAC'), ('RAL') on conflict do nothing;
     insert into volumes (site_id, name) select id, 'disk-' || name from sites where name in ('SLAC', 'RAL')`,
  );
  const bound = clientOf(server.address, await signed({ 'wlcg.groups': ['/dune/pro'] }));
  const loss = (input: object) =>
    mutate(bound, 'reportStorageLoss', { reason: 'a test', dryRun: true, ...input });
  expect(await loss({ volume: 'disk-SLAC' })).toEqual({ changed: false });
  for (const input of [{ volume: 'disk-RAL' }, { lfns: ['/x'] }]) {
    const { code, message } = await refusalOf(loss(input));
    expect({ code, message }).toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining('at site RAL: the token is good for SLAC, local'),
    });
  }
  await register(bound);
  const place = { lfn: '/bound/file', path: '/data/file' };
  const confirm = (input: object) => mutate(bound, 'confirmReplica', { ...place, ...input });
  expect(await confirm({ site: 'SLAC', volume: 'disk-SLAC' })).toEqual({ changed: true });
  expect(await refusalOf(confirm({ site: 'RAL', volume: 'x' }))).toMatchObject({
    code: 'FORBIDDEN',
    facts: { action: 'confirmReplica' },
  });
});

test('an incident is handled by who is good for every site that it hit', async () => {
  await server.database.sql(
    `insert into sites (name) values ('SLAC'), ('RAL') on conflict do nothing;
     insert into volumes (site_id, name) select id, d || name from sites, unnest('{hit-,whole-}'::text[]) d
       where name in ('SLAC', 'RAL')`,
  );
  const { operator } = server;
  const copyAt = (site: string, lfn: string) => ({
    lfn,
    kind: 'MERGED_FILE',
    sizeBytes: 1,
    adler32: '00000001',
    path: lfn,
    site,
    volume: `hit-${site}`,
  });
  const files = [copyAt('SLAC', '/hit/1'), copyAt('SLAC', '/hit/2'), copyAt('RAL', '/hit/2b')];
  await mutate(operator, 'registerFiles', { files }, 'registeredCount');
  const report = async (scope: object) => {
    const loss = { reason: 'a test', ...scope };
    const selection = 'incident { number }';
    const told = await mutate<{ incident: { number: number } }>(
      operator,
      'reportStorageLoss',
      loss,
      selection,
    );
    return String(told.incident.number);
  };
  const ours = await report({ lfns: ['/hit/1'] });
  const both = await report({ lfns: ['/hit/2', '/hit/2b'] });
  const bound = clientOf(server.address, await signed({ 'wlcg.groups': ['/dune/pro'] }));
  const reason = 'a test';
  const elsewhere = { code: 'FORBIDDEN', facts: { action: 'handleIncident' } };
  for (const field of ['recoverIncident', 'undoIncident', 'resolveIncident']) {
    const input = field === 'recoverIncident' ? { incident: both } : { incident: both, reason };
    expect(await refusalOf(mutate(bound, field, input))).toMatchObject(elsewhere);
  }
  const [at] = await server.database.sql('select status from incidents where id = $1', [both]);
  expect(at).toEqual({ status: 'OPEN' });
  const to = (volume: string) => mutate(bound, 'recoverIncident', { incident: ours, volume });
  expect(await refusalOf(to('whole-RAL'))).toMatchObject(elsewhere);
  expect(await to('whole-SLAC')).toEqual({ changed: true });
  expect(await mutate(bound, 'undoIncident', { incident: ours, reason })).toEqual({
    changed: true,
  });
});

async function register(client: ReturnType<typeof clientOf>): Promise<void> {
  const file = { lfn: '/bound/file', kind: 'MERGED_FILE', sizeBytes: 1, adler32: '00000001' };
  await mutate(client, 'registerFiles', { files: [file] }, 'registeredCount');
}

test.each([
  ['/john', '/john', true],
  ['/john', '/john/data', true],
  ['/', '/john', true],
  ['/john/', '/john', true],
  ['/j%6fhn', '/john', true],
  ['/john', '/johnny', false],
  ['/john/data', '/john', false],
  ['/John', '/john', false],
])('a scope for %s opens %s: %s', (granted, wanted, opens) => {
  const [left, right] = [granted, wanted].map((path) => readCapability(`storage.read:${path}`));
  if (!left || !right) throw new Error('not read');
  expect(covers(left, right)).toBe(opens);
});

test.each([
  'storage.read:john',
  'storage.read:/a//b',
  'storage.read:/a/./b',
  'storage.read:/%zz',
  'a b',
  '',
])('a scope like %j grants nothing', (scope) => expect(readCapability(scope)).toBeUndefined());

test.each([
  ['issuer: http://idp.example.org/x, profile: oidc', 'an https:// address'],
  ['issuer: https://u:p@idp.example.org, profile: oidc', 'without user'],
  ['issuer: https://idp.example.org, profile: oidc, algorithms: [HS256]', 'algorithms'],
  ['issuer: https://idp.example.org, profile: oidc, audience: []', 'audience'],
  ['issuer: https://idp.example.org, profile: x509', 'profile'],
  [
    'issuer: https://idp.example.org, profile: oidc, rules: [{ roles: [USER] }]',
    'name whom it is for',
  ],
  [
    'issuer: https://idp.example.org, profile: oidc, rules: [{ group: /a, roles: [KING] }]',
    'roles',
  ],
  ['issuer: https://idp.example.org, profile: wlcg, groupsClaim: groups', 'wlcg.groups'],
  ['issuer: https://idp.example.org, profile: oidc, issuers: 1', 'issuers'],
])('an issuers file with { %s } is refused', (text, why) => {
  const file = join(folder, 'wrong.yaml');
  writeFileSync(file, `audience: [x]\nissuers:\n  - { name: one, ${text} }\n`);
  expect(() => readIssuersFile(file)).toThrow(why);
});
