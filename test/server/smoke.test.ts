import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.close());

test('a viewer learns who he is', async () => {
  const { viewer } = await server.operator.call<{ viewer: object }>(
    '{ viewer { principal roles } }',
  );
  expect(viewer).toEqual({ principal: 'operator', roles: ['OPERATOR', 'ADMIN'] });
  expect(await server.anonymous.call('{ viewer { name } }')).toEqual({
    viewer: { name: 'anonymous' },
  });
});
