-- A page of a dataset's files costs what is on it, however many files the dataset has: their names stand in its list,
-- in order. LFNs never change (files_guard), so the copy cannot go stale.

alter table dataset_files add column lfn text;
alter table dataset_files disable trigger dataset_files_kept;
update dataset_files df set lfn = f.lfn from files f where f.id = df.file_id;
alter table dataset_files enable always trigger dataset_files_kept;

create function dataset_files_named() returns trigger language plpgsql as $$
begin
  -- Of an unknown file there is none; dataset_files_changed refuses it.
  new.lfn := (select f.lfn from files f where f.id = new.file_id);
  return new;
end
$$;
do $$
begin
  execute format('alter function dataset_files_named() set search_path = %I, pg_temp', current_schema());
end
$$;
create trigger dataset_files_named before insert on dataset_files for each row execute function dataset_files_named();
alter table dataset_files enable always trigger dataset_files_named;
create unique index dataset_files_by_lfn on dataset_files (dataset_id, lfn) include (file_id);
