import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { readConfig } from '../../src/config.ts';
import { openSweepbook } from '../../src/main.ts';
import { clientOf, type TestClient } from './client.ts';
import { openTestDatabase, type TestDatabase } from './database.ts';

export interface TestServer {
  readonly address: string;
  readonly database: TestDatabase;
  /** A folder of this server's own: home, mass store (home/store), files of the test. */
  readonly folder: string;
  /** With the token of the first start: OPERATOR and ADMIN. */
  readonly operator: TestClient;
  readonly anonymous: TestClient;
  /** A client with a new token of these roles. */
  as(principal: string, ...roles: string[]): Promise<TestClient>;
  tokenOf(principal: string, ...roles: string[]): Promise<string>;
  close(options?: { check?: boolean }): Promise<void>;
}

/**
 * The whole program in this process, on a database of its own. Settings as in the environment; `through`: by which way
 * it comes to its database.
 */
export async function startTestServer(
  settings: Record<string, string> = {},
  through = (databaseUrl: string) => databaseUrl,
): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'sweepbook-server-'));
  const database = await openTestDatabase();
  const config = readConfig({
    SWEEPBOOK_HOME: join(folder, 'home'),
    SWEEPBOOK_PORT: '0',
    DATABASE_URL: through(database.url),
    SWEEPBOOK_RETRY_BASE_MS: '50',
    SWEEPBOOK_LEASE_SECONDS: '3',
    SWEEPBOOK_SHUTDOWN_SECONDS: '5',
    ...settings,
  });
  const running = await openSweepbook(config, pino({ level: process.env['TEST_LOG'] ?? 'silent' }));
  const operator = clientOf(running.address, running.token);
  const tokenOf: TestServer['tokenOf'] = async (principal, ...roles) => {
    const made = await operator.call<{ createToken: { token: string } }>(
      `mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }`,
      { input: { principal, roles } },
    );
    return made.createToken.token;
  };
  return {
    address: running.address,
    database,
    folder,
    operator,
    anonymous: clientOf(running.address),
    tokenOf,
    as: async (principal, ...roles) =>
      clientOf(running.address, await tokenOf(principal, ...roles)),
    async close(options) {
      await running.close();
      await database.close(options);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
