import { afterAll, beforeAll, expect, test } from 'vitest';
import WebSocket from 'ws';
import { clientOf } from '../support/client.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  token = await server.tokenOf('watcher', 'OPERATOR');
});
afterAll(() => server.close());

interface Step {
  cursor: string;
  dataset: { name: string };
  from: string | null;
  to: string;
  reason: string | null;
}

const query = `subscription ($after: String, $filter: DatasetEventFilter) {
  datasetStatusChanged(after: $after, filter: $filter) { cursor dataset { name } from to reason } }`;

/**
 * Follows until the socket is cut off without a word, after so many messages or so much time; plain
 * graphql-transport-ws by hand, so that nothing reconnects or tidies up for us.
 */
function followOnce(
  after: string | undefined,
  cutAfter: number,
  onStep: (step: Step) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(
      `${server.address.replace('http', 'ws')}/graphql`,
      'graphql-transport-ws',
    );
    let seen = 0;
    const cut = setTimeout(() => socket.terminate(), 400);
    socket.on('open', () => {
      socket.send(
        JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${token}` } }),
      );
    });
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString()) as {
        type: string;
        payload?: { data?: { datasetStatusChanged: Step } };
      };
      if (message.type === 'connection_ack') {
        socket.send(
          JSON.stringify({ id: '1', type: 'subscribe', payload: { query, variables: { after } } }),
        );
      }
      if (message.type === 'error') reject(new Error(data.toString()));
      const step = message.payload?.data?.datasetStatusChanged;
      if (message.type !== 'next' || !step) return;
      onStep(step);
      if (++seen >= cutAfter) socket.terminate();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(cut);
      resolve();
    });
  });
}

/** The log shows a line once no older transaction is open, so right after a commit it may be a moment short. */
async function startCursor(of: TestServer = server): Promise<string> {
  let cursor: string | null = null;
  await until('the log has a line', async () => {
    const data = await of.operator.call<{ events: { pageInfo: { endCursor: string | null } } }>(
      '{ events(first: 200) { pageInfo { endCursor } } }',
    );
    cursor = data.events.pageInfo.endCursor;
    return cursor !== null;
  });
  return cursor!;
}

test('a subscriber that is cut off again and again gets every event, in order', async () => {
  const seed = Number(process.env['FEED_SEED'] ?? Date.now() % 100_000);
  console.log(`FEED_SEED=${seed}`);
  let state = seed;
  const random = () => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) / 0x7fffffff;
  await server.operator.call(
    'mutation { createDataset(input: { name: "before", kind: PR }) { changed } }',
  );
  let cursor = await startCursor();
  // Writers: datasets made and marked bad and cleared, some in transactions that stay open for a while.
  const datasetCount = 60;
  let writing = true;
  const writers = Promise.all(
    [0, 1, 2].map(async (writer) => {
      const client = await server.database.client();
      for (let at = writer; at < datasetCount; at += 3) {
        const waitMs = random() * 60;
        await client.query('begin');
        await client.query(
          `insert into datasets (name, kind, owner) values ($1, 'PR', 'watcher')`,
          [`fed-${at}`],
        );
        // Ids are given out now; others commit before us.
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        await client.query(
          `insert into bad_marks (dataset_id, reason) select id, $2 from datasets where name = $1`,
          [`fed-${at}`, `mark of ${at}`],
        );
        await client.query(random() < 0.15 ? 'rollback' : 'commit');
        await client.query(
          `update bad_marks set cleared_at = now(), cleared_by = 'x', cleared_reason = 'over'
            where cleared_at is null and dataset_id = (select id from datasets where name = $1)`,
          [`fed-${at}`],
        );
      }
    }),
  ).finally(() => (writing = false));
  const seen: Step[] = [];
  let cuts = 0;
  const isComplete = async () => {
    if (writing) return false;
    const [row] = await server.database.sql<{ n: number }>(
      `select count(*)::int as n from events e join datasets d on d.id = e.dataset_id
        where d.name like 'fed-%' and e.kind in ('DATASET_STATUS', 'DATASET_MARKED_BAD', 'DATASET_CLEARED')`,
    );
    return seen.length >= (row?.n ?? Infinity);
  };
  while (!(await isComplete())) {
    await followOnce(cursor, 1 + Math.floor(random() * 6), (step) => {
      seen.push(step);
      cursor = step.cursor;
    });
    cuts++;
  }
  await writers;
  const told = await server.database.sql<{ name: string; from: string | null; to: string }>(
    `select d.name, e.from_state as "from", e.to_state as "to" from events e join datasets d on d.id = e.dataset_id
      where d.name like 'fed-%' and e.kind in ('DATASET_STATUS', 'DATASET_MARKED_BAD', 'DATASET_CLEARED')
      order by e.xid, e.id`,
  );
  console.log(`${seen.length} events through ${cuts} connections`);
  expect(cuts).toBeGreaterThan(10);
  expect(seen.map(({ dataset, from, to }) => ({ name: dataset.name, from, to }))).toEqual(told);
}, 120_000);

test('cursors of the log, of a history and of a feed are one kind', async () => {
  await server.operator.call(
    'mutation { createDataset(input: { name: "cursors", kind: PR }) { changed } }',
  );
  for (const field of ['markDatasetBad', 'clearDatasetBad']) {
    await server.operator.call(
      `mutation { ${field}(input: { dataset: "cursors", reason: "look" }) { changed } }`,
    );
  }
  const data = await until('the log is complete', async () => {
    const answer = await server.operator.call<{
      dataset: { history: { edges: { cursor: string; node: { kind: string } }[] } };
      events: { nodes: { cursor: string; kind: string }[] };
    }>(
      `{ dataset(name: "cursors") { history { edges { cursor node { kind } } } }
         events(filter: { dataset: "cursors" }) { nodes { cursor kind } } }`,
    );
    return answer.events.nodes.length === 3 && answer;
  });
  const history = data.dataset.history.edges.map(({ cursor, node }) => ({
    cursor,
    kind: node.kind,
  }));
  expect(history).toEqual(data.events.nodes);
  expect(history.map((line) => line.kind)).toEqual([
    'DATASET_STATUS',
    'DATASET_MARKED_BAD',
    'DATASET_CLEARED',
  ]);
  for await (const event of clientOf(server.address, token).subscribe<{
    datasetStatusChanged: Step;
  }>(query, {
    after: history[0]?.cursor,
    filter: { dataset: 'cursors' },
  })) {
    expect(event.datasetStatusChanged.cursor).toBe(history[1]?.cursor);
    break;
  }
});

test('garbage is INVALID_CURSOR, a cursor of another database CURSOR_TOO_OLD, on every road', async () => {
  const real = await startCursor();
  const [meta] = await server.database.sql<{ epoch: string }>('select epoch from meta');
  const other = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  await other.operator.call(
    'mutation { createDataset(input: { name: "x", kind: PR }) { changed } }',
  );
  const foreign = await startCursor(other);
  await other.close();
  expect(meta?.epoch).toMatch(/^[0-9a-f]{8}$/);
  const cases: [string, string][] = [
    ['garbage', 'INVALID_CURSOR'],
    ['', 'INVALID_CURSOR'],
    [real.slice(0, -4), 'INVALID_CURSOR'],
    ['A'.repeat(100_000), 'INVALID_CURSOR'],
    [foreign, 'CURSOR_TOO_OLD'],
  ];
  for (const [after, code] of cases) {
    const asked = server.operator.call(
      'query ($after: String) { events(after: $after) { nodes { kind } } }',
      { after },
    );
    if (after !== '') await expect(asked, after.slice(0, 20)).rejects.toMatchObject({ code });
    const followed = (async () => {
      for await (const event of clientOf(server.address, token).subscribe(query, { after }))
        return event;
      return undefined;
    })();
    await expect(followed, after.slice(0, 20)).rejects.toMatchObject({ code });
  }
});

test('ordinary users hear of a dataset when it is published, and not before', async () => {
  const user = clientOf(server.address, await server.tokenOf('ursula', 'USER'));
  const heard: string[] = [];
  const listening = (async () => {
    for await (const { datasetStatusChanged: step } of user.subscribe<{
      datasetStatusChanged: Step;
    }>(query, {
      after: await startCursor(),
    })) {
      heard.push(`${step.dataset.name} ${step.to}`);
      if (step.dataset.name === 'the-end') return;
    }
  })();
  const make = (name: string) =>
    server.operator.call(
      `mutation ($name: String!, $lfns: [String!]) { createDataset(input: { name: $name, kind: PR, files: $lfns,
        backupWaived: true, waiverReason: "a test" }) { changed } }`,
      { name, lfns: ['/feed/one.root'] },
    );
  await server.operator.call(
    `mutation { registerFiles(input: { files: [{ lfn: "/feed/one.root", kind: MERGED_FILE, sizeBytes: 1, adler32: "00000001" }] }) { registeredCount } }`,
  );
  await make('secret');
  await make('published');
  await server.operator.call(
    'mutation { closeDataset(input: { dataset: "published" }) { changed } }',
  );
  await make('the-end');
  await server.operator.call(
    'mutation { closeDataset(input: { dataset: "the-end" }) { changed } }',
  );
  await listening;
  expect(heard.filter((line) => line.startsWith('secret'))).toEqual([]);
  expect(heard).toContain('published CLOSED');
});

test('a server that goes down closes its sockets with 1001', async () => {
  const other = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  const socket = new WebSocket(
    `${other.address.replace('http', 'ws')}/graphql`,
    'graphql-transport-ws',
  );
  const codes: number[] = [];
  socket.on('close', (code) => codes.push(code));
  await until('open', () => socket.readyState === WebSocket.OPEN);
  await other.close();
  await until('closed', () => codes.length > 0);
  expect(codes).toEqual([1001]);
});
