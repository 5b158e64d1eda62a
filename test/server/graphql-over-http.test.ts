import { serverAudits } from 'graphql-http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
});
afterAll(() => server.close());

/** What the specification GraphQL over HTTP demands and recommends, as its reference implementation asks for it. */
const audits = serverAudits({ url: () => `${server.address}/graphql`, fetchFn: fetch })
  // It may, and does not: what a link or a picture can ask for, another site can make a browser ask for.
  .filter((audit) => !/GETs? /.test(audit.name));

test.for(audits.map((audit) => [audit.name, audit] as const))('%s', async ([, audit]) => {
  const result = await audit.fn();
  expect(result, 'reason' in result ? result.reason : '').toMatchObject({ status: 'ok' });
});
