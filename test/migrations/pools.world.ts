const file = (lfn: string) => `(select id from files where lfn = '${lfn}')`;
const copy = (lfn: string) => `(select id from pool_copies where file_id = ${file(lfn)})`;
const replica = (lfn: string) => `(select replica_id from pool_copies where id = ${copy(lfn)})`;
const request = `(select id from stage_requests where digest = 'd')`;

const evidenceOf = (lfn: string) =>
  `'{"asked": "read back ${lfn}", "answer": "{}", "askedAt": "2026-05-04T03:02:01Z"}'`;
const requested = (...lfns: string[]) => `
  insert into pool_copies (pool_id, file_id, path, size_bytes)
  select p.id, f.id, '', 0 from pools p, files f where p.name = 'world' and f.lfn in (${lfns.map((lfn) => `'${lfn}'`).join()});`;
const claimed = (lfn: string, status = 'COPYING') => `
  update pool_copies set status = '${status}', attempt = attempt + 1, worker = 'w1',
    lease_until = clock_timestamp() + interval '1 hour' where id = ${copy(lfn)};`;
/** Read and found good, but for these columns. */
const online = (lfn: string, changed: Record<string, string> = {}) => {
  const columns: Record<string, string> = {
    status: `'ONLINE'`,
    answered_attempt: 'attempt',
    read_size_bytes: 'size_bytes',
    read_adler32: `'1234abcd'`,
    read_sha256: `'${'0f'.repeat(32)}'`,
    evidence: evidenceOf(lfn),
    online_at: 'now()',
    replica_id: `(select id from replicas r where r.path = '/world${lfn}')`,
    ...changed,
  };
  return `insert into replicas (file_id, volume_id, path) select ${file(lfn)}, volume_id, '/world${lfn}' from pools
    where name = 'world' on conflict do nothing;
    update pool_copies set ${Object.entries(columns)
      .map(([column, value]) => `${column} = ${value}`)
      .join()} where id = ${copy(lfn)};`;
};
const evicting = (lfn: string) =>
  claimed(lfn, 'EVICTING') + `update replicas set status = 'EVICTED' where id = ${replica(lfn)};`;
const set = (lfn: string, columns: string) =>
  `update pool_copies set ${columns} where id = ${copy(lfn)};`;

/** Copies in every state: those named are what they are called. */
export const poolSteps: readonly string[] = [
  `insert into volumes (site_id, name, kind) select min(id), 'world', 'READ_ONLY_POOL' from sites;
   insert into pools (name, volume_id, path, urls, size_limit, roles, pin_seconds, most_pin_seconds, file_limit, concurrency)
   select 'world', id, '/world', '{}', 1000000, '{USER}', 60, 600, 10, 4 from volumes where name = 'world';`,
  requested('/merged/1', '/merged/safe', '/merged/safe2', '/merged/twice', '/merged/2') +
    `insert into stage_requests (pool_id, digest, file_count, size_bytes, pin_seconds)
       select id, 'd', 2, 1, 60 from pools where name = 'world';
     insert into stage_items (request_id, copy_id) values (${request}, ${copy('/merged/1')}), (${request}, ${copy('/merged/safe')});`,
  claimed('/merged/1') + claimed('/merged/safe') + claimed('/merged/safe2'),
  claimed('/merged/2') + claimed('/merged/twice'),
  online('/merged/1') + online('/merged/safe') + online('/merged/safe2'),
  online('/merged/2') + online('/merged/twice'),
  // /merged/1 is pinned, /merged/2 is the last copy, /merged/safe is EVICTED.
  set('/merged/1', `pinned_until = now() + interval '1 day'`) +
    `update stage_items set pinned_until = now() + interval '1 hour' where copy_id = ${copy('/merged/1')};`,
  evicting('/merged/safe'),
  set('/merged/safe', `status = 'EVICTED'`),
  evicting('/merged/twice'),
  requested('/merged/new', '/merged/requested'),
  claimed('/merged/requested'),
];

const eventsOf = (lfn: string) =>
  `kind = 'POOL_COPY_STATUS' and (facts ->> 'poolCopyId')::bigint = ${copy(lfn)}`;
const log = (lfn: string, columns: string, values: string) =>
  `insert into events (id, xid, kind, facts, ${columns}) select max(id) + 1, max(xid), 'POOL_COPY_STATUS',
    jsonb_build_object('poolCopyId', ${copy(lfn)}), ${values} from events`;

/** What is planted in pools, and what the checker must say of it. */
export const poolPlants: Readonly<Record<string, readonly [string, RegExp]>> = {
  'a pool that counts something else': [
    `update pools set used_bytes = 1`,
    /^pools: pool world counts 1 bytes and holds \d+$/,
  ],
  'a copy in a pool without its replica': [
    `update replicas set status = 'LOST' where id = ${replica('/merged/safe2')}`,
    /^pools: copy \d+ in a pool is ONLINE, and its replica is LOST$/,
  ],
  'a copy in a pool that is something else': [
    set('/merged/1', `read_adler32 = '00000000'`),
    /^pools: copy \d+ in a pool is ONLINE, and something else than \/merged\/1 was read$/,
  ],
  'a stage request that lost a file': [
    `delete from stage_items where copy_id = ${copy('/merged/safe')}`,
    /^pools: stage request \d+ is of 2 files and has 1$/,
  ],
  'a pin that holds nothing': [
    set('/merged/1', 'pinned_until = now()'),
    /^pools: stage request \d+ pins copy \d+ until .*, and the copy is pinned until/,
  ],
  'a copy in a pool without an event': [
    `delete from events where ${eventsOf('/merged/1')} and to_state = 'ONLINE'`,
    /^I4: pool copy \d+ is ONLINE, and its last event says COPYING$/,
  ],
  'a copy in a pool with two events': [
    log('/merged/1', 'from_state, to_state', `'COPYING', 'ONLINE'`),
    /^I4: pool copy \d+: event \d+ goes from COPYING to ONLINE, and it was ONLINE$/,
  ],
  'a copy in a pool that jumped': [
    log('/merged/new', 'from_state, to_state', `'REQUESTED', 'ONLINE'`),
    /^I4: pool copy \d+: event \d+ from REQUESTED to ONLINE is not a step of its life$/,
  ],
  'a copy in a pool that began twice': [
    log('/merged/new', 'to_state', `'REQUESTED'`),
    /^I4: pool copy \d+ was created 2 times$/,
  ],
  'a copy in a pool whose events are in another order': [
    `update events set xid = '3' where ${eventsOf('/merged/1')} and to_state = 'ONLINE'`,
    /^I4: pool copy \d+: event \d+ is read before event/,
  ],
};

/** What nobody may do to pools. */
export const poolAttacks: Readonly<Record<string, string>> = {
  'evicts what is pinned': evicting('/merged/1'),
  'evicts the last copy of a file': evicting('/merged/2'),
  'evicts a replica by hand': `update replicas set status = 'EVICTED' where id = ${replica('/merged/safe2')}`,
  'evicts a replica that is in no pool': `update replicas set status = 'EVICTED' where path = '/d3/merged/there'`,
  'brings an evicted replica back by hand': `update replicas set status = 'AVAILABLE' where id = ${replica('/merged/safe')}`,
  'evicts without a claim': set(
    '/merged/safe2',
    `status = 'EVICTING', worker = 'w', lease_until = now()`,
  ),
  'says that it is there with another checksum': online('/merged/requested', {
    read_adler32: `'00000000'`,
  }),
  'says that it is there with another size': online('/merged/requested', { read_size_bytes: '1' }),
  'says that it is there without evidence': online('/merged/requested', { evidence: 'null' }),
  'answers for an earlier attempt': online('/merged/requested', { answered_attempt: '0' }),
  'says that it is there without copying': online('/merged/new'),
  'takes a copy from its worker': claimed('/merged/requested'),
  'claims without counting': set(
    '/merged/new',
    `status = 'COPYING', worker = 'w', lease_until = now()`,
  ),
  'gives a copy to another file': set('/merged/1', `file_id = ${file('/merged/failed')}`),
  'moves a copy': set('/merged/1', `path = '/elsewhere'`),
  'says that an incident took it': set('/merged/1', `status = 'LOST'`),
  'lets its room be forgotten': `update pools set used_bytes = 0`,
  'moves a pool': `update pools set path = '/elsewhere'`,
  'deletes a pool': `delete from pools`,
  'deletes a copy': `delete from pool_copies where id = ${copy('/merged/new')}`,
  'deletes a request': `delete from stage_items; delete from stage_requests`,
  'asks in the name of another': `update stage_requests set principal = 'somebody' where id = ${request}`,
  'begins with a copy that is there': `insert into pool_copies (pool_id, file_id, path, size_bytes, status)
    select p.id, ${file('/merged/failed')}, '', 0, 'ONLINE' from pools p`,
};
