import { afterAll, beforeAll, expect, test } from 'vitest';
import { foldTotals } from '../../src/production/totals.service.ts';
import { refusalOf, makeDataset, mutate, newFile, register } from '../support/scene.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import type { TestClient } from '../support/client.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import { openWorld } from '../migrations/world.ts';

let server: TestServer;
let operator: TestClient;
let user: TestClient;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  ({ operator } = server);
  user = await server.as('analyst', 'USER');
});
afterAll(() => server.close());

interface Line {
  readonly status?: string;
  readonly stream?: string | null;
  readonly store?: string | null;
  readonly fileCount: number;
  readonly eventCount: number;
  readonly sizeBytes: number;
}

async function totals(
  client: TestClient,
  by: readonly string[],
  filter: object = {},
  selection = 'status stream fileCount eventCount sizeBytes',
): Promise<Line[]> {
  const data = await client.call<{ totals: Line[] }>(
    `query ($by: [TotalsKey!]!, $filter: TotalsFilter) { totals(by: $by, filter: $filter) { ${selection} } }`,
    { by, filter },
  );
  return data.totals;
}

const byStatus = async (client: TestClient, stream: string) =>
  Object.fromEntries(
    (await totals(client, ['STATUS'], { stream: { eq: stream } })).map((line) => [
      line.status,
      line.fileCount,
    ]),
  );

/** Every way of counting must say the same: the totals, unfolded and folded, and the rows. */
async function expectExact(): Promise<void> {
  expect(await checkInvariants(server.database.url)).toEqual([]);
  await server.database.sql('update totals_state set folded_at = now()');
  expect(await checkInvariants(server.database.url)).toEqual([]);
}

test('a file is counted by where it stands, at each step of its life', async () => {
  const stream = 'Steps';
  const files = [
    await newFile('/steps/1', { stream }),
    await newFile('/steps/2', { stream }),
    await newFile('/steps/3', { stream }),
  ];
  const [one, two, three] = files;
  if (!one || !two || !three) throw new Error('three files');
  await register(operator, ...files);
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 3 });
  expect(await byStatus(user, stream)).toEqual({});
  await makeDataset(operator, 'steps', 'BACKED_UP', { files: [one, two] });
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 1, BACKED_UP: 2 });
  expect(await byStatus(user, stream)).toEqual({});
  await mutate(operator, 'closeDataset', { dataset: 'steps' });
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 1, PUBLISHED: 2 });
  expect(await byStatus(user, stream)).toEqual({ PUBLISHED: 2 });
  // Shown twice, and counted once.
  await makeDataset(operator, 'steps-again', 'CLOSED', { files: [two] });
  expect(await byStatus(user, stream)).toEqual({ PUBLISHED: 2 });
  await expectExact();
  await mutate(operator, 'markDatasetBad', { dataset: 'steps', reason: 'wet tape' });
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 1, BACKED_UP: 1, PUBLISHED: 1 });
  expect(await byStatus(user, stream)).toEqual({ PUBLISHED: 1 });
  await mutate(operator, 'markDatasetBad', { dataset: 'steps-again', reason: 'wet tape' });
  expect(await byStatus(user, stream)).toEqual({});
  await expectExact();
  await mutate(operator, 'clearDatasetBad', { dataset: 'steps', reason: 'dried' });
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 1, PUBLISHED: 2 });
  await expectExact();
});

test('what a waived backup shows is told apart, unless it is safe or shown elsewhere', async () => {
  const stream = 'Waived';
  const files = [
    await newFile('/waived/bare', { stream }),
    await newFile('/waived/safe', { stream }),
    await newFile('/waived/both', { stream }),
  ];
  await register(operator, ...files);
  await makeDataset(operator, 'waived-safe', 'BACKED_UP', { files: files.slice(1, 2) });
  await makeDataset(operator, 'waived-both', 'CLOSED', { files: files.slice(2) });
  await mutate(operator, 'createDataset', {
    name: 'waived',
    kind: 'USER',
    backupWaived: true,
    waiverReason: 'made again at will',
    files: files.map((file) => file.lfn),
  });
  await mutate(operator, 'closeDataset', { dataset: 'waived' });
  const shown = { PUBLISHED_WITHOUT_BACKUP: 1, PUBLISHED: 2 };
  expect(await byStatus(operator, stream)).toEqual(shown);
  expect(await byStatus(user, stream)).toEqual(shown);
  await expectExact();
  await mutate(operator, 'markDatasetBad', { dataset: 'waived', reason: 'wrong' });
  expect(await byStatus(operator, stream)).toEqual({ REGISTERED: 1, BACKED_UP: 1, PUBLISHED: 1 });
  await expectExact();
});

test('groups, filters and stores; what only production may know', async () => {
  const runFile = await newFile('/groups/run', {
    kind: 'RUN_FILE',
    stream: 'Groups',
    release: 'R1',
    runs: [{ number: 1 }],
    eventCount: null,
  });
  await mutate(operator, 'registerRuns', { runs: [{ number: 1 }] }, 'registeredCount');
  await register(operator, runFile, await newFile('/groups/bare', { stream: null, release: 'R2' }));
  await makeDataset(operator, 'groups', 'CLOSED', {
    files: await (async () => {
      const file = await newFile('/groups/closed', { stream: 'Groups', release: 'R2' });
      await register(operator, file);
      return [file];
    })(),
  });
  const all = 'site stream kind status release store fileCount eventCount sizeBytes';
  expect(
    await totals(
      operator,
      ['RELEASE', 'KIND', 'STREAM', 'SITE'],
      { release: { in: ['R1', 'R2'] } },
      all,
    ),
  ).toEqual(
    [
      {
        site: 'local',
        stream: 'Groups',
        kind: 'MERGED_FILE',
        release: 'R2',
        fileCount: 1,
        eventCount: 10,
        sizeBytes: 64,
      },
      {
        site: 'local',
        stream: 'Groups',
        kind: 'RUN_FILE',
        release: 'R1',
        fileCount: 1,
        eventCount: 0,
        sizeBytes: 64,
      },
      {
        site: 'local',
        stream: null,
        kind: 'MERGED_FILE',
        release: 'R2',
        fileCount: 1,
        eventCount: 10,
        sizeBytes: 64,
      },
    ].map((line) => ({ status: null, store: null, ...line })),
  );
  expect(
    await totals(
      operator,
      ['STORE', 'STREAM'],
      { release: { eq: 'R2' } },
      'store stream fileCount',
    ),
  ).toEqual([{ store: 'default', stream: 'Groups', fileCount: 1 }]);
  expect(
    await totals(operator, [], { release: { startsWith: 'R' }, kind: 'RUN_FILE' }, 'fileCount'),
  ).toEqual([{ fileCount: 1 }]);
  expect(await totals(operator, [], { stream: { eq: 'nobody' } }, 'fileCount sizeBytes')).toEqual([
    { fileCount: 0, sizeBytes: 0 },
  ]);
  // Users: nothing of what is not published, however it is asked for.
  expect(
    await totals(user, ['RELEASE'], { release: { in: ['R1', 'R2'] } }, 'release fileCount'),
  ).toEqual([{ release: 'R2', fileCount: 1 }]);
  expect(await totals(user, ['STATUS'], { status: ['REGISTERED', 'BACKED_UP'] })).toEqual([]);
  for (const ask of [() => totals(user, ['STORE']), () => totals(user, [], { store: 'default' })]) {
    expect(await refusalOf(ask())).toMatchObject({ code: 'FORBIDDEN' });
  }
  expect(await refusalOf(totals(server.anonymous, ['STORE']))).toMatchObject({
    code: 'UNAUTHENTICATED',
  });
  expect(await refusalOf(totals(operator, ['STORE', 'STATUS']))).toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'by' },
  });
  expect(
    await refusalOf(operator.call('{ totals(by: [RELEASE, STREAM], first: 1) { fileCount } }')),
  ).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field: 'by' } });
  expect(await refusalOf(operator.call('{ totals(first: 5001) { fileCount } }'))).toMatchObject({
    code: 'BAD_USER_INPUT',
  });
});

test('bytes beyond 2^53 are summed', async () => {
  const most = 9007199254740991;
  const stream = 'Huge';
  await register(
    operator,
    await newFile('/huge/1', { stream, sizeBytes: most, eventCount: most }),
    await newFile('/huge/2', { stream, sizeBytes: most, eventCount: most }),
  );
  expect(
    await totals(
      operator,
      ['STREAM'],
      { stream: { eq: stream } },
      'fileCount eventCount sizeBytes',
    ),
  ).toEqual([{ fileCount: 2, eventCount: 2 * most, sizeBytes: 2 * most }]);
});

test('many at once: registered, backed up, closed and folded together, the totals stay what the rows say', async () => {
  const seed = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 1e9));
  console.info(`TEST_SEED=${seed}`);
  let state = seed;
  const random = (below: number) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state % below;
  };
  let isOver = false;
  // Two of them, and the server: one folds at a time.
  const folding = [1, 2].map(async () => {
    while (!isOver) await server.database.sql('update totals_state set folded_at = now()');
  });
  const looking = (async () => {
    while (!isOver) expect(await checkInvariants(server.database.url)).toEqual([]);
  })();
  const plans = Array.from({ length: 6 }, (_, who) => ({
    who,
    rounds: Array.from({ length: 8 }, () => random(1000)),
  }));
  await Promise.all(
    plans.map(async ({ who, rounds }) => {
      for (const [round, dice] of rounds.entries()) {
        const name = `together-${who}-${round}`;
        const files = await Promise.all(
          Array.from({ length: 1 + (dice % 4) }, (_, at) =>
            newFile(`/together/${name}/${at}`, {
              stream: `T${dice % 3}`,
              release: dice % 2 ? 'R' : null,
            }),
          ),
        );
        await register(operator, ...files);
        const stage = (['OPEN', 'BACKED_UP', 'CLOSED', 'BAD'] as const)[dice % 4] ?? 'OPEN';
        await makeDataset(operator, name, stage, { files });
        if (stage === 'CLOSED') await makeDataset(operator, `${name}-again`, 'CLOSED', { files });
        if (stage === 'BAD' && dice % 3 === 0) {
          await mutate(operator, 'clearDatasetBad', { dataset: name, reason: 'mended' });
        }
      }
    }),
  );
  isOver = true;
  await Promise.all([...folding, looking]);
  await expectExact();
});

test('the server folds by itself, and a dataset that is closed for long is not counted again', async () => {
  await makeDataset(operator, 'folded', 'CLOSED');
  await until('it is folded', async () => {
    const [row] = await server.database.sql<{ n: number }>(
      'select count(*)::int as n from publication_changes',
    );
    return row?.n === 0;
  });
  expect(await foldTotals(server.database.db)).toBe(false);
  await expectExact();
});

test('nobody changes the totals by hand', async () => {
  const client = await server.database.client();
  await client.query('set session_replication_role = replica');
  for (const attack of [
    'update file_totals set files = files + 1',
    'delete from file_totals',
    'truncate file_totals',
    `insert into file_total_changes (site_id, kind) values (1, 'RUN_FILE')`,
    'delete from file_total_changes',
    'truncate file_total_changes cascade',
    'delete from publication_changes',
    'insert into publication_changes (dataset_id) select min(id) from datasets',
    'delete from counted_datasets',
    'delete from totals_state',
  ]) {
    await expect(client.query(attack), attack).rejects.toMatchObject({ code: 'SW001' });
  }
});

test('who folds second leaves it to the first', async () => {
  const database = await openWorld();
  try {
    const fold = 'update totals_state set folded_at = now()';
    const first = await database.client();
    await first.query(`begin; ${fold}`);
    // It looks while the first one has not committed, and waits for the row.
    const second = (await database.client()).query(fold);
    await until('the second one waits', async () => {
      const waiting = await database.sql(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return waiting.length > 0;
    });
    await first.query('commit');
    await second;
    expect(await checkInvariants(database.url)).toEqual([]);
    expect(await database.sql('select from publication_changes')).toEqual([]);
  } finally {
    await database.close();
  }
});
