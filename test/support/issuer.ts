import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from 'jose';

interface Key {
  readonly kid: string;
  readonly algorithm: string;
  readonly secret: CryptoKey;
  readonly jwk: JWK;
}

/** How an issuer answers when it is asked for its metadata and keys. */
export type Manner =
  | 'well'
  | 'down'
  | 'page'
  | 'redirects'
  | 'huge'
  | 'lies'
  | 'plain address'
  | 'shared secret'
  | 'no list'
  | 'weak key'
  | 'broken key'
  | 'hangs';

export interface Signed {
  readonly header?: Record<string, unknown>;
  readonly key?: Key;
}

/** An issuer of JWTs: a real HTTP server with its metadata and its keys, which can misbehave. */
export class TestIssuer {
  readonly url: string;
  manner: Manner = 'well';
  /** What it was asked. */
  readonly asked: string[] = [];
  private readonly server: Server;
  private readonly keys: Key[] = [];
  private made = 0;
  private readonly held = new Map<ServerResponse, string>();

  private constructor(server: Server) {
    this.server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/vo`;
  }

  static async open(algorithm = 'ES256'): Promise<TestIssuer> {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const issuer = new TestIssuer(server);
    server.on('request', (request, response) => {
      issuer.asked.push(request.url ?? '');
      issuer.answer(request.url ?? '', response);
    });
    await issuer.addKey(algorithm);
    return issuer;
  }

  /** A new key, which signs from now on; the old ones stay published. */
  async addKey(algorithm = 'ES256'): Promise<Key> {
    const { publicKey, privateKey } = await generateKeyPair(algorithm);
    const kid = `key-${++this.made}`;
    const jwk = { ...(await exportJWK(publicKey)), kid, alg: algorithm, use: 'sig' };
    const key = { kid, algorithm, secret: privateKey, jwk };
    this.keys.unshift(key);
    return key;
  }

  /** Takes all keys but the newest back. */
  withdrawOld(): void {
    this.keys.splice(1);
  }

  get key(): Key {
    const [key] = this.keys;
    if (!key) throw new Error('it has no key');
    return key;
  }

  /** Claims as they are, signed. */
  async sign(claims: Claims, { header = {}, key = this.key }: Signed = {}): Promise<string> {
    return new SignJWT(claims)
      .setProtectedHeader({ alg: key.algorithm, kid: key.kid, ...header })
      .sign(key.secret);
  }

  /** Who waits for an answer. */
  get hanging(): number {
    return this.held.size;
  }

  /** Cuts off who waits. */
  letGo(): void {
    for (const response of this.held.keys()) response.destroy();
  }

  /** Answers who waits, be it with keys of before, and from now on everybody. */
  answerHeld(keys = this.published()): void {
    this.manner = 'well';
    for (const [response, path] of this.held) this.answer(path, response, keys);
  }

  private answer(path: string, response: ServerResponse, keys = this.published()): void {
    const json = (body: object) =>
      void response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    if (this.manner === 'down') return void response.destroy();
    if (this.manner === 'hangs') {
      this.held.set(response, path);
      return void response.on('close', () => this.held.delete(response));
    }
    if (this.manner === 'page') return void response.end('<html>Please log in</html>');
    // To where all is well.
    if (this.manner === 'redirects' && !path.startsWith('/well')) {
      return void response.writeHead(302, { location: `/well${path}` }).end();
    }
    const { origin } = new URL(this.url);
    // Whoever takes it in spite of that finds all that he needs.
    const padding = this.manner === 'huge' ? 'x'.repeat(1024 * 1024) : '';
    if (path.includes('/vo/.well-known/')) {
      const issuer = this.manner === 'lies' ? 'https://elsewhere.example.org' : this.url;
      const jwks_uri = `${this.manner === 'plain address' ? 'http://127.1.elsewhere.example.org' : origin}/keys`;
      return json({ issuer, jwks_uri, padding });
    }
    return json({ keys, padding });
  }

  /** Its keys, as it tells them. */
  published(): object {
    const keys = this.keys.map(({ jwk }) => jwk);
    const [key] = keys;
    const instead: Partial<Record<Manner, object>> = {
      'shared secret': [{ kty: 'oct', kid: this.key.kid, k: 'c2VjcmV0' }],
      'no list': { [this.key.kid]: key },
      'weak key': [{ ...key, n: (key?.n ?? '').slice(0, 171) }],
      'broken key': [{ ...key, x: key?.y }],
    };
    return instead[this.manner] ?? keys;
  }

  close(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((resolve) => void this.server.close(() => resolve()));
  }
}

/** What a token says, be it as its profile wants it or not. */
export type Claims = Record<string, unknown>;

const now = () => Math.floor(Date.now() / 1000);
const us = 'https://book.example.org';

/** Claims of the WLCG profile for this server, good for an hour. */
export const wlcgClaims = ({ url }: TestIssuer, more: Claims = {}): Claims => ({
  iss: url,
  sub: 'f81d-physicist',
  aud: us,
  iat: now(),
  nbf: now(),
  exp: now() + 3600,
  jti: `jti-${now()}`,
  'wlcg.ver': '1.0',
  ...more,
});

/** The same of OpenID Connect, for ten minutes. */
export const oidcClaims = ({ url }: TestIssuer, more: Claims = {}): Claims => ({
  iss: url,
  sub: '17',
  aud: ['other', us],
  iat: now(),
  exp: now() + 600,
  preferred_username: 'shifter',
  ...more,
});

/** The same of SciTokens. */
export const sciClaims = ({ url }: TestIssuer, more: Claims = {}): Claims => ({
  iss: url,
  sub: 'robot',
  aud: us,
  exp: now() + 600,
  ver: 'scitoken:2.0',
  ...more,
});
