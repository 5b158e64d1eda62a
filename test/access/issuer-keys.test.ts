import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { IssuerKeys } from '../../src/access/issuer-keys.ts';
import { readIssuersFile, type Issuer } from '../../src/access/issuers-file.ts';
import { readJwt } from '../../src/access/jwt.ts';
import { TestIssuer, wlcgClaims } from '../support/issuer.ts';
import { until } from '../support/until.ts';

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-keys-'));
let issuer: TestIssuer;
let trusted: Issuer;
let keys: IssuerKeys;
beforeEach(async () => {
  issuer = await TestIssuer.open();
  const file = join(folder, 'issuers.yaml');
  writeFileSync(
    file,
    `audience: [https://book.example.org]
issuers:
  - { name: dune, issuer: "${issuer.url}", profile: wlcg }
`,
  );
  const [read] = readIssuersFile(file).issuers.values();
  if (!read) throw new Error('no issuer');
  // Its keys are old at once, and it may be asked at once: nothing here depends on clocks.
  trusted = { ...read, keysUrl: new URL('/keys', issuer.url).href, keysSeconds: 0 };
  keys = new IssuerKeys(trusted);
});
afterEach(() => issuer.close());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const signed = () => issuer.sign(wlcgClaims(issuer));
/** What a login by this token comes to. */
const login = (token: string) =>
  readJwt(trusted, keys, token).then(
    () => 'good',
    (error: unknown) => String(error),
  );
const isAsked = () => until('it is asked', () => issuer.hanging > 0);

test('logins at once ask for the keys once', async () => {
  const token = await signed();
  issuer.manner = 'hangs';
  const logins = [login(token), login(token), login(token)];
  await isAsked();
  logins.push(login(token));
  issuer.answerHeld();
  expect(await Promise.all(logins)).toEqual(['good', 'good', 'good', 'good']);
  expect(issuer.asked).toEqual(['/keys']);
});

test('a key that is withdrawn while its holder logs in is not taken, the one that follows is', async () => {
  const old = await signed();
  expect(await login(old)).toBe('good');
  const { generation } = keys;
  await issuer.addKey();
  const fresh = await signed();
  issuer.manner = 'hangs';
  const logins = [login(old), login(fresh)];
  await isAsked();
  issuer.withdrawOld();
  issuer.answerHeld();
  expect(await Promise.all(logins)).toEqual([
    expect.stringContaining('is signed by an unknown key'),
    'good',
  ]);
  // Whoever was let in by the keys of before is looked at once more.
  expect(keys.generation).toBe(generation + 1);
});

test('a key that comes while its issuer answers without it is asked for once more', async () => {
  const old = await signed();
  expect(await login(old)).toBe('good');
  issuer.manner = 'hangs';
  const logins = [login(old)];
  await isAsked();
  const before = issuer.published();
  await issuer.addKey();
  logins.push(login(await signed()));
  issuer.answerHeld(before);
  expect(await Promise.all(logins)).toEqual(['good', 'good']);
  expect(issuer.asked).toEqual(['/keys', '/keys', '/keys']);
});
