import { refuseAll } from './attack.ts';
import * as w from './world.ts';

const { container, dataset } = w;
const reason = `set local sweepbook.reason = 'because';`;
const lastEvent = `(select max(event_id) from container_changes)`;

refuseAll('a container lists closed and good datasets, each once', {
  'lists an OPEN dataset': w.listed('list', 'open'),
  'lists a dataset that is BACKED_UP': w.listed('void', 'backed'),
  'lists an open dataset among closed ones': w.listed('void', 'closed', 'open'),
  'lists a bad dataset': w.listed('void', 'bad'),
  'lists a dataset twice': w.listed('list', 'closed'),
  'lists a dataset that is suspended': w.listed('list', 'bad'),
  'lists a dataset that is not there': `insert into container_datasets values (${container('void')}, 999999)`,
  'fills a container that is not there': `insert into container_datasets values (999999, ${dataset('closed')})`,
  'lists a dataset as suspended': `insert into container_datasets values (${container('void')}, ${dataset('closed')}, true)`,
  'takes a bad dataset back by hand': `update container_datasets set suspended = false`,
  'suspends a dataset by hand': `update container_datasets set suspended = true where dataset_id = ${dataset('closed')}`,
  'moves a dataset to another container': `update container_datasets set container_id = ${container('void')} where dataset_id = ${dataset('closed')}`,
  'lists by an insert that updates': `insert into container_datasets values (${container('list')}, ${dataset('closed')})
    on conflict (container_id, dataset_id) do update set dataset_id = ${dataset('swept')}`,
  'takes a dataset out without a reason': `delete from container_datasets where dataset_id = ${dataset('closed')}`,
  'takes everything out without a reason': `delete from container_datasets`,
  'empties the lists': `${reason} truncate container_datasets`,
  'empties datasets and lists': `${reason} truncate datasets cascade`,
  'lists from a snapshot of his own': `set transaction isolation level repeatable read; ${w.listed('void', 'closed')}`,
  'marks bad from a snapshot of his own': `set transaction isolation level serializable; ${w.marked('closed')}`,
  'puts datasets of his own before the datasets': `create temp table datasets (like public.datasets including defaults);
    insert into public.container_datasets values ((select id from public.containers where name = 'void'),
      (select id from public.datasets where name = 'open'))`,
  'puts marks of his own before the marks': `create temp table container_datasets (like public.container_datasets);
    insert into public.bad_marks (dataset_id, reason) values (${dataset('closed')}, ' ')`,
});

refuseAll('the history of a container is kept', {
  'changes a line': `update container_changes set reason = 'another'`,
  'deletes a line': `delete from container_changes where event_id = ${lastEvent}`,
  'empties the history': `truncate container_changes`,
  'writes a line': `insert into container_changes select ${lastEvent} + 1000, xid, container_id, kind, occurred_at, actor,
    reason, added_count, removed_count, given_up_count, file_count_change, size_bytes_change, event_count_change,
    luminosity_change, dataset_count, file_count, size_bytes, event_count, luminosity
    from container_changes where event_id = ${lastEvent}`,
  'writes a line through our own function': `select change_container(${container('list')}, 'ADDED', array[${dataset('swept')}], 1, 0, 'x')`,
  'ends a period by hand': `update container_memberships set removed_id = added_id + 1, removed_xid = added_xid where removed_id is null`,
  'takes up a period that has ended': `update container_memberships set removed_id = null, removed_xid = null`,
  'writes a period': `insert into container_memberships (container_id, dataset_id, added_xid, added_id)
    values (${container('void')}, ${dataset('open')}, '5', 5)`,
  'deletes a period': `delete from container_memberships`,
  'empties the periods': `truncate container_memberships`,
  'sets the counts by hand': `update containers set dataset_count = 0 where name = 'list'`,
  'sets the luminosity by hand': `update containers set luminosity = 5 where name = 'list'`,
  'renames a container': `update containers set name = 'other' where name = 'list'`,
  'gives a container to somebody': `update containers set owner = 'eve' where name = 'list'`,
  'makes a container with counts': `insert into containers (name, owner, dataset_count) values ('x', 'eve', 5)`,
  'makes a container with a past': `insert into containers (name, owner, changed_at) values ('x', 'eve', now())`,
  'makes a container of no name': `insert into containers (name, owner) values ('', 'eve')`,
  'makes a container of a taken name': w.newContainer('list'),
  'deletes a container': `delete from containers where name = 'void'`,
  'empties the containers': `truncate containers cascade`,
  'counts a run by hand': `insert into container_runs values (${container('void')}, ${w.run(1)}, 1, 5)`,
  'forgets a run': `delete from container_runs`,
  'changes what a run is counted with': `update container_runs set luminosity = 99`,
  'empties the runs of containers': `truncate container_runs`,
  'writes into the log that a container has changed': `insert into events (kind, container_id) values ('CONTAINER_CHANGED', ${container('list')})`,
});
