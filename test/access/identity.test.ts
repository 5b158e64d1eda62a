import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientOf } from '../support/client.ts';
import {
  oidcClaims,
  sciClaims,
  TestIssuer,
  wlcgClaims,
  type Claims,
  type Manner,
  type Signed,
} from '../support/issuer.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';
import { until } from '../support/until.ts';
import { wrongTokens } from './wrong-tokens.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-issuers-'));
let server: TestServer;
let wlcg: TestIssuer;
let oidc: TestIssuer;
let sci: TestIssuer;
/** Nobody trusts it. */
let stranger: TestIssuer;
/** Trusted, and never well, by what is wrong with them and what is said of that. */
const troubles: [Manner, string][] = [
  ['down', 'fetch failed'],
  ['page', 'not valid JSON'],
  ['redirects', 'fetch failed'],
  ['huge', 'too long'],
  ['lies', 'of another issuer'],
  ['plain address', 'not at an https address'],
  ['shared secret', 'no public keys'],
  ['no list', 'another form'],
];
const troubled = new Map<string, TestIssuer>();
/** Trusted, and takes nobody's word for anybody. */
let strict: TestIssuer;
const all = () => [wlcg, oidc, sci, stranger, strict, ...troubled.values()];
/** Waits beside the other tests. */
let needsIt: Promise<string>;

beforeAll(async () => {
  for (const [manner] of [...troubles, ['weak key'], ['broken key'], ['hangs']] as [Manner][]) {
    const issuer = await TestIssuer.open(manner === 'weak key' ? 'RS256' : 'ES256');
    issuer.manner = manner;
    troubled.set(manner, issuer);
  }
  const others = [...troubled.values()].map(
    ({ url }, at) => `  - { name: trouble-${at}, issuer: "${url}", profile: wlcg }\n`,
  );
  [wlcg, oidc, sci, stranger, strict] = await Promise.all([
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
    keysSeconds: 1
    rules:
      - { scope: write:/book, roles: [IMPORTER] }
  - name: strict
    issuer: ${strict.url}
    profile: wlcg
    vouchesFor: [/dune]
    rules:
      - { group: /cms, roles: [USER] }
${others.join('')}`,
  );
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false', SWEEPBOOK_ISSUERS: file });
  const silent = troubled.get('hangs');
  if (silent) needsIt = answerTo(await silent.sign(wlcgClaims(silent)));
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
const signed = (more: Claims, how?: Signed) => wlcg.sign(wlcgClaims(wlcg, more), how);

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
    ['storage.modify:/%2e%2e/book/john', []],
    ['storage.modify://book/john', []],
    ['storage.modify:/BOOK/JOHN', []],
    ['Storage.Modify:/book', []],
    ['compute.read openid', ['PRODUCER', 'OPERATOR']],
  ])(
    'WLCG: %s gives %j, and where it is a capability the groups are not asked',
    async (scope, roles) => {
      const claims = wlcgClaims(wlcg, { scope, 'wlcg.groups': ['/dune/pro'] });
      const viewer = await ask(await wlcg.sign(claims));
      expect(viewer.roles).toEqual(roles);
    },
  );

  test('OIDC: called by the claim that is named, by its first subject only', async () => {
    const shifter = oidcClaims(oidc, { groups: ['shifters'], email_verified: 'yes' });
    expect(await ask(await oidc.sign(shifter))).toMatchObject({
      principal: 'shifter@sso',
      roles: ['DQM', 'USER'],
    });
    const plain = oidcClaims(oidc, { groups: ['shifters'] });
    expect(await ask(await oidc.sign(plain))).toMatchObject({ roles: ['USER'] });
    const renamed = oidcClaims(oidc, { preferred_username: 'other' });
    expect(await ask(await oidc.sign(renamed))).toMatchObject({ principal: 'shifter@sso' });
    const heir = oidcClaims(oidc, { sub: '18' });
    expect(await answerTo(await oidc.sign(heir))).toMatch(/^401 UNAUTHENTICATED.*another subject/);
  });

  test('SciTokens: write:/ is what storage.modify is elsewhere', async () => {
    const writer = sciClaims(sci, { scope: 'read:/ write:/' });
    expect(await ask(await sci.sign(writer))).toMatchObject({
      principal: 'robot@osg',
      roles: ['IMPORTER'],
    });
    const reader = sciClaims(sci, { scope: 'read:/ write:/books' });
    expect(await ask(await sci.sign(reader))).toMatchObject({ roles: [] });
  });
});

test.each(wrongTokens(() => ({ wlcg, oidc, sci, stranger, strict })))(
  'a token that %s is refused',
  async (_what, why, make) => {
    expect(await answerTo(await make())).toMatch(
      new RegExp(`^401 UNAUTHENTICATED .*(?:${why.source})`),
    );
    // Checked before anything is fetched.
    expect(stranger.asked).toEqual([]);
  },
);

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

test.each(troubles)(
  'an issuer whose keys are not to be had (%s) is no reason to refuse for good',
  async (manner, why) => {
    const issuer = troubled.get(manner);
    if (!issuer) throw new Error(manner);
    const token = await issuer.sign(wlcgClaims(issuer));
    expect(await answerTo(token)).toMatch(/^503 UNAVAILABLE .*cannot be had right now/);
    expect(await answerTo(token)).toContain(why);
    const asked = issuer.asked.length;
    expect(await answerTo(token)).toMatch(/^503/);
    // Whoever comes meanwhile does not have it asked again.
    expect(issuer.asked.length).toBe(asked);
  },
);

test.each(['weak key', 'broken key'] as const)(
  'what is no key (%s) is no fault of the server',
  async (manner) => {
    const issuer = troubled.get(manner);
    if (!issuer) throw new Error(manner);
    const token = await issuer.sign(wlcgClaims(issuer));
    expect(await answerTo(token)).toMatch(/^401 UNAUTHENTICATED .*a key that cannot be used/);
  },
);

test('nobody waits for an issuer that does not answer but who needs its keys', async () => {
  expect(await needsIt).toContain('timeout');
  const revoked = await server.tokenOf('other', 'USER');
  const sockets = [await openSocket(server.address, await signed({ sub: 'waits' }))];
  sockets.push(await openSocket(server.address, revoked));
  // It was asked and has answered well: its last failure is forgotten.
  await wlcg.addKey();
  await until('its new key is known', async () =>
    (await answerTo(await signed({}))).startsWith('200'),
  );
  wlcg.manner = 'hangs';
  await until('it is asked', () => wlcg.hanging > 0);
  const prefix = revoked.split('_')[1];
  await server.operator.call(`mutation { revokeToken(prefix: "${prefix}") { changed } }`);
  const asked = wlcg.asked.length;
  expect(await sockets[1]?.closed).toMatchObject({ code: 4403 });
  // By then the question that hangs had not been given up, and asked anew.
  expect([wlcg.hanging, wlcg.asked.length]).toEqual([1, asked]);
  wlcg.letGo();
  // It has just failed: its keys are known.
  await until('it is asked again', async () => {
    expect(await answerTo(await signed({}))).toMatch(/^200/);
    return wlcg.hanging > 0;
  });
  expect(await answerTo(await signed({}))).toMatch(/^200/);
  expect(wlcg.hanging).toBe(1);
  wlcg.manner = 'well';
  wlcg.letGo();
});

test('a token that does not say its key is tried with each', async () => {
  const unnamed = { header: { kid: undefined } };
  const [old, first] = [await sci.sign(sciClaims(sci), unnamed), sci.key];
  expect(await answerTo(old)).toMatch(/^200/);
  await sci.addKey();
  // One that is named has the keys asked for.
  await until('the new one is known', async () =>
    (await answerTo(await sci.sign(sciClaims(sci)))).startsWith('200'),
  );
  for (const key of [sci.key, first]) {
    expect(await answerTo(await sci.sign(sciClaims(sci), { ...unnamed, key }))).toMatch(/^200/);
  }
  const foreign = await sci.sign(sciClaims(sci), { ...unnamed, key: stranger.key });
  expect(await answerTo(foreign)).toMatch(/^401 .*signature is wrong/);
});

test('an issuer speaks of its own groups where something is shared, and its rules know all', async () => {
  const groups = ['/dune', '/dune/calib', '/dunes', '/cms'];
  const token = await strict.sign(wlcgClaims(strict, { 'wlcg.groups': groups }));
  expect(await ask(token)).toMatchObject({
    roles: ['USER'],
    token: { groups: ['/dune', '/dune/calib'] },
  });
});

test('what is no text among groups is no group', async () => {
  const groups = ['/dune', 'a\0b', 5, 'x'.repeat(300), { name: '/dune/pro' }];
  const token = await signed({ sub: 'grouped', 'wlcg.groups': groups });
  expect(await ask(token)).toMatchObject({ roles: ['USER'], token: { groups: ['/dune'] } });
  const one = await signed({ sub: 'grouped', 'wlcg.groups': '/dune' });
  expect(await ask(one)).toMatchObject({ roles: [] });
});

test.each([
  ['has just ended', { exp: now() - 30 }, /^200/],
  ['has ended a minute ago', { exp: now() - 61 }, /^401/],
  ['is good in half a minute', { nbf: now() + 30, iat: now() + 30 }, /^200/],
  ['lives as long as may be', { iat: now(), exp: now() + 21_600 }, /^200/],
  ['lives longer', { iat: now() - 3600, exp: now() + 21_600 }, /^401/],
])('clocks may differ by a minute: a token that %s', async (_what, claims, answer) => {
  expect(await answerTo(await signed(claims))).toMatch(answer);
});

test('an admin keeps somebody out, whatever his issuer says, also on an open WebSocket', async () => {
  const token = await signed({ sub: 'leaver', 'wlcg.groups': ['/dune'] });
  const socket = await openSocket(server.address, token);
  // Made in his name by an admin, for his robots.
  const robot = await server.tokenOf('leaver@dune', 'USER');
  const robots = await openSocket(server.address, robot);
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
  for (const shown of [token, robot]) {
    expect(await answerTo(shown)).toMatch(/^401 .*left the collaboration/);
  }
  for (const { closed } of [socket, robots]) expect(await closed).toMatchObject({ code: 4403 });
  const trail = `{ auditTrail(first: 9, filter: { principal: "leaver@dune", field: "POST /graphql" }) {
    nodes { code subject tokenPrefix } } }`;
  await until('the trail knows who came in vain', async () => {
    const { auditTrail } = await server.operator.call<{ auditTrail: { nodes: object[] } }>(trail);
    return ['leaver', robot.split('_')[1]].every((known) =>
      JSON.stringify(auditTrail).includes(`"${known}"`),
    );
  });
  const unblock = 'mutation { unblockIdentity(principal: "leaver@dune") { changed } }';
  expect(await server.operator.call(unblock)).toEqual({ unblockIdentity: { changed: true } });
  for (const shown of [token, robot]) expect(await answerTo(shown)).toMatch(/^200/);
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
