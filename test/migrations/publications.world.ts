const of = (name: string) => `(select id from publications where dataset_name = '${name}')`;
const requested = (name: string, owner: string) => `
  insert into publications (dataset_name, requested_by, description, store_id, merge_tool, wanted_bytes, file_count, size_bytes)
  select '${name}', '${owner}', 'a test', min(id), 'TAR', 1000, 2, 20 from mass_stores;
  insert into publication_files (publication_id, path, name, told_events)
  select ${of(name)}, '/data/${name}/' || n, n, 5 from unnest(array['a', 'b']) n;`;
const claimed = (name: string) => `
  update publications set status = 'CHECKING', attempt = attempt + 1, worker = 'w1', lease_until = now() + interval '1 hour'
  where id = ${of(name)};`;
const planned = (name: string) => `
  update publication_files set size_bytes = 10, sha256 = repeat('0', 64), stamp = 'x', event_count = 5
  where publication_id = ${of(name)};
  insert into publication_composites (publication_id, number, lfn, file_count, input_bytes) values (${of(name)}, 1, '/user/${name}', 2, 20);
  update publication_files set composite = 1 where publication_id = ${of(name)};
  update publications set status = 'MERGING', event_count = 10 where id = ${of(name)};`;
const made = (name: string) => `
  update publication_composites set path = '/area/${name}', size_bytes = 30, adler32 = '1234abcd', sha256 = repeat('0', 64),
    event_count = 10, made_at = now() where publication_id = ${of(name)};
  insert into files (lfn, kind, site_id, size_bytes, adler32, sha256, event_count)
  select '/user/${name}', 'MERGED_FILE', min(id), 30, '1234abcd', repeat('0', 64), 10 from sites;`;
const registered = (name: string) => `
  update publication_composites set file_id = (select id from files where lfn = '/user/${name}') where publication_id = ${of(name)};
  update publications set status = 'BACKING_UP', lease_until = null, worker = null where id = ${of(name)};`;

/** Publications in several states. */
export const publicationWorld: readonly string[] = [
  requested('p-new', 'uma'),
  requested('p-checking', 'uma') + claimed('p-checking'),
  requested('p-merging', 'uma') + claimed('p-merging') + planned('p-merging') + made('p-merging'),
  requested('p-backing', 'uma') +
    claimed('p-backing') +
    planned('p-backing') +
    made('p-backing') +
    registered('p-backing'),
  requested('p-gone', 'uma') +
    `update publications set status = 'WITHDRAWN' where id = ${of('p-gone')};`,
  `insert into groups (name) values ('world'); insert into group_members values ('world', 'uma');
   insert into dataset_shares (dataset_id, kind, name) select id, 'GROUP', 'world' from datasets where name = 'open';`,
];

const dataset = (name: string) => `(select id from datasets where name = '${name}')`;
const eventOf = (name: string) =>
  `(facts ->> 'publicationId')::bigint = ${of(name)} and kind = 'PUBLICATION_STATUS'`;
const log = (columns: string, values: string) =>
  `insert into events (id, xid, kind, facts, ${columns}) select max(id) + 1, max(xid), 'PUBLICATION_STATUS',
    jsonb_build_object('publicationId', ${of('p-gone')}), ${values} from events`;

/** What is planted among the publications, and what the checker must say of it. */
export const publicationPlants: Readonly<Record<string, readonly [string, RegExp]>> = {
  'a publication that published something open': [
    `update publications set status = 'PUBLISHED', finished_at = now(), dataset_id = ${dataset('open')}
     where id = ${of('p-backing')}`,
    /^publications: publication \d+ is PUBLISHED, and dataset \d+ is OPEN$/,
  ],
  'a composite file that shows before its dataset': [
    `insert into dataset_files (dataset_id, file_id, lfn)
     select ${dataset('open')}, file_id, lfn from publication_composites where publication_id = ${of('p-backing')}`,
    /^publications: publication \d+ is BACKING_UP, and its \/user\/p-backing is in a dataset$/,
  ],
  'a composite file that lost events': [
    `update publication_files set event_count = 6 where publication_id = ${of('p-backing')}`,
    /^publications: \/user\/p-backing of publication \d+ has 10 events, 12 went in$/,
  ],
  'a composite file that is another one': [
    `update publication_composites set adler32 = '00000000' where publication_id = ${of('p-backing')}`,
    /^publications: \/user\/p-backing of publication \d+ is registered with another content$/,
  ],
  'a publication whose log says another state': [
    `update publications set status = 'MERGING' where id = ${of('p-checking')}`,
    /^I4: publication \d+ is MERGING, and its last event says CHECKING$/,
  ],
  'a publication that took no step of its life': [
    `update events set to_state = 'REQUESTED' where ${eventOf('p-checking')} and to_state = 'CHECKING'`,
    /^I4: publication \d+: event \d+ from REQUESTED to REQUESTED is not a step of its life$/,
  ],
  'a publication that began twice': [
    log('to_state', `'REQUESTED'`),
    /^I4: publication \d+ was created 2 times$/,
  ],
  'a publication that came back from the dead': [
    log('from_state, to_state', `'MERGING', 'FAILED'`),
    /^I4: publication \d+: event \d+ goes from MERGING to FAILED, and it was WITHDRAWN$/,
  ],
  'a publication whose events are in another order': [
    `update events set xid = '3' where ${eventOf('p-backing')} and to_state = 'BACKING_UP'`,
    /^I4: publication \d+: event \d+ is read before event/,
  ],
};

const set = (name: string, what: string) =>
  `update publications set ${what} where id = ${of(name)}`;

/** What nobody may do to publications. */
export const publicationAttacks: Readonly<Record<string, string>> = {
  'publishes what is not backed up': set('p-backing', `status = 'CLOSING'`),
  'publishes without a dataset of its files': set(
    'p-backing',
    `status = 'PUBLISHED', dataset_id = (select id from datasets where name = 'closed')`,
  ),
  'merges what is not checked': set('p-checking', `status = 'MERGING'`),
  'backs up what is not registered': set('p-merging', `status = 'BACKING_UP'`),
  'takes up again what was withdrawn': set('p-gone', `status = 'REQUESTED', finished_at = null`),
  'takes a publication from its worker': set('p-checking', `attempt = attempt + 1, worker = 'w2'`),
  'gives it to somebody else': set('p-new', `requested_by = 'mallory'`),
  'changes what it is counted as': set('p-merging', `event_count = 7`),
  'fails without a reason': set('p-checking', `status = 'FAILED'`),
  'publishes one dataset twice at once': requested('p-new', 'mallory'),
  'deletes a publication': `delete from publications where id = ${of('p-gone')}`,
  'adds a file': `insert into publication_files (publication_id, path, name) values (${of('p-merging')}, '/etc/passwd', 'c')`,
  'changes where a file lies': `update publication_files set path = '/etc/passwd' where publication_id = ${of('p-new')} and name = 'a'`,
  'counts a file anew': `update publication_files set event_count = 6 where publication_id = ${of('p-merging')}`,
  'deletes a file': `delete from publication_files where publication_id = ${of('p-new')}`,
  'registers another file for it': `update publication_composites set file_id = (select min(id) from files where kind = 'MERGED_FILE')
    where publication_id = ${of('p-merging')}`,
  'loses events': `update publication_composites set event_count = 9, file_id = (select id from files where lfn = '/user/p-merging')
    where publication_id = ${of('p-merging')}`,
  'plans one more composite file': `insert into publication_composites (publication_id, number, lfn, file_count, input_bytes)
    values (${of('p-merging')}, 2, '/user/more', 1, 1)`,
  'shares what is published': `insert into dataset_shares (dataset_id, kind, name) values (${dataset('closed')}, 'USER', 'mallory')`,
  'moves a share': `update dataset_shares set name = 'mallory', kind = 'USER'`,
};
