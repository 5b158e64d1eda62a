import { refuseAll } from './attack.ts';
import * as w from './world.ts';

const { backup, file } = w;

const record = (lfn: string, columns: string) =>
  `update backup_records set ${columns} where id = ${backup(lfn)}`;
/** A confirmation as it should be, but for these columns. */
const confirmedAs = (changed: Record<string, string>) => {
  const columns: Record<string, string> = {
    status: `'CONFIRMED'`,
    store_key: `'x'`,
    confirmed_at: 'now()',
    stored_size_bytes: `(select size_bytes from files where lfn = '/merged/copied')`,
    stored_adler32: `'1234abcd'`,
    stored_sha256: `'${'0f'.repeat(32)}'`,
    evidence: w.evidenceOf('/merged/copied'),
    ...changed,
  };
  const assignments = Object.entries(columns).map(([column, value]) => `${column} = ${value}`);
  return record('/merged/copied', assignments.join());
};
const evidenceWithout = (part: string) =>
  confirmedAs({ evidence: `${w.evidenceOf('/merged/copied')} - '${part}'` });

refuseAll('I1: a confirmation says what was registered', {
  'confirms with another size': confirmedAs({ stored_size_bytes: '1' }),
  'confirms with another adler32': confirmedAs({ stored_adler32: `'00000000'` }),
  'confirms with another sha256': confirmedAs({ stored_sha256: `'${'00'.repeat(32)}'` }),
  'confirms without a size': confirmedAs({ stored_size_bytes: 'null' }),
  'confirms without an adler32': confirmedAs({ stored_adler32: 'null' }),
  'confirms without the sha256 that was registered': confirmedAs({ stored_sha256: 'null' }),
  'confirms without a key': confirmedAs({ store_key: 'null' }),
  'confirms without a time': confirmedAs({ confirmed_at: 'null' }),
  'confirms with the stored file of another record': confirmedAs({
    store_key: `'hpss/merged/safe'`,
  }),
  'moves a confirmed copy to another file': record(
    '/merged/safe',
    `file_id = ${file('/merged/new')}`,
  ),
  'moves a confirmed copy to another store': record(
    '/merged/safe',
    `store_id = ${w.store('second')}`,
  ),
  'deletes a confirmed copy': `delete from backup_records where id = ${backup('/merged/safe')}`,
  'deletes a copy that is asked for': `delete from backup_records where id = ${backup('/merged/requested')}`,
  'empties the copies': `truncate backup_records cascade`,
  'puts files of his own before the files': `create temp table files (like public.files);
    insert into files select * from public.files; update files set size_bytes = 1;
    ${confirmedAs({ stored_size_bytes: '1' })}`,
});

refuseAll('I3: a confirmation carries evidence, and keeps it', {
  'confirms without evidence': confirmedAs({ evidence: 'null' }),
  'confirms with empty evidence': confirmedAs({ evidence: `'{}'` }),
  'confirms with a null of JSON': confirmedAs({ evidence: `'null'` }),
  'confirms with evidence that is a list': confirmedAs({ evidence: `'["answer"]'` }),
  'confirms with an empty answer': confirmedAs({
    evidence: `'{"asked": "a", "askedAt": "2026-05-04T03:02:01Z", "answer": ""}'`,
  }),
  'confirms without the answer': evidenceWithout('answer'),
  'confirms without what was asked': evidenceWithout('asked'),
  'confirms without when it was asked': evidenceWithout('askedAt'),
  'changes the evidence in the same transaction': `${w.confirmed('/merged/copied')} ${record('/merged/copied', `evidence = '{}'`)}`,
  'changes the evidence of a confirmed copy': record(
    '/merged/safe',
    `evidence = '{"answer": "x"}'`,
  ),
  'changes the key of a confirmed copy': record('/merged/safe', `store_key = 'elsewhere'`),
  'changes what the store answered': record('/merged/safe', 'stored_size_bytes = 1'),
  'changes the time of a confirmation': record('/merged/safe', 'confirmed_at = now()'),
  'touches a confirmed copy': record('/merged/safe', 'failure_count = 0'),
});

refuseAll('I5: only the holder of the attempt answers', {
  'inserts a copy that is confirmed': `insert into backup_records (file_id, store_id, status, attempt, answered_attempt,
      store_key, stored_size_bytes, stored_adler32, stored_sha256, confirmed_at, evidence)
    select id, ${w.store()}, 'CONFIRMED', 0, 0, 'x', size_bytes, adler32, sha256, now(), ${w.evidenceOf('/merged/new')}
    from files where lfn = '/merged/new'`,
  'inserts a copy that is being made': `insert into backup_records (file_id, store_id, status, worker, lease_until)
    values (${file('/merged/new')}, ${w.store()}, 'COPYING', 'w', now())`,
  'inserts a copy with attempts': `insert into backup_records (file_id, store_id, attempt) values (${file('/merged/new')}, ${w.store()}, 4)`,
  'asks for a second copy in the same store': w.requested('/merged/copying'),
  'claims without counting an attempt': record(
    '/merged/requested',
    `status = 'COPYING', worker = 'w', lease_until = now() + interval '1 hour'`,
  ),
  'claims what another holds': w.claimed('/merged/copying'),
  'takes over what was copied and is held': w.claimed('/merged/copied'),
  'claims without saying who': record(
    '/merged/requested',
    `status = 'COPYING', attempt = attempt + 1, lease_until = now()`,
  ),
  'counts two attempts': record(
    '/merged/requested',
    `status = 'COPYING', attempt = attempt + 2, worker = 'w', lease_until = now()`,
  ),
  'counts an attempt back': record('/merged/copying', 'attempt = attempt - 1'),
  'counts an attempt without claiming': record('/merged/requested', 'attempt = attempt + 1'),
  'answers for no attempt': record('/merged/copying', `status = 'COPIED'`),
  'answers for an earlier attempt': record(
    '/merged/copying',
    `status = 'COPIED', answered_attempt = attempt - 1`,
  ),
  'answers for a later attempt': record(
    '/merged/copying',
    `status = 'COPIED', answered_attempt = attempt + 1`,
  ),
  'fails an attempt that was overtaken': record(
    '/merged/copying',
    `status = 'FAILED', answered_attempt = attempt - 1, last_error = 'x'`,
  ),
  'gives an overtaken attempt back': record(
    '/merged/copying',
    `status = 'REQUESTED', answered_attempt = null`,
  ),
  'confirms for an overtaken attempt': confirmedAs({ answered_attempt: 'attempt - 1' }),
  'confirms for no attempt': confirmedAs({ answered_attempt: 'null' }),
  'takes the answer of a copy back': record('/merged/copied', 'answered_attempt = null'),
  'confirms what is only asked for': record(
    '/merged/requested',
    `status = 'CONFIRMED', answered_attempt = 0`,
  ),
  'confirms what is being copied': record(
    '/merged/copying',
    `status = 'CONFIRMED', answered_attempt = attempt`,
  ),
  'brings a lost copy back': record('/merged/lost', `status = 'CONFIRMED'`),
  'brings a failed copy back': record('/merged/failed', `status = 'COPIED'`),
  'fails without a reason': record('/merged/requested', `status = 'FAILED'`),
  'loses a copy that was never confirmed': record('/merged/copied', `status = 'LOST'`),
  'asks again for a copy that is confirmed': record('/merged/safe', `status = 'REQUESTED'`),
});
