import { setTimeout as sleep } from 'node:timers/promises';
import {
  getNamedType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  type GraphQLField,
  type GraphQLObjectType,
} from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { guardedFields, sights, variedFields } from '../../src/access/fields.ts';
import { may, type Action } from '../../src/access/policy.ts';
import { committedSchema } from '../support/scene.ts';
import { errorsOf, openSocket } from '../support/socket.ts';
import { askedFields, askRoot, connected, selectionOf, typeOf } from './seen/ask.ts';
import { Eyes, nodesOf, textOf, type Json, type Row } from './seen/faults.ts';
import { openSeenWorld, viewers, type SeenWorld, type Viewer } from './seen/world.ts';

/*
 * Every field of every object, in every state of its life, as everybody sees it: the same as an admin does, unless the
 * object is not to be seen, or the field is one of the tables of src/access/fields.ts.
 */
const tables = {
  Dataset: 'datasets',
  File: 'files',
  Run: 'runs',
  BackupRecord: 'backup_records',
  Container: 'containers',
  Incident: 'incidents',
  Import: 'imports',
} as const;
type Noun = keyof typeof tables;
const nouns = Object.keys(tables) as Noun[];

type Objects = Map<string, Row>;
const objects = new Map<string, Objects>();
const eyes = new Eyes(objects);
let world: SeenWorld;
let admins: Map<string, Answer>;
let beginning: string;
/** After so much silence nothing more comes; what is to come comes before. */
const quietMs = 200;
const mostMs = 10_000;

beforeAll(async () => {
  world = await openSeenWorld();
  for (const noun of nouns) objects.set(noun, await read(noun, await idsOf(noun), world.admin));
  admins = await askRoots(world.admin);
  const [first] = nodesOf(admins.get('events')?.value);
  beginning = textOf(first?.['cursor']);
});
afterAll(() => world.close());

async function idsOf(noun: Noun): Promise<string[]> {
  const rows = await world.sql<{ id: number }>(`select id from ${tables[noun]} order by id`);
  return rows.map(({ id }) => Buffer.from(`${noun}:${id}`).toString('base64url'));
}

/** Whole objects by their ids; without those that are not seen. */
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
    const query = `{ ${fields.join(' ')} } fragment all on ${noun} { ${selection} }`;
    const { data, errors } = await world.post(query, token, plain);
    if (!data || errors) throw new Error(JSON.stringify(errors));
    part.forEach((id, i) => {
      const row = (data as Record<string, Row | null>)[`n${i}`];
      if (row) found.set(id, row);
    });
  }
  return found;
}

describe.each(viewers)('$name', (viewer) => {
  test.each(nouns)('%s', async (noun) => {
    const all = objects.get(noun) ?? new Map<string, Row>();
    const ids = [...all.keys()];
    expect(ids.length).toBeGreaterThan(0);
    const seen = ids.filter((id) => eyes.sees(viewer, noun, all.get(id) ?? {}));
    for (const plain of viewer.onBothRoads ? [false, true] : [false]) {
      const found = await read(noun, ids, viewer.token, plain);
      expect([...found.keys()]).toEqual(seen);
      const faults = seen.flatMap((id) =>
        eyes.faultsIn(viewer, typeOf(noun), found.get(id) ?? {}, all.get(id) ?? {}),
      );
      expect([...new Set(faults)], plain ? 'by the plain road' : 'by the usual road').toEqual([]);
    }
  });
});

/** What comes of a root field: its value, or the code of its refusal. */
interface Answer {
  readonly value: Json;
  readonly code?: string | undefined;
}

type RootField = GraphQLField<unknown, unknown>;
/** node tells of the nouns, one by one, above. */
const rootFields = Object.values(typeOf('Query').getFields()).filter(({ name }) => name !== 'node');

/** What is walked of lists that grow meanwhile. */
const only: Record<string, object> = {
  auditTrail: { filter: { principal: 'x' } },
  totals: { by: ['STREAM', 'SITE', 'KIND', 'STATUS', 'RELEASE'] },
};

/** All of a root field; a list page by page. */
async function askAll(
  field: RootField,
  token: string | undefined,
  plain: boolean,
): Promise<Answer> {
  const isList = connected(getNamedType(field.type).name) !== undefined;
  let whole: Row | undefined;
  for (let after: Json | undefined; ;) {
    const page = {
      ...only[field.name],
      ...(isList ? { first: 100, ...(after == null ? {} : { after }) } : {}),
    };
    const { data, errors } = await world.post(`{ ${askRoot('Query', field, page)} }`, token, plain);
    const code = errors?.[0]?.extensions.code;
    if (code !== undefined) {
      expect(['UNAUTHENTICATED', 'FORBIDDEN'], JSON.stringify(errors)).toContain(code);
      return { value: null, code };
    }
    const value = (data as Row)[field.name] ?? null;
    if (!isList) return { value };
    const got = value as Row;
    const info = got['pageInfo'] as Row;
    const edges = got['edges'] as Row[];
    expect([edges.at(0)?.['cursor'] ?? null, edges.at(-1)?.['cursor'] ?? null]).toEqual([
      info['startCursor'],
      info['endCursor'],
    ]);
    whole = whole
      ? {
          ...whole,
          nodes: [...nodesOf(whole), ...nodesOf(got)],
          edges: [...(whole['edges'] as Row[]), ...edges],
        }
      : got;
    if (info['hasNextPage'] !== true) return { value: whole };
    after = info['endCursor'];
  }
}

async function askRoots(token: string | undefined, plain = false): Promise<Map<string, Answer>> {
  const found = new Map<string, Answer>();
  for (const field of rootFields) found.set(field.name, await askAll(field, token, plain));
  return found;
}

const ofRight: Record<string, Action> = {
  'Query.backupRecords': 'readBackups',
  'Subscription.backupProgress': 'readBackups',
  'Subscription.incidentChanged': 'readIncidents',
  'Subscription.incidentProgress': 'readIncidents',
};

function faultsOfRefusal(
  viewer: Viewer,
  name: string,
  code: string,
  noun: string,
  rows: readonly Json[],
): string[] {
  // Its rows may be seen elsewhere: what is asked about all of them takes a right.
  const right = ofRight[name];
  if (right && !may({ principal: viewer.principal, roles: [viewer.role] }, right)) return [];
  const isHidden = rows.every((row) => !eyes.sees(viewer, noun, row as Row));
  return isHidden ? [] : [`${name} is refused: ${code}`];
}

/** What is wrong with what this viewer is told of a root field. */
function faultsOfRoot(viewer: Viewer, field: RootField, is: Answer, of: Answer): string[] {
  const name = `Query.${field.name}`;
  const type = getNamedType(field.type).name;
  const node = connected(type);
  const adminsRows = node === undefined ? [of.value].flat() : nodesOf(of.value);
  if (is.code !== undefined) {
    return faultsOfRefusal(viewer, name, is.code, node ?? type, adminsRows);
  }
  const faults = eyes.faultsOf(viewer, name, field, is.value, of.value);
  if (node === undefined || faults.length > 0) return faults;
  // A cursor is the same for everybody, or tells how many there are in between.
  const cursors = (answer: Json) =>
    ((answer as Row)['edges'] as Row[]).map((edge) => edge['cursor']);
  const expected = cursors(of.value).filter((_, i) =>
    eyes.sees(viewer, node, adminsRows[i] as Row),
  );
  return JSON.stringify(cursors(is.value)) === JSON.stringify(expected)
    ? []
    : [`${name} has other cursors`];
}

test.each(viewers)('root fields, $name', async (viewer) => {
  for (const plain of viewer.onBothRoads ? [false, true] : [false]) {
    const found = await askRoots(viewer.token, plain);
    const faults = rootFields.flatMap((field) =>
      faultsOfRoot(
        viewer,
        field,
        found.get(field.name) ?? { value: null },
        admins.get(field.name) ?? { value: null },
      ),
    );
    expect([...new Set(faults)], plain ? 'by the plain road' : 'by the usual road').toEqual([]);
  }
});

const feeds = Object.values(typeOf('Subscription').getFields());
/** Of what goes on for ever, what was before is told again; of the others, how it stands. */
const followed: Record<string, object> = {
  backupProgress: { lfn: '/merged/copying', dataset: undefined },
};

interface Told {
  readonly items: Row[];
  code?: string;
}

/** Of whom these tell, as a root field of Query. */
const progressOf: Record<string, string> = {
  importProgress: 'import',
  publicationProgress: 'publication',
  stageProgress: 'stageRequest',
};

/** What all subscriptions tell: so much, and nothing more after it. */
async function followAll(
  token: string | undefined,
  expected: (field: string) => number,
): Promise<Map<string, Told>> {
  const socket = await openSocket(world.address, token);
  const told = new Map<string, Told>(feeds.map(({ name }) => [name, { items: [] }]));
  for (const field of feeds) {
    const after = field.args.some(({ name }) => name === 'after') ? { after: beginning } : {};
    const asked = askRoot('Subscription', field, { ...followed[field.name], ...after });
    socket.start(`subscription { ${asked} }`);
  }
  const isComplete = () =>
    [...told].every(
      ([name, { items, code }]) => code !== undefined || items.length >= expected(name),
    );
  for (;;) {
    const message = await Promise.race([socket.next(), sleep(isComplete() ? quietMs : mostMs)]);
    if (message === undefined) break;
    const of = told.get(feeds[Number(message.id) - 1]?.name ?? '');
    const errors = errorsOf(message);
    if (of && errors) of.code = errors[0]?.extensions.code ?? '?';
    const { data } = (message.payload ?? {}) as { data?: Row };
    if (of && data) of.items.push(Object.values(data)[0] as Row);
  }
  socket.terminate();
  return told;
}

/** What a viewer is to be told of what an admin was. */
function seenOf(viewer: Viewer, field: RootField, all: readonly Row[]): Row[] {
  const parent = typeOf('Query').getFields()[progressOf[field.name] ?? ''];
  const row = parent && admins.get(parent.name)?.value;
  if (parent && !eyes.sees(viewer, getNamedType(parent.type).name, row as Row)) return [];
  const right = ofRight[`Subscription.${field.name}`];
  if (right && !may({ principal: viewer.principal, roles: [viewer.role] }, right)) return [];
  return all.filter((item) => eyes.sees(viewer, getNamedType(field.type).name, item));
}

test('subscriptions', async () => {
  const all = await followAll(world.admin, () => 1);
  const itemsOf = (name: string) => all.get(name)?.items ?? [];
  expect(feeds.filter(({ name }) => itemsOf(name).length === 0)).toEqual([]);
  const faults: string[] = [];
  for (const viewer of viewers) {
    const expected = new Map(
      feeds.map((field) => [field.name, seenOf(viewer, field, itemsOf(field.name))]),
    );
    const told = await followAll(viewer.token, (name) => expected.get(name)?.length ?? 0);
    for (const field of feeds) {
      const name = `${viewer.name}: Subscription.${field.name}`;
      const { items, code } = told.get(field.name) ?? { items: [] };
      const wanted = expected.get(field.name) ?? [];
      const fault = (what: string) => [`${name} ${what}: ${JSON.stringify(items)}`];
      if (code !== undefined && wanted.length > 0) faults.push(`${name} is refused: ${code}`);
      else
        faults.push(
          ...eyes.faultsOfList(viewer, getNamedType(field.type).name, items, wanted, fault),
        );
    }
  }
  expect([...new Set(faults)]).toEqual([]);
});

test.each(viewers)('$name is told who he is', async ({ principal, role, token }) => {
  const { data } = await world.post(`{ viewer { ${selectionOf(typeOf('Viewer'))} } }`, token);
  const is = { principal: role === 'ANONYMOUS' ? 'anonymous' : principal, roles: [role] };
  expect(data).toMatchObject({ viewer: { ...is, token: token === undefined ? null : {} } });
});

/** Sums over files, made once more of the files. */
test.each(viewers)('totals, $name', async (viewer) => {
  const files = [...(objects.get('File')?.values() ?? [])].filter((file) =>
    viewer.role === 'PRODUCER' || viewer.role === 'OPERATOR' || viewer.role === 'ADMIN'
      ? eyes.sees(viewer, 'File', file)
      : nodesOf(file['datasets']).some(
          ({ id }) => objects.get('Dataset')?.get(textOf(id))?.['isAvailable'],
        ),
  );
  const sum = (field: string) => files.reduce((all, file) => all + Number(file[field] ?? 0), 0);
  const { data } = await world.post('{ totals { fileCount sizeBytes eventCount } }', viewer.token);
  expect(data).toEqual({
    totals: [
      { fileCount: files.length, sizeBytes: sum('sizeBytes'), eventCount: sum('eventCount') },
    ],
  });
});

const objectTypes = Object.values(committedSchema.getTypeMap()).filter(
  (type): type is GraphQLObjectType => isObjectType(type) && !isIntrospectionType(type),
);
const isFrame = (name: string) =>
  /(Connection|Edge)$|^(Query|Mutation|Subscription|PageInfo)$/.test(name);

test('every object type has its entry in the table, and the table no other', () => {
  const named = objectTypes
    .map((type) => type.name)
    .filter((name) => name === 'PageInfo' || !isFrame(name));
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
  const all = [...Object.keys(guardedFields), ...Object.keys(variedFields)];
  // It says what a store answered last, and changes meanwhile.
  expect([...eyes.kept, 'MassStore.detail'].toSorted()).toEqual(all.toSorted());
});

/** Types that a change alone answers with: told to whoever made it, and made of what is walked, or of what he sent. */
const ofChanges = new Set(
  objectTypes
    .map(({ name }) => name)
    .filter((name) => !reachable('Query', 'Subscription').has(name)),
);

function reachable(...roots: string[]): Set<string> {
  const found = new Set(roots);
  for (const name of found) {
    const type = committedSchema.getType(name);
    for (const field of isObjectType(type) ? Object.values(type.getFields()) : []) {
      const inner = getNamedType(field.type);
      if (isObjectType(inner)) found.add(inner.name);
    }
  }
  return found;
}

test('every object type was walked, or only a change answers with it', () => {
  const walked = objectTypes
    .map(({ name }) => name)
    .filter((name) => !isFrame(name) && !ofChanges.has(name));
  // Who asks is told above.
  const told = new Set([...eyes.reached, 'Viewer', 'ViewerToken']);
  expect(walked.filter((name) => !told.has(name))).toEqual([]);
});

/** What the world has none of. */
const neverThere = new Set([
  // Files of the server's own settings say it.
  'MassStore.accessUrlPrefix',
  // All that the world removed came the same day; these are lines as `added` has them.
  'ContainerDelta.removed',
  // Asked by its own right: test/access/policy.test.ts.
  'FileTotals.store',
]);

test('every field that was walked was told to somebody', () => {
  const types = [...eyes.reached].filter((name) => !isFrame(name));
  const fields = types.flatMap((name) =>
    askedFields(typeOf(name)).map((field) => `${name}.${field.name}`),
  );
  expect(fields.filter((name) => !eyes.told.has(name) && !neverThere.has(name))).toEqual([]);
});
