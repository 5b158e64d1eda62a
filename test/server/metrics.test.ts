import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeDataset } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';

let server: TestServer;
beforeAll(async () => (server = await startTestServer()));
afterAll(() => server.close());

test('only operators read the metrics: they count what is not published', async () => {
  expect((await server.anonymous.get('/metrics')).status).toBe(401);
  const producer = await server.as('somebody', 'PRODUCER');
  expect((await producer.get('/metrics')).status).toBe(403);
});

test('datasets, sockets and requests are counted, routes by their pattern', async () => {
  await makeDataset(server.operator, 'counted', 'OPEN');
  await server.anonymous.get('/export/datasets/counted/files');
  const socket = await openSocket(server.address);
  const text = await (await server.operator.get('/metrics')).text();
  expect(text).toMatch(/^sweepbook_database_up 1$/m);
  expect(text).toMatch(/^sweepbook_mass_store_up\{store="default"\} 1$/m);
  expect(text).toMatch(/^sweepbook_datasets\{kind="PR",status="OPEN",bad="false"\} 1$/m);
  expect(text).toMatch(/^sweepbook_websockets 1$/m);
  expect(text).toMatch(
    /^sweepbook_http_request_duration_seconds_count\{method="GET",route="\/export\/datasets\/:name\/files",status="404"\} 1$/m,
  );
  expect(text).not.toContain('counted');
  socket.terminate();
});
