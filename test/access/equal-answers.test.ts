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
import {
  dataset,
  idOf,
  lfn,
  named,
  namesNothing,
  noun,
  ofNoObject,
  runNumber,
  type Pair,
} from './names.ts';
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
/** An operator of another site. */
const elsewhere = 'OPERATOR elsewhere';

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
  const away = { principal: 'away', roles: ['OPERATOR'], sites: ['ELSEWHERE'] };
  const { createToken } = await admin.call<{ createToken: { token: string } }>(
    'mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }',
    { input: away },
  );
  tokens.set(elsewhere, createToken.token);
  hidden.set('Token', createToken.token.split('_')[1] ?? '');
  const hook = await admin.call<{ createWebhook: { webhook: { id: string } } }>(
    'mutation { createWebhook(input: { url: "https://hooks.example.org/x" }) { webhook { id } } }',
  );
  hidden.set('Webhook', hook.createWebhook.webhook.id);
  await database.sql(`
    insert into follow_rules (site, store_id) select 'FOREIGN', min(id) from mass_stores;
    insert into audits (store_id, what) select min(id), 'COMPARE' from mass_stores;
    insert into runs (number, source) values (77777, 'DATA');
    insert into identities (principal, issuer, subject, roles) values ('ida@sso', 'https://sso.example.org', '1', '{}')`);
  for (const [name, from] of Object.entries({
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
    if (!row) throw new Error(`the world has no ${name}`);
    hidden.set(name, idOf(name, row.id));
    if (name === 'StoreAudit') hidden.set('audit', String(row.id));
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

interface Case extends Pair {
  readonly what: string;
  /** Who may not see it. */
  readonly roles: readonly string[];
  readonly ask: (it: string) => string;
}
const strangers = ['ANONYMOUS', 'USER'];
const holders = ['USER', 'DQM'];

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
  node('SuspiciousCopy', [elsewhere]),
  {
    what: 'run',
    roles: strangers,
    ...runNumber,
    ask: (number) => `{ run(number: ${number}) { number } }`,
  },
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
  const told = answer
    .replaceAll(new RegExp(`(?<!\\w)${it.replaceAll(/[^\w/]/g, '\\$&')}(?!\\w)`, 'g'), 'IT')
    .replaceAll(/"locations":\[[^\]]*\],/g, '');
  return number === undefined ? told : told.replaceAll(new RegExp(`\\b${number}\\b`, 'g'), 'IT');
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

/** What is about to be published is hidden from production as well. */
const isPrivate = { there: '/user/p-backing', absent: '/user/p-nowhere' };
/** Who sees it, and is answered otherwise. */
const sightOf: Record<string, readonly string[]> = {
  open: ['PRODUCER'],
  '/run/1a': ['PRODUCER'],
  '77777': ['PRODUCER', 'DQM'],
  Import: ['PRODUCER'],
  Incident: ['PRODUCER'],
  FollowRule: ['PRODUCER'],
};

const texts = placesOf(committedSchema)
  .filter(({ type }) => type !== 'DateTime')
  .map((place) => {
    const field = place.name.replace(/^(Query|Mutation|Subscription)\./, '');
    const [, lastTwo = '', last = ''] = /[(.]((?:\w+\.)?(\w+))\)$/.exec(field) ?? [];
    return { place, field, keys: [field, lastTwo, last] };
  });
const entryOf = (keys: readonly string[]) =>
  keys.map((key) => named[key]).find((it) => it !== undefined);
const isFiltered = (field: string) => /\.(eq|in|glob|startsWith)\)$/.test(field);

const places = texts
  .filter(({ field }) => !ofNoObject.has(field))
  .flatMap(({ place, field, keys }) => {
    const it = entryOf(keys);
    if (it === undefined) return [];
    const roles = isFiltered(field)
      ? ['USER', 'PRODUCER']
      : ['USER', 'DQM', 'PRODUCER', 'IMPORTER'];
    const isOfSite = ['SuspiciousCopy', 'audit'].includes(it.there);
    return [it, ...(it === lfn ? [isPrivate] : [])].flatMap((one) =>
      [...roles, ...(isOfSite ? [elsewhere] : [])]
        .filter((role) => !sightOf[one.there]?.includes(role))
        .map((role) => ({ place, ...one, role, what: `${place.name} ${one.there}` })),
    );
  });

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

  test('whatever takes a text is asked with what it names, or is known to name nothing', () => {
    const known = (keys: readonly string[]) =>
      entryOf(keys) ?? keys.find((key) => ofNoObject.has(key) || namesNothing.has(key));
    const missing = texts.filter(({ keys }) => known(keys) === undefined);
    expect(missing.map(({ field }) => field)).toEqual(['node(id)']);
    const used = new Set(texts.flatMap(({ keys }) => keys));
    const entries = [...Object.keys(named), ...ofNoObject, ...namesNothing];
    expect(entries.filter((entry) => !used.has(entry))).toEqual([]);
  });

  test('an operator of one site is told of no copies and no audits of another', async () => {
    for (const [query, empty] of [
      ['{ suspiciousCopies(first: 5) { totalCount nodes { id } } }', '{"totalCount":0,"nodes":[]}'],
      ['{ storeAudits { id } }', '[]'],
    ] as const) {
      expect(await post(elsewhere, query, true)).toContain(empty);
      const all = await clientOf(server.address, server.token).call<object>(query);
      expect(JSON.stringify(all)).not.toContain(empty);
    }
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
