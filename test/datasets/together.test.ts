import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { backUp, makeDataset, mutate, newFile, refusalOf, register } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const clientCount = 32;

let server: TestServer;
let clients: TestClient[];
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
  clients = await Promise.all(
    Array.from({ length: clientCount }, (_, at) => server.as(`client-${at}`, 'OPERATOR')),
  );
});
afterAll(() => server.close());

const together = <T>(work: (client: TestClient, at: number) => Promise<T>) =>
  Promise.all(clients.map(work));

async function countEvents(name: string, kind: string, toState: string | null): Promise<number> {
  const [row] = await server.database.sql<{ n: string }>(
    `select count(*) as n from events e join datasets d on d.id = e.dataset_id
      where d.name = $1 and e.kind = $2 and ($3::text is null or e.to_state = $3)`,
    [name, kind, toState],
  );
  return Number(row?.n);
}

test('32 clients close one dataset at once: one closes it, and there is one event', async () => {
  await makeDataset(server.operator, 'rush', 'BACKED_UP');
  const answers = await together((client) =>
    mutate(client, 'closeDataset', { dataset: 'rush' }, 'changed dataset { status }'),
  );
  expect(answers.filter((answer) => answer.changed)).toHaveLength(1);
  expect(new Set(answers.map((answer) => JSON.stringify({ ...answer, changed: null })))).toEqual(
    new Set([JSON.stringify({ changed: null, dataset: { status: 'CLOSED' } })]),
  );
  expect(await countEvents('rush', 'DATASET_STATUS', 'CLOSED')).toBe(1);
});

test('32 clients sweep one dataset at once: one sweep, one request for each file, one close', async () => {
  const files = await makeDataset(server.operator, 'rush-sweep', 'OPEN', { fileCount: 3 });
  const answers = await together((client) =>
    mutate(client, 'sweepDataset', { dataset: 'rush-sweep' }),
  );
  expect(answers.filter((answer) => answer.changed)).toHaveLength(1);
  expect(await countEvents('rush-sweep', 'DATASET_SEALED', null)).toBe(1);
  const [asked] = await server.database.sql<{ n: string }>(
    `select count(*) as n from events e join files f on f.id = e.file_id
      where e.kind = 'BACKUP_STATUS' and f.lfn = any ($1)`,
    [files.map((file) => file.lfn)],
  );
  expect(Number(asked?.n)).toBe(3);
  await Promise.all(files.map((file, at) => backUp(clients[at] ?? server.operator, file)));
  expect(await countEvents('rush-sweep', 'DATASET_STATUS', 'CLOSED')).toBe(1);
});

test('32 clients take every step at once: each step is taken once, in a life that is allowed', async () => {
  const [file] = await makeDataset(server.operator, 'melee', 'OPEN');
  await backUp(server.operator, ...(file ? [file] : []));
  const steps = ['markDatasetBackedUp', 'closeDataset', 'sweepDataset', 'reopenDataset'];
  const results = await together(async (client, at) => {
    const work = mutate(client, steps[at % steps.length] ?? '', {
      dataset: 'melee',
      reason: 'melee',
    });
    return work.then(
      ({ changed }) => String(changed),
      (error: { code?: string }) => error.code,
    );
  });
  for (const result of results) expect(['true', 'false', 'ILLEGAL_TRANSITION']).toContain(result);
  expect(await countEvents('melee', 'DATASET_STATUS', 'CLOSED')).toBe(1);
});

test('32 clients mark one dataset bad at once: one mark', async () => {
  await makeDataset(server.operator, 'rush-bad', 'CLOSED');
  const answers = await together((client, at) =>
    mutate(client, 'markDatasetBad', { dataset: 'rush-bad', reason: `seen by ${at}` }),
  );
  expect(answers.filter((answer) => answer.changed)).toHaveLength(1);
  expect(await countEvents('rush-bad', 'DATASET_MARKED_BAD', null)).toBe(1);
});

test('32 clients create a dataset of one name: one has it, the others are told', async () => {
  const answers = await together((client) =>
    mutate(client, 'createDataset', { name: 'one-name', kind: 'PR' }).then(
      () => 'made',
      (error: { code?: string }) => error.code,
    ),
  );
  expect(answers.toSorted()).toEqual([
    ...Array.from({ length: clientCount - 1 }, () => 'DUPLICATE'),
    'made',
  ]);
});

const create = (client: TestClient, input: object) =>
  mutate<{ changed: boolean; dataset: { id: string } }>(
    client,
    'createDataset',
    input,
    'changed dataset { id name }',
  );

test('a creating call that is sent again with its key gets the first answer', async () => {
  const { operator } = server;
  const input = { name: 'keyed', kind: 'PR', idempotencyKey: 'key-1' };
  const first = await create(operator, input);
  expect(first.changed).toBe(true);
  expect(await create(operator, input)).toEqual(first);
  expect(await refusalOf(create(operator, { ...input, name: 'keyed-2' }))).toMatchObject({
    code: 'IDEMPOTENCY_KEY_REUSED',
    facts: { idempotencyKey: 'key-1' },
  });
  const other = { runs: [{ number: 1 }], idempotencyKey: 'key-1' };
  expect(await refusalOf(mutate(operator, 'registerRuns', other, 'registeredCount'))).toMatchObject(
    { code: 'IDEMPOTENCY_KEY_REUSED' },
  );
  // A key is its owner's: another principal may use the same one.
  expect((await create(clients[0] ?? operator, { ...input, name: 'keyed-3' })).changed).toBe(true);
  for (const idempotencyKey of ['', 'x'.repeat(201), 'a\0b']) {
    expect(await refusalOf(create(operator, { ...input, idempotencyKey }))).toMatchObject({
      code: 'BAD_USER_INPUT',
    });
  }
});

test('a refused call leaves its key free', async () => {
  const input = { name: 'key-free', kind: 'PR', files: ['/key/free'], idempotencyKey: 'key-2' };
  expect(await refusalOf(create(server.operator, input))).toMatchObject({ code: 'NOT_FOUND' });
  await register(server.operator, await newFile('/key/free'));
  expect((await create(server.operator, input)).changed).toBe(true);
});

test('one call sent many times at once with one key is done once', async () => {
  const input = { name: 'key-rush', kind: 'PR', idempotencyKey: 'key-3' };
  const answers = await Promise.all(
    Array.from({ length: 16 }, () => create(server.operator, input)),
  );
  expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
  expect(await countEvents('key-rush', 'DATASET_STATUS', 'OPEN')).toBe(1);
  const others = await Promise.all(
    Array.from({ length: 16 }, (_, at) =>
      create(server.operator, { name: `key-race-${at}`, kind: 'PR', idempotencyKey: 'key-4' }).then(
        () => 'made',
        (error: { code?: string }) => error.code,
      ),
    ),
  );
  expect(others.toSorted()).toEqual([
    ...Array.from({ length: 15 }, () => 'IDEMPOTENCY_KEY_REUSED'),
    'made',
  ]);
});
