import { refuseAll } from './attack.ts';
import * as w from './world.ts';

const { file, merge, run } = w;
const event = `insert into events (kind, dataset_id, from_state, to_state)`;

refuseAll('I4: the log is written by the changes, and never changed', {
  'writes an event by hand': `${event} values ('DATASET_STATUS', ${w.dataset('open')}, 'OPEN', 'CLOSED')`,
  'writes an event in the shadow of a true one': `${w.newDataset('x')} ${event} values ('DATASET_CLEARED', 1, 'OPEN', 'OPEN')`,
  'copies an event': `insert into events overriding system value select * from events limit 1`,
  'writes no event at all': `${event} select 'DATASET_STATUS', 1, 'OPEN', 'CLOSED' where false`,
  'changes an event': `update events set to_state = 'OPEN' where to_state = 'CLOSED'`,
  'changes who did it': `update events set actor = 'somebody else'`,
  'changes the order': `update events set xid = '1'`,
  'deletes an event': `delete from events where kind = 'DATASET_STATUS'`,
  'empties the log': `truncate events`,
  'empties the log and counts anew': `truncate events restart identity cascade`,
});

refuseAll('I7: a run file goes into one merged file, and the events add up', {
  'merges a run file twice': w.mergedFile('/x', 10, [1]) + w.merged('/x', ['/run/1a']),
  'merges the same run file twice into one': `${w.mergedFile('/x', 8, [3])} ${w.merged('/x', ['/run/3a'])}
     insert into merge_inputs values (${file('/run/3a')}, ${merge('/x')})`,
  'merges with too few events': w.mergedFile('/x', 8, [3]) + w.merged('/x', ['/run/3a', '/run/3b']),
  'merges with too many events':
    w.mergedFile('/x', 10, [3]) + w.merged('/x', ['/run/3a', '/run/3b']),
  'merges into a file whose events nobody counted': `insert into files (lfn, kind, site_id, size_bytes, adler32) values ('/x', 'MERGED_FILE', 1, 1, '00000000');
     insert into file_runs values (${file('/x')}, ${run(3)}); ${w.merged('/x', ['/run/3a'])}`,
  'merges a run file whose events nobody counted': `insert into files (lfn, kind, site_id, run_id, stream, size_bytes, adler32) values ('/y', 'RUN_FILE', 1, ${run(3)}, 's', 1, '00000000');
     ${w.mergedFile('/x', 4, [3])} ${w.merged('/x', ['/run/3a', '/y'])}`,
  'merges merged files': w.mergedFile('/x', 30, [1]) + w.merged('/x', ['/merged/1']),
  'merges into a run file': w.runFile('/x', 3, 4) + w.merged('/x', ['/run/3a']),
  'merges nothing': `${w.mergedFile('/x', 0)} insert into merges (output_file_id) values (${file('/x')})`,
  'merges into a file that does not name the run':
    w.mergedFile('/x', 9, [1]) + w.merged('/x', ['/run/3a', '/run/3b']),
  'merges what is not registered': `${w.mergedFile('/x', 4, [3])} ${w.merged('/x', ['/run/3a'])}
     insert into merge_inputs values (999999, ${merge('/x')})`,
  'fills a merge that does not exist': `insert into merge_inputs values (${file('/run/3a')}, 999999)`,
  'merges a second time into one file': w.merged('/merged/1', ['/run/3a']),
  'adds to a recorded merge': `insert into merge_inputs values (${file('/run/3a')}, ${merge('/merged/1')})`,
  'adds to a merge after it was added up': `${w.mergedFile('/x', 4, [3])} ${w.merged('/x', ['/run/3a'])}
     set constraints all immediate; insert into merge_inputs values (${file('/run/3b')}, ${merge('/x')})`,
  'moves an input to another merge': `update merge_inputs set merge_id = ${merge('/merged/2')}`,
  'takes an input out': `delete from merge_inputs where input_file_id = ${file('/run/1a')}`,
  'points a merge to another file': `update merges set output_file_id = ${file('/merged/new')}`,
  'deletes a merge': `delete from merges`,
  'empties the merges': `truncate merges, merge_inputs`,
  'changes the events of a run file': `update files set event_count = 11 where lfn = '/run/1a'`,
  'takes a run from a merged file': `delete from file_runs where run_id = ${run(1)}`,
  'changes the runs of a merged file': `update file_runs set run_id = ${run(3)}`,
  'makes a run file a merged one': `update files set kind = 'MERGED_FILE', run_id = null where lfn = '/run/3a'`,
  'registers a run file without a run': `insert into files (lfn, kind, site_id, stream, size_bytes, adler32) values ('/x', 'RUN_FILE', 1, 's', 1, '00000000')`,
  'registers a name twice': w.mergedFile('/merged/1', 1),
  'registers an empty file': `insert into files (lfn, kind, site_id, size_bytes, adler32) values ('/x', 'MERGED_FILE', 1, 0, '00000001')`,
});

refuseAll('the runs of a file and its parents stay, and what datasets hold of runs is kept', {
  'tells other events of a run': `${w.mergedFile('/x', 5)} insert into file_runs values (${file('/x')}, ${run(3)}, 5);
     update file_runs set event_count = 6 where file_id = ${file('/x')}`,
  'takes back the events of a run': `${w.mergedFile('/x', 5)} insert into file_runs values (${file('/x')}, ${run(3)}, 5);
     update file_runs set event_count = null where file_id = ${file('/x')}`,
  'merges other events of a run than were told': `${w.mergedFile('/x', 9)}
     insert into file_runs values (${file('/x')}, ${run(3)}, 8); ${w.merged('/x', ['/run/3a', '/run/3b'])}`,
  'changes what a dataset holds of a run': `update dataset_runs set event_count = 1000`,
  'adds a run to a dataset': `insert into dataset_runs select ${w.dataset('open')}, source, number, id, 1, 1, 1 from runs where number = 3`,
  'takes a run from a dataset': `delete from dataset_runs`,
  'empties what datasets hold of runs': `truncate dataset_runs`,
  'changes the luminosity of a dataset': `update datasets set luminosity = 1 where name = 'open'`,
  'changes the runs of a dataset': `update datasets set first_run = 1, last_run = 9, run_count = 9 where name = 'open'`,
  'starts a dataset with luminosity': `insert into datasets (name, kind, owner, luminosity) values ('x', 'PR', 'anna', 1)`,
  'calls a file by another name': `insert into dataset_files (dataset_id, file_id, lfn) values (${w.dataset('open')}, ${file('/merged/safe')}, '/x')`,
  'derives a file from itself': `${w.mergedFile('/x', 1)} insert into file_parents values (${file('/x')}, ${file('/x')})`,
  'derives a file from a later one': `${w.mergedFile('/x', 1)} ${w.mergedFile('/y', 1)} insert into file_parents values (${file('/x')}, ${file('/y')})`,
  'tells parents of a known file': `insert into file_parents values (${file('/merged/2')}, ${file('/merged/1')})`,
  'derives a file from nothing': `${w.mergedFile('/x', 1)} insert into file_parents values (${file('/x')}, -1)`,
  'adopts another file': `${w.mergedFile('/x', 1)} insert into file_parents values (${file('/x')}, ${file('/merged/1')});
     update file_parents set parent_id = ${file('/merged/2')}`,
  'leaves its parents': `${w.mergedFile('/x', 1)} insert into file_parents values (${file('/x')}, ${file('/merged/1')});
     delete from file_parents`,
  'empties the parents': `truncate file_parents`,
  'adds to a dataset from a snapshot of his own': `set transaction isolation level repeatable read; ${w.added('open', '/merged/safe')}`,
  'tells runs of a file from a snapshot of his own': `set transaction isolation level repeatable read;
     insert into file_runs values (${file('/merged/new')}, ${run(3)})`,
  'tells a luminosity from a snapshot of his own': `set transaction isolation level serializable;
     update runs set luminosity = 1 where number = 1`,
});

refuseAll('a run leaves production by itself', {
  'makes a run AVAILABLE': `update runs set production_status = 'AVAILABLE', available_at = now() where number = 2`,
  'makes an unfinished run AVAILABLE': `update runs set production_status = 'AVAILABLE', ended_at = now() where number = 3`,
  'registers a run that is AVAILABLE': `insert into runs (source, number, production_status, available_at) values ('DATA', 9, 'AVAILABLE', now())`,
  'puts a run back into production': `update runs set production_status = 'IN_PRODUCTION', available_at = null where number = 1`,
  'changes since when a run is AVAILABLE': `update runs set available_at = now() where number = 1`,
  'says since when a run in production is AVAILABLE': `update runs set available_at = now() where number = 2`,
  'gives a run another number': `update runs set number = 7 where number = 1`,
  'deletes a run': `delete from runs where number = 3`,
  'empties the runs': `truncate runs cascade`,
  'registers a run twice': `insert into runs (source, number) values ('DATA', 1)`,
  'gives a verdict of his own making': `update runs set verdict = 'SPLENDID', verdict_at = now() where number = 1`,
});

const token = (roles: string, secret = `sha256('x')`, prefix = 'p1') =>
  `insert into tokens (principal, roles, prefix, secret_sha256) values ('eve', ${roles}, '${prefix}', ${secret})`;

refuseAll('a token has known roles and no secret in clear', {
  'makes a token with an unknown role': token(`array['ROOT']`),
  'makes a token with an unknown role among others': token(`array['USER', 'ROOT']`),
  'makes a token without a role': token(`array[]::text[]`),
  'makes a token with a role that is null': token(`array[null]::text[]`),
  'stores a secret as it is': token(`array['USER']`, `'secret'::bytea`),
  'stores no secret': token(`array['USER']`, 'null'),
  'makes two tokens of one prefix': `${token(`array['USER']`)}; ${token(`array['USER']`)}`,
  'makes a token for nobody': `insert into tokens (principal, roles, prefix, secret_sha256) values ('', array['USER'], 'p', sha256('x'))`,
});
