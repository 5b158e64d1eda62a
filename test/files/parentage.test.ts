import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
/** run files → merged → skim → tiny, and merged → again. */
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  const { operator } = server;
  await mutate(
    operator,
    'registerRuns',
    { runs: [{ number: 1 }, { number: 2 }] },
    'registeredCount',
  );
  const runFiles = await Promise.all(
    [1, 2].map((number) =>
      newFile(`/p/run${number}`, { kind: 'RUN_FILE', stream: 'A', runs: [{ number }] }),
    ),
  );
  await register(operator, ...runFiles);
  const merged = await newFile('/p/merged', { eventCount: 20 });
  await mutate(operator, 'recordMerge', {
    output: merged.description,
    inputs: ['/p/run1', '/p/run2'],
  });
  const skim = await newFile('/p/skim', { parents: ['/p/merged'] });
  await register(operator, skim, await newFile('/p/again', { parents: ['/p/merged'] }));
  // By two ways of different length: its nearest counts.
  const tiny = await newFile('/p/tiny', { parents: ['/p/skim', '/p/merged', '/p/merged'] });
  await register(operator, tiny);
  await makeDataset(operator, 'skims', 'CLOSED', { files: [skim] });
  await makeDataset(operator, 'merged', 'CLOSED', { files: [merged] });
  await makeDataset(operator, 'tiny', 'OPEN', { files: [tiny] });
});
afterAll(() => server.close());

interface Family {
  file: {
    parents: { nodes: { lfn: string }[] };
    children: { nodes: { lfn: string }[] };
    inputs: { nodes: { lfn: string }[] };
    mergedInto: { lfn: string } | null;
    up: { totalCount: number; nodes: { generation: number; file: { lfn: string } }[] };
    down: { totalCount: number; nodes: { generation: number; file: { lfn: string } }[] };
  } | null;
}
const query = `query ($lfn: String!, $generations: Int! = 10) { file(lfn: $lfn) {
  parents { nodes { lfn } } children { nodes { lfn } } inputs { nodes { lfn } } mergedInto { lfn }
  up: ancestry(generations: $generations) { totalCount nodes { generation file { lfn } } }
  down: ancestry(direction: DESCENDANTS, generations: $generations) { totalCount nodes { generation file { lfn } } } } }`;

async function familyOf(lfn: string, client = server.operator, generations = 10) {
  const { file } = await client.call<Family>(query, { lfn, generations });
  if (!file) return null;
  const names = ({ nodes }: { nodes: { lfn: string }[] }) => nodes.map((node) => node.lfn);
  const lines = ({ nodes, totalCount }: NonNullable<Family['file']>['up']) => {
    expect(totalCount).toBe(nodes.length);
    return nodes.map((node) => `${node.generation} ${node.file.lfn}`);
  };
  return {
    parents: names(file.parents),
    children: names(file.children),
    inputs: names(file.inputs),
    mergedInto: file.mergedInto?.lfn ?? null,
    up: lines(file.up),
    down: lines(file.down),
  };
}

test('both directions, several generations, each file once at its nearest', async () => {
  expect(await familyOf('/p/tiny')).toEqual({
    parents: ['/p/merged', '/p/skim'],
    children: [],
    inputs: [],
    mergedInto: null,
    up: ['1 /p/merged', '1 /p/skim', '2 /p/run1', '2 /p/run2'],
    down: [],
  });
  expect(await familyOf('/p/run1')).toMatchObject({
    mergedInto: '/p/merged',
    up: [],
    down: ['1 /p/merged', '2 /p/again', '2 /p/skim', '2 /p/tiny'],
  });
  expect(await familyOf('/p/merged', server.operator, 1)).toMatchObject({
    children: ['/p/again', '/p/skim', '/p/tiny'],
    inputs: ['/p/run1', '/p/run2'],
    up: ['1 /p/run1', '1 /p/run2'],
    down: ['1 /p/again', '1 /p/skim', '1 /p/tiny'],
  });
});

test('a family is read in pages', async () => {
  const seen: string[] = [];
  for (let after: string | null = null, more = true; more;) {
    interface Page {
      file: {
        ancestry: {
          pageInfo: { endCursor: string; hasNextPage: boolean };
          nodes: { file: { lfn: string } }[];
        };
      };
    }
    const { file }: Page = await server.operator.call<Page>(
      `query ($after: String) { file(lfn: "/p/tiny") { ancestry(first: 1, after: $after) {
        pageInfo { endCursor hasNextPage } nodes { file { lfn } } } } }`,
      { after },
    );
    seen.push(...file.ancestry.nodes.map((node) => node.file.lfn));
    after = file.ancestry.pageInfo.endCursor;
    more = file.ancestry.pageInfo.hasNextPage;
  }
  expect(seen).toEqual(['/p/merged', '/p/skim', '/p/run1', '/p/run2']);
});

test('others see of a family what they see otherwise, and nothing behind a gap', async () => {
  const { anonymous } = server;
  expect(await familyOf('/p/tiny', anonymous)).toBeNull();
  expect(await familyOf('/p/skim', anonymous)).toMatchObject({
    parents: ['/p/merged'],
    children: [],
    up: ['1 /p/merged'],
    down: [],
  });
  expect(await familyOf('/p/merged', anonymous)).toMatchObject({
    inputs: [],
    children: ['/p/skim'],
    up: [],
    down: ['1 /p/skim'],
  });
  const owner = await server.as('somebody', 'USER');
  expect(await familyOf('/p/merged', owner)).toMatchObject({ down: ['1 /p/skim'] });
});

test('what is told of parents is checked, and stays', async () => {
  const tell = async (lfn: string, more: Record<string, unknown>) => {
    const file = await newFile(lfn, { adler32: '00000001', sha256: null, ...more });
    const { results } = await mutate<{
      results: { outcome: string; error: { code: string } | null }[];
    }>(
      server.operator,
      'registerFiles',
      { files: [file.description] },
      'results { outcome error { code message } }',
    );
    return results[0]?.error?.code ?? results[0]?.outcome;
  };
  expect(await tell('/q/a', { parents: ['/q/unknown'] })).toBe('NOT_FOUND');
  expect(await tell('/q/a', { parents: ['/q/a'] })).toBe('BAD_USER_INPUT');
  expect(await tell('/q/a', { parents: ['/p/\0'] })).toBe('NOT_FOUND');
  expect(await tell('/q/a', { parents: Array.from({ length: 10_001 }, () => '/p/skim') })).toBe(
    'BAD_USER_INPUT',
  );
  expect(await tell('/q/a', { parents: ['/p/skim', '/p/tiny'] })).toBe('REGISTERED');
  expect(await tell('/q/a', { parents: ['/p/tiny', '/p/skim'] })).toBe('EXISTING');
  expect(await tell('/q/a', {})).toBe('EXISTING');
  expect(await tell('/q/a', { parents: ['/p/skim'] })).toBe('DUPLICATE');
});

test('generations are counted from 1 to 10, and a family that is too large is refused', async () => {
  for (const generations of [0, 11, -1]) {
    const refused = await refusalOf(familyOf('/p/tiny', server.operator, generations));
    expect(refused.code).toBe('BAD_USER_INPUT');
  }
  const { database } = server;
  await database.sql(`with parents as (
      insert into files (lfn, kind, site_id, size_bytes, adler32)
      select '/big/parent' || n, 'MERGED_FILE', (select min(id) from sites), 1, '00000001' from generate_series(1, 20001) n
      returning id), child as (
      insert into files (lfn, kind, site_id, size_bytes, adler32)
      select '/big/child', 'MERGED_FILE', (select min(id) from sites), 1, '00000001' from (select count(*) from parents) p
      returning id)
    select 1 from child`);
  await database.sql(`alter table file_parents disable trigger file_parents_guard;
    insert into file_parents select c.id, p.id from files c, files p
      where c.lfn = '/big/child' and p.lfn like '/big/parent%' and p.id < c.id;
    alter table file_parents enable always trigger file_parents_guard`);
  const ask = (field: string) =>
    server.operator.call<{ file: { ancestry: object } }>(
      `{ file(lfn: "/big/child") { ancestry(generations: 2) { ${field} } } }`,
    );
  for (const field of ['totalCount', 'nodes { generation }']) {
    expect((await refusalOf(ask(field))).code).toBe('QUERY_TOO_COMPLEX');
  }
});
