import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { reportStorageLoss, type LossReport } from '../../src/incidents/report.service.ts';
import { undoIncident } from '../../src/incidents/recovery.service.ts';
import { findingOf, isHeldBack, type Finding } from '../../src/incidents/incidents.rules.ts';
import { checkInvariants } from '../support/check-invariants.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import * as w from '../migrations/world.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
  await database.sql(`insert into sites (name) values ('SLAC');
    insert into mass_stores (site_id, name, kind, root, is_default) select id, 'hpss', 'directory', '/store', true from sites;`);
});
afterAll(() => database.close());

const operator = { principal: 'olga', roles: ['OPERATOR'] } as const;
const volumes = ['a', 'b', 'c'];

/** For each file the volumes that hold a copy, or two, whether it has a backup, and the datasets that hold it. */
const anyFile = fc.record({
  on: fc.uniqueArray(fc.constantFrom(...volumes), { maxLength: 3 }),
  isTwice: fc.boolean(),
  isBackedUp: fc.boolean(),
  inDatasets: fc.uniqueArray(fc.nat(2), { maxLength: 3 }),
});
const anyWorld = fc.record({
  files: fc.array(anyFile, { minLength: 1, maxLength: 8 }),
  waived: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
  crashed: fc.constantFrom(...volumes),
});
type World = typeof anyWorld extends fc.Arbitrary<infer T> ? T : never;

/** Another copy on the same volume. */
const again = (lfn: string, on: string) => `
  insert into replicas (file_id, volume_id, path) values (${w.file(lfn)}, ${w.volume(on)}, '/again${lfn}');`;

let count = 0;

async function build(
  world: World,
): Promise<{ name: (at: number) => string; lfn: (at: number) => string; tag: string }> {
  const tag = `w${++count}`;
  const lfn = (at: number) => `/${tag}/${at}`;
  const name = (at: number) => `${tag}-${at}`;
  await database.sql(
    `insert into volumes (site_id, name) select id, '${tag}' || v from sites, unnest(array['a', 'b', 'c']) v`,
  );
  for (const [at, file] of world.files.entries()) {
    await database.sql(
      w.mergedFile(lfn(at), at) +
        file.on.map((volume) => w.placed(lfn(at), tag + volume)).join('') +
        (file.isTwice ? file.on : []).map((volume) => again(lfn(at), tag + volume)).join('') +
        (file.isBackedUp ? w.backedUp(lfn(at)) : ''),
    );
  }
  for (const [at, isWaived] of world.waived.entries()) {
    const files = world.files.flatMap((file, of) =>
      file.inDatasets.includes(at) ? [lfn(of)] : [],
    );
    if (files.length === 0) continue;
    await database.sql(isWaived ? w.waived(name(at), ...files) : w.newDataset(name(at), files));
    const isSafe = world.files.every((file) => !file.inDatasets.includes(at) || file.isBackedUp);
    if (!isWaived && isSafe) await database.sql(w.moved(name(at), 'BACKED_UP', 'CLOSED'));
  }
  return { name, lfn, tag };
}

/** What the pure rules say of this world. */
function expected(
  world: World,
  names: { name: (at: number) => string; lfn: (at: number) => string },
) {
  const findings = new Map<number, Finding>();
  for (const [at, file] of world.files.entries()) {
    if (!file.on.includes(world.crashed)) continue;
    findings.set(at, findingOf({ alike: file.on.length - 1, other: file.isBackedUp ? 1 : 0 }));
  }
  const marked = world.waived.flatMap((_, at) => {
    const files = [...world.files.keys()].filter((of) => world.files[of]?.inDatasets.includes(at));
    const lostCount = files.filter((of) => findings.get(of) === 'LOST').length;
    return isHeldBack(lostCount) ? [names.name(at)] : [];
  });
  return {
    items: [...findings]
      .flatMap(([at, finding]) => {
        const item = `${names.lfn(at)} ${finding}`;
        return world.files[at]?.isTwice ? [item, item] : [item];
      })
      .toSorted(),
    marked,
  };
}

const shown = ({ table }: LossReport) => ({
  items: table.items.map((item) => `${item.lfn} ${item.finding}`).toSorted(),
  marked: table.datasets
    .filter((d) => d.isMarked)
    .map((d) => d.name)
    .toSorted(),
});

test('preview and report say the same, and what the rules say; undo leaves nothing behind', async () => {
  const seed = Number(process.env['MODEL_SEED'] ?? Date.now() % 2 ** 31);
  const numRuns = Number(process.env['MODEL_RUNS'] ?? 12);
  console.log(`worlds: MODEL_SEED=${seed} MODEL_RUNS=${numRuns}`);
  await fc.assert(
    fc.asyncProperty(anyWorld, async (world) => {
      const names = await build(world);
      const loss = { volume: names.tag + world.crashed, reason: 'head crash' };
      const before = await database.sql('select id, status, incident_id from replicas order by id');
      const preview = await reportStorageLoss(database.db, operator, { ...loss, dryRun: true });
      expect(
        await database.sql('select id, status, incident_id from replicas order by id'),
      ).toEqual(before);
      const real = await reportStorageLoss(database.db, operator, { ...loss, dryRun: false });
      expect(real.table).toEqual(preview.table);
      expect(shown(real)).toEqual(expected(world, names));
      const marks = await database.sql<{ name: string }>(
        `select d.name from bad_marks m join datasets d on d.id = m.dataset_id
          where m.incident_id = $1 and m.cleared_at is null order by 1`,
        [real.incidentId ?? 0],
      );
      expect(marks.map((row) => row.name)).toEqual(expected(world, names).marked);
      const kept = await database.sql(
        `select d.name, x.hit_count::int as "hitCount", x.lost_total::int as "lostCount" from incident_datasets x
          join datasets d on d.id = x.dataset_id where x.incident_id = $1 order by d.name`,
        [real.incidentId ?? 0],
      );
      const told = real.table.datasets.toSorted((a, b) => (a.name < b.name ? -1 : 1));
      expect(kept).toEqual(
        told.map(({ name, hitCount, lostCount }) => ({ name, hitCount, lostCount })),
      );
      expect(await checkInvariants(database.url)).toEqual([]);
      if (real.incidentId === null) return;
      await undoIncident(database.db, operator, real.incidentId, 'another disk');
      expect(
        await database.sql('select id, status, incident_id from replicas order by id'),
      ).toEqual(before);
      const standing = await database.sql(
        'select from bad_marks where incident_id = $1 and cleared_at is null',
        [real.incidentId],
      );
      expect(standing).toEqual([]);
    }),
    { seed, numRuns, interruptAfterTimeLimit: 100_000 },
  );
}, 150_000);

test('production goes on meanwhile: whoever registers and adds at the same time is hit or not, never half', async () => {
  const tag = 'busy';
  await database.sql(`insert into volumes (site_id, name) select id, '${tag}' from sites`);
  await database.sql(`
    insert into files (lfn, kind, site_id, size_bytes, adler32) select '/busy/' || n, 'MERGED_FILE', s.id, 1, '0000abcd'
      from generate_series(1, 400) n, sites s;
    insert into replicas (file_id, volume_id, path) select f.id, ${w.volume(tag)}, '/d' || f.lfn from files f
      where f.lfn like '/busy/%' and f.id % 2 = 0;
    insert into datasets (name, kind, owner, backup_waived, waiver_reason) select 'busy-' || n, 'USER', 'anna', true, 'x'
      from generate_series(1, 20) n;`);
  const clients = await Promise.all([1, 2, 3].map(() => database.client()));
  let refused = 0;
  const writing = clients.map(async (client, at) => {
    for (let turn = at; turn < 400; turn += 3) {
      const file = `(select id from files where lfn = '/busy/${turn + 1}')`;
      // An odd one comes onto the volume only now; all come into a dataset.
      const statements = [
        `insert into replicas (file_id, volume_id, path) values (${file}, ${w.volume(tag)}, '/d/busy/${turn + 1}') on conflict do nothing`,
        `insert into dataset_files (dataset_id, file_id) values (${w.dataset(`busy-${1 + (turn % 20)}`)}, ${file})`,
      ];
      for (const statement of statements) {
        await client.query(statement).catch((error: { constraint?: string }) => {
          if (error.constraint !== 'FILE_LOST') throw error;
          refused++;
        });
      }
    }
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const loss = { volume: tag, reason: 'head crash', dryRun: false };
  const first = await reportStorageLoss(database.db, operator, loss);
  await Promise.all(writing);
  expect(await checkInvariants(database.url)).toEqual([]);
  const second = await reportStorageLoss(database.db, operator, loss);
  expect(await checkInvariants(database.url)).toEqual([]);
  expect(first.table.itemCount + second.table.itemCount).toBeGreaterThanOrEqual(200);
  console.log(
    `busy: ${first.table.itemCount} hit, then ${second.table.itemCount}; ${refused} refused as lost`,
  );
});
