-- What datasets hold of runs is moved, not counted: who reads from a snapshot of his own would move it without what
-- others have told meanwhile. Such transactions may read, and change nothing that counts.
create function demand_fresh_reads() returns trigger language plpgsql as $$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    perform refuse('ILLEGAL_TRANSITION',
      'files of datasets, runs of files and luminosities are changed in READ COMMITTED transactions only');
  end if;
  return null;
end
$$;
create trigger dataset_files_fresh before insert or delete on dataset_files
  for each statement execute function demand_fresh_reads();
create trigger file_runs_fresh before insert on file_runs
  for each statement execute function demand_fresh_reads();
create trigger runs_fresh before update of luminosity on runs
  for each statement execute function demand_fresh_reads();
alter table dataset_files enable always trigger dataset_files_fresh;
alter table file_runs enable always trigger file_runs_fresh;
alter table runs enable always trigger runs_fresh;

do $$
begin
  execute format('alter function demand_fresh_reads() set search_path = %I, pg_temp', current_schema());
end
$$;
