/** A suspicion by the LFN of its file; each file of the world has one at most. */
export const suspicion = (lfn: string) =>
  `(select id from suspicions where file_id = (select id from files where lfn = '${lfn}'))`;

const evidence = `'{"asked": "read /disk/x", "answer": "{}", "askedAt": "2026-05-04T03:02:01.000Z", "host": "w"}'`;

/** Reported by jobs, of the copy on disk of this file. */
const reported = (lfn: string) => `
  insert into volumes (site_id, name) select min(id), 'disk' from sites on conflict do nothing;
  insert into replicas (file_id, volume_id, path)
    select f.id, v.id, '/disk' || f.lfn from files f, volumes v where f.lfn = '${lfn}' and v.name = 'disk';
  insert into suspicions (file_id, replica_id, place, job_count, report_count)
    select file_id, id, 'disk:' || path, 1, 2 from replicas where path = '/disk${lfn}';
  insert into read_failures (suspicion_id, job, url, error, report_count)
    values (${suspicion(lfn)}, 'job 1', '/disk${lfn}', 'EIO', 2);`;
const moved = (lfn: string, state: string, more = '') =>
  `update suspicions set state = '${state}'${more} where id = ${suspicion(lfn)};`;
const suspected = (lfn: string) => moved(lfn, 'SUSPICIOUS', ', next_attempt_at = now()');
const claimed = (lfn: string) =>
  moved(
    lfn,
    'CHECKING',
    `, attempt = attempt + 1, worker = 'w1', lease_until = now() + interval '1 hour'`,
  );
const answered = (lfn: string, state: string) =>
  moved(lfn, state, `, checked_at = now(), finding = 'read', evidence = ${evidence}`);
const checking = (lfn: string) => reported(lfn) + suspected(lfn) + claimed(lfn);

/** Suspicions in every state, for the world of the guards' tests. */
export const suspicionSteps: readonly string[] = [
  reported('/merged/new'),
  reported('/merged/safe') + suspected('/merged/safe'),
  checking('/merged/safe2'),
  checking('/merged/1') + answered('/merged/1', 'CHECKED_GOOD'),
  checking('/merged/2') + answered('/merged/2', 'BAD'),
  checking('/merged/requested') + answered('/merged/requested', 'UNREADABLE_FROM_HERE'),
  checking('/merged/copying') + moved('/merged/copying', 'OBSOLETE'),
  // Of a copy in the mass store.
  `insert into suspicions (file_id, backup_id, place)
     select file_id, id, 'hpss:lost' from backup_records where status = 'LOST' order by id limit 1;` +
    suspected('/merged/lost') +
    claimed('/merged/lost') +
    answered('/merged/lost', 'BAD'),
];

const log = (columns: string, values: string) =>
  `insert into events (id, xid, ${columns}) select max(id) + 1, max(xid), ${values} from events`;
const facts = (lfn: string) => `jsonb_build_object('suspicionId', ${suspicion(lfn)})`;
const eventsOf = (lfn: string) => `(facts ->> 'suspicionId')::bigint = ${suspicion(lfn)}`;

/** What is planted, and what the checker must say of it. */
export const suspicionPlants: Readonly<Record<string, readonly [string, RegExp]>> = {
  'a copy that was cleared without being read': [
    moved('/merged/1', 'CHECKED_GOOD', ', evidence = null'),
    /^suspicions: suspicion \d+ is CHECKED_GOOD without having been read$/,
  ],
  'a copy found bad that is still a confirmed backup': [
    `update backup_records set status = 'CONFIRMED', confirmed_at = '2026-01-01'
     where id = (select backup_id from suspicions where backup_id is not null)`,
    /^suspicions: suspicion \d+ is BAD, and its backup is still CONFIRMED$/,
  ],
  'a job that nobody counted': [
    `delete from read_failures where suspicion_id = ${suspicion('/merged/new')}`,
    /^suspicions: suspicion \d+ counts 1 jobs and keeps the reports of 0$/,
  ],
  'a check without an event': [
    `delete from events where ${eventsOf('/merged/1')} and to_state = 'CHECKED_GOOD'`,
    /^I4: suspicion \d+ is CHECKED_GOOD, and its last event says CHECKING$/,
  ],
  'a check with two events': [
    log(
      'kind, facts, from_state, to_state',
      `'COPY_SUSPICION', ${facts('/merged/1')}, 'CHECKING', 'CHECKED_GOOD'`,
    ),
    /^I4: suspicion \d+: event \d+ goes from CHECKING to CHECKED_GOOD, and it was CHECKED_GOOD$/,
  ],
  'a suspicion that reports alone made bad': [
    log(
      'kind, facts, from_state, to_state',
      `'COPY_SUSPICION', ${facts('/merged/new')}, 'REPORTED', 'BAD'`,
    ),
    /^I4: suspicion \d+: event \d+ from REPORTED to BAD is not a step of its life$/,
  ],
  'a suspicion that began twice': [
    log('kind, facts, to_state', `'COPY_SUSPICION', ${facts('/merged/new')}, 'REPORTED'`),
    /^I4: suspicion \d+ was created 2 times$/,
  ],
  'a suspicion whose events are in another order': [
    `update events set xid = '3' where ${eventsOf('/merged/1')} and to_state = 'CHECKED_GOOD'`,
    /^I4: suspicion \d+: event \d+ is read before event/,
  ],
};

const checked = (columns: string, lfn = '/merged/safe2') =>
  `update suspicions set ${columns} where id = ${suspicion(lfn)}`;

/** What nobody may do to suspicions. */
export const suspicionAttacks: Readonly<Record<string, string>> = {
  'finds a copy bad by reports alone': answered('/merged/new', 'BAD'),
  'clears a copy by reports alone': answered('/merged/safe', 'CHECKED_GOOD'),
  'finds a copy bad without evidence': checked(`state = 'BAD', checked_at = now(), finding = 'x'`),
  'finds a copy bad with empty evidence': checked(
    `state = 'BAD', checked_at = now(), finding = 'x', evidence = '{"asked": "", "answer": "", "askedAt": ""}'`,
  ),
  'takes a check from its worker': checked(`attempt = attempt + 1, worker = 'other'`),
  'claims without counting': moved(
    '/merged/safe',
    'CHECKING',
    `, worker = 'w', lease_until = now()`,
  ),
  'counts an attempt without a claim': checked('attempt = attempt + 1', '/merged/new'),
  'changes what was found': checked(`finding = 'all is well'`, '/merged/2'),
  'opens what was settled': moved('/merged/1', 'SUSPICIOUS', ', next_attempt_at = now()'),
  'moves a suspicion to another copy': checked(`place = 'elsewhere'`),
  'suspects a copy of another file': `insert into suspicions (file_id, replica_id, place)
    select (select id from files where lfn = '/merged/twice'), min(id), 'x' from replicas`,
  'suspects a copy twice': `insert into suspicions (file_id, replica_id, place)
    select file_id, replica_id, place from suspicions where id = ${suspicion('/merged/new')}`,
  'begins in the middle': `insert into suspicions (file_id, replica_id, place, state, next_attempt_at)
    select file_id, replica_id, place, 'SUSPICIOUS', now() from suspicions where id = ${suspicion('/merged/1')}`,
  'deletes a suspicion': `delete from suspicions where id = ${suspicion('/merged/1')}`,
  'empties the suspicions': 'truncate suspicions cascade',
  'deletes what a job said': 'delete from read_failures',
  'puts words into the mouth of a job': `update read_failures set job = 'another', report_count = report_count + 1`,
  'counts a report away': 'update read_failures set report_count = report_count - 1',
};
