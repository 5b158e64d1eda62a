-- What an export must know of a list beside its files: which transaction added each, and when the copies behind it changed.

-- The place of an event in the log can be later than its transaction (events_in_order), so files are tied to their
-- event by the transaction itself.
alter table dataset_files add column added_in xid8 not null default pg_current_xact_id();
alter table events add column added_in xid8;

create function events_name_their_transaction() returns trigger language plpgsql as $$
begin
  new.added_in := pg_current_xact_id();
  return new;
end
$$;
create trigger events_name_their_transaction before insert on events
  for each row when (new.kind = 'DATASET_FILES_ADDED') execute function events_name_their_transaction();
alter table events enable always trigger events_name_their_transaction;

-- Counts up when a list of files would read otherwise although its dataset is the same: a copy more or less behind a
-- file, runs that became known. Without it an unchanged dataset could be answered "not modified" with a lost copy in it.
create table list_changes (
  dataset_id bigint primary key references datasets,
  version bigint not null default 1
);

create function list_changed(file_ids bigint[]) returns void language sql as $$
  insert into list_changes as l (dataset_id)
  select distinct dataset_id from dataset_files where file_id = any (file_ids) order by dataset_id
  on conflict (dataset_id) do update set version = l.version + 1
$$;

-- A first copy is counted by the dataset itself (confirmed_count).
create function copies_changed() returns trigger language plpgsql as $$
declare
  changed bigint[];
begin
  execute $sql$
    select array_agg(n.id) from after_rows n join before_rows o using (id)
    where o.confirmed_copies > 0 and n.confirmed_copies <> o.confirmed_copies $sql$ into changed;
  if changed is not null then
    perform list_changed(changed);
  end if;
  return null;
end
$$;
create trigger copies_changed after update on files
  referencing old table as before_rows new table as after_rows for each statement execute function copies_changed();
alter table files enable always trigger copies_changed;

create function file_runs_added() returns trigger language plpgsql as $$
begin
  perform list_changed(array(select distinct file_id from added));
  return null;
end
$$;
create trigger file_runs_added after insert on file_runs
  referencing new table as added for each statement execute function file_runs_added();
alter table file_runs enable always trigger file_runs_added;

-- Lists have one name a line.
alter table replicas add constraint replicas_path_is_one_line check (path !~ '[\n\r]');
alter table backup_records add constraint backup_records_key_is_one_line check (store_key !~ '[\n\r]');

do $$
declare
  name text;
begin
  foreach name in array array['events_name_their_transaction()', 'list_changed(bigint[])', 'copies_changed()',
    'file_runs_added()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
