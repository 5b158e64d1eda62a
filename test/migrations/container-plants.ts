import { container, dataset, run } from './world.ts';

const last = `(select max(event_id) from container_changes where container_id = ${container('list')})`;
const standing = (name: string) => `dataset_id = ${dataset(name)} and removed_id is null`;

/** What is planted among the containers, and what the checker must say of it. */
export const containerPlants: Readonly<Record<string, readonly [string, RegExp]>> = {
  ...Object.fromEntries(
    [
      'dataset_count',
      'file_count',
      'size_bytes',
      'event_count',
      'luminosity',
      'luminosity_run_count',
      'suspended_count',
    ].map((column): [string, [string, RegExp]] => [
      `a container with a wrong ${column}`,
      [
        `update containers set ${column} = ${column} + 1 where name = 'list'`,
        /^containers: container list counts/,
      ],
    ]),
  ),
  'a run that got another luminosity': [
    `update runs set luminosity = 7 where number = 1`,
    /^containers: container list counts/,
  ],
  'a dataset listed without a period': [
    `insert into container_datasets values (${container('void')}, ${dataset('closed')})`,
    /^containers: container \d+, dataset \d+: 0 periods go on, and it is listed$/,
  ],
  'a period without a dataset in the list': [
    `delete from container_datasets where dataset_id = ${dataset('closed')}`,
    /^containers: container \d+, dataset \d+: 1 periods go on, and it is not listed$/,
  ],
  'a period that goes on while its dataset is suspended': [
    `update container_memberships set removed_id = null, removed_xid = null where dataset_id = ${dataset('bad')}`,
    /^containers: container \d+, dataset \d+: 1 periods go on, and it is suspended$/,
  ],
  'an open dataset in a container': [
    `update datasets set status = 'OPEN' where name = 'closed'`,
    /^containers: container \d+ lists dataset closed, which is OPEN with 0 bad marks$/,
  ],
  'a bad dataset in a container': [
    `insert into bad_marks (dataset_id, reason) values (${dataset('closed')}, 'x')`,
    /^containers: container \d+ lists dataset closed, which is CLOSED with 1 bad marks$/,
  ],
  'a suspended dataset that is good': [
    `delete from bad_marks where dataset_id = ${dataset('bad')}`,
    /^containers: container \d+ lists dataset bad, which is CLOSED with 0 bad marks$/,
  ],
  'periods that overlap': [
    `update container_memberships set removed_id = removed_id + 1000
      where dataset_id = ${dataset('mended')} and removed_id is not null`,
    /^containers: container \d+, dataset \d+: a period begins at \d+, before the one before ended$/,
  ],
  'a dataset that came in with no line of history': [
    `insert into container_memberships values (${container('list')}, ${dataset('swept')}, '900', 900)`,
    /^containers: container \d+, change 900: tells of .* and 1 came and 0 left$/,
  ],
  'a line of history that nobody came by': [
    `delete from container_memberships where ${standing('mended')}`,
    /^containers: container \d+, change \d+: tells of 1 and 0, and 0 came and 0 left$/,
  ],
  'a line of history with a wrong sum': [
    `update container_changes set event_count = event_count + 1 where event_id = (select min(event_id) from container_changes)`,
    /^containers: container \d+, change \d+: it had/,
  ],
  'a history that ends otherwise than the container': [
    `delete from container_changes where event_id = ${last}`,
    /^containers: container list has .*, and its history ends with/,
  ],
  'a line of history that the log does not know': [
    `delete from events where id = ${last}`,
    /^I4: container change \d+: the history says/,
  ],
  'a line of history with another reason than the log': [
    `update container_changes set reason = 'another' where event_id = ${last}`,
    /^I4: container change \d+: the history says .*another/,
  ],
  'a container that was never created': [
    `delete from events where kind = 'CONTAINER_CREATED' and container_id = ${container('void')}`,
    /^I4: container void was created 0 times$/,
  ],
  'changes of a container in another order': [
    `update events set xid = '3' where id = ${last}`,
    /^I4: container \d+: event \d+ is read, or dated, before event \d+, which was written earlier$/,
  ],
  'changes of a container with times that go back': [
    `update events set occurred_at = '2000-01-01' where id = ${last}`,
    /^I4: container \d+: event \d+ is read, or dated, before event/,
  ],
  'a run that is counted too often': [
    `update container_runs set dataset_count = dataset_count + 1`,
    /^counts: container \d+, run \d+: counted in 2 datasets and is in 1/,
  ],
  'a run that is not counted': [
    `delete from container_runs where run_id = ${run(1)}`,
    /^counts: container \d+, run \d+: counted in 0 datasets and is in 1/,
  ],
};
