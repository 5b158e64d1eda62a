/** By the name of its dataset here. */
const imported = (name: string) => `(select id from imports where dataset_name = '${name}')`;
const dataset = (name: string) => `(select id from datasets where name = '${name}')`;
const mirror = `(select id from containers where name = 'mirror')`;
const file = (lfn: string) => `(select id from files where lfn = '${lfn}')`;
const registered = (lfn: string, events: number) => `
  insert into files (lfn, kind, site_id, size_bytes, adler32, sha256, event_count)
  values ('${lfn}', 'MERGED_FILE', (select min(id) from sites), ${1000 + events}, '1234abcd', '${'0f'.repeat(32)}', ${events});`;

/** What a manifest told, accepted as an import. */
const received = (id: number, name: string, files: Readonly<Record<string, number>>) => `
  insert into import_receipts (id) overriding system value values (${id});
  insert into import_runs (import_id, line, source, number) values (${id}, 2, 'DATA', 77);
  ${Object.entries(files)
    .map(
      ([lfn, events], at) => `
  insert into import_files (import_id, line, lfn, size_bytes, adler32, sha256, event_count, runs, urls)
  values (${id}, ${at + 3}, '${lfn}', ${1000 + events}, '1234abcd', '${'0f'.repeat(32)}', ${events}, '[]', '{https://x/a}');`,
    )
    .join('')}
  insert into imports (id, dataset_name, source_site, origin, manifest_sha256, store_id, file_count, size_bytes,
    event_count, run_count)
  select ${id}, '${name}', 'FOREIGN', '{}', repeat('0', 64), min(id), ${Object.keys(files).length}, 1, 1, 1 from mass_stores;`;
const is = (lfn: string, status: string, more = '') =>
  `update import_files set status = '${status}', file_id = ${file(lfn)}${more} where lfn = '${lfn}' and file_id is null;`;

/** Imports in every state. */
export const importSteps: readonly string[] = [
  received(101, 'imported', { '/merged/safe2': 1 }) + is('/merged/safe2', 'SAFE'),
  `insert into datasets (name, kind, owner) values ('imported', 'IMPORT', 'ida');
   insert into dataset_files (dataset_id, file_id) values (${dataset('imported')}, ${file('/merged/safe2')});
   update datasets set status = 'BACKED_UP' where name = 'imported';
   update datasets set status = 'CLOSED' where name = 'imported';
   update imports set status = 'ENTERED', dataset_id = ${dataset('imported')} where id = 101;`,
  registered('/import/1', 50),
  received(102, 'half', { '/import/1': 50, '/import/2': 51 }) +
    is('/import/1', 'BACKING_UP', ", path = '/area/import/1', is_brought = true") +
    `insert into incoming_copies (file_id, volume_id, path)
     select ${file('/import/1')}, min(id), '/area/import/1' from volumes;`,
  `update import_files set status = 'FAILED', last_error = 'HTTP 404' where lfn = '/import/2';
   update imports set status = 'FAILED', last_error = 'HTTP 404' where id = 102;`,
  received(103, 'under-way', { '/merged/safe': 0, '/import/3': 52 }) +
    is('/merged/safe', 'SAFE') +
    `update import_files set status = 'FETCHING', attempt = 1, worker = 'w1', lease_until = now() + interval '1 hour'
     where lfn = '/import/3';`,
  received(104, 'called-off-import', { '/import/4': 53 }),
  `update imports set status = 'CANCELLED' where id = 104;`,
  `insert into follow_rules (site, filter, store_id, mirror)
   select 'FOREIGN', '{"container": "there"}', min(id), 'mirror' from mass_stores;
   insert into followed_datasets (rule_id, name, import_id) select id, 'imported', 101 from follow_rules;
   insert into containers (name, owner) values ('mirror', 'ida');
   insert into mirrored_containers select ${mirror}, 'FOREIGN', 'there', id, now() from follow_rules;
   select set_config('sweepbook.mirror_rule', id::text, true) from follow_rules;
   insert into container_datasets values (${mirror}, ${dataset('imported')});`,
];

const eventOf = (id: number) => `(facts ->> 'importId')::bigint = ${id} and kind = 'IMPORT_STATUS'`;
const log = (columns: string, values: string) =>
  `insert into events (id, xid, kind, facts, ${columns}) select max(id) + 1, max(xid), 'IMPORT_STATUS',
    '{"importId": 104}', ${values} from events`;

/** What is planted among the imports, and what the checker must say of it. */
export const importPlants: Readonly<Record<string, readonly [string, RegExp]>> = {
  'an import that tells of more files than its manifest': [
    'update imports set file_count = 7 where id = 102',
    /^imports: import 102 is FAILED and tells of 7 files, its manifest has 2$/,
  ],
  'an import that entered something open': [
    `update imports set dataset_id = ${dataset('open')} where id = 101`,
    /^imports: import 101 is ENTERED, and dataset \d+ is OPEN$/,
  ],
  'an import that entered another file': [
    `update import_files set adler32 = '00000000' where import_id = 101`,
    /^imports: import 101 is ENTERED, and \/merged\/safe2 is registered with another content$/,
  ],
  'an import that entered a file without its runs': [
    `update import_files set runs = '[{"source": "DATA", "number": 99}]' where import_id = 101`,
    /^imports: import 101 is ENTERED, and of \/merged\/safe2 runs are missing$/,
  ],
  'a brought file that shows before its dataset': [
    `update import_files set fetched_at = now() where lfn = '/import/1';
     insert into file_runs (file_id, run_id) select ${file('/import/1')}, min(id) from runs`,
    /^imports: import 102 is FAILED, and \/import\/1, which it brought, has runs and is in no dataset$/,
  ],
  'a copy that waits for nothing': [
    `update import_files set is_brought = false where lfn = '/import/1';
     update imports set status = 'CANCELLED' where id = 102`,
    /^imports: the copy of file \d+ waits for an import, and none is under way$/,
  ],
  'a mirror that lists what its rule has not brought': [
    `update followed_datasets set import_id = 103`,
    /^imports: container \d+ mirrors that of FOREIGN, and lists dataset \d+, which rule \d+ has not brought$/,
  ],
  'a file that is said to be safe': [
    `update import_files set file_id = ${file('/import/1')} where lfn = '/merged/safe'`,
    /^imports: \/merged\/safe is SAFE of import 103, and has no confirmed backup$/,
  ],
  'an import whose log says another state': [
    `update imports set status = 'FAILED' where id = 103`,
    /^I4: import 103 is FAILED, and its last event says RUNNING$/,
  ],
  'an import that took no step of its life': [
    `update events set to_state = 'RUNNING' where ${eventOf(101)} and to_state = 'ENTERED'`,
    /^I4: import 101: event \d+ from RUNNING to RUNNING is not a step of its life$/,
  ],
  'an import that began twice': [
    log('to_state', `'RUNNING'`),
    /^I4: import 104 was created 2 times$/,
  ],
  'an import that came back from the dead': [
    log('from_state, to_state', `'RUNNING', 'FAILED'`),
    /^I4: import 104: event \d+ goes from RUNNING to FAILED, and it was CANCELLED$/,
  ],
  'an import whose events are in another order': [
    `update events set xid = '3' where ${eventOf(101)} and to_state = 'ENTERED'`,
    /^I4: import 101: event \d+ is read before event/,
  ],
};

/** What nobody may do to imports. */
export const importAttacks: Readonly<Record<string, string>> = {
  'enters a dataset that is open': `update imports set status = 'ENTERED', dataset_id = ${dataset('open')} where id = 103`,
  'enters a dataset of another name': `update imports set status = 'ENTERED', dataset_id = ${dataset('closed')} where id = 103`,
  'takes a cancelled import up again': `update imports set status = 'RUNNING', finished_at = null where id = 104`,
  'cancels what is entered': `update imports set status = 'CANCELLED', dataset_id = null where id = 101`,
  'moves an entered dataset': `update imports set dataset_id = ${dataset('closed')} where id = 101`,
  'begins at the end': `insert into import_receipts (id) overriding system value values (105);
    insert into imports select 105, 'CANCELLED', 'other', source_site, origin, manifest_sha256, signed_by, store_id, file_count,
      size_bytes, event_count, run_count from imports where id = 102`,
  'imports one dataset twice at once': `insert into import_receipts (id) overriding system value values (105);
    insert into imports select 105, 'RUNNING', dataset_name, source_site, origin, manifest_sha256, signed_by, store_id, file_count,
      size_bytes, event_count, run_count from imports where id = 103`,
  'changes where it comes from': `update imports set origin = '{"site": "another"}' where id = ${imported('imported')}`,
  'puts something into a mirror': `insert into container_datasets values (${mirror}, ${dataset('closed')})`,
  'takes something out of a mirror': `select set_config('sweepbook.reason', 'mine', true);
    delete from container_datasets where container_id = ${mirror}`,
  'changes where a mirror is from': `update mirrored_containers set site = 'another'`,
  'makes a mirror one of ours': `delete from mirrored_containers`,
  'deletes an import': 'delete from imports where id = 104',
  'deletes a file of an import': `delete from import_files where import_id = 104`,
  'deletes a run of an import': `delete from import_runs where import_id = 104`,
  'adds a file to an import': `insert into import_files (import_id, line, lfn, size_bytes, adler32, runs, urls)
    values (103, 9, '/import/9', 1, '00000001', '[]', '{}')`,
  'adds a run to an import': `insert into import_runs (import_id, line, source, number) values (103, 9, 'DATA', 78)`,
  'changes what a manifest told of a file': `update import_files set size_bytes = 1 where lfn = '/import/1'`,
  'changes what a manifest told of a run': `update import_runs set luminosity = 7 where import_id = 103`,
  'takes another file for it': `update import_files set file_id = ${file('/merged/1')} where lfn = '/import/1'`,
  'calls a file safe that nobody has backed up': `update import_files set status = 'SAFE' where lfn = '/import/1'`,
  'takes a file from the worker that fetches it': `update import_files set attempt = 2, worker = 'w2' where lfn = '/import/3'`,
  'fetches without counting': `update import_files set status = 'FETCHING', worker = 'w2', lease_until = now() where lfn = '/import/4'`,
  'fails without a reason': `update import_files set status = 'FAILED' where lfn = '/import/4'`,
};
