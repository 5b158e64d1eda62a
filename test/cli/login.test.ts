import {
  chownSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readClientSettings } from '../../src/client-settings.ts';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
let home: string;
const tokens: Record<string, string> = {};
const file = (name: string) => join(home, name);
const user = process.geteuid?.() ?? 0;

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  home = join(server.folder, 'people');
  for (const folder of ['', 'run', 'tmp', 'empty']) mkdirSync(file(folder), { recursive: true });
  for (const who of ['own', 'variable', 'named', 'runtime', 'temporary', 'kept']) {
    tokens[who] = await server.tokenOf(who, 'USER');
  }
  writeFileSync(file('named.token'), `${tokens['named']}\n`);
  writeFileSync(file(`run/bt_u${user}`), `${tokens['runtime']}\n`);
  writeFileSync(file(`tmp/bt_u${user}`), `${tokens['temporary']}\n`);
});
afterAll(() => server.close());

/** The settings of somebody whose home is empty. */
const base = () => ({
  SWEEPBOOK_URL: server.address,
  HOME: home,
  SWEEPBOOK_HOME: file('none'),
  TMPDIR: file('empty'),
});
const run = (args: string[], environment: Record<string, string> = {}, stdin = '') =>
  runProgram(
    args,
    // The compiled program is kept where it is.
    { ...base(), XDG_CACHE_HOME: join(homedir(), '.cache'), ...environment },
    { cwd: home, stdin },
  );
const found = (environment: Record<string, string>) => {
  const { token } = readClientSettings({ ...base(), ...environment });
  return Object.keys(tokens).find((who) => tokens[who] === token);
};

test('the token is found as WLCG says, and the ways of the program come first', () => {
  const ways: [string, string, string][] = [
    ['own', 'SWEEPBOOK_TOKEN', tokens['own'] ?? ''],
    ['variable', 'BEARER_TOKEN', ` ${tokens['variable']}\n`],
    ['named', 'BEARER_TOKEN_FILE', file('named.token')],
    ['runtime', 'XDG_RUNTIME_DIR', file('run')],
    ['temporary', 'TMPDIR', file('tmp')],
  ];
  for (const [at, [who]] of ways.entries()) {
    const rest = Object.fromEntries(ways.slice(at).map(([, name, value]) => [name, value]));
    expect(found(rest)).toBe(who);
    expect(readClientSettings({ ...base(), ...rest }, false).token).toBeUndefined();
  }
  expect(found({})).toBeUndefined();
  expect(() => found({ BEARER_TOKEN_FILE: file('gone') })).toThrow('no such file');
  expect(() => found({ BEARER_TOKEN_FILE: home })).toThrow('EISDIR');
  // What is empty is not there; what is no word is told to nobody, and shown to no server.
  writeFileSync(file('none.token'), ' \r\n');
  const empty = { BEARER_TOKEN: ' ', BEARER_TOKEN_FILE: file('none.token') };
  expect(found({ ...empty, XDG_RUNTIME_DIR: file('run') })).toBe('runtime');
  writeFileSync(file('dos.token'), `${tokens['named']}\r\n`);
  expect(found({ SWEEPBOOK_TOKEN_FILE: file('dos.token') })).toBe('named');
  expect(() => found({ SWEEPBOOK_TOKEN_FILE: file('none.token') })).toThrow('holds no token');
  for (const name of ['SWEEPBOOK_TOKEN', 'BEARER_TOKEN']) {
    expect(() => found({ [name]: 'secret-1\nsecret-2' })).toThrow(
      /^(?!.*secret-).*holds no token/s,
    );
  }
  // The operator token of this host is for its own server.
  mkdirSync(file('none'));
  writeFileSync(file('none/operator-token'), tokens['kept'] ?? '');
  expect(found({})).toBe('kept');
  expect(found({ SWEEPBOOK_URL: 'https://book.example.org' })).toBeUndefined();
  rmSync(file('none'), { recursive: true });
});

test.runIf(user === 0)('a token that somebody else has put there is passed by', () => {
  mkdirSync(file('planted'));
  writeFileSync(file('planted/bt_u0'), tokens['temporary'] ?? '');
  chownSync(file('planted/bt_u0'), 12_345, 12_345);
  expect(found({ XDG_RUNTIME_DIR: file('planted') })).toBeUndefined();
  // Nor is a link of his followed to what is ours.
  rmSync(file('planted/bt_u0'));
  symlinkSync(file('named.token'), file('planted/bt_u0'));
  lchownSync(file('planted/bt_u0'), 12_345, 12_345);
  expect(found({ XDG_RUNTIME_DIR: file('planted') })).toBeUndefined();
});

test('login keeps a token that the server takes, for that server alone, and logout forgets it', async () => {
  const kept = file('.config/sweepbook/tokens.json');
  const [wrong, done] = [
    await run(['login'], {}, 'sbk_nonsense'),
    await run(['login'], {}, `${tokens['kept']}\n`),
  ];
  expect(wrong).toMatchObject({ code: 7, stderr: expect.stringContaining('not known here') });
  expect(done).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('knows you as kept (USER)'),
  });
  expect(statSync(kept).mode & 0o077).toBe(0);
  expect(found({ BEARER_TOKEN: tokens['variable'] ?? '' })).toBe('kept');
  expect(found({ SWEEPBOOK_URL: 'http://127.0.0.1:9' })).toBeUndefined();
  expect((await run(['logout'])).stdout).toContain('forgotten');
  expect(readFileSync(kept, 'utf8')).toBe('{}\n');
});

test('a token is narrowed, looked at and replaced by hand; an admin sees it in the trail', async () => {
  const admin = { SWEEPBOOK_TOKEN: await server.tokenOf('ada', 'ADMIN') };
  const narrow = ['--scope', 'read,rotateToken', '--site', 'local'];
  const made = await run(['token', 'create', 'farm', '--role', 'PRODUCER', ...narrow], admin);
  const farm = { SWEEPBOOK_TOKEN: made.stdout.trim() };
  const [rotated, who, anonymous] = await Promise.all([
    run(['token', 'rotate', '--grace', '1h'], farm),
    run(['whoami'], farm),
    run(['whoami', '--anonymous'], farm),
  ]);
  expect(rotated).toMatchObject({ code: 0, stdout: expect.stringMatching(/^sbk_\w+/) });
  for (const word of ['read, rotateToken', 'local', 'SWEEPBOOK_TOKEN']) {
    expect(who.stdout).toContain(word);
  }
  expect(anonymous.stdout).toContain('anonymous');
  const [trail, block] = await Promise.all([
    run(['audit-trail', '--principal', 'farm', '--since', '1h'], admin),
    run(['identity', 'block', 'ghost@x', '--reason', 'why not'], admin),
  ]);
  expect(trail.stdout).toMatch(/MUTATION +rotateToken +RotateToken +DONE/);
  expect(block).toMatchObject({ code: 4, stderr: expect.stringContaining('ghost@x') });
});
