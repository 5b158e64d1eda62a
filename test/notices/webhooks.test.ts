import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isPublicAddress } from '../../src/notices/addresses.ts';
import { afterFailedDelivery, checkUrl } from '../../src/notices/webhooks.rules.ts';
import type { TestClient } from '../support/client.ts';
import { mutate, refusalOf } from '../support/scene.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ SWEEPBOOK_WORKER: 'false' });
});
afterAll(() => server.close());

test.each([
  ['93.184.216.34', true],
  ['2606:2800:220:1:248:1893:25c8:1946', true],
  ['127.0.0.1', false],
  ['127.8.8.8', false],
  ['0.0.0.0', false],
  ['10.1.2.3', false],
  ['172.16.0.1', false],
  ['172.31.255.255', false],
  ['172.32.0.1', true],
  ['192.168.1.1', false],
  ['169.254.169.254', false],
  ['100.64.0.1', false],
  ['198.18.0.1', false],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
  ['::1', false],
  ['::', false],
  ['::ffff:127.0.0.1', false],
  ['::ffff:10.0.0.1', false],
  ['::ffff:93.184.216.34', true],
  ['::127.0.0.1', false],
  ['64:ff9b::7f00:1', false],
  ['2002:7f00:1::', false],
  ['fe80::1', false],
  ['fe80::1%eth0', false],
  ['fd12:3456::1', false],
  ['ff02::1', false],
  ['2001:db8::1', false],
  ['not an address', false],
])('the address %s is public: %s', (address, isPublic) => {
  expect(isPublicAddress(address)).toBe(isPublic);
});

describe('an address for notices', () => {
  test.each([
    'ftp://hooks.example.org/',
    'hooks.example.org',
    'https://',
    'file:///etc/passwd',
    'https://anna:secret@hooks.example.org/',
    'https://hooks.example.org/#here',
    `https://hooks.example.org/${'x'.repeat(2048)}`,
    `https://hooks.example.org/${'ü'.repeat(600)}`,
    'http://127.0.0.1:4000/graphql',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://[::1]/',
    'http://[::ffff:10.0.0.1]/',
    'http://localhost/',
    'http://LOCALHOST./',
    'http://db.localhost:5432/',
    'http://169.254.169.254/latest/meta-data',
  ])('%s is refused', (url) => {
    expect(() => checkUrl(url, false)).toThrow(/^url /);
  });

  test.each([
    ['https://hooks.example.org/a?b=c', 'https://hooks.example.org/a?b=c'],
    ['HTTPS://Hooks.Example.org', 'https://hooks.example.org/'],
    ['http://93.184.216.34:8080/x', 'http://93.184.216.34:8080/x'],
  ])('%s is taken', (url, kept) => {
    expect(checkUrl(url, false)).toBe(kept);
  });

  test('where the operators allow it, private ones are taken, and the form is the same', () => {
    expect(checkUrl('http://127.0.0.1:8000/', true)).toBe('http://127.0.0.1:8000/');
    expect(() => checkUrl('file:///etc/passwd', true)).toThrow(/^url /);
  });
});

describe('after a failed delivery', () => {
  const failed = {
    answer: { status: 500, error: 'HTTP 500' },
    failureCount: 1,
    failingForMs: 0,
    retryBaseMs: 2000,
    retryHours: 72,
  };
  const after = (more: object) => afterFailedDelivery({ ...failed, ...more }, () => 1);

  test('the wait doubles, up to an hour', () => {
    expect(after({})).toEqual({ retryInMs: 2000 });
    expect(after({ failureCount: 4 })).toEqual({ retryInMs: 16_000 });
    expect(after({ failureCount: 40 })).toEqual({ retryInMs: 3_600_000 });
  });

  test('what the receiver asks for is heeded, up to an hour', () => {
    const answer = { ...failed.answer, retryAfterMs: 60_000 };
    expect(after({ answer })).toEqual({ retryInMs: 60_000 });
    expect(after({ answer: { ...answer, retryAfterMs: 1e12 } })).toEqual({ retryInMs: 3_600_000 });
  });

  test('it ends after the hours that are set, and at once when the receiver is gone', () => {
    expect(after({ failingForMs: 72 * 3_600_000 - 1 })).toHaveProperty('retryInMs');
    expect(after({ failingForMs: 72 * 3_600_000, failureCount: 90 })).toEqual({
      disabledReason: '90 attempts at one notice failed in 72 hours, the last one: HTTP 500',
    });
    expect(after({ answer: { status: 410, error: 'HTTP 410' } })).toHaveProperty('disabledReason');
  });
});

const url = 'https://hooks.example.org/path?token=t';
const create = (client: TestClient, more: object = {}) =>
  mutate<{ secret: string; webhook: { id: string; url: string } }>(
    client,
    'createWebhook',
    { url, ...more },
    'secret webhook { id url owner kinds scope datasets { glob } status lastDelivery { at } }',
  );
const list = '{ webhooks { totalCount nodes { id owner url } } }';

test('a webhook is what was asked for; its secret is shown once', async () => {
  const anna = await server.as('anna', 'USER');
  const made = await create(anna, { datasets: { glob: 'B0-*' } });
  expect(made.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(made.webhook).toEqual({
    id: expect.any(String),
    url,
    owner: 'anna',
    kinds: ['DATASET_MARKED_BAD', 'DATASET_CLEARED'],
    scope: 'OWN',
    datasets: { glob: 'B0-*' },
    status: 'ENABLED',
    lastDelivery: null,
  });
  const other = await create(anna);
  expect(other.secret).not.toBe(made.secret);
  expect(
    await anna.call('query ($id: ID!) { node(id: $id) { id __typename } }', made.webhook),
  ).toEqual({
    node: { id: made.webhook.id, __typename: 'Webhook' },
  });
});

test('others do not see it, nor that it is there; operators see where it goes, not how', async () => {
  const bert = await server.as('bert', 'PRODUCER');
  const olga = await server.as('olga', 'OPERATOR');
  const { webhook } = await create(bert);
  const carl = await server.as('carl', 'PRODUCER');
  expect(await carl.call(list)).toEqual({ webhooks: { totalCount: 0, nodes: [] } });
  const node = 'query ($id: ID!) { node(id: $id) { id } }';
  for (const client of [carl, server.anonymous]) {
    expect(await client.call(node, { id: webhook.id })).toEqual({ node: null });
  }
  const remove = 'mutation ($id: ID!) { deleteWebhook(id: $id) { webhook { url } } }';
  const unknown = await refusalOf(carl.call(remove, { id: 'bm9uc2Vuc2U' }));
  const foreign = await refusalOf(carl.call(remove, { id: webhook.id }));
  expect({ code: foreign.code, message: foreign.message, facts: foreign.facts }).toEqual({
    code: 'NOT_FOUND',
    message: unknown.message,
    facts: unknown.facts,
  });
  const seen = await olga.call<{ webhooks: { nodes: object[] } }>(list);
  expect(seen.webhooks.nodes).toContainEqual({
    id: webhook.id,
    owner: 'bert',
    url: 'https://hooks.example.org/…',
  });
  expect(await olga.call(remove, { id: webhook.id })).toEqual({
    deleteWebhook: { webhook: { url: 'https://hooks.example.org/…' } },
  });
  expect(await bert.call(list)).toEqual({ webhooks: { totalCount: 0, nodes: [] } });
});

test('twenty are enough, also when they are asked for at once', async () => {
  const dora = await server.as('dora', 'DQM');
  const answers = await Promise.allSettled(Array.from({ length: 25 }, () => create(dora)));
  const refused = answers.filter((answer) => answer.status === 'rejected');
  expect(refused).toHaveLength(5);
  for (const { reason } of refused) expect(reason).toMatchObject({ code: 'LIMIT_REACHED' });
  expect(await dora.call('{ webhooks { totalCount } }')).toEqual({ webhooks: { totalCount: 20 } });
});

test.each([
  ['url', { url: 'http://127.0.0.1/' }],
  ['kinds', { kinds: [] }],
  ['datasets.in', { datasets: { in: Array.from({ length: 101 }, String) } }],
  ['datasets', { datasets: { glob: 'x'.repeat(1025) } }],
  ['datasets', { datasets: { eq: 'a\0b' } }],
])('odd %s are refused by name', async (field, odd) => {
  const refusal = await refusalOf(create(server.operator, odd));
  expect(refusal).toMatchObject({ code: 'BAD_USER_INPUT', facts: { field } });
});
