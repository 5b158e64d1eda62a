import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { usualServer, withFile, type Environment } from './environment.ts';
import { SweepbookError, systemCode } from './errors.ts';

/** What the command line needs to find its server: address and token, never printed. */
export interface ClientSettings {
  readonly url: string;
  readonly token: string | undefined;
  /** Where the token was found, for people. */
  readonly tokenFrom: string | undefined;
}

interface Found {
  readonly token: string;
  readonly tokenFrom: string;
}

/**
 * Address: SWEEPBOOK_URL, else the server of this host. Token: SWEEPBOOK_TOKEN, SWEEPBOOK_TOKEN_FILE, that of `login`,
 * that of the first start, and then as WLCG has its tokens found.
 */
export function readClientSettings(
  environment: Environment = process.env,
  showsToken = true,
): ClientSettings {
  const merged = withFile(environment);
  const address = merged['SWEEPBOOK_URL'] ?? addressHere(merged);
  const url = address.replace(/\/(graphql)?\/?$/, '');
  const found = showsToken
    ? (ownToken(
        merged,
        url,
        join(resolve(merged['SWEEPBOOK_HOME'] ?? usualServer.home), 'operator-token'),
      ) ?? wlcgToken(merged))
    : undefined;
  if (found) demandWord(found);
  return { url, token: found?.token, tokenFrom: found?.tokenFrom };
}

/** What else is in a header would be told by whatever stumbles over it: a secret. */
function demandWord({ token, tokenFrom }: Found): void {
  if (/^[\x21-\x7e]+$/.test(token)) return;
  throw new SweepbookError(
    'BAD_USER_INPUT',
    `${tokenFrom} holds no token, which is one word of ASCII: put one there, or show none with --anonymous`,
    { from: tokenFrom },
  );
}

/** Where the server of this host listens: its settings, of which a client needs no more to be right. */
function addressHere(merged: Environment): string {
  const { SWEEPBOOK_HOST: host = usualServer.host, SWEEPBOOK_PORT: port } = merged;
  const address = `http://${host}:${port ?? usualServer.port}`;
  if (URL.canParse(address)) return address;
  throw new SweepbookError(
    'BAD_USER_INPUT',
    `settings: SWEEPBOOK_HOST ${host} and SWEEPBOOK_PORT ${port} make no address: name the server with SWEEPBOOK_URL`,
  );
}

function ownToken(merged: Environment, url: string, operatorToken: string): Found | undefined {
  const { SWEEPBOOK_TOKEN: token, SWEEPBOOK_TOKEN_FILE: file } = merged;
  if (token) return { token: token.trim(), tokenFrom: 'SWEEPBOOK_TOKEN' };
  if (file) return { token: readTokenFile(file), tokenFrom: file };
  const kept = keptTokens(merged)[url];
  if (kept !== undefined) return { token: kept, tokenFrom: 'sweepbook login' };
  // The token of this host's server is nobody else's business.
  if (merged['SWEEPBOOK_URL'] && !isThisHost(url)) return undefined;
  return existsSync(operatorToken)
    ? { token: readTokenFile(operatorToken), tokenFrom: operatorToken }
    : undefined;
}

const isThisHost = (url: string) =>
  URL.canParse(url) && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);

/** WLCG Bearer Token Discovery: the first of them that is there counts. */
function wlcgToken(merged: Environment): Found | undefined {
  const { BEARER_TOKEN: token, BEARER_TOKEN_FILE: named, XDG_RUNTIME_DIR: runtime } = merged;
  if (token?.trim()) return { token: token.trim(), tokenFrom: 'BEARER_TOKEN' };
  // An empty one is none: the next counts.
  const inNamed = named ? readTokenFile(named) : '';
  if (named && inNamed !== '') return { token: inNamed, tokenFrom: named };
  const user = process.geteuid?.();
  if (user === undefined) return undefined;
  for (const folder of [runtime, merged['TMPDIR'] ?? tmpdir()]) {
    const file: string | undefined = folder ? join(folder, `bt_u${user}`) : undefined;
    if (file === undefined || !isOwnFile(file, user)) continue;
    const found = readTokenFile(file);
    if (found !== '') return { token: found, tokenFrom: file };
  }
  return undefined;
}

/** Anybody may put a file there and have us act in his name, or a link, and have us send him what it leads to. */
function isOwnFile(file: string, user: number): boolean {
  const options = { throwIfNoEntry: false } as const;
  return lstatSync(file, options)?.uid === user && statSync(file, options)?.uid === user;
}

/** The file in which `login` keeps tokens, by address of the server. */
export function keptTokensFile(environment: Environment): string {
  const folder =
    environment['XDG_CONFIG_HOME'] || join(environment['HOME'] ?? homedir(), '.config');
  return join(folder, 'sweepbook', 'tokens.json');
}

/** What `login` has kept. FORBIDDEN when the file cannot be read, BAD_USER_INPUT when it is no such file. */
export function keptTokens(environment: Environment): Record<string, string> {
  const file = keptTokensFile(environment);
  if (!existsSync(file)) return {};
  const text = readTokenFile(file);
  try {
    const kept = Object.entries(JSON.parse(text) as Record<string, unknown>);
    return Object.fromEntries(
      kept.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    );
  } catch (error) {
    throw new SweepbookError(
      'BAD_USER_INPUT',
      `${file} is not as "sweepbook login" writes it: remove it, and log in again`,
      { file },
      { cause: error },
    );
  }
}

function readTokenFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') {
      throw new SweepbookError('NOT_FOUND', `token file ${file}: no such file`, { file });
    }
    throw new SweepbookError(
      'FORBIDDEN',
      `the token file ${file} cannot be read (${systemCode(error)}): set SWEEPBOOK_TOKEN, or name yours with --token-file`,
      { file },
      { cause: error },
    );
  }
}
