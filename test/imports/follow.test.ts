import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkInvariants } from '../support/check-invariants.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import {
  closedDataset,
  openDoor,
  openGate,
  startProducer,
  writeImportFile,
  type Door,
  type Gate,
} from './sites.ts';

let folder: string;
let door: Door;
let producer: TestServer;
let site: TestServer;
let gate: Gate;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sweepbook-imports-'));
  door = await openDoor(join(folder, 'store'));
  producer = await startProducer(door, join(folder, 'store'));
  gate = await openGate(producer.address);
  const token = join(folder, 'token');
  // As everybody has it: it sees what is published, and nothing else.
  writeFileSync(token, await producer.tokenOf('tier-a', 'USER'));
  const imports = writeImportFile(join(folder, 'site'), {
    read: [`${door.address}/`],
    server: gate.address,
    token: { file: token },
  });
  site = await startTestServer({
    SWEEPBOOK_SITE: 'IN2P3',
    SWEEPBOOK_IMPORT_FROM: imports,
    SWEEPBOOK_FOLLOW_SECONDS: '1',
  });
});
afterAll(async () => {
  await site?.close();
  gate?.close();
  await producer?.close();
  await door?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Followed {
  name: string;
  badReason: string | null;
  isMarked: boolean;
  error: string | null;
  leftAt: string | null;
  leftReason: string | null;
  import: { status: string } | null;
}

async function followed(): Promise<Followed[]> {
  const { followRules } = await site.operator.call<{
    followRules: { nodes: { datasets: { nodes: Followed[] } }[] };
  }>(
    `{ followRules { nodes { datasets { nodes { name badReason isMarked error leftAt leftReason import { status } } } } } }`,
  );
  return followRules.nodes[0]?.datasets.nodes ?? [];
}

const seen = async (name: string) => {
  const { data, errors } = await site.anonymous.raw(
    'query ($name: String!) { dataset(name: $name) { name } }',
    { name },
  );
  return (
    errors?.[0]?.message ?? ((data as { dataset: object | null }).dataset ? 'seen' : 'not there')
  );
};

test('what matches is imported, now and later; what is called bad there is bad here, and good again with it', async () => {
  await closedDataset(producer.operator, 'skim-1', { fileCount: 1, firstRun: 100 });
  await closedDataset(producer.operator, 'other-1', { fileCount: 1, firstRun: 200 });
  const importer = await site.as('importer', 'IMPORTER');
  await mutate(importer, 'createFollowRule', {
    site: 'SLAC',
    filter: { name: { glob: 'skim-*' } },
  });
  await until('the first is here', async () => (await seen('skim-1')) === 'seen');

  await closedDataset(producer.operator, 'skim-2', { fileCount: 1, firstRun: 300 });
  await until('the second is here', async () => (await seen('skim-2')) === 'seen');
  expect(await seen('other-1')).toBe('not there');
  expect(await followed()).toMatchObject([
    { name: 'skim-1', badReason: null, isMarked: false, import: { status: 'ENTERED' } },
    { name: 'skim-2', badReason: null, isMarked: false, import: { status: 'ENTERED' } },
  ]);

  await mutate(producer.operator, 'markDatasetBad', {
    dataset: 'skim-1',
    reason: 'wrong field map',
  });
  await until('it is bad here', async () =>
    (await seen('skim-1')).includes('at SLAC: wrong field map'),
  );
  expect((await followed())[0]).toMatchObject({ badReason: 'wrong field map', isMarked: true });
  await mutate(producer.operator, 'clearDatasetBad', { dataset: 'skim-1', reason: 'it was right' });
  await until('it is good again', async () => (await seen('skim-1')) === 'seen');
  expect((await followed())[0]).toMatchObject({ badReason: null, isMarked: false });
});

test('a loss of storage there is told, and takes nothing from anybody here', async () => {
  await site.operator.call('mutation { lookNow(id: "1") { changed } }');
  await mutate(producer.operator, 'reportStorageLoss', {
    lfns: ['/skim-2/file0.root'],
    massStore: 'default',
    reason: 'tape torn',
  });
  const told = await until('it is told', async () => {
    const row = (await followed()).find((dataset) => dataset.name === 'skim-2');
    return row?.badReason != null && row;
  });
  expect(told.isMarked).toBe(false);
  expect(await seen('skim-2')).toBe('seen');
});

test('an importer ends his own rule; nobody ends that of another', async () => {
  const stranger = await site.as('stranger', 'IMPORTER');
  const refused = await stranger.raw('mutation { deleteFollowRule(id: "1") { changed } }');
  expect(refused.errors?.[0]?.extensions.code).toBe('NOT_FOUND');
  const importer = await site.as('importer', 'IMPORTER');
  await importer.call('mutation { deleteFollowRule(id: "1") { changed } }');
  expect(await followed()).toEqual([]);
});

/** The container here, and what it says of the one there. */
async function listed(wanted: { here: number; of: number | null; names: string[] }): Promise<void> {
  await until(JSON.stringify(wanted), async () => {
    const { container } = await site.anonymous.call<{
      container: {
        origin: { site: string; hereCount: number; memberCount: number | null };
        datasets: { nodes: { name: string }[] };
      } | null;
    }>(`{ container(name: "analysis") { datasets { nodes { name } }
      origin { site container hereCount memberCount } } }`);
    const now = container && {
      here: container.origin.hereCount,
      of: container.origin.memberCount,
      names: container.datasets.nodes.map((dataset) => dataset.name),
    };
    return JSON.stringify(now) === JSON.stringify(wanted);
  });
}

test('a container is followed: who comes is imported, who leaves or turns bad is known here, also what happened while the site was cut off', async () => {
  const { operator } = producer;
  await Promise.all(
    ['a', 'b', 'c'].map((name, at) =>
      closedDataset(operator, `member-${name}`, { fileCount: 1, firstRun: 400 + 10 * at }),
    ),
  );
  const change = (
    kind: 'addToContainer' | 'removeFromContainer',
    datasets: string[],
    reason: string,
  ) => mutate(operator, kind, { container: 'analysis', datasets, reason });
  await mutate(operator, 'createContainer', { name: 'analysis' });
  await change('addToContainer', ['member-a', 'member-c'], 'the first');
  const importer = await site.as('importer', 'IMPORTER');
  const both = { container: 'analysis', stream: 'AllEvents' };
  const refused = mutate(importer, 'createFollowRule', { site: 'SLAC', filter: both });
  expect((await refusalOf(refused)).facts).toMatchObject({ field: 'filter.container' });
  await mutate(importer, 'createFollowRule', { site: 'SLAC', filter: { container: 'analysis' } });
  const states = async () =>
    Object.fromEntries(
      (await followed()).map((row) => [
        row.name,
        [row.import?.status, row.leftAt !== null, row.leftReason, row.badReason, row.isMarked],
      ]),
    );
  const well = ['ENTERED', false, null, null, false];
  const become = (wanted: object) =>
    until(JSON.stringify(wanted), async () => {
      const now = await states();
      return JSON.stringify(now) === JSON.stringify(wanted);
    });
  await become({ 'member-a': well, 'member-c': well });
  await listed({ here: 2, of: 2, names: ['member-a', 'member-c'] });

  gate.isShut = true;
  await until('it is seen to be away', async () => {
    const { followRules } = await site.operator.call<{
      followRules: { nodes: { lastErrorCode: string | null }[] };
    }>('{ followRules { nodes { lastErrorCode } } }');
    return followRules.nodes[0]?.lastErrorCode === 'UNAVAILABLE';
  });
  await change('addToContainer', ['member-b'], 'reprocessed');
  await change('removeFromContainer', ['member-a'], 'superseded by b');
  gate.isShut = false;
  await become({
    'member-a': ['ENTERED', true, 'superseded by b', null, false],
    'member-b': well,
    'member-c': well,
  });
  expect(await seen('member-a')).toBe('seen');
  await listed({ here: 2, of: 2, names: ['member-b', 'member-c'] });

  // Who is bad has left by itself, and nobody is told its name but who asks for it.
  await mutate(operator, 'markDatasetBad', { dataset: 'member-c', reason: 'noise' });
  await change('addToContainer', ['member-a'], 'it was right');
  await become({
    'member-a': well,
    'member-b': well,
    'member-c': ['ENTERED', true, null, 'noise', true],
  });
  await listed({ here: 3, of: 3, names: ['member-a', 'member-b'] });
  await mutate(operator, 'clearDatasetBad', { dataset: 'member-c', reason: 'no noise' });
  await become({ 'member-a': well, 'member-b': well, 'member-c': well });
  await listed({ here: 3, of: 3, names: ['member-a', 'member-b', 'member-c'] });

  // Its history here has no more lines than there: what was bad left and came back by its mark.
  const lines = await site.database.sql(
    'select kind, reason, added_count, removed_count from container_changes order by event_id',
  );
  expect(lines.map((line) => Object.values(line).join(' '))).toEqual([
    'ADDED listed at SLAC 2 0',
    'REMOVED at SLAC: superseded by b 0 1',
    'ADDED listed at SLAC 1 0',
    'MARKED_BAD at SLAC: noise 0 1',
    'ADDED listed at SLAC 1 0',
    'CLEARED good again at SLAC 1 0',
  ]);
});

test('what is not here is not listed, and only counted; nobody changes a mirror by hand while its rule stands', async () => {
  const importer = await site.as('importer', 'IMPORTER');
  const { operator } = site;
  await closedDataset(producer.operator, 'member-x', { fileCount: 1, firstRun: 500 });
  await mutate(operator, 'createDataset', { name: 'member-x', kind: 'USER' });
  await mutate(producer.operator, 'addToContainer', {
    container: 'analysis',
    datasets: ['member-x'],
  });
  await listed({ here: 3, of: 4, names: ['member-a', 'member-b', 'member-c'] });

  const byHand = { container: 'analysis', datasets: ['skim-1'], reason: 'mine' };
  const out = { ...byHand, datasets: ['member-a'] };
  const refusal = { code: 'ILLEGAL_TRANSITION' };
  expect(await refusalOf(mutate(operator, 'addToContainer', byHand))).toMatchObject(refusal);
  expect(await refusalOf(mutate(operator, 'removeFromContainer', out))).toMatchObject(refusal);
  await mutate(operator, 'createContainer', { name: 'ours' });
  const taken = (mirror?: string) =>
    refusalOf(
      mutate(importer, 'createFollowRule', {
        site: 'SLAC',
        filter: { container: 'analysis' },
        mirror,
      }),
    );
  expect(await taken()).toMatchObject({ code: 'DUPLICATE', facts: { container: 'analysis' } });
  expect(await taken('ours')).toMatchObject({ code: 'DUPLICATE', facts: { container: 'ours' } });
  expect(await checkInvariants(site.database.url)).toEqual([]);

  // Its owner’s, when the rule has ended; and as it was told there, when it is followed again.
  const { followRules } = await importer.call<{ followRules: { nodes: { id: string }[] } }>(
    '{ followRules { nodes { id } } }',
  );
  await importer.call('mutation ($id: ID!) { deleteFollowRule(id: $id) { changed } }', {
    id: followRules.nodes[0]?.id,
  });
  await mutate(importer, 'addToContainer', byHand);
  await mutate(importer, 'removeFromContainer', out);
  await listed({ here: 3, of: null, names: ['member-b', 'member-c', 'skim-1'] });
  await mutate(importer, 'createFollowRule', { site: 'SLAC', filter: { container: 'analysis' } });
  await listed({ here: 3, of: 4, names: ['member-a', 'member-b', 'member-c'] });
});
