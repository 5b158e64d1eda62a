import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readIssuersFile } from '../../src/access/issuers-file.ts';
import { covers, readCapability } from '../../src/access/scope-paths.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-issuers-file-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each([
  ['/john', '/john', true],
  ['/john', '/john/data', true],
  ['/', '/john', true],
  ['/john/', '/john', true],
  ['/j%6fhn', '/john', true],
  ['/john', '/johnny', false],
  ['/john/data', '/john', false],
  ['/John', '/john', false],
  ['/john', '/j\u00f6hn', false],
  ['/john', '/', false],
  ['/j%256fhn', '/john', false],
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
  'storage.read://',
  'storage.read:/a/..',
  'storage.read:/%2e%2e/a',
  'storage.read:/a%2fb',
  'storage.read:/a%00',
  'storage.read:',
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
  ['issuer: https://idp.example.org?x=1, profile: oidc', 'without user'],
  ['issuer: https://idp.example.org, profile: oidc, algorithms: [none]', 'algorithms'],
  ['issuer: https://idp.example.org, profile: oidc, keysUrl: http://idp.example.org/k', 'keysUrl'],
  ['issuer: https://idp.example.org, profile: oidc, skewSeconds: 301', 'line 3, issuers.0.skew'],
  [
    'issuer: https://idp.example.org, profile: wlcg, rules: [{ scope: "storage.read:/../a", roles: [USER] }]',
    'a scope like',
  ],
  [
    'issuer: https://idp.example.org, profile: oidc }\n  - { name: two, issuer: https://idp.example.org, profile: oidc',
    'stands there twice',
  ],
  [
    'issuer: https://idp.example.org, profile: oidc }\n  - { name: one, issuer: https://other.example.org, profile: oidc',
    'two issuers are called one',
  ],
  ['issuer: https://idp.example.org, profile: oidc, name: two', 'unique'],
])('an issuers file with { %s } is refused', (text, why) => {
  const file = join(folder, 'wrong.yaml');
  writeFileSync(file, `audience: [x]\nissuers:\n  - { name: one, ${text} }\n`);
  expect(() => readIssuersFile(file)).toThrow(why);
});
