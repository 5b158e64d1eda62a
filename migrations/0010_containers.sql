-- Containers: named lists of closed datasets that grow and shrink. Who was in from when to when is kept for good.

alter table events add column container_id bigint;
create index events_by_container on events (container_id, xid, id) where container_id is not null;
alter table events drop constraint events_kind_check;
alter table events add constraint events_kind_check check (kind in (
  'RUN_STATUS', 'RUN_VERDICT', 'FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'DATASET_STATUS',
  'DATASET_SEALED', 'DATASET_UNSEALED', 'DATASET_FILES_ADDED', 'DATASET_FILES_REMOVED',
  'DATASET_MARKED_BAD', 'DATASET_CLEARED', 'CONTAINER_CREATED', 'CONTAINER_CHANGED'));

-- As events_in_order does for the other nouns.
create function container_events_in_order() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid,
    (select xid from events where container_id = new.container_id order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order_of_container before insert on events
  for each row when (new.container_id is not null) execute function container_events_in_order();
alter table events enable always trigger events_in_order_of_container;

create table containers (
  id bigint generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$'),
  owner text not null,
  description text,
  -- All of what it lists now. A file in two of its datasets counts once, a run as well.
  dataset_count bigint not null default 0 check (dataset_count >= 0),
  file_count bigint not null default 0 check (file_count >= 0),
  size_bytes bigint not null default 0 check (size_bytes between 0 and 9007199254740991),
  event_count bigint not null default 0 check (event_count between 0 and 9007199254740991),
  -- 1/pb. numeric: what is added and taken away again leaves nothing behind.
  luminosity numeric not null default 0 check (luminosity >= 0),
  luminosity_run_count bigint not null default 0 check (luminosity_run_count >= 0),
  -- Left because they are bad; they come back when they are cleared.
  suspended_count bigint not null default 0 check (suspended_count >= 0),
  version integer not null default 1,
  changed_at timestamptz,
  created_at timestamptz not null default now(),
  created_by text not null default current_actor()
) with (fillfactor = 70);
create index containers_by_name on containers (name text_pattern_ops);
create index containers_by_owner on containers (owner, name);

-- What was put in and not taken out. Insert and delete here: the triggers write the history.
create table container_datasets (
  container_id bigint not null references containers,
  dataset_id bigint not null references datasets,
  -- Marked bad: it is in the list again when it is cleared.
  suspended boolean not null default false,
  primary key (container_id, dataset_id)
);
create index container_datasets_by_dataset on container_datasets (dataset_id);

-- A line of the history: what came or left at once, and what there was afterwards, as it was at that moment.
create table container_changes (
  -- The line of the log that tells it: its place is (xid, event_id).
  event_id bigint primary key,
  xid xid8 not null,
  container_id bigint not null references containers,
  kind text not null check (kind in ('ADDED', 'REMOVED', 'MARKED_BAD', 'CLEARED')),
  -- Whole milliseconds, and never before the line before: "as of" a time that was printed finds its line.
  occurred_at timestamptz not null check (occurred_at = date_trunc('milliseconds', occurred_at)),
  actor text not null,
  reason text,
  added_count bigint not null,
  removed_count bigint not null,
  -- Taken out while they were bad: they had left before, and do not come back.
  given_up_count bigint not null,
  -- By how much files, bytes, events and luminosity grew or shrank.
  file_count_change bigint not null,
  size_bytes_change bigint not null,
  event_count_change bigint not null,
  luminosity_change numeric,
  dataset_count bigint not null,
  file_count bigint not null,
  size_bytes bigint not null,
  event_count bigint not null,
  luminosity numeric
);
create index container_changes_by_container on container_changes (container_id, event_id);
create index container_changes_by_time on container_changes (container_id, occurred_at, event_id);

-- Who was in from which place of the log to which.
create table container_memberships (
  container_id bigint not null references containers,
  dataset_id bigint not null references datasets,
  added_xid xid8 not null,
  added_id bigint not null,
  removed_xid xid8,
  removed_id bigint,
  primary key (container_id, dataset_id, added_id),
  check ((removed_id is null) = (removed_xid is null)),
  check (removed_id > added_id and removed_xid >= added_xid)
);
create unique index container_memberships_standing on container_memberships (container_id, dataset_id)
  where removed_id is null;
create index container_memberships_added on container_memberships (container_id, added_xid, added_id);
create index container_memberships_removed on container_memberships (container_id, removed_xid, removed_id)
  where removed_id is not null;

-- The runs of what is listed: in how many of its datasets, and with which luminosity they are counted.
create table container_runs (
  container_id bigint not null references containers,
  run_id bigint not null references runs,
  dataset_count bigint not null check (dataset_count > 0),
  luminosity numeric,
  primary key (container_id, run_id)
);
create index container_runs_by_run on container_runs (run_id);

create function containers_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if (new.dataset_count, new.file_count, new.size_bytes, new.event_count, new.luminosity, new.luminosity_run_count,
        new.suspended_count, new.version) <> (0, 0, 0, 0, 0, 0, 0, 1) or new.changed_at is not null then
      perform refuse('ILLEGAL_TRANSITION', format('container %s starts empty', new.name));
    end if;
  elsif pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', format('container %s changes only by what is put in and taken out', old.name));
  end if;
  return new;
end
$$;
create trigger containers_guard before insert or update on containers for each row execute function containers_guard();
create trigger containers_kept before delete or truncate on containers for each statement execute function refuse_any_change();

create function containers_created() returns trigger language plpgsql as $$
begin
  insert into events (kind, container_id) select 'CONTAINER_CREATED', id from added order by id;
  return null;
end
$$;
create trigger containers_created after insert on containers
  referencing new table as added for each statement execute function containers_created();
alter table containers enable always trigger containers_guard, enable always trigger containers_kept,
  enable always trigger containers_created;

-- What follows from a change is written by its trigger, and by nobody else.
create function containers_only_from_triggers() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', format('%s of %s is done by the database', tg_op, tg_table_name),
      'put datasets into container_datasets, or take them out');
  end if;
  return null;
end
$$;
create trigger container_changes_insert before insert on container_changes
  for each statement execute function containers_only_from_triggers();
create trigger container_changes_kept before update or delete or truncate on container_changes
  for each statement execute function refuse_any_change();
create trigger container_memberships_written before insert or update on container_memberships
  for each statement execute function containers_only_from_triggers();
create trigger container_memberships_kept before delete or truncate on container_memberships
  for each statement execute function refuse_any_change();
create trigger container_runs_written before insert or update or delete on container_runs
  for each statement execute function containers_only_from_triggers();
create trigger container_runs_kept before truncate on container_runs
  for each statement execute function refuse_any_change();
alter table container_changes enable always trigger container_changes_insert, enable always trigger container_changes_kept;
alter table container_runs enable always trigger container_runs_written, enable always trigger container_runs_kept;

-- A period ends once, and otherwise never changes.
create function container_memberships_guard() returns trigger language plpgsql as $$
begin
  if old.removed_id is not null or new.removed_id is null
     or (new.container_id, new.dataset_id, new.added_xid, new.added_id)
        is distinct from (old.container_id, old.dataset_id, old.added_xid, old.added_id) then
    perform refuse('ILLEGAL_TRANSITION', 'the history of a container never changes');
  end if;
  return new;
end
$$;
create trigger container_memberships_guard before update on container_memberships
  for each row execute function container_memberships_guard();
alter table container_memberships enable always trigger container_memberships_written,
  enable always trigger container_memberships_kept, enable always trigger container_memberships_guard;

-- Files, bytes and events of datasets that no other dataset in the container holds as well.
create function container_files_of(c bigint, ids bigint[], out files bigint, out bytes bigint, out events bigint)
language plpgsql stable as $$
begin
  -- execute: planned anew for as many as there are.
  execute $sql$
    select count(*), coalesce(sum(f.size_bytes), 0), coalesce(sum(f.event_count), 0)
    from (select distinct file_id from dataset_files where dataset_id = any ($2)) mine
    join files f on f.id = mine.file_id
    -- A look at each of these files, and never at all files of the container: limit keeps it so.
    where (
      select true from dataset_files o
      join container_memberships m on m.container_id = $1 and m.dataset_id = o.dataset_id and m.removed_id is null
      where o.file_id = mine.file_id limit 1) is null $sql$ into files, bytes, events using c, ids;
end
$$;

-- Counts the runs of datasets that come (step 1) or leave (step -1); answers with the runs that are new in the
-- container or gone from it, those of a known luminosity.
create function container_runs_of(c bigint, ids bigint[], step integer, out known bigint, out luminosity numeric)
language plpgsql as $$
begin
  -- Shared lock: a luminosity that is told right now is either read here or finds the run counted.
  if step > 0 then
    execute $sql$
      select from runs r where r.id in (
        select fr.run_id from dataset_files df join file_runs fr on fr.file_id = df.file_id
        where df.dataset_id = any ($2))
      order by r.id for share $sql$ using c, ids;
  end if;
  execute $sql$
    with touched as (
      select fr.run_id, count(distinct df.dataset_id) as n
      from dataset_files df join file_runs fr on fr.file_id = df.file_id
      where df.dataset_id = any ($2) group by fr.run_id),
    gone as (
      delete from container_runs cr using touched t
      where $3 < 0 and cr.container_id = $1 and cr.run_id = t.run_id and cr.dataset_count = t.n
      returning cr.luminosity),
    counted as (
      update container_runs cr set dataset_count = cr.dataset_count + $3 * t.n
      from touched t
      where cr.container_id = $1 and cr.run_id = t.run_id and ($3 > 0 or cr.dataset_count > t.n)),
    fresh as (
      insert into container_runs (container_id, run_id, dataset_count, luminosity)
      select $1, t.run_id, t.n, r.luminosity::numeric
      from touched t join runs r on r.id = t.run_id
      where $3 > 0 and not exists (
        select from container_runs cr where cr.container_id = $1 and cr.run_id = t.run_id)
      returning luminosity)
    select count(x.luminosity), sum(x.luminosity)
    from (select luminosity from gone union all select luminosity from fresh) x $sql$
  into known, luminosity using c, ids, step;
end
$$;

-- The one way in which the content of a container changes: the line of the log, the line of the history, the
-- periods and the totals, under the lock of the container.
create function change_container(
  c bigint, what text, ids bigint[], step integer, suspended_change integer, why text) returns void
language plpgsql as $$
declare
  was containers;
  place record;
  file_delta record;
  run_delta record;
  moment timestamptz;
  n bigint := cardinality(ids);
  touched bigint;
begin
  select * into was from containers where id = c for no key update;
  moment := greatest(date_trunc('milliseconds', clock_timestamp()), was.changed_at);
  insert into events (kind, container_id, occurred_at, reason, facts)
  values ('CONTAINER_CHANGED', c, moment, why, jsonb_build_object('change', what,
    'addedCount', case when step > 0 then n else 0 end, 'removedCount', case when step < 0 then n else 0 end))
  returning xid, id into place;

  if step < 0 then
    update container_memberships set removed_xid = place.xid, removed_id = place.id
    where container_id = c and removed_id is null and dataset_id = any (ids);
    get diagnostics touched = row_count;
    if touched <> n then
      raise exception 'container %: % datasets leave, and % were in', was.name, n, touched;
    end if;
  end if;
  select * into file_delta from container_files_of(c, ids);
  select * into run_delta from container_runs_of(c, ids, step);
  if step > 0 then
    insert into container_memberships (container_id, dataset_id, added_xid, added_id)
    select c, unnest(ids), place.xid, place.id;
  end if;

  update containers set
    dataset_count = dataset_count + step * n,
    file_count = file_count + step * file_delta.files,
    size_bytes = size_bytes + step * file_delta.bytes,
    event_count = event_count + step * file_delta.events,
    luminosity = containers.luminosity + step * coalesce(run_delta.luminosity, 0),
    luminosity_run_count = luminosity_run_count + step * run_delta.known,
    suspended_count = suspended_count + suspended_change,
    version = version + 1,
    changed_at = moment
  where id = c returning * into was;
  insert into container_changes (event_id, xid, container_id, kind, occurred_at, actor, reason,
    added_count, removed_count, given_up_count,
    file_count_change, size_bytes_change, event_count_change, luminosity_change,
    dataset_count, file_count, size_bytes, event_count, luminosity)
  values (place.id, place.xid, c, what, moment, current_actor(), why,
    case when step > 0 then n else 0 end, case when step < 0 then n else 0 end,
    case when what = 'REMOVED' then -suspended_change else 0 end,
    step * file_delta.files, step * file_delta.bytes, step * file_delta.events, step * run_delta.luminosity,
    was.dataset_count, was.file_count, was.size_bytes, was.event_count,
    case when was.luminosity_run_count > 0 then was.luminosity end);
end
$$;

-- Who reads from a snapshot of his own would not see what others have put in meanwhile, and leave it there.
create function demand_read_committed() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    perform refuse('ILLEGAL_TRANSITION', 'containers and bad marks are changed in READ COMMITTED transactions only');
  end if;
end
$$;

create function container_datasets_added() returns trigger language plpgsql as $$
declare
  touched record;
begin
  if not exists (select from changed) then
    return null;
  end if;
  perform demand_read_committed();
  if exists (select from changed where suspended) then
    perform refuse('ILLEGAL_TRANSITION', 'a dataset comes into a container while it is good');
  end if;
  -- Foreign keys sleep in a session that plays replica.
  if exists (select from changed c where not exists (select from datasets d where d.id = c.dataset_id)
             or not exists (select from containers o where o.id = c.container_id)) then
    perform refuse('NOT_FOUND', 'a container lists datasets that are there');
  end if;
  -- Shared lock: a bad mark that is set right now is either seen here or finds the dataset in the list.
  perform from datasets d where d.id in (select dataset_id from changed) order by d.id for share;
  for touched in
    select d.name, d.status, d.bad_mark_count from datasets d
    where d.id in (select dataset_id from changed) and not d.is_available order by d.id limit 1
  loop
    if touched.status <> 'CLOSED' then
      perform refuse('DATASET_NOT_CLOSED', format('dataset %s is %s: a container lists closed datasets only',
        touched.name, touched.status));
    end if;
    perform refuse('DATASET_BAD', format('dataset %s is marked bad', touched.name), 'wait until it is cleared');
  end loop;
  for touched in
    select container_id, array_agg(dataset_id order by dataset_id) as ids
    from changed group by container_id order by container_id
  loop
    perform change_container(touched.container_id, 'ADDED', touched.ids, 1, 0, current_reason());
  end loop;
  return null;
end
$$;
create trigger container_datasets_added after insert on container_datasets
  referencing new table as changed for each statement execute function container_datasets_added();

create function container_datasets_removed() returns trigger language plpgsql as $$
declare
  touched record;
begin
  for touched in
    select c.container_id, coalesce(array_agg(c.dataset_id order by c.dataset_id) filter (where not c.suspended), '{}') as ids,
      (count(*) filter (where c.suspended))::integer as given_up
    from changed c group by c.container_id order by c.container_id
  loop
    if current_reason() is null then
      perform refuse('BAD_USER_INPUT', 'taking datasets out of a container needs a reason');
    end if;
    perform change_container(touched.container_id, 'REMOVED', touched.ids, -1, -touched.given_up, current_reason());
  end loop;
  return null;
end
$$;
create trigger container_datasets_removed after delete on container_datasets
  referencing old table as changed for each statement execute function container_datasets_removed();
create trigger container_datasets_written before update on container_datasets
  for each statement execute function containers_only_from_triggers();
create trigger container_datasets_kept before truncate on container_datasets
  for each statement execute function refuse_any_change();
alter table container_datasets enable always trigger container_datasets_added, enable always trigger container_datasets_removed,
  enable always trigger container_datasets_written, enable always trigger container_datasets_kept;

-- In any search path a temporary table stands before ours of the same name. The guards look past it.
do $$
declare
  name text;
begin
  foreach name in array array[
    'container_events_in_order()', 'containers_guard()', 'containers_created()', 'containers_only_from_triggers()',
    'container_memberships_guard()', 'container_files_of(bigint, bigint[])', 'container_runs_of(bigint, bigint[], integer)',
    'change_container(bigint, text, bigint[], integer, integer, text)', 'demand_read_committed()',
    'container_datasets_added()', 'container_datasets_removed()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
