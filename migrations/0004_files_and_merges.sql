-- Files, their copies on disk, which run files went into which merged file, and when a run has left production.

create table files (
  id bigint generated always as identity primary key,
  lfn text not null unique check (
    octet_length(lfn) <= 1024
    and lfn ~ '^(/[^/]+)+$'
    and lfn !~ '^/\.'
    and lfn !~ '[[:cntrl:]]'
    and lfn !~ '(^|/)\.\.?(/|$)'),
  kind text not null check (kind in ('RUN_FILE', 'MERGED_FILE')),
  site_id integer not null references sites,
  -- The one run of a run file; the runs of a merged file stand in file_runs.
  run_id bigint references runs,
  stream text,
  release text,
  -- An empty file holds nothing, and no tape system ever archives one.
  size_bytes bigint not null check (size_bytes between 1 and 9007199254740991),
  adler32 text not null check (adler32 ~ '^[0-9a-f]{8}$'),
  sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
  -- null = not known
  event_count bigint check (event_count between 0 and 9007199254740991),
  -- Kept by the triggers of backup_records.
  confirmed_copies integer not null default 0 check (confirmed_copies >= 0),
  created_at timestamptz not null default now(),
  created_by text not null default current_actor(),
  check (kind = 'MERGED_FILE' or (run_id is not null and stream is not null)),
  check (kind = 'RUN_FILE' or run_id is null)
) with (fillfactor = 85);
create index files_by_run on files (run_id) where run_id is not null;
create index files_by_lfn_prefix on files (lfn text_pattern_ops);

create table file_runs (
  file_id bigint not null references files,
  run_id bigint not null references runs,
  event_count bigint check (event_count between 0 and 9007199254740991),
  primary key (file_id, run_id)
);
create index file_runs_by_run on file_runs (run_id, file_id);

create table replicas (
  id bigint generated always as identity primary key,
  file_id bigint not null references files,
  volume_id integer not null references volumes,
  path text not null check (octet_length(path) between 1 and 4096),
  status text not null default 'AVAILABLE' check (status in ('AVAILABLE', 'STAGING', 'LOST')),
  created_at timestamptz not null default now(),
  unique (file_id, volume_id, path)
);
create index replicas_by_place on replicas (volume_id, path text_pattern_ops);

create table merges (
  id bigint generated always as identity primary key,
  output_file_id bigint not null unique references files,
  created_at timestamptz not null default now(),
  created_by text not null default current_actor()
);
-- I7: the key is the input, so a run file goes into one merged file at most.
create table merge_inputs (
  input_file_id bigint primary key references files,
  merge_id bigint not null references merges
);
create index merge_inputs_by_merge on merge_inputs (merge_id);

create function files_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.confirmed_copies <> 0 then
      perform refuse('NOT_CONFIRMED', 'a new file has no confirmed copy');
    end if;
    return new;
  end if;
  if pg_trigger_depth() < 2 or
     (to_jsonb(new) - 'confirmed_copies') is distinct from (to_jsonb(old) - 'confirmed_copies') then
    perform refuse('ILLEGAL_TRANSITION', format('file %s: what was registered never changes', old.lfn),
      'register the new content under a new LFN');
  end if;
  return new;
end
$$;
create trigger files_guard before insert or update on files for each row execute function files_guard();
create trigger files_kept before delete or truncate on files for each statement execute function refuse_any_change();
create trigger file_runs_kept before update or delete or truncate on file_runs
  for each statement execute function refuse_any_change();
create trigger merges_kept before update or delete or truncate on merges
  for each statement execute function refuse_any_change();
create trigger merge_inputs_kept before update or delete or truncate on merge_inputs
  for each statement execute function refuse_any_change();
create trigger replicas_kept before delete or truncate on replicas
  for each statement execute function refuse_any_change();
alter table files enable always trigger files_guard, enable always trigger files_kept;
alter table file_runs enable always trigger file_runs_kept;
alter table merges enable always trigger merges_kept;
alter table merge_inputs enable always trigger merge_inputs_kept;
alter table replicas enable always trigger replicas_kept;

create function files_registered() returns trigger language plpgsql as $$
begin
  insert into events (kind, file_id, run_id, to_state)
  select 'FILE_REGISTERED', id, run_id, kind from added order by id;
  return null;
end
$$;
create trigger files_registered after insert on files
  referencing new table as added for each statement execute function files_registered();
alter table files enable always trigger files_registered;

-- A merge that has been added up (it stands in the log then) never grows.
create function merge_inputs_guard() returns trigger language plpgsql as $$
begin
  if exists (select from (select distinct merge_id from added) a join merges m on m.id = a.merge_id
             join events e on e.file_id = m.output_file_id and e.kind = 'MERGE_RECORDED') then
    perform refuse('ALREADY_MERGED', 'a recorded merge takes no further inputs');
  end if;
  -- Foreign keys sleep in a session that plays replica.
  if exists (select from added a where not exists (select from files f where f.id = a.input_file_id)
             or not exists (select from merges m where m.id = a.merge_id)) then
    perform refuse('NOT_FOUND', 'a merge takes registered files only');
  end if;
  return null;
end
$$;
create trigger merge_inputs_guard after insert on merge_inputs
  referencing new table as added for each statement execute function merge_inputs_guard();
alter table merge_inputs enable always trigger merge_inputs_guard;

-- I7, looked at when the transaction commits: right kinds, runs carried over, events add up.
create function merge_adds_up() returns trigger language plpgsql as $$
declare
  output files;
  inputs record;
begin
  select * into output from files where id = new.output_file_id;
  select count(*) as n, count(*) filter (where f.kind <> 'RUN_FILE') as wrong_kind,
         count(*) filter (where f.event_count is null) as uncounted, sum(f.event_count) as events,
         count(*) filter (where not exists (
           select from file_runs fr where fr.file_id = output.id and fr.run_id = f.run_id)) as runs_missing
  into inputs
  from merge_inputs mi join files f on f.id = mi.input_file_id where mi.merge_id = new.id;
  if output.kind <> 'MERGED_FILE' or inputs.wrong_kind > 0 or inputs.n = 0 then
    perform refuse('NOT_MERGED', format('%s: a merge makes one MERGED_FILE of at least one RUN_FILE', output.lfn));
  end if;
  if inputs.uncounted > 0 or output.event_count is null or inputs.events <> output.event_count then
    perform refuse('EVENT_COUNT_MISMATCH', format('%s: %s events, its %s inputs hold %s', output.lfn,
      coalesce(output.event_count::text, 'uncounted'), inputs.n, coalesce(inputs.events::text, 'uncounted')));
  end if;
  if inputs.runs_missing > 0 then
    perform refuse('NOT_MERGED', format('%s: %s inputs are of runs that it does not name', output.lfn, inputs.runs_missing));
  end if;
  insert into events (kind, file_id, facts)
  values ('MERGE_RECORDED', output.id, jsonb_build_object('mergeId', new.id, 'inputCount', inputs.n));
  perform refresh_runs(array(select run_id from file_runs where file_id = output.id));
  return null;
end
$$;
create constraint trigger merge_adds_up after insert on merges
  deferrable initially deferred for each row execute function merge_adds_up();
alter table merges enable always trigger merge_adds_up;

-- The runs among those asked for whose production is done (domain: Runs and DQM).
create function done_runs(ids bigint[]) returns setof bigint language sql stable as $$
  select r.id from runs r
  where r.id = any (ids)
    and r.ended_at is not null
    and exists (select from file_runs fr where fr.run_id = r.id)
    and not exists (
      select from unnest(r.expected_streams) as wanted (stream)
      where not exists (select from files f where f.run_id = r.id and f.stream = wanted.stream)
        and not exists (select from file_runs fr join files m on m.id = fr.file_id
                        where fr.run_id = r.id and m.stream = wanted.stream))
    and not exists (
      select from files f
      where f.run_id = r.id and not exists (select from merge_inputs mi where mi.input_file_id = f.id))
    and not exists (
      select from file_runs fr join files m on m.id = fr.file_id
      where fr.run_id = r.id and m.confirmed_copies = 0)
$$;

-- Locks first, looks then: of two transactions that finish the last two files of a run, the second sees the first.
create function refresh_runs(ids bigint[]) returns void language plpgsql as $$
begin
  perform from runs where id = any (ids) and production_status = 'IN_PRODUCTION' order by id for no key update;
  update runs set production_status = 'AVAILABLE'
  where production_status = 'IN_PRODUCTION' and id in (select done_runs(ids));
end
$$;
