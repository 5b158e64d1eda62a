import { openFilledDatabase, type TestDatabase } from '../support/database.ts';
import { importSteps } from './imports.world.ts';
import { poolSteps } from './pools.world.ts';
import { publicationWorld } from './publications.world.ts';
import { suspicionSteps } from './suspicions.world.ts';

/** What a statement calls a row by: `dataset('closed')` is a subselect of its id. */
export const dataset = (name: string) => `(select id from datasets where name = '${name}')`;
export const file = (lfn: string) => `(select id from files where lfn = '${lfn}')`;
export const run = (number: number) => `(select id from runs where number = ${number})`;
export const store = (name = 'hpss') => `(select id from mass_stores where name = '${name}')`;
export const backup = (lfn: string, of = 'hpss') =>
  `(select id from backup_records where file_id = ${file(lfn)} and store_id = ${store(of)})`;
export const merge = (lfn: string) => `(select id from merges where output_file_id = ${file(lfn)})`;

/** What the directory store answers of this file. */
export const evidenceOf = (
  lfn: string,
) => `(select jsonb_build_object('asked', 'read back /store' || lfn,
  'answer', json_build_object('path', '/store' || lfn, 'sizeBytes', size_bytes, 'adler32', adler32, 'sha256', sha256)::text,
  'askedAt', '2026-05-04T03:02:01.000Z', 'host', 'tape1') from files where lfn = '${lfn}')`;

export const claimed = (lfn: string, of = 'hpss') => `
  update backup_records set status = 'COPYING', attempt = attempt + 1, worker = 'w1',
    lease_until = clock_timestamp() + interval '1 hour' where id = ${backup(lfn, of)};`;
export const copied = (lfn: string, of = 'hpss') => `
  update backup_records set status = 'COPIED', answered_attempt = attempt where id = ${backup(lfn, of)};`;
export const confirmed = (lfn: string, of = 'hpss') => `
  update backup_records set status = 'CONFIRMED', confirm_level = 'READ_BACK', store_key = '${of}${lfn}', stored_size_bytes = f.size_bytes,
    stored_adler32 = f.adler32, stored_sha256 = f.sha256, confirmed_at = clock_timestamp(),
    evidence = ${evidenceOf(lfn)}, lease_until = null
  from files f where f.id = file_id and backup_records.id = ${backup(lfn, of)};`;
export const requested = (lfn: string, of = 'hpss') =>
  `insert into backup_records (file_id, store_id) values (${file(lfn)}, ${store(of)});`;
export const backedUp = (lfn: string, of = 'hpss') =>
  requested(lfn, of) + claimed(lfn, of) + copied(lfn, of) + confirmed(lfn, of);

export const runFile = (lfn: string, of: number, events: number) => `
  insert into files (lfn, kind, site_id, run_id, stream, size_bytes, adler32, event_count)
  values ('${lfn}', 'RUN_FILE', (select min(id) from sites), ${run(of)}, 'AllEvents', 100, '0000abcd', ${events});`;
export const mergedFile = (lfn: string, events: number, runs: readonly number[] = []) => `
  insert into files (lfn, kind, site_id, stream, size_bytes, adler32, sha256, event_count)
  values ('${lfn}', 'MERGED_FILE', (select min(id) from sites), 'AllEvents', ${1000 + events}, '1234abcd',
    '${'0f'.repeat(32)}', ${events});
  ${runs.map((of) => `insert into file_runs (file_id, run_id) values (${file(lfn)}, ${run(of)});`).join('')}`;
export const merged = (output: string, inputs: readonly string[]) => `
  insert into merges (output_file_id) values (${file(output)});
  insert into merge_inputs (input_file_id, merge_id)
    select id, ${merge(output)} from files where lfn in (${inputs.map((lfn) => `'${lfn}'`).join()});`;

export const newDataset = (name: string, files: readonly string[] = []) => `
  insert into datasets (name, kind, owner) values ('${name}', 'PR', 'anna');
  ${files.length > 0 ? added(name, ...files) : ''}`;
export const added = (name: string, ...lfns: string[]) => `
  insert into dataset_files (dataset_id, file_id)
    select ${dataset(name)}, id from files where lfn in (${lfns.map((lfn) => `'${lfn}'`).join()});`;
export const moved = (name: string, ...states: string[]) =>
  states
    .map((to) => `update datasets set status = '${to}', sealed = false where name = '${name}';`)
    .join('');
export const swept = (name: string) => `
  update datasets set sealed = true where name = '${name}';
  insert into sweeps (dataset_id, store_id) values (${dataset(name)}, ${store()});`;
export const sweepEnded = (name: string, outcome: string) => `
  update sweeps set finished_at = clock_timestamp(), outcome = '${outcome}' where dataset_id = ${dataset(name)};`;
export const marked = (name: string) =>
  `insert into bad_marks (dataset_id, reason) values (${dataset(name)}, 'tape 7 is torn');`;
export const cleared = (name: string) => `
  update bad_marks set cleared_at = clock_timestamp(), cleared_by = 'olga', cleared_reason = 'mended'
  where dataset_id = ${dataset(name)} and cleared_at is null;`;
export const lost = (lfn: string) => `
  update backup_records set status = 'LOST', last_error = 'no such file' where id = ${backup(lfn)};`;

export const container = (name: string) => `(select id from containers where name = '${name}')`;
export const newContainer = (name: string) =>
  `insert into containers (name, owner) values ('${name}', 'anna');`;
export const listed = (name: string, ...datasets: string[]) => `
  insert into container_datasets (container_id, dataset_id)
    select ${container(name)}, id from datasets where name in (${datasets.map((of) => `'${of}'`).join()});`;
export const delisted = (name: string, ...datasets: string[]) => `
  select set_config('sweepbook.reason', 'not wanted', true);
  delete from container_datasets where container_id = ${container(name)}
    and dataset_id in (select id from datasets where name in (${datasets.map((of) => `'${of}'`).join()}));`;
export const volume = (name: string) => `(select id from volumes where name = '${name}')`;
/** By the volume that crashed. */
export const incident = (of: string) =>
  `(select id from incidents where scope ->> 'volume' = '${of}')`;
export const replica = (lfn: string) => `(select id from replicas where file_id = ${file(lfn)})`;
export const placed = (lfn: string, on: string) => `
  insert into replicas (file_id, volume_id, path) values (${file(lfn)}, ${volume(on)}, '/${on}${lfn}');`;
/** A volume crashes whose files nothing else holds, with all that belongs to it. */
export const crashed = (name: string) => `
  insert into incidents (what, reason, scope, until) values ('REPLICAS', 'head crash', '{"volume": "${name}"}', now());
  insert into incident_items (incident_id, ordinal, file_id, replica_id, finding, is_lost, is_unbacked)
    select ${incident(name)}, row_number() over (order by id), file_id, id, 'LOST', true, false
    from replicas where volume_id = ${volume(name)};
  update replicas set status = 'LOST', incident_id = ${incident(name)} where volume_id = ${volume(name)};
  insert into incident_datasets (incident_id, dataset_id, file_count, hit_count, lost_total, unbacked_total, lost_count,
      unbacked_count)
    select i.incident_id, d.id, d.file_count, count(*), count(*), 0, count(*), 0
    from incident_items i join dataset_files df using (file_id) join datasets d on d.id = df.dataset_id
    where i.incident_id = ${incident(name)} group by i.incident_id, d.id;
  insert into bad_marks (dataset_id, incident_id, reason)
    select dataset_id, incident_id, 'lost' from incident_datasets where incident_id = ${incident(name)};`;
export const staged = (lfn: string) =>
  `update replicas set status = 'STAGING' where id = ${replica(lfn)};`;
export const check = (lfn: string) =>
  `(select max(id) from replica_checks where replica_id = ${replica(lfn)})`;
export const checkClaimed = (lfn: string) => `
  update replica_checks set status = 'RUNNING', attempt = attempt + 1, worker = 'w1',
    lease_until = clock_timestamp() + interval '1 hour' where id = ${check(lfn)};`;
/** Read and found good, but for these columns. */
export const checkedAs = (lfn: string, changed: Record<string, string> = {}) => {
  const columns: Record<string, string> = {
    status: `'GOOD'`,
    answered_attempt: 'attempt',
    read_size_bytes: `(select size_bytes from files where lfn = '${lfn}')`,
    read_adler32: `'1234abcd'`,
    read_sha256: `'${'0f'.repeat(32)}'`,
    evidence: evidenceOf(lfn),
    ...changed,
  };
  const assignments = Object.entries(columns).map(([column, value]) => `${column} = ${value}`);
  return `update replica_checks set ${assignments.join()} where id = ${check(lfn)};`;
};
export const back = (lfn: string) => `
  update replicas set status = 'AVAILABLE', incident_id = null where id = ${replica(lfn)};`;
export const restored = (lfn: string) => `
  update incident_items set is_lost = false, status = 'RESTORED', restored_at = clock_timestamp()
  where file_id = ${file(lfn)} and status = 'HIT';`;
const undone = (name: string) => `
  select set_config('sweepbook.reason', 'another disk', true);
  update incidents set status = 'UNDONE' where id = ${incident(name)};
  update replicas set status = 'AVAILABLE', incident_id = null where incident_id = ${incident(name)};
  update incident_items set status = 'UNDONE', is_lost = false where incident_id = ${incident(name)};`;
export const waived = (name: string, ...files: string[]) => `
  insert into datasets (name, kind, owner, backup_waived, waiver_reason)
  values ('${name}', 'USER', 'anna', true, 'made again at will');
  ${added(name, ...files)} ${moved(name, 'CLOSED')}`;

/** Rows in every state of every noun. The names say how far each thing has come. */
const steps: readonly string[] = [
  `insert into sites (name) values ('SLAC');
   insert into mass_stores (site_id, name, kind, root, is_default) select id, 'hpss', 'directory', '/store', true from sites;
   insert into mass_stores (site_id, name, kind, root) select id, 'second', 'directory', '/second' from sites;
   insert into runs (source, number, ended_at, expected_streams)
   values ('DATA', 1, now(), '{AllEvents}'), ('DATA', 2, now(), '{}'), ('DATA', 3, null, '{}');`,
  runFile('/run/1a', 1, 10) + runFile('/run/1b', 1, 20) + runFile('/run/2a', 2, 7),
  runFile('/run/3a', 3, 4) + runFile('/run/3b', 3, 5),
  mergedFile('/merged/1', 30, [1]) + merged('/merged/1', ['/run/1a', '/run/1b']),
  mergedFile('/merged/2', 7, [2]) + merged('/merged/2', ['/run/2a']),
  ['safe', 'safe2', 'new', 'requested', 'copying', 'copied', 'failed', 'lost', 'twice']
    .map((name, index) => mergedFile(`/merged/${name}`, index))
    .join(''),
  backedUp('/merged/1') + backedUp('/merged/safe') + backedUp('/merged/safe2'),
  backedUp('/merged/lost') + backedUp('/merged/twice') + backedUp('/merged/twice', 'second'),
  requested('/merged/2') + requested('/merged/requested') + requested('/merged/failed'),
  requested('/merged/copying') + claimed('/merged/copying'),
  requested('/merged/copied') + claimed('/merged/copied') + copied('/merged/copied'),
  `update backup_records set status = 'FAILED', last_error = 'the store is full' where id = ${backup('/merged/failed')};`,
  `update runs set verdict = 'GOOD', verdict_at = now(), verdict_by = 'dora' where number = 1;`,
  newDataset('open', ['/merged/new', '/merged/1']) + newDataset('empty'),
  newDataset('sealed', ['/merged/2', '/merged/safe']) + swept('sealed'),
  newDataset('backed', ['/merged/safe', '/merged/1']) + moved('backed', 'BACKED_UP'),
  newDataset('closed', ['/merged/1', '/merged/safe']) + moved('closed', 'BACKED_UP', 'CLOSED'),
  newDataset('swept', ['/merged/safe2']) + swept('swept'),
  moved('swept', 'BACKED_UP', 'CLOSED') + sweepEnded('swept', 'CLOSED'),
  newDataset('called-off', ['/merged/new']) + swept('called-off'),
  `update datasets set sealed = false where name = 'called-off';` +
    sweepEnded('called-off', 'CANCELLED'),
  `insert into datasets (name, kind, owner, backup_waived, waiver_reason)
   values ('waived', 'USER', 'anna', true, 'calibration, made again at will');` +
    added('waived', '/merged/new') +
    moved('waived', 'CLOSED'),
  // Some of it is folded into the totals, some is not.
  'update totals_state set folded_at = now();',
  newDataset('bad', ['/merged/lost']) + moved('bad', 'BACKED_UP', 'CLOSED'),
  newDataset('mended', ['/merged/twice']) + moved('mended', 'BACKED_UP', 'CLOSED'),
  newContainer('list') + newContainer('void') + listed('list', 'closed', 'waived', 'swept', 'bad'),
  listed('list', 'mended'),
  delisted('list', 'swept'),
  lost('/merged/lost') + marked('bad'),
  marked('mended') + cleared('mended') + lost('/merged/twice'),
  newDataset('reopened', ['/merged/safe', '/merged/safe2']) + moved('reopened', 'BACKED_UP'),
  `select set_config('sweepbook.reason', 'one file too many', true);` +
    moved('reopened', 'OPEN') +
    `delete from dataset_files where dataset_id = ${dataset('reopened')} and file_id = ${file('/merged/safe')};`,
  `insert into volumes (site_id, name) select min(id), v from sites, unnest(array['d1', 'd2', 'd3']) v group by v;`,
  ['disk', 'back', 'staged', 'wrong', 'there']
    .map((name, index) => mergedFile(`/merged/${name}`, 40 + index))
    .join(''),
  placed('/merged/disk', 'd1') + placed('/merged/back', 'd1') + placed('/merged/staged', 'd1'),
  placed('/merged/wrong', 'd2') + placed('/merged/there', 'd3'),
  waived('scratch', '/merged/disk', '/merged/back') + waived('regained', '/merged/back'),
  waived('wronged', '/merged/wrong') + waived('untouched', '/merged/there'),
  crashed('d1'),
  crashed('d2'),
  undone('d2'),
  staged('/merged/back') + staged('/merged/staged'),
  checkClaimed('/merged/back') + checkedAs('/merged/back') + back('/merged/back'),
  restored('/merged/back'),
  ...suspicionSteps,
  ...importSteps,
  ...poolSteps,
  ...publicationWorld,
];

/** A database with rows in every state; each step is one transaction of the same connection. */
export const openWorld = (): Promise<TestDatabase> =>
  openFilledDatabase('world', async (database) => {
    const client = await database.client();
    for (const step of steps) await client.query(step);
  });

/** Everything in the tables of the program, to see whether anything changed. */
export async function everything(database: TestDatabase): Promise<Record<string, string>> {
  const look = lookers.get(database) ?? openLooker(database);
  lookers.set(database, look);
  return (await look)();
}

const lookers = new WeakMap<TestDatabase, Promise<() => Promise<Record<string, string>>>>();

/** One connection that has planned it once: it is a hundred tables long, and asked after each attack. */
async function openLooker(database: TestDatabase): Promise<() => Promise<Record<string, string>>> {
  const tables = await database.sql<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by 1`,
  );
  const parts = tables.map(
    ({ name }) => `select '${name}', string_agg(t::text, E'\\n' order by t::text) from "${name}" t`,
  );
  const text = `select * from (${parts.join(' union all ')}) all_tables (name, rows)`;
  const client = await database.client();
  return async () => {
    const { rows } = await client.query<{ name: string; rows: string }>({
      name: 'everything',
      text,
    });
    return Object.fromEntries(rows.map((row) => [row.name, row.rows]));
  };
}
