import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  getNamedType,
  getNullableType,
  isInterfaceType,
  isIntrospectionType,
  isLeafType,
  isListType,
  isObjectType,
  isRequiredArgument,
  type GraphQLField,
  type GraphQLObjectType,
} from 'graphql';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  guardedFields,
  sights,
  toldOfRunInProduction,
  variedFields,
} from '../../src/access/fields.ts';
import { roles, type AnyRole } from '../../src/access/policy.ts';
import { readConfig } from '../../src/config.ts';
import { openSweepbook, type RunningSweepbook } from '../../src/main.ts';
import { clientOf } from '../support/client.ts';
import type { TestDatabase } from '../support/database.ts';
import { committedSchema } from '../support/scene.ts';
import { openWorld } from '../migrations/world.ts';

/*
 * Every field of every object, in every state of its life, as everybody sees it: the same as an admin does, unless the
 * object is not to be seen, or the field is one of the tables of src/access/fields.ts.
 */
type Json = null | string | number | boolean | Json[] | { [field: string]: Json };
type Row = { [field: string]: Json };
type Objects = Map<string, Row>;

interface Viewer {
  readonly name: string;
  readonly principal: string;
  readonly role: AnyRole;
  /** The others see as these do. */
  readonly onBothRoads?: boolean;
  token?: string | undefined;
}

/** anna owns the datasets of the world. */
const viewers: Viewer[] = [
  { name: 'ANONYMOUS', principal: 'nobody', role: 'ANONYMOUS', onBothRoads: true },
  ...roles.map((role) => ({
    name: role,
    principal: `some-${role}`,
    role,
    onBothRoads: role === 'DQM',
  })),
  { name: 'USER who owns it', principal: 'anna', role: 'USER', onBothRoads: true },
];
const nouns = [
  'Dataset',
  'File',
  'Run',
  'BackupRecord',
  'Container',
  'Incident',
  'Import',
] as const;
type Noun = (typeof nouns)[number];

const folder = mkdtempSync(join(tmpdir(), 'sweepbook-fields-'));
let database: TestDatabase;
let server: RunningSweepbook;
const world = new Map<Noun, Objects>();

beforeAll(async () => {
  database = await openWorld();
  await database.sql(wholeOrigin);
  await database.sql(
    'insert into backup_policies (store_ids) select array_agg(id) from (select id from mass_stores order by id limit 8) s',
  );
  for (const [table, values] of Object.entries(filled)) {
    await database.sql(`alter table ${table} disable trigger user; update ${table} set ${values};
      alter table ${table} enable trigger user`);
  }
  server = await openSweepbook(
    readConfig({
      SWEEPBOOK_HOME: folder,
      SWEEPBOOK_PORT: '0',
      DATABASE_URL: database.url,
      SWEEPBOOK_WORKER: 'false',
      SWEEPBOOK_SHUTDOWN_SECONDS: '1',
    }),
    pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
  );
  const admin = clientOf(server.address, server.token);
  for (const viewer of viewers.slice(1)) {
    const made = await admin.call<{ createToken: { token: string } }>(
      'mutation ($input: CreateTokenInput!) { createToken(input: $input) { token } }',
      { input: { principal: viewer.principal, roles: [viewer.role] } },
    );
    viewer.token = made.createToken.token;
  }
  for (const noun of nouns) world.set(noun, await read(noun, await idsOf(noun), server.token));
});
afterAll(async () => {
  await server.close();
  // Raw SQL is not the whole of what the program would have written.
  await database.close({ check: false });
  rmSync(folder, { recursive: true, force: true });
});

const tables: Record<Noun, string> = {
  Dataset: 'datasets',
  File: 'files',
  Run: 'runs',
  BackupRecord: 'backup_records',
  Container: 'containers',
  Incident: 'incidents',
  Import: 'imports',
};
async function idsOf(noun: Noun): Promise<string[]> {
  const rows = await database.sql<{ id: number }>(`select id from ${tables[noun]} order by id`);
  return rows.map(({ id }) => Buffer.from(`${noun}:${id}`).toString('base64url'));
}

/** The world's imports say nothing of where they come from. */
const wholeOrigin = `alter table imports disable trigger imports_guard;
  update imports set origin = '{"site": "FOREIGN", "exportedAt": "2026-01-02T00:00:00Z", "dataset": {"id": "x",
    "name": "there", "kind": "PR", "owner": "otto", "closedAt": "2026-01-01T00:00:00Z", "origins": []}}';
  alter table imports enable always trigger imports_guard`;

/** What the world leaves empty; past the guards, which would have it told earlier. */
const filled: Record<string, string> = {
  runs: `started_at = '2026-01-01', conditions = 'c', luminosity = 1.5, event_count = 30,
    verdict_comment = case when verdict is not null then 'fine' end`,
  datasets: `description = 'd', release = 'r', stream = 's', tree_name = 't',
    luminosity = 1.5, luminosity_run_count = least(run_count, 1)`,
  files: `release = 'r', policy_id = (select max(id) from backup_policies)`,
  backup_records: `copied_at = now(), last_error_code = 'NO_SPACE', store_key = coalesce(store_key, 'key'),
    awaits_tape_since = case when status = 'COPIED' then now() end,
    next_look_at = case when status = 'COPIED' then now() end`,
  containers: `description = 'd'`,
  incidents: `since = '2026-01-01'`,
  imports: `last_error_code = 'X', signed_by = 'k'`,
};

/** What fields that need arguments are asked with. A new one needs its own here. */
const requiredArguments: Record<string, string> = {
  exportUrl: '(format: TXT)',
  changedSince: '(marker: "x")',
};
/** What changes by itself, or needs more than an object. */
const leftOut = new Set(['marker', 'changedSince', 'freeBytes', 'isUp']);
/** What the world has none of. */
const neverThere = new Set(['Container.luminosity']);

const connected = (name: string) => /^(\w+)Connection$/.exec(name)?.[1];
/** What tells one object from another, and who may see it. */
const keys: Record<string, string> = {
  Dataset: 'id',
  File: 'id',
  Run: 'id',
  BackupRecord: 'id',
  Container: 'id',
  Incident: 'id',
  Import: 'id',
  Event: 'cursor kind run { id }',
};

/** All fields of a type, two levels deep; of the nouns below it what they are known by. */
function selectionOf(type: GraphQLObjectType, depth = 2): string {
  return Object.values(type.getFields())
    .filter((field) => !leftOut.has(field.name))
    .flatMap((field) => askFor(field, depth))
    .join(' ');
}

function askFor(field: GraphQLField<unknown, unknown>, depth: number): string[] {
  const { name } = field;
  const type = getNamedType(field.type);
  const given = requiredArguments[name] ?? '';
  if (field.args.some(isRequiredArgument) && given === '') {
    throw new Error(`${name} needs arguments: say which in requiredArguments`);
  }
  if (isLeafType(type)) return [`${name}${given}`];
  const node = connected(type.name);
  if (node !== undefined) {
    const inner = committedSchema.getType(node);
    if (!isObjectType(inner) || depth === 0) return [];
    const of = keys[node] ?? selectionOf(inner, depth - 1);
    return of === '' ? [] : [`${name}(first: 20) { totalCount nodes { ${of} } }`];
  }
  if (!isObjectType(type) || depth === 0) return [];
  return [`${name} { ${keys[type.name] ?? selectionOf(type, depth - 1)} }`];
}

function typeOf(name: string): GraphQLObjectType {
  const type = committedSchema.getType(name);
  if (!isObjectType(type)) throw new Error(`no type ${name}`);
  return type;
}

/** Whole objects by their ids; without those that are not seen. `plain`: not by the fast road. */
async function read(
  noun: Noun,
  ids: readonly string[],
  token: string | undefined,
  plain = false,
): Promise<Objects> {
  const found: Objects = new Map();
  const selection = selectionOf(typeOf(noun));
  for (let at = 0; at < ids.length; at += 6) {
    const part = ids.slice(at, at + 6);
    const fields = part.map((id, i) => `n${i}: node(id: "${id}") { ...on ${noun} { ...all } }`);
    const response = await fetch(`${server.address}/graphql`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify({
        query: `{ ${fields.join(' ')} } fragment all on ${noun} { ${selection} }`,
        ...(plain ? { extensions: {} } : {}),
      }),
    });
    const { data, errors } = (await response.json()) as { data?: Row; errors?: object[] };
    if (!data || errors) throw new Error(JSON.stringify(errors));
    part.forEach((id, i) => data[`n${i}`] && found.set(id, data[`n${i}`] as Row));
  }
  return found;
}

const textOf = (value: Json | undefined) => (typeof value === 'string' ? value : '');
const nodesOf = (value: Json | undefined) => ((value as Row | undefined)?.['nodes'] ?? []) as Row[];
const object = (noun: Noun, id: Json | undefined) => world.get(noun)?.get(textOf(id));

/** Who sees what, told once more and not taken from the policy. */
const producers: AnyRole[] = ['PRODUCER', 'OPERATOR', 'ADMIN'];
function sees({ role, principal }: Viewer, noun: string, row: Row): boolean {
  // What a user is about to publish is his own and operators', and no business of production.
  if (noun === 'File' && isPrivate(row)) return role === 'OPERATOR' || role === 'ADMIN';
  if (producers.includes(role)) return true;
  const ofDataset = (id: Json | undefined) => {
    const dataset = object('Dataset', id);
    return (
      dataset?.['isAvailable'] === true ||
      (role !== 'ANONYMOUS' && dataset?.['owner'] === principal)
    );
  };
  switch (noun) {
    case 'Dataset':
      return ofDataset(row['id'] ?? null);
    case 'File': {
      const file = object('File', row['id'] ?? null);
      if (file?.['kind'] !== 'MERGED_FILE') return false;
      if (nodesOf(file['datasets']).some(({ id }) => ofDataset(id))) return true;
      const isDone = nodesOf(file['runs']).some(
        ({ id }) => object('Run', id)?.['productionStatus'] === 'AVAILABLE',
      );
      return role === 'DQM' && file['isBackedUp'] === true && isDone;
    }
    case 'Run':
      return (
        role === 'DQM' || object('Run', row['id'] ?? null)?.['productionStatus'] === 'AVAILABLE'
      );
    case 'BackupRecord': {
      if (role === 'IMPORTER') return true;
      const record = object('BackupRecord', row['id'] ?? null);
      const file = object('File', (record?.['file'] as Row | null)?.['id'] ?? null);
      return (
        record?.['status'] === 'CONFIRMED' &&
        nodesOf(file?.['datasets']).some(({ id }) => ofDataset(id))
      );
    }
    case 'Incident':
      return (
        role !== 'ANONYMOUS' &&
        nodesOf(object('Incident', row['id'] ?? null)?.['datasets']).some(
          ({ dataset }) =>
            object('Dataset', (dataset as Row | null)?.['id'])?.['owner'] === principal,
        )
      );
    case 'Import':
      return false;
    case 'Event':
      return isForAll(textOf(row['kind'])) && isOfDoneRun(row);
    default:
      return true;
  }
}

const isPrivate = (row: Row) =>
  textOf(object('File', row['id'] ?? null)?.['lfn']) === '/user/p-backing';
const isForAll = (kind: string) =>
  !['FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS'].includes(kind) &&
  !['INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS'].includes(kind);
const isOfDoneRun = ({ kind, run }: Row) =>
  !textOf(kind).startsWith('RUN_') ||
  object('Run', (run as Row | null)?.['id'])?.['productionStatus'] === 'AVAILABLE';

/** Fields of which somebody was told something, and of which somebody was not told what others were. */
const told = new Set<string>();
const kept = new Set<string>();

const may: Record<string, AnyRole[]> = {
  readProduction: producers,
  readIncidents: producers,
  readBackups: [...producers, 'IMPORTER'],
};

/** What is wrong with what this viewer is told of a field. */
function faultsOf(
  viewer: Viewer,
  name: string,
  type: GraphQLField<unknown, unknown>,
  is: Json,
  admins: Json,
): string[] {
  const rule = guardedFields[name];
  const fault = (what: string) => [
    `${name} ${what}: ${JSON.stringify(is)} of ${JSON.stringify(admins)}`,
  ];
  if (admins !== null && !(Array.isArray(admins) && admins.length === 0)) told.add(name);
  if (rule && !may[rule.action]?.includes(viewer.role)) {
    if (JSON.stringify(is) !== JSON.stringify(admins)) kept.add(name);
    return JSON.stringify(is) === JSON.stringify(rule.otherwise) ? [] : fault('is told');
  }
  if (name in variedFields) {
    if (JSON.stringify(is) !== JSON.stringify(admins)) kept.add(name);
    return [];
  }
  const inner = getNamedType(type.type);
  if (isLeafType(inner))
    return JSON.stringify(is) === JSON.stringify(admins) ? [] : fault('differs');
  const node = connected(inner.name);
  if (node !== undefined) {
    const seen = nodesOf(admins).filter((row) => sees(viewer, node, row));
    const isWhole = nodesOf(admins).length === Number((admins as Row)['totalCount']);
    const count = (is as Row)['totalCount'];
    if (isWhole && count !== seen.length && node in keys) return fault('counts otherwise');
    if (count !== nodesOf(is).length && isWhole) return fault('counts what it does not show');
    return node in keys && JSON.stringify(nodesOf(is)) !== JSON.stringify(seen)
      ? fault('lists otherwise')
      : [];
  }
  if (isListType(getNullableType(type.type))) {
    const list = (admins as Row[]).filter((row) => sees(viewer, inner.name, row));
    return JSON.stringify(is) === JSON.stringify(list) ? [] : fault('lists otherwise');
  }
  if (admins === null || is === null) {
    const isHidden = admins !== null && !sees(viewer, inner.name, admins as Row);
    return is === null && (admins === null || isHidden) ? [] : fault('is or is not there');
  }
  return faultsIn(viewer, typeOf(inner.name), is as Row, admins as Row);
}

function faultsIn(viewer: Viewer, type: GraphQLObjectType, is: Row, admins: Row): string[] {
  const isSecret =
    admins['productionStatus'] === 'IN_PRODUCTION' && !producers.includes(viewer.role);
  return Object.values(type.getFields())
    .filter((field) => field.name in admins)
    .flatMap((field) => {
      const value = is[field.name] ?? null;
      const name = `${type.name}.${field.name}`;
      if (isSecret && !toldOfRunInProduction.includes(field.name)) {
        return isNothing(value) ? [] : [`${name} is told: ${JSON.stringify(value)}`];
      }
      return faultsOf(viewer, name, field, value, admins[field.name] ?? null);
    });
}

const isNothing = (value: Json) =>
  value === null ||
  (Array.isArray(value) && value.length === 0) ||
  (value as Row)['totalCount'] === 0;

describe.each(viewers)('$name', (viewer) => {
  test.each(nouns)('%s', async (noun) => {
    const all = world.get(noun) ?? new Map<string, Row>();
    const ids = [...all.keys()];
    expect(ids.length).toBeGreaterThan(0);
    const seen = ids.filter((id) => sees(viewer, noun, { id }));
    for (const plain of viewer.onBothRoads ? [false, true] : [false]) {
      const found = await read(noun, ids, viewer.token, plain);
      expect([...found.keys()]).toEqual(seen);
      const faults = seen.flatMap((id) =>
        faultsIn(viewer, typeOf(noun), found.get(id) ?? {}, all.get(id) ?? {}),
      );
      expect([...new Set(faults)], plain ? 'by the plain road' : 'by the usual road').toEqual([]);
    }
  });
});

const objectTypes = Object.values(committedSchema.getTypeMap()).filter(
  (type): type is GraphQLObjectType => isObjectType(type) && !isIntrospectionType(type),
);

test('every object type has its entry in the table, and the table no other', () => {
  const named = objectTypes
    .map((type) => type.name)
    .filter((name) => !/(Connection|Edge)$|^(Query|Mutation|Subscription)$/.test(name));
  expect(Object.keys(sights).toSorted()).toEqual(named.toSorted());
  const fields = objectTypes.flatMap((type) =>
    Object.keys(type.getFields()).map((name) => `${type.name}.${name}`),
  );
  for (const name of [...Object.keys(guardedFields), ...Object.keys(variedFields)]) {
    expect(fields).toContain(name);
  }
  expect(isInterfaceType(committedSchema.getType('Node'))).toBe(true);
});

test('whatever is kept from somebody was kept from somebody here', () => {
  const tested = Object.keys(guardedFields).filter((name) =>
    nouns.some((noun) => name.startsWith(`${noun}.`)),
  );
  expect([...kept]).toEqual(expect.arrayContaining(tested));
});

test('every field of every noun was told to somebody', () => {
  const fields = nouns.flatMap((noun) =>
    Object.keys(typeOf(noun).getFields()).map((name) => `${noun}.${name}`),
  );
  const silent = fields.filter(
    (name) => !told.has(name) && !neverThere.has(name) && !leftOut.has(name.split('.')[1] ?? ''),
  );
  expect(silent).toEqual([]);
});
