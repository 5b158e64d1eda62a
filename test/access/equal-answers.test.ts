import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Role } from '../../src/access/policy.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { nodeNames } from '../../src/api/node.ts';
import { readConfig } from '../../src/config.ts';
import { openWorld } from '../migrations/world.ts';
import { placesOf } from '../hostile/places.ts';
import { clientOf } from '../support/client.ts';
import type { TestDatabase } from '../support/database.ts';
import { committedSchema } from '../support/scene.ts';
import { errorsOf, openSocket } from '../support/socket.ts';

/*
 * What somebody may not see, and what there is not, are answered alike: the same bytes, by the same statements. No clock
 * is asked: what asks the database the same questions takes the same time, as far as it is for us to say.
 */
const folder = mkdtempSync(join(tmpdir(), 'sweepbook-equal-'));
let database: TestDatabase;
let server: RunningSweepbook;
/** Statements of this process, as they are sent. */
let sent: string[] = [];
type Query = (this: pg.Client, ...given: [string | { text: string }, ...unknown[]]) => unknown;
const client = pg.Client.prototype as unknown as { query: Query };
const { query: send } = client;

const hidden = new Map<string, string>();
const tokens = new Map<string, string | undefined>();

beforeAll(async () => {
  database = await openWorld();
  server = await openSweepbook(
    readConfig({
      SWEEPBOOK_HOME: folder,
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: database.url,
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_WEBHOOKS: 'false',
      SWEEPBOOK_SHUTDOWN_SECONDS: '1',
    }),
    pino({ level: 'silent' }),
  );
  const admin = clientOf(server.address, server.token);
  for (const role of ['USER', 'DQM', 'PRODUCER', 'IMPORTER'] satisfies Role[]) {
    const made = await admin.call<{ createToken: { token: string } }>(
      'mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }',
      { input: { principal: `stranger-${role}`, roles: [role] } },
    );
    tokens.set(role, made.createToken.token);
  }
  const hook = await admin.call<{ createWebhook: { webhook: { id: string } } }>(
    'mutation { createWebhook(input: { url: "https://hooks.example.org/x" }) { webhook { id } } }',
  );
  hidden.set('Webhook', hook.createWebhook.webhook.id);
  await database.sql(`
    insert into follow_rules (site, store_id) select 'FOREIGN', min(id) from mass_stores;
    insert into audits (store_id, what) select min(id), 'COMPARE' from mass_stores`);
  for (const [noun, from] of Object.entries({
    Dataset: `datasets where name = 'open'`,
    File: `files where lfn = '/run/1a'`,
    BackupRecord: `backup_records where status = 'FAILED'`,
    Incident: 'incidents',
    Import: 'imports',
    StageRequest: 'stage_requests',
    Publication: `publications where status <> 'PUBLISHED'`,
    SuspiciousCopy: 'suspicions',
    FollowRule: 'follow_rules',
    StoreAudit: 'audits',
  })) {
    const [row] = await database.sql<{ id: number }>(`select id from ${from} order by id limit 1`);
    if (!row) throw new Error(`the world has no ${noun}`);
    hidden.set(noun, idOf(noun, row.id));
  }
  client.query = function (...given) {
    const [first] = given;
    sent.push(typeof first === 'string' ? first : first.text);
    return send.apply(this, given);
  };
});
afterAll(async () => {
  client.query = send;
  await server.close();
  await database.close({ check: false });
  rmSync(folder, { recursive: true, force: true });
});

const idOf = (noun: string, id: number) => Buffer.from(`${noun}:${id}`).toString('base64url');
const absentId = 99_999;

interface Case {
  readonly what: string;
  /** Who may not see it. */
  readonly roles: readonly string[];
  /** What is there, as its noun or name; and what is not. */
  readonly there: string;
  readonly absent: string;
  readonly ask: (it: string) => string;
}
const strangers = ['ANONYMOUS', 'USER'];
const holders = ['USER', 'DQM'];
const noun = (name: string) => ({ there: name, absent: idOf(name, absentId) });
const dataset = { there: 'open', absent: 'n-o-n' };
const lfn = { there: '/run/1a', absent: '/run/9z' };

const node = (name: string, roles: readonly string[]): Case => ({
  what: `node of ${name}`,
  roles,
  ...noun(name),
  ask: (id) => `{ node(id: "${id}") { id __typename } }`,
});
const byId = (field: string, name: string, roles: readonly string[]): Case => ({
  what: field,
  roles,
  ...noun(name),
  ask: (id) => `{ ${field}(id: "${id}") { id } }`,
});
const change = (call: string, it: { there: string; absent: string }, roles = ['USER']): Case => ({
  what: call.split('(')[0] ?? '',
  roles,
  ...it,
  ask: (text) => `mutation { ${call.replace('IT', JSON.stringify(text).slice(1, -1))} }`,
});
const follow = (field: string, argument: string, name: string, roles: readonly string[]): Case => ({
  what: field,
  roles,
  ...noun(name),
  ask: (id) => `subscription { ${field}(${argument}: "${id}") { __typename } }`,
});

const cases: Case[] = [
  // Containers and runs everybody sees.
  ...nodeNames
    .filter((name) => name !== 'Container' && name !== 'Run')
    .map((name) => node(name, strangers)),
  byId('incident', 'Incident', strangers),
  byId('import', 'Import', strangers),
  byId('stageRequest', 'StageRequest', [...strangers, 'PRODUCER']),
  byId('publication', 'Publication', [...strangers, 'PRODUCER']),
  {
    what: 'dataset',
    roles: [...strangers, 'DQM'],
    ...dataset,
    ask: (name) => `{ dataset(name: "${name}") { id fileCount } }`,
  },
  {
    what: 'file',
    roles: strangers,
    ...lfn,
    ask: (name) => `{ file(lfn: "${name}") { id sizeBytes } }`,
  },
  {
    what: 'datasets by name',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ datasets(filter: { name: { eq: "${name}" } }) { totalCount nodes { id } } }`,
  },
  {
    what: 'datasetRuns',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ datasetRuns(datasets: ["${name}"], first: 1) { totalCount } }`,
  },
  {
    what: 'runs in a dataset',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ runs(filter: { inDataset: "${name}" }) { totalCount } }`,
  },
  {
    what: 'events of a dataset',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ events(filter: { dataset: "${name}" }) { totalCount nodes { cursor } } }`,
  },
  {
    what: 'containers that hold it',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ containers(filter: { holdsDataset: "${name}" }) { totalCount } }`,
  },
  {
    what: 'good runs of it',
    roles: strangers,
    ...dataset,
    ask: (name) => `{ goodRuns(dataset: "${name}") { ranges } }`,
  },
  change('shareDataset(input: { dataset: "IT", users: ["x"] }) { changed }', dataset),
  change('unshareDataset(input: { dataset: "IT", users: ["x"] }) { changed }', dataset),
  change('stageFiles(input: { dataset: "IT", pool: "world" }) { changed }', dataset),
  change('stageFiles(input: { lfns: ["IT"], pool: "world" }) { changed }', lfn),
  change(
    'reportReadFailure(input: { lfn: "IT", url: "/x", error: "EIO", job: "1" }) { isNew }',
    lfn,
  ),
  change('releaseStage(input: { request: "IT" }) { changed }', noun('StageRequest'), holders),
  change(
    'withdrawPublication(input: { publication: "IT" }) { changed }',
    noun('Publication'),
    holders,
  ),
  change('retryPublication(publication: "IT") { changed }', noun('Publication')),
  change('deleteWebhook(id: "IT") { changed }', noun('Webhook'), holders),
  change('enableWebhook(input: { id: "IT" }) { changed }', noun('Webhook')),
  change('testWebhook(id: "IT") { status }', noun('Webhook')),
  change('cancelImport(input: { import: "IT" }) { changed }', noun('Import'), ['IMPORTER']),
  change('retryImport(import: "IT") { changed }', noun('Import'), ['IMPORTER']),
  follow('stageProgress', 'request', 'StageRequest', ['USER']),
  follow('publicationProgress', 'publication', 'Publication', ['USER']),
  follow('importProgress', 'import', 'Import', ['IMPORTER']),
];

const exports = ['files', 'manifest'].map((kind) => ({
  what: `export of ${kind}`,
  roles: strangers,
  ...dataset,
  path: (name: string) => `/export/datasets/${name}/${kind}`,
}));

/** Polls and doors of the server itself run beside. */
const ofTheServer =
  /^(select pg_notify|listen|select 1$|begin|commit|rollback|start transaction)|pgboss|audit_trail|webhook|totals|from events e\s+where e\.xid/i;

async function watched(
  work: () => Promise<string>,
  it: string,
): Promise<{ answer: string; statements: string[] }> {
  sent = [];
  const answer = await work();
  const statements = sent.filter((text) => !ofTheServer.test(text.trim()));
  return { answer: withoutName(answer, it), statements };
}

/** The answer without what it is about: a name, an id, or the number that stands in an id. */
function withoutName(answer: string, it: string): string {
  const number = /:(\d+)$/.exec(Buffer.from(it, 'base64url').toString())?.[1];
  const named = answer
    .replaceAll(new RegExp(`(?<!\\w)${it.replaceAll(/[^\w/]/g, '\\$&')}(?!\\w)`, 'g'), 'IT')
    .replaceAll(/"locations":\[[^\]]*\],/g, '');
  return number === undefined ? named : named.replaceAll(new RegExp(`\\b${number}\\b`, 'g'), 'IT');
}

const headersOf = (role: string): Record<string, string> => {
  const token = tokens.get(role);
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
};

async function post(
  role: string,
  query: string,
  isPlain: boolean,
  variables = {},
): Promise<string> {
  const response = await fetch(`${server.address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headersOf(role) },
    body: JSON.stringify({ query, variables, ...(isPlain ? { extensions: {} } : {}) }),
  });
  return `${response.status} ${await response.text()}`;
}

/** Who follows what he may not see hears nothing. */
const silenceMs = 150;

async function overSocket(role: string, query: string, variables = {}): Promise<string> {
  const socket = await openSocket(server.address, tokens.get(role));
  socket.start(query, variables);
  const isSilent = query.includes('backupProgress');
  const message = await (isSilent
    ? Promise.race([socket.next(), sleep(silenceMs, undefined)])
    : socket.next());
  socket.terminate();
  return JSON.stringify(errorsOf(message) ?? message?.payload ?? null);
}

/** Both, until nothing of the server itself came between. */
async function compare(
  there: string,
  absent: string,
  work: (it: string) => Promise<string>,
): Promise<void> {
  for (let left = 3; ; left--) {
    const one = await watched(() => work(there), there);
    const other = await watched(() => work(absent), absent);
    expect(one.answer).toBe(other.answer);
    expect(one.answer).not.toContain('FORBIDDEN');
    if (left > 0 && JSON.stringify(one.statements) !== JSON.stringify(other.statements)) continue;
    expect(one.statements).toEqual(other.statements);
    return;
  }
}

/** What arguments name, by their last word: something that is there and hidden, and something that is not there. */
const named: Record<string, { there: string; absent: string }> = {
  dataset,
  datasets: dataset,
  holdsDataset: dataset,
  inDataset: dataset,
  files: lfn,
  inputs: lfn,
  lfn,
  lfns: lfn,
  outputLfn: lfn,
  parents: lfn,
  import: noun('Import'),
  incident: noun('Incident'),
  publication: noun('Publication'),
  request: noun('StageRequest'),
  'checkSuspiciousCopy(id)': noun('SuspiciousCopy'),
  'deleteFollowRule(id)': noun('FollowRule'),
  'deleteWebhook(id)': noun('Webhook'),
  'enableWebhook(input.id)': noun('Webhook'),
  'followRule(id)': noun('FollowRule'),
  'import(id)': noun('Import'),
  'incident(id)': noun('Incident'),
  'lookNow(id)': noun('FollowRule'),
  'publication(id)': noun('Publication'),
  'settleAudit(id)': noun('StoreAudit'),
  'stageRequest(id)': noun('StageRequest'),
  'storeAudits(id)': noun('StoreAudit'),
  'testWebhook(id)': noun('Webhook'),
};
/** What is about to be published is hidden from production as well. */
const isPrivate = { there: '/user/p-backing', absent: '/user/p-nowhere' };
/** Names of what is not of here, or is to be made: that one is taken must be told. */
const ofNoObject = new Set([
  'importDataset(input.dataset)',
  'recordMerge(input.output.lfn)',
  'registerFiles(input.files.lfn)',
  // They tell what happens from now on: test/access/fields.test.ts.
  'datasetStatusChanged(filter.dataset)',
  'runBecameAvailable(filter.inDataset)',
]);
/** Who sees it, and is answered otherwise. */
const sightOf: Record<string, readonly string[]> = {
  open: ['PRODUCER'],
  '/run/1a': ['PRODUCER'],
  Import: ['PRODUCER'],
  Incident: ['PRODUCER'],
  FollowRule: ['PRODUCER'],
};

const places = placesOf(committedSchema)
  .map((place) => ({ place, field: place.name.replace(/^(Query|Mutation|Subscription)\./, '') }))
  .filter(({ field }) => !ofNoObject.has(field))
  .flatMap(({ place, field }) => {
    const [, last = ''] = /(\w+)\)$/.exec(field) ?? [];
    const it = named[field] ?? named[last];
    return it === undefined
      ? []
      : [it, ...(it === lfn ? [isPrivate] : [])].map((one) => ({ place, ...one }));
  })
  .flatMap((one) =>
    ['USER', 'DQM', 'PRODUCER', 'IMPORTER']
      .filter((role) => !sightOf[one.there]?.includes(role))
      .map((role) => ({ ...one, role, what: `${one.place.name} ${one.there}` })),
  );

const rows = cases.flatMap((one) => one.roles.map((role) => ({ ...one, role })));

describe('not seen is as not there', () => {
  test.each(rows)('$what, $role', async ({ role, there, absent, ask }) => {
    const it = hidden.get(there) ?? there;
    if (ask('').startsWith('subscription')) {
      await compare(it, absent, (text) => overSocket(role, ask(text)));
      return;
    }
    for (const isPlain of ask('').startsWith('mutation') ? [true] : [true, false]) {
      await compare(it, absent, (text) => post(role, ask(text), isPlain));
    }
  });

  test.each(places)('$what, $role', async ({ role, place, there, absent }) => {
    const ask = (text: string) =>
      place.root === 'subscription'
        ? overSocket(role, place.query, place.variables(text))
        : post(role, place.query, place.root === 'mutation', place.variables(text));
    const it = hidden.get(there) ?? there;
    const one = withoutName(await ask(it), it);
    expect(one).toBe(withoutName(await ask(absent), absent));
  });

  test('whatever takes an id is asked with one', () => {
    const ids = placesOf(committedSchema).filter(
      ({ type, name }) => type === 'ID' && name !== 'Query.node(id)',
    );
    const asked = new Set(places.map(({ place }) => place.name));
    expect(ids.filter(({ name }) => !asked.has(name)).map(({ name }) => name)).toEqual([]);
  });

  const lists = exports.flatMap((one) => one.roles.map((role) => ({ ...one, role })));
  test.each(lists)('$what, $role', async ({ role, there, absent, path }) => {
    await compare(there, absent, async (name) => {
      const response = await fetch(`${server.address}${path(name)}`, { headers: headersOf(role) });
      return `${response.status} ${await response.text()}`;
    });
  });
});
