import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Viewer } from '../../src/access/policy.ts';
import {
  containerMembers,
  unavailableMemberCount,
} from '../../src/containers/containers.queries.ts';
import {
  addToContainer,
  createContainer,
  removeFromContainer,
} from '../../src/containers/containers.service.ts';
import { leftBetween, listMembers } from '../../src/containers/members.queries.ts';
import {
  placeOf,
  presentPlace,
  readMoment,
  type Moment,
} from '../../src/containers/moments.queries.ts';
import { clearDatasetBad, markDatasetBad } from '../../src/datasets/bad-marks.service.ts';
import { currentPlace, writePlace, type Place } from '../../src/events/events.queries.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';
import { loadDatasets } from './load.ts';

const seed = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
const numRuns = Number(process.env['MODEL_RUNS'] ?? 20);
const admin: Viewer = { principal: 'anna', roles: ['ADMIN'] };
const user: Viewer = { principal: 'ulf', roles: ['USER'] };

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

type Command = { do: 'add' | 'remove'; which: number[] } | { do: 'bad' | 'clear'; which: [number] };

/** A container in its simplest form. */
interface Model {
  listed: Set<number>;
  suspended: Set<number>;
  bad: Set<number>;
}

function apply({ listed, suspended, bad }: Model, command: Command): void {
  for (const one of command.which) {
    if (command.do === 'add' && !bad.has(one)) listed.add(one);
    if (command.do === 'remove') {
      listed.delete(one);
      suspended.delete(one);
    }
    if (command.do === 'bad') {
      bad.add(one);
      if (listed.delete(one)) suspended.add(one);
    }
    if (command.do === 'clear') {
      bad.delete(one);
      if (suspended.delete(one)) listed.add(one);
    }
  }
}

const size = 4;
const some = fc.uniqueArray(fc.nat(size - 1), { minLength: 1, maxLength: 4 });
const one = fc.tuple(fc.nat(size - 1));
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ do: fc.constantFrom('add' as const, 'remove' as const), which: some }),
  fc.record({ do: fc.constantFrom('bad' as const, 'clear' as const), which: one }),
);

/** A moment after all that was done, by time and by marker, and what was listed then. */
interface Noted {
  readonly time: Date;
  readonly place: Place;
  readonly listed: readonly string[];
}

async function note(listed: readonly string[]): Promise<Noted> {
  const place = await until('the log has settled', async () => {
    const [row] = await database.sql<{ settled: boolean }>(
      `select coalesce(max(xid), '0'::xid8) < pg_snapshot_xmin(pg_current_snapshot()) as settled from events`,
    );
    return row?.settled && currentPlace(database.db.fork());
  });
  // The next change is of a later millisecond.
  const [row] = await database.sql<{ now: Date }>(
    `select date_trunc('milliseconds', clock_timestamp()) as now, pg_sleep(0.002)`,
  );
  return { time: row?.now ?? new Date(0), place, listed };
}

const without = (all: readonly string[], others: readonly string[]) =>
  all.filter((name) => !others.includes(name));

let made = 0;

async function play(commands: readonly Command[]): Promise<void> {
  const container = `model-${++made}`;
  const datasets = await loadDatasets(database, { prefix: container, count: size, events: 5 });
  const { db } = database;
  const { containerId } = await createContainer(db, admin, { name: container });
  const model: Model = { listed: new Set(), suspended: new Set(), bad: new Set() };
  const names = (numbers: Iterable<number>) =>
    [...numbers].map((at) => datasets[at] ?? '').toSorted();
  const noted = [await note([])];
  for (const step of commands) {
    const wanted = step.do === 'add' ? step.which.filter((at) => !model.bad.has(at)) : step.which;
    const input = { container, datasets: names(wanted), reason: step.do };
    const [dataset = ''] = names(step.which);
    if (step.do === 'add') await addToContainer(db, admin, input);
    if (step.do === 'remove') await removeFromContainer(db, admin, input);
    if (step.do === 'bad') await markDatasetBad(db, admin, { dataset, reason: 'bad' });
    if (step.do === 'clear') await clearDatasetBad(db, admin, { dataset, reason: 'clear' });
    apply(model, step);
    noted.push(await note(names(model.listed)));
  }
  const isBad = (name: string) => model.bad.has(datasets.indexOf(name));
  const list = async (viewer: Viewer, extent: { asOf?: Moment; since?: Moment }) =>
    (await containerMembers(db, viewer, containerId, extent)).map((member) => member.name);

  for (const { time, place, listed } of noted) {
    const good = listed.filter((name) => !isBad(name));
    for (const asOf of [time, place]) {
      expect(await list(admin, { asOf })).toEqual(good);
      expect(await list(user, { asOf })).toEqual(good);
      expect(await unavailableMemberCount(db, containerId, { asOf })).toBe(
        listed.length - good.length,
      );
    }
  }
  for (const [at, from] of noted.entries()) {
    for (const to of noted.slice(at)) {
      const added = without(to.listed, from.listed).filter((name) => !isBad(name));
      for (const since of [from.time, from.place]) {
        expect(await list(user, { since, asOf: to.place })).toEqual(added);
      }
      const left = await listMembers(
        db.fork(),
        admin,
        containerId,
        leftBetween(from.place, to.place),
        { first: 50 },
      );
      expect(left.edges.map(({ node }) => node.name)).toEqual(without(from.listed, to.listed));
      for (const { node } of left.edges) {
        expect(node.removedAt?.getTime()).toBeLessThanOrEqual(to.time.getTime());
        expect(node.removedReason).toMatch(/^(remove|bad)$/);
      }
    }
    const since = without(names(model.listed), from.listed).filter((name) => !isBad(name));
    expect(await list(user, { since: from.place })).toEqual(since);
  }
}

test('any moment, and any two, are as a simple model says', async () => {
  console.log(`containers: MODEL_SEED=${seed} MODEL_RUNS=${numRuns}`);
  await fc.assert(fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 10 }), play), {
    seed,
    numRuns,
    endOnFailure: true,
  });
}, 300_000);

async function containerOf(count: number) {
  const name = `late-${++made}`;
  const datasets = await loadDatasets(database, { prefix: name, count });
  const { containerId } = await createContainer(database.db, admin, { name });
  return { name, containerId, datasets };
}
const insert = (name: string, dataset: string | undefined) => `
  insert into container_datasets (container_id, dataset_id)
  select c.id, d.id from containers c, datasets d where c.name = '${name}' and d.name = '${dataset}'`;
const databaseTime = async () =>
  (await database.sql<{ now: Date }>(`select clock_timestamp() as now, pg_sleep(0.002)`))[0]?.now ??
  new Date(0);

test('a moment is the same whenever it is asked for: who writes at that time is waited for', async () => {
  const { name, containerId, datasets } = await containerOf(3);
  await database.sql(insert(name, datasets[0]));
  const early = await databaseTime();
  await database.sql(insert(name, datasets[1]));
  const writer = await database.client();
  await writer.query(`begin; ${insert(name, datasets[2])}`);
  const late = await databaseTime();

  const list = async (asOf: Moment) =>
    (await containerMembers(database.db, user, containerId, { asOf })).map((row) => row.name);
  // What lies before a later change is certain, whoever writes.
  expect(await list(early)).toEqual(datasets.slice(0, 1));
  let answered: string[] | undefined;
  const asked = list(late).then((found) => (answered = found));
  await until('the reader waits for the writer', async () => {
    const [row] = await database.sql<{ n: string }>(
      `select count(*) as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
    );
    return Number(row?.n) > 0;
  });
  expect(answered).toBeUndefined();
  await writer.query('commit');
  expect(await asked).toEqual(datasets);
  expect(await list(late)).toEqual(datasets);
  expect(await list(early)).toEqual(datasets.slice(0, 1));
});

test('a change that an older transaction keeps from settling is told with the next marker, once', async () => {
  const { name, containerId, datasets } = await containerOf(2);
  const older = await database.client();
  await older.query('begin; select pg_current_xact_id()');
  await database.sql(insert(name, datasets[0]));
  const { db } = database;
  const first = await currentPlace(db.fork());
  const since = async (from: Place, asOf: Place) =>
    (await containerMembers(db, user, containerId, { since: from, asOf })).map((row) => row.name);
  const start = { xid: '0', id: 0 };
  expect(await since(start, first)).toEqual([]);
  // It is listed all the same.
  expect((await containerMembers(db, user, containerId, {})).map((row) => row.name)).toEqual(
    datasets.slice(0, 1),
  );
  await older.query(`${insert(name, datasets[1])}; commit`);
  const second = await until('both have settled', async () => {
    const place = await currentPlace(db.fork());
    const found = await since(first, place);
    return found.length === 2 && place;
  });
  expect(await since(first, second)).toEqual(datasets);
  expect(await since(second, await currentPlace(db.fork()))).toEqual([]);
  expect(await since(start, first)).toEqual([]);
});

test('a moment that is not certain yet is not guessed', async () => {
  const { containerId } = await containerOf(1);
  const { db } = database;
  const ask = (asOf: Moment) => containerMembers(db, user, containerId, { asOf });
  await expect(ask(new Date(Date.now() + 3_600_000))).rejects.toMatchObject({
    code: 'BAD_USER_INPUT',
    facts: { field: 'asOf' },
  });
  // A clock that is a little ahead is waited for.
  const now = await databaseTime();
  expect(await ask(new Date(now.getTime() + 300))).toEqual([]);
  const { xid } = await currentPlace(db.fork());
  for (const place of [
    { xid, id: 1 },
    { xid: String(BigInt(xid) + 1000n), id: 0 },
    { xid: '9223372036854775807', id: 5 },
  ]) {
    await expect(placeOf(db, containerId, place, 'marker')).rejects.toMatchObject({
      code: 'INVALID_CURSOR',
      facts: { field: 'marker' },
    });
  }
  expect(await presentPlace(db, { xid: '0', id: 0 })).toEqual({ xid: expect.any(String), id: 0 });
});

test('a moment in words is a time with its zone, or a marker', () => {
  const read = (text: string) => readMoment('epoch', 'since', text);
  expect(read('2026-01-31T13:00:00+01:00')).toEqual(new Date('2026-01-31T12:00:00Z'));
  const place = { xid: '12345', id: 7 };
  expect(read(writePlace('epoch', place))).toEqual(place);
  for (const [text, code] of [
    ['2026-01-31T12:00:00', 'BAD_USER_INPUT'],
    ['2026-13-31T12:00:00Z', 'BAD_USER_INPUT'],
    ['2026-yesterday', 'BAD_USER_INPUT'],
    ['yesterday', 'INVALID_CURSOR'],
    ['', 'INVALID_CURSOR'],
    [writePlace('another', place), 'CURSOR_TOO_OLD'],
  ] as const) {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code, facts: expect.objectContaining({ field: 'since' }) }),
    );
  }
});
