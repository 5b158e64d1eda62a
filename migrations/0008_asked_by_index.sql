-- Every filter has an index that also gives the order, so that a page costs a page, however rare or clustered a value is.

-- Names are ordered byte by byte, whatever the locale of the database: one index serves equality, prefixes and the
-- order, and no upgrade of the system's locales can break it or a cursor.
drop index files_by_lfn_prefix, datasets_by_name, datasets_available;
alter table files
  drop constraint files_lfn_check,
  alter column lfn type text collate "C",
  -- Under "C" [[:cntrl:]] would know those of ASCII only.
  add constraint files_lfn_check check (
    octet_length(lfn) <= 1024
    and lfn ~ '^(/[^/]+)+$'
    and lfn !~ '^/\.'
    and lfn !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'
    and lfn !~ '(^|/)\.\.?(/|$)');
alter table datasets alter column name type text collate "C";

-- Who may see merged files only must not walk over ten times as many run files: the kind stands before the name.
create index files_by_kind on files (kind, lfn);
create index files_by_stream on files (stream, kind, lfn);
create index files_by_release on files (release, kind, lfn);
create index files_by_site on files (site_id, kind, lfn);
create index files_by_safety on files ((confirmed_copies > 0), kind, lfn);
create index files_by_creation on files (created_at, id);
create index files_by_events on files (event_count) where event_count is not null;
create index files_by_size on files (size_bytes);

-- The name of a file never changes, so it may stand here too: the list of a dataset is read in order, from anywhere.
alter table dataset_files add column lfn text collate "C";
alter table dataset_files disable trigger dataset_files_kept;
update dataset_files df set lfn = f.lfn from files f where f.id = df.file_id;
alter table dataset_files enable always trigger dataset_files_kept;
alter table dataset_files add constraint dataset_files_lfn_check check (lfn is not null);
create unique index dataset_files_by_lfn on dataset_files (dataset_id, lfn) include (file_id);

create function dataset_files_name() returns trigger language plpgsql as $$
begin
  select f.lfn into new.lfn from files f where f.id = new.file_id;
  if new.lfn is null then
    perform refuse('NOT_FOUND', 'a dataset holds registered files only');
  end if;
  return new;
end
$$;
create trigger dataset_files_name before insert on dataset_files
  for each row when (new.lfn is null) execute function dataset_files_name();
create function dataset_files_named() returns trigger language plpgsql as $$
begin
  if exists (select from changed c join files f on f.id = c.file_id where f.lfn <> c.lfn) then
    perform refuse('ILLEGAL_TRANSITION', 'a file has the same name in every dataset');
  end if;
  return null;
end
$$;
create trigger dataset_files_named after insert on dataset_files
  referencing new table as changed for each statement execute function dataset_files_named();
alter table dataset_files enable always trigger dataset_files_name, enable always trigger dataset_files_named;

create index datasets_available on datasets (name) where is_available;
create index datasets_bad on datasets (name) where bad_mark_count > 0;
create index datasets_waived on datasets (name) where backup_waived;
create index datasets_by_kind on datasets (kind, name);
create index datasets_by_status on datasets (status, name);
create index datasets_by_owner on datasets (owner, name);
create index datasets_by_stream on datasets (stream, name) where stream is not null;
create index datasets_by_release on datasets (release, name) where release is not null;
create index datasets_by_creation on datasets (created_at, id);
create index datasets_by_close on datasets (coalesce(closed_at, timestamptz '0001-01-01 00:00:00+00'), id);
create index datasets_by_close_time on datasets (closed_at) where closed_at is not null;
create index datasets_by_size on datasets (size_bytes, id);
create index datasets_by_events on datasets (event_count, id);
create index datasets_by_files on datasets (file_count, id);

create index runs_in_production on runs (source, number) where production_status = 'IN_PRODUCTION';
create index runs_by_verdict on runs (verdict, source, number) where verdict is not null;
create index runs_by_conditions on runs (conditions, source, number) where conditions is not null;
create index runs_by_events on runs (event_count) where event_count is not null;
create index runs_by_start on runs (started_at) where started_at is not null;
create index runs_by_end on runs (ended_at) where ended_at is not null;

-- Whoever asks for no state, or for several, reads a page of each (src/database/page.ts).
create index backup_records_by_request on backup_records (status, requested_at, id);
create index backup_records_by_change on backup_records (status, updated_at, id);
create index backup_records_by_store on backup_records (store_id, status, requested_at, id);
create index backup_records_by_error on backup_records (last_error_code, requested_at, id)
  where last_error_code is not null;

create index events_by_kind on events (kind, xid, id);
create index events_by_actor on events (actor, xid, id);
create index events_by_time on events (occurred_at);
-- What others than production can see at all: one line in a hundred.
create index events_for_all on events (xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS');
create index events_for_all_by_actor on events (actor, xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS');

do $$
declare
  name text;
begin
  foreach name in array array['dataset_files_name()', 'dataset_files_named()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
