import { containerPlants } from './container-plants.ts';
import { backup, dataset, file, incident, merge, replica, run } from './world.ts';
import { importPlants } from './imports.world.ts';
import { poolPlants } from './pools.world.ts';
import { publicationPlants } from './publications.world.ts';
import { suspicionPlants } from './suspicions.world.ts';

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
  'a confirmation that does not say what it covers': [
    set('/merged/safe', 'confirm_level = null'),
    /^I3: backup \d+ is CONFIRMED, and does not say what that covers$/,
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
  'another name in the list of a dataset': [
    `update dataset_files set lfn = '/other' where dataset_id = ${dataset('closed')} and file_id = ${file('/merged/1')}`,
    /^counts: dataset \d+ calls file \/merged\/\w+ by the name \/other$/,
  ],
  'a wrong count of the events of a run': [
    `update dataset_runs set event_count = event_count + 1 where dataset_id = ${dataset('closed')}`,
    /^counts: dataset \d+ counts files, events, bytes of run 1 as \(1,1,1030\) and has \(1,0,1030\)$/,
  ],
  'a run that a dataset does not hold': [
    `insert into dataset_runs select ${dataset('closed')}, source, number, id, 1, 1, 1 from runs where number = 3`,
    /^counts: dataset \d+ counts files, events, bytes of run 3 as \(1,1,1\) and has nothing$/,
  ],
  'a luminosity that was told and not added': [
    `update runs set luminosity = 2.5 where number = 1`,
    /^counts: dataset closed counts runs, luminosity, .* as \(1,0,0,1,1\) and has \(1,2.5,1,1,1\)$/,
  ],
  'a merged file that is said to hold more of a run than its inputs': [
    `update file_runs set event_count = 31 where file_id = ${file('/merged/1')}`,
    /^I7: merged file \d+ is said to hold 31 events of run \d+, its inputs hold 30$/,
  ],
  'a file that is its own grandparent': [
    `insert into file_parents values (${file('/merged/2')}, ${file('/merged/1')}), (${file('/merged/1')}, ${file('/merged/2')})`,
    /^parentage: file \d+ is its own ancestor$/,
  ],
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
  'a total that was changed by hand': [
    `update file_totals set bytes = bytes + 1 where store_id is null and kind = 'RUN_FILE'`,
    /^totals: REGISTERED RUN_FILE of stream AllEvents, release , site \d+: the totals say \(5,46,501\), there are \(5,46,500\)$/,
  ],
  'a change of totals that was lost': [
    `delete from file_total_changes where store_id is null and safe_files <> 0`,
    /^totals: [A-Z_]+ MERGED_FILE of stream AllEvents/,
  ],
  'a close that the totals did not hear of': [
    `delete from publication_changes where dataset_id = ${dataset('mended')}`,
    /^totals: PUBLISHED MERGED_FILE .*: the totals say/,
  ],
  'a copy that is counted twice': [
    `insert into file_total_changes (store_id, site_id, kind, files)
     select store_id, site_id, kind, 1 from file_totals where store_id is not null limit 1`,
    /^totals: store \d+ holds .* confirmed MERGED_FILE, and the totals say/,
  ],
  'a lost replica that its incident does not know': [
    `update replicas set incident_id = ${incident('d2')} where id = ${replica('/merged/disk')}`,
    /^incidents: replica \d+ is LOST of incident \d+, whose items say nothing$/,
  ],
  'a replica that came back in silence': [
    `update replicas set status = 'AVAILABLE', incident_id = null where id = ${replica('/merged/disk')}`,
    /^incidents: replica \d+ is AVAILABLE, and item \d+ of incident \d+ says HIT$/,
  ],
  'a replica that nobody reported': [
    `update replicas set status = 'LOST' where id = ${replica('/merged/there')}`,
    /^incidents: replica \d+ is LOST, and nobody reported or read it$/,
  ],
  'an item that came back unread': [
    `update incident_items set status = 'RESTORED' where file_id = ${file('/merged/disk')}`,
    /^incidents: item \d+ of incident \d+ is RESTORED, and nothing holds file \d+/,
  ],
  'a lost file with a confirmed backup': [
    `update backup_records set file_id = ${file('/merged/disk')} where id = ${backup('/merged/safe')}`,
    /^incidents: item \d+ of incident \d+ is lost, and file \d+ has a confirmed backup$/,
  ],
  'a wrong count of an incident': [
    `update incidents set open_count = 7 where id = ${incident('d1')}`,
    /^incidents: incident \d+ counts \(3,0,0,3,7,2,1,3\) and has/,
  ],
  'a wrong count of lost files': [
    `update incident_datasets set lost_count = 2 where dataset_id = ${dataset('scratch')}`,
    /^incidents: dataset \d+ of incident \d+ counts 2 lost, 0 unbacked and has 1, 0$/,
  ],
  'a dataset that lost a file and carries no mark': [
    `update bad_marks set cleared_at = now() where dataset_id = ${dataset('scratch')}`,
    /^incidents: dataset scratch \(CLOSED\) lost 1 files in incident \d+ and carries no mark of it$/,
  ],
  'a mark that outlives its loss': [
    `update bad_marks set cleared_at = null where dataset_id = ${dataset('regained')}`,
    /^incidents: dataset \d+ carries a mark of incident \d+ and lost nothing$/,
  ],
  'a good reading of something else': [
    `update replica_checks set read_size_bytes = 1 where status = 'GOOD'`,
    /^incidents: check \d+ is GOOD, and read something else than \/merged\/back$/,
  ],
  'a waived dataset that is shown and lost': [
    `update datasets set is_available = true where name = 'scratch'`,
    /^visibility: dataset scratch is available, and nothing holds \/merged\/disk$/,
  ],
  'an incident whose log says another state': [
    `update incidents set status = 'CLOSED' where id = ${incident('d1')}`,
    /^I4: incident \d+ is CLOSED, and its last event says OPEN$/,
  ],
  'an incident that the log does not know': [
    `delete from events where incident_id = ${incident('d1')} and kind = 'INCIDENT_STATUS'`,
    /^I4: incident \d+ is OPEN, and its last event says nothing$/,
  ],
  'an incident that took no step of its life': [
    `update events set to_state = 'OPEN' where incident_id = ${incident('d2')} and to_state = 'UNDONE'`,
    /^I4: incident \d+: event \d+ from OPEN to OPEN is not a step of its life$/,
  ],
  'an incident that was reported twice': [
    log('kind, incident_id, to_state', `'INCIDENT_STATUS', ${incident('d1')}, 'OPEN'`),
    /^I4: incident \d+ was created 2 times$/,
  ],
  'an incident whose events are in another order': [
    `update events set xid = '3' where incident_id = ${incident('d2')} and to_state = 'UNDONE'`,
    /^I4: incident \d+: event \d+ is read before event/,
  ],
  'an incident that came back from the dead': [
    log(
      'kind, incident_id, from_state, to_state',
      `'INCIDENT_STATUS', ${incident('d2')}, 'OPEN', 'CLOSED'`,
    ),
    /^I4: incident \d+: event \d+ goes from OPEN to CLOSED, and it was UNDONE$/,
  ],
  ...suspicionPlants,
  ...poolPlants,
  ...importPlants,
  ...publicationPlants,
};
