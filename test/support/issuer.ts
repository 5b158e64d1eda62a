import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  exportJWK,
  generateKeyPair,
  SignJWT,
  type CryptoKey,
  type JWK,
  type JWTPayload,
} from 'jose';

interface Key {
  readonly kid: string;
  readonly algorithm: string;
  readonly secret: CryptoKey;
  readonly jwk: JWK;
}

/** How an issuer answers when it is asked for its metadata and keys. */
export type Manner = 'well' | 'down' | 'page' | 'redirects' | 'huge' | 'lies' | 'shared secret';

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
  async sign(claims: JWTPayload, { header = {}, key = this.key }: Signed = {}): Promise<string> {
    return new SignJWT(claims)
      .setProtectedHeader({ alg: key.algorithm, kid: key.kid, ...header })
      .sign(key.secret);
  }

  private answer(path: string, response: ServerResponse): void {
    const json = (body: object) =>
      void response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    switch (this.manner) {
      case 'down':
        return void response.destroy();
      case 'page':
        return void response.end('<html>Please log in</html>');
      case 'redirects':
        return void response.writeHead(302, { location: 'http://127.0.0.1:9/' }).end();
      case 'huge':
        return json({ keys: [], issuer: this.url, padding: 'x'.repeat(1024 * 1024) });
      case 'well':
      case 'lies':
      case 'shared secret':
    }
    if (path.startsWith('/vo/.well-known/')) {
      const issuer = this.manner === 'lies' ? 'https://elsewhere.example.org' : this.url;
      return json({ issuer, jwks_uri: `${new URL(this.url).origin}/keys` });
    }
    const shared = { kty: 'oct', kid: this.key.kid, k: 'c2VjcmV0' };
    return json({
      keys: this.manner === 'shared secret' ? [shared] : this.keys.map(({ jwk }) => jwk),
    });
  }

  close(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((resolve) => void this.server.close(() => resolve()));
  }
}

/** Claims of the WLCG profile for this server, good for an hour. */
export function wlcgClaims(issuer: TestIssuer, more: JWTPayload = {}): JWTPayload {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: issuer.url,
    sub: 'f81d-physicist',
    aud: 'https://book.example.org',
    iat: now,
    nbf: now,
    exp: now + 3600,
    jti: `jti-${now}`,
    'wlcg.ver': '1.0',
    ...more,
  };
}
