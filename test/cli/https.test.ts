import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeFile } from '../support/files.ts';
import { runProgram } from '../support/program.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../support/tls/${name}.pem`, import.meta.url));

let server: TestServer;
/** Ends TLS in front of it, as proxies do. */
let front: Server;
let port: number;
let environment: Record<string, string>;
beforeAll(async () => {
  server = await startTestServer();
  const behind = Number(new URL(server.address).port);
  const identity = {
    key: readFileSync(fixture('server-key')),
    cert: readFileSync(fixture('server')),
  };
  front = createServer(identity, (outer) => {
    const inner = connect(behind, '127.0.0.1');
    outer.on('error', () => inner.destroy());
    inner.on('error', () => outer.destroy());
    outer.pipe(inner).pipe(outer);
  });
  await once(front.listen(0, 'localhost'), 'listening');
  port = (front.address() as AddressInfo).port;
  environment = {
    SWEEPBOOK_URL: `https://localhost:${port}`,
    SWEEPBOOK_TOKEN: await server.tokenOf('anna', 'PRODUCER'),
  };
});
afterAll(async () => {
  front.close();
  await server.close();
});

test('a server behind TLS is asked, and a file is swept through it, by an authority that is named', async () => {
  const known = { ...environment, NODE_EXTRA_CA_CERTS: fixture('authority') };
  const asked = await runProgram(['whoami'], known);
  expect(asked.stdout).toContain('anna');
  const file = join(server.folder, 'files', 'a.rec');
  await makeFile(file, 'a');
  const swept = await runProgram(['sweep', file, '--dataset', 'through-tls'], known);
  expect(swept.stdout + swept.stderr).toContain('CLOSED');
  expect(swept.code).toBe(0);
});

test.each([
  [
    'an authority that is not known',
    'localhost',
    undefined,
    'its certificate is of an authority that is not known here: name that by NODE_EXTRA_CA_CERTS=/path/to/ca.pem',
  ],
  ['a certificate of another host', '127.0.0.1', fixture('authority'), 'is that of another host'],
])('%s is told', async (_, host, authority, told) => {
  const url = `https://${host}:${port}`;
  const { code, stderr } = await runProgram(['whoami'], {
    ...environment,
    ...(authority === undefined ? {} : { NODE_EXTRA_CA_CERTS: authority }),
    SWEEPBOOK_URL: url,
  });
  expect(stderr).toContain(`the server at ${url} is not believed`);
  expect(stderr).toContain(told);
  expect(code).toBe(1);
});
