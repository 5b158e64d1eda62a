import type { TestDatabase } from '../support/database.ts';
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
  update backup_records set status = 'CONFIRMED', store_key = '${of}${lfn}', stored_size_bytes = f.size_bytes,
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
  ...suspicionSteps,
];

/** Fills a migrated database; each step is one transaction. */
export async function buildWorld(database: TestDatabase): Promise<void> {
  for (const step of steps) await database.sql(step);
}

/** Everything in the tables of the program, to see whether anything changed. */
export async function everything(database: TestDatabase): Promise<Record<string, string>> {
  const tables = await database.sql<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by 1`,
  );
  const parts = tables.map(
    ({ name }) => `select '${name}', string_agg(t::text, E'\\n' order by t::text) from "${name}" t`,
  );
  const contents = await database.sql<{ name: string; rows: string }>(
    `select * from (${parts.join(' union all ')}) all_tables (name, rows)`,
  );
  return Object.fromEntries(contents.map(({ name, rows }) => [name, rows]));
}
