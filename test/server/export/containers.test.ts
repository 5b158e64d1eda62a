import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram } from '../../support/program.ts';
import { allTold, makeDataset, mutate, newFile, register } from '../../support/scene.ts';
import { startTestServer, type TestServer } from '../../support/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.close());

interface Told {
  readonly names: string[];
  readonly marker: string;
  readonly headers: Headers;
}

async function told(query = '', client = server.anonymous): Promise<Told> {
  // What was changed before has settled, so that a marker lies behind it.
  await allTold(server.database);
  const response = await client.get(`/export/containers/living/files?format=jsonl${query}`);
  const text = await response.text();
  expect(response.status, text).toBe(200);
  const lines = text.trimEnd().split('\n');
  const objects = lines.map((line) => JSON.parse(line) as { lfn: string; count?: number });
  expect(objects.pop()?.count).toBe(objects.length);
  return {
    names: objects.map((file) => file.lfn),
    marker: response.headers.get('x-sweepbook-marker') ?? '',
    headers: response.headers,
  };
}
const change = (field: string, datasets: string[], reason = 'a test') =>
  mutate(server.operator, field, { container: 'living', datasets, reason });

test('a container lists the files of its datasets, each once, as of any moment and what is new', async () => {
  const [a, b, c, d] = await Promise.all(
    ['a', 'b', 'c', 'd'].map((name) => newFile(`/living/${name}.root`)),
  );
  if (!a || !b || !c || !d) throw new Error('no files');
  await register(server.operator, a, b, c, d);
  const tree = { treeName: 'Events' };
  await makeDataset(server.operator, 'first', 'CLOSED', { files: [a, c], ...tree });
  await makeDataset(server.operator, 'second', 'CLOSED', { files: [b, c], ...tree });
  await makeDataset(server.operator, 'third', 'CLOSED', { files: [d] });
  await mutate(server.operator, 'createContainer', { name: 'living' });
  expect((await told()).names).toEqual([]);

  await change('addToContainer', ['first']);
  const one = await told();
  expect(one.names).toEqual([a.lfn, c.lfn]);
  await change('addToContainer', ['second']);
  const two = await told();
  expect(two.names).toEqual([a.lfn, b.lfn, c.lfn]);
  expect(one.headers.get('etag')).not.toBe(two.headers.get('etag'));
  expect(await told(`&asOf=${one.marker}`)).toMatchObject({ names: one.names });
  expect(await told(`&since=${one.marker}`)).toMatchObject({ names: [b.lfn, c.lfn] });
  expect(await told(`&since=${two.marker}`)).toMatchObject({ names: [] });

  const spec = await server.anonymous.get('/export/containers/living/files?format=rdataframe');
  expect(await spec.json()).toMatchObject({
    samples: { living: { trees: ['Events'], metadata: { files: 3, events: 30 } } },
  });
  await change('addToContainer', ['third']);
  const mixed = await server.anonymous.get('/export/containers/living/files?format=coffea');
  expect(await mixed.json()).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field: 'tree' } });
  await change('removeFromContainer', ['third']);

  const { container } = await server.anonymous.call<{ container: { exportUrl: string } }>(
    '{ container(name: "living") { exportUrl(format: JSONL) } }',
  );
  expect(container.exportUrl).toBe('/export/containers/living/files?format=jsonl');
});

test('what has turned bad is left out, for everybody, and its number is said', async () => {
  const whole = await told();
  expect(whole.headers.get('x-sweepbook-unavailable')).toBeNull();
  await mutate(server.operator, 'markDatasetBad', { dataset: 'second', reason: 'wet' });
  for (const client of [server.anonymous, server.operator]) {
    expect((await told('', client)).names).toEqual(['/living/a.root', '/living/c.root']);
    const then = await told(`&asOf=${whole.marker}`, client);
    expect(then.names).toEqual(['/living/a.root', '/living/c.root']);
    expect(then.headers.get('x-sweepbook-unavailable')).toBe('1');
  }
  const args = ['container', 'files', 'living', '--as-of', whole.marker];
  const env = { SWEEPBOOK_URL: server.address, SWEEPBOOK_HOME: join(server.folder, 'nobody') };
  const end = await runProgram(args, env);
  const store = join(server.folder, 'home', 'store');
  expect(end).toEqual({
    code: 0,
    stdout: `${store}/living/a.root\n${store}/living/c.root\n`,
    stderr: 'sweepbook: 1 datasets of living are bad now: their files are left out\n',
  });
  await mutate(server.operator, 'clearDatasetBad', { dataset: 'second', reason: 'dry' });
  expect((await told()).names).toEqual(whole.names);
});

test('a container that is not there, a moment that is none', async () => {
  const missing = await server.anonymous.get('/export/containers/nothing/files');
  expect(missing.status).toBe(404);
  expect(await missing.json()).toMatchObject({ code: 'NOT_FOUND' });
  const wrong = await server.anonymous.get('/export/containers/living/files?since=then');
  expect(await wrong.json()).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field: 'since' } });
});
