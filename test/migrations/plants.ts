import { containerPlants } from './container-plants.ts';
import { suspicionPlants } from './suspicions.world.ts';
import { backup, dataset, file, merge, run } from './world.ts';

const set = (lfn: string, columns: string) =>
  `update backup_records set ${columns} where id = ${backup(lfn)}`;
const lastEvent = (kind: string, where: string) =>
  `(select max(id) from events where kind = '${kind}' and ${where})`;
const log = (columns: string, values: string) =>
  `insert into events (id, xid, ${columns}) select max(id) + 1, max(xid), ${values} from events`;

/** What is planted, and what the checker must say of it. */
export const plants: Readonly<Record<string, readonly [string, RegExp]>> = {
  ...containerPlants,
  'a closed dataset with a file that has no backup': [
    `insert into dataset_files values (${dataset('closed')}, ${file('/merged/new')})`,
    /^I1: dataset closed is CLOSED with 3 files, 1 without a confirmed backup$/,
  ],
  'a closed dataset without a file': [
    `delete from dataset_files where dataset_id = ${dataset('swept')}`,
    /^I1: dataset swept is CLOSED with 0 files/,
  ],
  'a waived closed dataset without a file': [
    `delete from dataset_files where dataset_id = ${dataset('waived')}`,
    /^I1: dataset waived is CLOSED with 0 files/,
  ],
  'a dataset that is BACKED_UP with a copy that is gone': [
    set('/merged/1', `status = 'LOST'`),
    /^I1: dataset backed is BACKED_UP with 2 files, 1 without/,
  ],
  'a closed dataset with a lost file and no bad mark': [
    `delete from bad_marks where dataset_id = ${dataset('bad')}`,
    /^I1: dataset bad is CLOSED with 1 files, 1 without/,
  ],
  'a confirmation of another size': [
    set('/merged/safe', 'stored_size_bytes = 1'),
    /^I1: backup \d+ is CONFIRMED, but the store holds something else than \/merged\/safe$/,
  ],
  'a confirmation of another checksum': [
    set('/merged/safe', `stored_adler32 = null`),
    /^I1: backup \d+ is CONFIRMED, but/,
  ],
  'a file that was changed after its confirmation': [
    `update files set sha256 = '${'aa'.repeat(32)}' where lfn = '/merged/safe2'`,
    /^I1: dataset swept is CLOSED with 1 files, 1 without/,
  ],
  'a run file in a dataset': [
    `insert into dataset_files values (${dataset('open')}, ${file('/run/1a')})`,
    /^I1: dataset \d+ holds file \d+, which is no registered merged file$/,
  ],
  'an open dataset that is shown to all': [
    `update datasets set is_available = true where name = 'open'`,
    /^visibility: dataset open is OPEN with 0 standing bad marks and shown as available$/,
  ],
  'a bad dataset that is shown to all': [
    `update datasets set is_available = true where name = 'bad'`,
    /^visibility: dataset bad is CLOSED with 1 standing/,
  ],
  'a closed dataset that nobody sees': [
    `update datasets set is_available = false where name = 'closed'`,
    /^visibility: dataset closed .* shown as not available$/,
  ],
  'a confirmation without evidence': [
    set('/merged/safe', 'evidence = null'),
    /^I3: backup \d+ is CONFIRMED without evidence: none$/,
  ],
  'a confirmation with an empty question': [
    set('/merged/safe', `evidence = jsonb_set(evidence, '{asked}', '""')`),
    /^I3: backup \d+ is CONFIRMED without evidence/,
  ],
  'an answer that says another size': [
    set('/merged/safe', `evidence = jsonb_set(evidence, '{answer}', '"{\\"sizeBytes\\":10000}"')`),
    /^I3: backup \d+: the answer of the store does not say/,
  ],
  'a confirmation by an overtaken attempt': [
    set('/merged/safe', 'answered_attempt = 0'),
    /^I5: backup \d+ is CONFIRMED at attempt 1, answered by attempt 0$/,
  ],
  'a run file that was merged twice': [
    `insert into merge_inputs values (${file('/run/1a')}, ${merge('/merged/2')})`,
    /^I7: run file \d+ is in 2 merged files$/,
  ],
  'a merge whose events do not add up': [
    `update files set event_count = 31 where lfn = '/merged/1'`,
    /^I7: merge \d+ of \/merged\/1: 2 inputs \(0 of them no run files\) hold 30 events, it holds 31$/,
  ],
  'a merge without inputs': [
    `delete from merge_inputs where merge_id = ${merge('/merged/2')}`,
    /^I7: merge \d+ of \/merged\/2: 0 inputs/,
  ],
  'a merge of merged files': [
    `update files set kind = 'MERGED_FILE' where lfn = '/run/1a'`,
    /^I7: merge \d+ of \/merged\/1: 2 inputs \(1 of them no run files\)/,
  ],
  'an input of a run that the merged file does not name': [
    `delete from file_runs where file_id = ${file('/merged/1')}`,
    /^I7: merge \d+ has an input of run \d+, which \/merged\/1 does not name$/,
  ],
  'an input of no merge': [
    `insert into merge_inputs values (${file('/run/3a')}, 999)`,
    /^I7: merge input \d+ belongs to no merge$/,
  ],
  'a wrong count of copies': [
    `update files set confirmed_copies = 2 where lfn = '/merged/1'`,
    /^counts: file \/merged\/1 counts 2 confirmed copies and has 1$/,
  ],
  ...Object.fromEntries(
    ['file_count', 'confirmed_count', 'size_bytes', 'event_count', 'bad_mark_count'].map(
      (column): [string, [string, RegExp]] => [
        `a wrong ${column}`,
        [
          `update datasets set ${column} = ${column} + 1 where name = 'sealed'`,
          /^counts: dataset sealed counts/,
        ],
      ],
    ),
  ),
  'a run that is AVAILABLE since never': [
    `update runs set available_at = null where number = 1`,
    /^runs: run DATA 1 is AVAILABLE, available since never$/,
  ],
  'a run that is done and still in production': [
    `update backup_records set status = 'CONFIRMED' where id = ${backup('/merged/2')}`,
    /^runs: run DATA 2 is IN_PRODUCTION although everything is done$/,
  ],
  'a sweep that ended without a close': [
    `update datasets set status = 'BACKED_UP' where name = 'swept'`,
    /^sweeps: sweep \d+ ended CLOSED, and dataset swept is BACKED_UP$/,
  ],
  'a sweep without a seal': [
    `update datasets set sealed = false where name = 'sealed'`,
    /^sweeps: sweep \d+ is under way, and dataset sealed is OPEN and not sealed$/,
  ],
  'a seal without a sweep': [
    `delete from sweeps where finished_at is null`,
    /^sweeps: dataset sealed is sealed, and 0 sweeps are under way$/,
  ],
  'a complete sweep that nobody moved on': [
    set('/merged/2', `status = 'CONFIRMED'`),
    /^sweeps: dataset sealed is sealed and complete, and nobody closed it$/,
  ],
  'a step without an event': [
    `delete from events where id = ${lastEvent('DATASET_STATUS', `dataset_id = ${dataset('closed')}`)}`,
    /^I4: dataset \d+ is CLOSED, and its last event says BACKED_UP$/,
  ],
  'a step with two events': [
    log(
      'kind, dataset_id, from_state, to_state',
      `'DATASET_STATUS', ${dataset('backed')}, 'OPEN', 'BACKED_UP'`,
    ),
    /^I4: dataset \d+: event \d+ goes from OPEN to BACKED_UP, and it was BACKED_UP$/,
  ],
  'a step out of the middle of a life': [
    `delete from events where dataset_id = ${dataset('closed')} and to_state = 'BACKED_UP'`,
    /^I4: dataset \d+: event \d+ goes from BACKED_UP to CLOSED, and it was OPEN$/,
  ],
  'a step that is none': [
    `update events set to_state = 'CONFIRMED' where backup_id = ${backup('/merged/copied')} and to_state = 'COPYING'`,
    /^I4: backup \d+: event \d+ from REQUESTED to CONFIRMED is not a step of its life$/,
  ],
  'a run whose log says another state': [
    `update runs set production_status = 'IN_PRODUCTION', available_at = null where number = 1`,
    /^I4: run \d+ is IN_PRODUCTION, and its last event says AVAILABLE$/,
  ],
  'a run that went back into production': [
    log(
      'kind, run_id, from_state, to_state',
      `'RUN_STATUS', ${run(1)}, 'AVAILABLE', 'IN_PRODUCTION'`,
    ),
    /^I4: run \d+: event \d+ from AVAILABLE to IN_PRODUCTION is not a step of its life$/,
  ],
  'a dataset that was created twice': [
    log('kind, dataset_id, to_state', `'DATASET_STATUS', ${dataset('open')}, 'OPEN'`),
    /^I4: dataset \d+ was created 2 times$/,
  ],
  'a backup that was asked for twice at first': [
    log(
      'kind, backup_id, to_state',
      `'BACKUP_STATUS', ${backup('/merged/requested')}, 'REQUESTED'`,
    ),
    /^I4: backup \d+ was created 2 times$/,
  ],
  'a life without a beginning': [
    `delete from events where kind = 'BACKUP_STATUS' and backup_id = ${backup('/merged/requested')}`,
    /^I4: backup \d+ is REQUESTED, and its last event says nothing$/,
  ],
  'a second beginning': [
    log('kind, run_id, to_state', `'RUN_STATUS', ${run(3)}, 'IN_PRODUCTION'`),
    /^I4: run \d+ was created 2 times$/,
  ],
  'events of something that is not there': [
    log('kind, dataset_id, to_state', `'DATASET_STATUS', 9999, 'OPEN'`),
    /^I4: dataset 9999 stands in the log and nowhere else$/,
  ],
  'events in another order than they were written': [
    `update events set xid = '3' where id = ${lastEvent('RUN_VERDICT', 'true')}`,
    /^I4: run \d+: event \d+ is read before event \d+, which was written earlier$/,
  ],
  'a backup whose events are in another order': [
    `update events set xid = '3' where backup_id = ${backup('/merged/copied')} and to_state = 'COPIED'`,
    /^I4: backup \d+: event \d+ is read before event/,
  ],
  'a dataset whose events are in another order': [
    `update events set xid = '3' where dataset_id = ${dataset('closed')} and to_state = 'CLOSED'`,
    /^I4: dataset \d+: event \d+ is read before event/,
  ],
  'a file that the log does not know': [
    `delete from events where kind = 'FILE_REGISTERED' and file_id = ${file('/merged/new')}`,
    /^I4: registered file \d+: 1 in the tables, 0 in the log$/,
  ],
  'a merge that the log does not know': [
    `delete from events where kind = 'MERGE_RECORDED' and file_id = ${file('/merged/1')}`,
    /^I4: merge into file, as merge \d+, \d+: 1 in the tables, 0 in the log$/,
  ],
  'a mark that the log tells otherwise': [
    `update bad_marks set reason = 'another' where cleared_at is null`,
    /^I4: bad mark on dataset, with reason \d+, another: 1 in the tables, 0 in the log$/,
  ],
  'a mark taken off twice in the log': [
    log('kind, dataset_id, reason', `'DATASET_CLEARED', ${dataset('mended')}, 'mended'`),
    /^I4: bad mark taken off dataset, with reason \d+, mended: 1 in the tables, 2 in the log$/,
  ],
  'a sweep that the log does not know': [
    `delete from events where kind = 'DATASET_SEALED' and dataset_id = ${dataset('swept')}`,
    /^I4: sweep of dataset \d+: 1 in the tables, 0 in the log$/,
  ],
  'a sweep called off in silence': [
    `delete from events where kind = 'DATASET_UNSEALED'`,
    /^I4: sweep called off of dataset \d+: 1 in the tables, 0 in the log$/,
  ],
  'a verdict that the log does not know': [
    `update runs set verdict = 'BAD' where number = 1`,
    /^I4: run DATA 1: the verdict is BAD, and its last event says GOOD$/,
  ],
  'a file list that changed after the close': [
    log(
      'kind, dataset_id, facts',
      `'DATASET_FILES_ADDED', ${dataset('closed')}, '{"fileCount": 1}'`,
    ),
    /^I2: dataset \d+: DATASET_FILES_ADDED \(event \d+\) after it was CLOSED$/,
  ],
  'a dataset that came back from CLOSED': [
    log(
      'kind, dataset_id, from_state, to_state',
      `'DATASET_STATUS', ${dataset('closed')}, 'CLOSED', 'OPEN'`,
    ),
    /^I2: dataset \d+: DATASET_STATUS \(event \d+\) after it was CLOSED$/,
  ],
  'a file that came into a list in silence': [
    `insert into dataset_files values (${dataset('closed')}, ${file('/merged/safe2')})`,
    /^I2: dataset closed lists 3 files, and its events tell of 2$/,
  ],
  'an answer of an overtaken attempt': [
    `update events set facts = '{"attempt": 2}' where backup_id = ${backup('/merged/safe')} and to_state = 'COPIED'`,
    /^I5: backup \d+: CONFIRMED by attempt 1 \(event \d+\) after attempt 2$/,
  ],
  'an attempt that two workers claimed': [
    log(
      'kind, backup_id, from_state, to_state, facts',
      `'BACKUP_STATUS', ${backup('/merged/copied')}, 'COPIED', 'COPYING', '{"attempt": 1}'`,
    ),
    /^I5: backup \d+: attempt 1 was claimed twice$/,
  ],
  'an attempt that was counted back': [
    set('/merged/copying', 'attempt = 0'),
    /^I5: backup \d+ is at attempt 0, and its events tell of attempt 1$/,
  ],
  ...suspicionPlants,
};
