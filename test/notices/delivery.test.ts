import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { TestClient } from '../support/client.ts';
import { isSigned, startReceiver, status, type Receiver } from '../support/receiver.ts';
import { lastCursor, makeDataset, mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let server: TestServer;
const receivers: Receiver[] = [];

beforeAll(async () => {
  server = await startTestServer({
    SWEEPBOOK_WORKER: 'false',
    SWEEPBOOK_WEBHOOK_PRIVATE: 'true',
    SWEEPBOOK_WEBHOOK_TIMEOUT_SECONDS: '1',
  });
});
afterEach(async () => {
  await server.database.sql('delete from webhooks');
  await Promise.all(receivers.splice(0).map((receiver) => receiver.close()));
});
afterAll(() => server.close());

let count = 0;
/** Somebody with a token, an address of his, and a webhook to it. */
async function newOwner(input: object = {}, role = 'USER') {
  const name = `owner-${++count}`;
  const client = await server.as(name, role);
  const receiver = await startReceiver();
  receivers.push(receiver);
  return { name, client, receiver, ...(await hook(client, receiver, input)) };
}

async function hook(client: TestClient, receiver: Receiver, input: object) {
  const made = await mutate<{ secret: string; webhook: { id: string } }>(
    client,
    'createWebhook',
    { url: receiver.url, ...input },
    'secret webhook { id }',
  );
  return { secret: made.secret, id: made.webhook.id };
}

const markBad = (dataset: string, reason: string) =>
  mutate(server.operator, 'markDatasetBad', { dataset, reason });
const clearBad = (dataset: string, reason: string) =>
  mutate(server.operator, 'clearDatasetBad', { dataset, reason });
const newDataset = (name: string, owner: string) =>
  mutate(server.operator, 'createDataset', { name, kind: 'USER', owner });
const reasons = (receiver: Receiver) => receiver.received.map(({ body }) => body.data.reason);

interface Shown {
  status: string;
  disabledReason: string | null;
  lastDelivery: {
    status: number | null;
    attempts: number;
    error: string | null;
    nextAttemptAt: string | null;
  } | null;
}
async function shown(client: TestClient): Promise<Shown> {
  const { webhooks } = await client.call<{ webhooks: { nodes: Shown[] } }>(
    '{ webhooks { nodes { status disabledReason lastDelivery { status attempts error nextAttemptAt } } } }',
  );
  const [one] = webhooks.nodes;
  if (!one) throw new Error('there is no webhook');
  return one;
}
const got = (receiver: Receiver, n: number) =>
  until(`${n} notices`, () => receiver.received.length >= n);

test('an owner is told when his dataset turns bad and good again, in order, signed', async () => {
  const { name, receiver, secret } = await newOwner();
  await newDataset('told', name);
  await makeDataset(server.operator, 'not-his', 'BAD');
  // Everybody sees it now, and yet it is none of his business.
  await clearBad('not-his', 'it was dry');
  await markBad('told', 'the disk crashed');
  await clearBad('told', 'restored');
  await got(receiver, 2);
  expect(reasons(receiver)).toEqual(['the disk crashed', 'restored']);
  const [bad, cleared] = receiver.received;
  expect(bad?.body).toMatchObject({
    type: 'dataset.marked_bad',
    data: {
      text: 'Dataset told was marked bad by operator: the disk crashed',
      dataset: { name: 'told', kind: 'USER', owner: name, status: 'OPEN', isAvailable: false },
      reason: 'the disk crashed',
      actor: 'operator',
      incident: null,
    },
  });
  expect(cleared?.body).toMatchObject({
    type: 'dataset.cleared',
    data: { dataset: { name: 'told', isBad: false }, reason: 'restored' },
  });
  for (const one of receiver.received) {
    expect(isSigned(one, secret)).toBe(true);
    expect(isSigned({ ...one, text: `${one.text} ` }, secret)).toBe(false);
    expect(Math.abs(Number(one.headers['webhook-timestamp']) - Date.now() / 1000)).toBeLessThan(60);
  }
  // The cursor goes on in the log where the notice stands.
  const { events } = await server.operator.call<{ events: { nodes: { reason: string }[] } }>(
    'query ($after: String) { events(after: $after, filter: { dataset: "told" }) { nodes { reason } } }',
    { after: bad?.body.data.cursor },
  );
  expect(events.nodes.map((event) => event.reason)).toEqual(['restored']);
});

test('of two marks one is left when one is taken off, and the notice says so', async () => {
  const { name, receiver } = await newOwner();
  await newDataset('twice-bad', name);
  const dataset = `(select id from datasets where name = 'twice-bad')`;
  await markBad('twice-bad', 'first');
  await server.database.sql(
    `insert into bad_marks (dataset_id, reason) values (${dataset}, 'second')`,
  );
  await server.database
    .sql(`update bad_marks set cleared_at = now(), cleared_by = 'x', cleared_reason = 'mended'
    where dataset_id = ${dataset} and reason = 'first'`);
  await got(receiver, 3);
  expect(receiver.received[2]?.body).toMatchObject({
    type: 'dataset.cleared',
    data: { dataset: { isBad: true }, text: expect.stringContaining('1 are left') },
  });
});

test('conditions: kinds, names, and the datasets of everybody for operators', async () => {
  const closing = await newOwner({ kinds: ['DATASET_CLOSED'] }, 'PRODUCER');
  const named = await newOwner({ datasets: { startsWith: 'wanted-' }, scope: 'ALL' }, 'OPERATOR');
  await makeDataset(server.operator, 'wanted-a', 'BAD', { owner: closing.name });
  await makeDataset(server.operator, 'other-a', 'BAD', { owner: named.name });
  await got(named.receiver, 1);
  await got(closing.receiver, 1);
  expect(closing.receiver.received.map(({ body }) => body)).toMatchObject([
    { type: 'dataset.closed', data: { dataset: { name: 'wanted-a' } } },
  ]);
  expect(named.receiver.received.map(({ body }) => body)).toMatchObject([
    { type: 'dataset.marked_bad', data: { dataset: { name: 'wanted-a' } } },
  ]);
  const user = await server.as('nosy', 'USER');
  const refused = mutate(
    user,
    'createWebhook',
    { url: closing.receiver.url, scope: 'ALL' },
    'secret',
  );
  expect(await refusalOf(refused)).toMatchObject({ code: 'FORBIDDEN' });
});

test('what a receiver does not take is sent again, and nothing passes it by', async () => {
  const { name, client, receiver } = await newOwner();
  await newDataset('again', name);
  receiver.answer(status(500));
  await markBad('again', 'one');
  await clearBad('again', 'two');
  const failed = await until('three attempts', async () => {
    const { lastDelivery } = await shown(client);
    return lastDelivery && lastDelivery.attempts >= 3 ? lastDelivery : undefined;
  });
  expect(failed).toMatchObject({ status: 500, error: 'HTTP 500' });
  expect(failed.nextAttemptAt).not.toBeNull();
  expect(new Set(reasons(receiver))).toEqual(new Set(['one']));
  expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(1);
  const before = receiver.received.length;
  receiver.answer(status(200));
  await got(receiver, before + 2);
  expect(reasons(receiver).slice(before)).toEqual(['one', 'two']);
  await until('told', async () => (await shown(client)).lastDelivery?.error === null);
  expect((await shown(client)).lastDelivery).toMatchObject({ status: 200, attempts: 1 });
});

test.each<[string, Parameters<Receiver['answer']>[0], RegExp]>([
  ['hangs', () => undefined, /no answer within 1 s/],
  ['redirects', status(302, { location: 'http://127.0.0.1:1/' }), /redirects are not followed/],
  ['hangs up', (response) => response.destroy(), /no answer: ECONNRESET/],
  ['speaks no HTTP', (response) => response.socket?.end('what?\r\n\r\n'), /no answer: HPE_/],
  [
    'answers with endless headers',
    (response) => response.writeHead(200, { x: 'x'.repeat(100_000) }).end(),
    /no answer: HPE_HEADER_OVERFLOW/,
  ],
])('a receiver that %s gets the notice again, and its owner sees why', async (_, how, error) => {
  const { name, client, receiver } = await newOwner();
  await newDataset(`ill-${count}`, name);
  receiver.answer(how);
  await markBad(`ill-${count}`, 'sent');
  const failed = await until('a failure', async () => {
    const { lastDelivery } = await shown(client);
    return lastDelivery?.error ? lastDelivery : undefined;
  });
  expect(failed.error).toMatch(error);
  const before = receiver.received.length;
  receiver.answer(status(204));
  await got(receiver, before + 1);
  await until('told', async () => (await shown(client)).lastDelivery?.error === null);
});

test('an answer of a gigabyte is a yes, and is not taken', async () => {
  const { name, client, receiver } = await newOwner();
  await newDataset('huge', name);
  let sent = 0;
  let ended = false;
  receiver.answer((response) => {
    response.on('close', () => (ended = true));
    response.writeHead(200);
    const chunk = Buffer.alloc(1024 * 1024);
    const pump = (): void => {
      while (!response.destroyed && sent < 1024) {
        sent++;
        if (!response.write(chunk)) return void response.once('drain', pump);
      }
    };
    pump();
  });
  await markBad('huge', 'once');
  await until('told', async () => (await shown(client)).lastDelivery?.status === 200);
  await until('the connection is cut', () => ended);
  expect(sent).toBeLessThan(100);
  expect(receiver.received).toHaveLength(1);
});

test('after days of failures it is disabled with the reason; enabled, it goes on where it stopped', async () => {
  const { name, client, receiver, id } = await newOwner();
  await newDataset('given-up', name);
  receiver.answer(status(503));
  await markBad('given-up', 'one');
  await until('a failure', async () => (await shown(client)).lastDelivery !== null);
  await server.database.sql(
    `update webhooks set first_failed_at = now() - interval '73 hours' where owner = $1`,
    [name],
  );
  const disabled = await until('disabled', async () => {
    const now = await shown(client);
    return now.status === 'DISABLED' && now;
  });
  expect(disabled.disabledReason).toMatch(/attempts at one notice failed in 72 hours.*HTTP 503/);
  receiver.answer(status(204));
  await clearBad('given-up', 'two');
  const before = receiver.received.length;
  const enabled = await mutate(client, 'enableWebhook', { id });
  expect(enabled).toEqual({ changed: true });
  await got(receiver, before + 2);
  expect(reasons(receiver).slice(before)).toEqual(['one', 'two']);
  await until('at rest', async () => (await shown(client)).lastDelivery?.error === null);
  expect(await mutate(client, 'enableWebhook', { id })).toEqual({ changed: false });
});

test('a receiver that is gone for good (410) is not asked again; enabled from now, what was is left out', async () => {
  const { name, client, receiver, id } = await newOwner();
  await newDataset('gone', name);
  receiver.answer(status(410));
  await markBad('gone', 'before');
  await until('disabled', async () => (await shown(client)).status === 'DISABLED');
  expect(receiver.received).toHaveLength(1);
  receiver.answer(status(204));
  await lastCursor(server);
  await mutate(client, 'enableWebhook', { id, fromNow: true });
  await clearBad('gone', 'after');
  await got(receiver, 2);
  expect(reasons(receiver)).toEqual(['before', 'after']);
});

test('who has lost his token is told nothing; with a new one nothing was lost', async () => {
  const { name, receiver } = await newOwner();
  await newDataset('revoked', name);
  await server.database.sql('update tokens set revoked_at = now() where principal = $1', [name]);
  await markBad('revoked', 'unseen');
  const failed = await until('a failure', async () => {
    const [row] = await server.database.sql<{ last_error: string | null }>(
      'select last_error from webhooks where owner = $1',
      [name],
    );
    return row?.last_error ?? undefined;
  });
  expect(failed).toContain('has no valid token');
  expect(receiver.received).toEqual([]);
  await server.tokenOf(name, 'USER');
  await got(receiver, 1);
});

test('an operator who is none any more is told of his own datasets only', async () => {
  const { name, receiver } = await newOwner({ scope: 'ALL' }, 'OPERATOR');
  await server.database.sql(`update tokens set revoked_at = now() where principal = $1`, [name]);
  await server.tokenOf(name, 'USER');
  await newDataset('of-others', 'somebody-else');
  await markBad('of-others', 'secret');
  await until('a failure', async () => {
    const [row] = await server.database.sql<{ last_error: string | null }>(
      'select last_error from webhooks where owner = $1',
      [name],
    );
    return row?.last_error?.includes('may no longer watch');
  });
  expect(receiver.received).toEqual([]);
});

test('a deleted webhook is told nothing more, also amid its tries', async () => {
  const { name, client, receiver, id } = await newOwner();
  await newDataset('deleted', name);
  receiver.answer(status(500));
  await markBad('deleted', 'one');
  await got(receiver, 1);
  const ended = await client.call<{ deleteWebhook: { changed: boolean } }>(
    'mutation ($id: ID!) { deleteWebhook(id: $id) { changed webhook { id } } }',
    { id },
  );
  expect(ended.deleteWebhook.changed).toBe(true);
  const marker = await newOwner();
  await newDataset('marker', marker.name);
  await markBad('marker', 'later');
  await got(marker.receiver, 1);
  expect(reasons(receiver).every((reason) => reason === 'one')).toBe(true);
});

test('a test notice is sent at once and says what came of it; not more often than it may', async () => {
  const { client, receiver, id, secret } = await newOwner();
  const ask = 'mutation ($id: ID!) { testWebhook(id: $id) { status error attempts } }';
  expect(await client.call(ask, { id })).toEqual({
    testWebhook: { status: 204, error: null, attempts: 1 },
  });
  expect(receiver.received[0]?.body.type).toBe('webhook.test');
  expect(receiver.received[0] && isSigned(receiver.received[0], secret)).toBe(true);
  expect(await refusalOf(client.call(ask, { id }))).toMatchObject({ code: 'RATE_LIMITED' });
});
