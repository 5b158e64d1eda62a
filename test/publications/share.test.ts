import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { lastCursor, makeDataset, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { openSocket } from '../support/socket.ts';

let server: TestServer;
const people = new Map<string, TestClient>();
const who = (name: string) => people.get(name) as TestClient;

beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  for (const name of ['alice', 'bob', 'carol', 'dave']) {
    people.set(name, await server.as(name, 'USER'));
  }
  people.set('nobody', server.anonymous);
  await makeDataset(server.operator, 'shared', 'OPEN', { owner: 'alice', kind: 'USER' });
  await mutate(server.operator, 'changeGroup', { name: '/taus', add: ['carol'] });
});
afterAll(() => server.close());

/** Whether somebody sees the dataset, by each road. */
async function sees(name: string): Promise<boolean[]> {
  const client = who(name);
  const { dataset, datasets, file, files, events } = await client.call<{
    dataset: object | null;
    datasets: { totalCount: number };
    file: object | null;
    files: { totalCount: number };
    events: { totalCount: number };
  }>(`{
    dataset(name: "shared") { name }
    datasets(filter: { name: { eq: "shared" }, status: [OPEN] }) { totalCount }
    file(lfn: "/scene/shared/file000.root") { lfn }
    files(filter: { dataset: "shared" }) { totalCount }
    events(filter: { dataset: "shared" }) { totalCount }
  }`);
  return [
    dataset !== null,
    datasets.totalCount > 0,
    file !== null,
    files.totalCount > 0,
    events.totalCount > 0,
  ];
}
const yes = [true, true, true, true, true];
const no = [false, false, false, false, false];

test('a dataset is shared with users and groups, by its owner alone, until that is ended', async () => {
  await lastCursor(server);
  for (const name of ['bob', 'carol', 'dave', 'nobody']) expect(await sees(name), name).toEqual(no);
  const share = { dataset: 'shared', users: ['bob'], groups: ['/taus', '/of-some-token'] };
  expect((await refusalOf(mutate(who('bob'), 'shareDataset', share))).code).toBe('NOT_FOUND');
  await mutate(who('alice'), 'shareDataset', share);
  const start = await lastCursor(server);
  expect(await sees('alice')).toEqual(yes);
  expect(await sees('bob')).toEqual(yes);
  expect(await sees('carol')).toEqual(yes);
  expect(await sees('dave')).toEqual(no);
  expect(await sees('nobody')).toEqual(no);
  // He sees it, and that is all; with whom else is not his business.
  const change = mutate(who('bob'), 'shareDataset', { ...share, users: ['dave'] });
  expect((await refusalOf(change)).code).toBe('FORBIDDEN');
  const shares = '{ dataset(name: "shared") { sharedWith { kind name } } }';
  expect(await who('bob').call(shares)).toEqual({ dataset: { sharedWith: [] } });
  expect(await who('alice').call(shares)).toEqual({
    dataset: {
      sharedWith: [
        { kind: 'GROUP', name: '/of-some-token' },
        { kind: 'GROUP', name: '/taus' },
        { kind: 'USER', name: 'bob' },
      ],
    },
  });
  // Who comes into the group sees it, who leaves it does not.
  await mutate(server.operator, 'changeGroup', { name: '/taus', add: ['dave'], remove: ['carol'] });
  expect(await sees('dave')).toEqual(yes);
  expect(await sees('carol')).toEqual(no);
  // What happens to it is told to those who see it, and while it is bad to none of them.
  const [seeing, blind] = await Promise.all(
    ['dave', 'carol'].map(async (name) =>
      openSocket(server.address, await server.tokenOf(name, 'USER')),
    ),
  );
  const follow =
    'subscription ($after: String) { datasetStatusChanged(after: $after) { dataset { name } } }';
  for (const socket of [seeing, blind]) socket?.start(follow, { after: start });
  await mutate(server.operator, 'markDatasetBad', { dataset: 'shared', reason: 'a test' });
  expect(await sees('dave')).toEqual(no);
  await mutate(server.operator, 'clearDatasetBad', { dataset: 'shared', reason: 'a test' });
  await mutate(server.operator, 'createDataset', { name: 'other', kind: 'USER', owner: 'carol' });
  expect(JSON.stringify(await seeing?.next())).toContain('"shared"');
  expect(JSON.stringify(await blind?.next())).toContain('"other"');
  seeing?.terminate();
  blind?.terminate();
  await mutate(who('alice'), 'unshareDataset', { dataset: 'shared', groups: ['/taus'] });
  expect(await sees('dave')).toEqual(no);
  expect(await sees('bob')).toEqual(yes);
});
