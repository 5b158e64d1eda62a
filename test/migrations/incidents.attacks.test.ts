import { refuseAll } from './attack.ts';
import * as w from './world.ts';

const { dataset, file, incident, replica } = w;
const d1 = incident('d1');

refuseAll('incidents: what was reported stays, and nothing is hit without a report', {
  'reports an incident that hit nothing': `insert into incidents (what, reason, scope, until) values ('REPLICAS', 'x', '{}', now())`,
  'reports without a reason': w.crashed('d3').replace("'head crash'", "' '"),
  'reports an incident that is closed': `insert into incidents (what, reason, scope, until, status, closed_at, closed_by, closing_reason)
    values ('REPLICAS', 'x', '{}', now(), 'CLOSED', now(), 'eve', 'x')`,
  'reports without marking who lost a file': w
    .crashed('d3')
    .replace(/insert into bad_marks[\s\S]*/, ''),
  'reports without losing the replica':
    w
      .crashed('d3')
      .replace(/update replicas[^;]*;/, "update replicas set status = 'LOST' where false;") +
    `update replicas set status = 'STAGING' where id = ${replica('/merged/there')}`,
  'reports a copy of another file': w
    .crashed('d3')
    .replace('file_id, id,', `${file('/merged/new')}, id,`),
  'reports more than is lost': `${w.crashed('d3')}
    insert into incident_items (incident_id, ordinal, file_id, replica_id, finding, is_lost, is_unbacked)
    select ${incident('d3')}, 9, file_id, id, 'SAFE', false, false from replicas
    where volume_id = ${w.volume('d1')} and status = 'AVAILABLE' limit 1`,
  'says how many copies it lost': `update incidents set replica_count = 0 where id = ${d1}`,
  'adds an item to an incident': `insert into incident_items (incident_id, ordinal, file_id, replica_id, finding, is_lost, is_unbacked)
    values (${d1}, 9, ${file('/merged/there')}, ${replica('/merged/there')}, 'LOST', true, false)`,
  'adds a dataset to an incident': `insert into incident_datasets values (${d1}, ${dataset('untouched')}, 1, 1, 1, 0, 1, 0)`,
  'deletes an item': `delete from incident_items`,
  'deletes an incident': `delete from incidents where id = ${d1}`,
  'changes the reason': `update incidents set reason = 'y' where id = ${d1}`,
  'changes the counts': `update incidents set open_count = 0 where id = ${d1}`,
  'counts a dataset as whole': `update incident_datasets set lost_count = 0 where incident_id = ${d1}`,
  'closes without a reason': `update incidents set status = 'CLOSED' where id = ${d1}`,
  'takes an undone incident up again': `update incidents set status = 'RECOVERING' where id = ${incident('d2')}`,
  'changes who closed it': `update incidents set closed_by = 'eve' where id = ${incident('d2')}`,
});

refuseAll('incidents: nothing is good again without being read', {
  'brings a lost replica back': `update replicas set status = 'AVAILABLE', incident_id = null where id = ${replica('/merged/disk')}`,
  'believes what is only told': w.back('/merged/staged'),
  'believes an earlier reading': `${w.staged('/merged/disk')} ${w.back('/merged/disk')}`,
  'loses a replica without a report': `update replicas set status = 'LOST', incident_id = ${d1} where id = ${replica('/merged/there')}`,
  'loses a replica of no incident': `update replicas set status = 'LOST' where id = ${replica('/merged/there')}`,
  'moves a replica': `update replicas set path = '/x' where id = ${replica('/merged/there')}`,
  'inserts a replica that is lost': `insert into replicas (file_id, volume_id, path, status) values (${file('/merged/new')}, ${w.volume('d1')}, '/x', 'LOST')`,
  'inserts a copy of a lost file as good': w.placed('/merged/disk', 'd3'),
  'says that a file is lost no more': `update incident_items set is_lost = false where file_id = ${file('/merged/disk')}`,
  'says that an item is restored': w.restored('/merged/disk'),
  'says that an item is undone': `update incident_items set status = 'UNDONE', is_lost = false where file_id = ${file('/merged/disk')}`,
  'changes what was found': `update incident_items set finding = 'SAFE', is_lost = false where file_id = ${file('/merged/disk')}`,
  'takes the mark of an incident off': w.cleared('scratch'),
  'gives the mark of an incident away': `update bad_marks set incident_id = null where dataset_id = ${dataset('scratch')}`,
  'marks in the name of an incident': `insert into bad_marks (dataset_id, incident_id, reason) values (${dataset('untouched')}, ${d1}, 'x')`,
  'adds a lost file to a dataset': w.added('open', '/merged/disk'),
  'inserts a check that is good': `insert into replica_checks (replica_id, file_id, status, finished_at, evidence, answered_attempt)
    select ${replica('/merged/disk')}, ${file('/merged/disk')}, 'GOOD', now(), ${w.evidenceOf('/merged/disk')}, 0`,
  'finds good without reading': w.checkedAs('/merged/staged'),
  'finds another size good':
    w.checkClaimed('/merged/staged') + w.checkedAs('/merged/staged', { read_size_bytes: '1' }),
  'finds good without evidence':
    w.checkClaimed('/merged/staged') + w.checkedAs('/merged/staged', { evidence: 'null' }),
  'answers for an earlier attempt':
    w.checkClaimed('/merged/staged') +
    w.checkedAs('/merged/staged', { answered_attempt: 'attempt - 1' }),
  'claims what another holds': w.checkClaimed('/merged/staged') + w.checkClaimed('/merged/staged'),
  'changes what was read': `update replica_checks set read_size_bytes = 1 where status = 'GOOD'`,
  'checks a copy of another file': `insert into replica_checks (replica_id, file_id) values (${replica('/merged/there')}, ${file('/merged/new')})`,
  'deletes a check': `delete from replica_checks`,
  'adds a step to the life of a replica': `insert into lifecycle values ('replica', 'AVAILABLE', 'STAGING')`,
});
