-- What a dataset holds of each run, kept as files come and go; and which files a file was derived from.

create table dataset_runs (
  dataset_id bigint not null references datasets,
  -- Of the run, which keeps them for good: ranges and orders need no look at runs.
  source text not null,
  number integer not null,
  run_id bigint not null references runs,
  file_count bigint not null check (file_count > 0),
  -- Of this run in the files whose count is known.
  event_count bigint not null check (event_count between 0 and 9007199254740991),
  -- Of the files with data of this run; a file of several runs counts for each.
  size_bytes bigint not null check (size_bytes between 1 and 9007199254740991),
  primary key (dataset_id, source, number)
) with (fillfactor = 80);
create index dataset_runs_by_run on dataset_runs (source, number, dataset_id);

-- numeric: what is added for a run is exactly what is taken away later, so the sum never drifts.
alter table datasets
  add column luminosity numeric not null default 0 check (luminosity >= 0),
  add column luminosity_run_count bigint not null default 0 check (luminosity_run_count >= 0),
  add column run_count bigint not null default 0 check (run_count >= luminosity_run_count),
  add column first_run integer,
  add column last_run integer,
  add check ((run_count = 0) = (first_run is null) and (run_count = 0) = (last_run is null));

-- What is there already.
insert into dataset_runs (dataset_id, source, number, run_id, file_count, event_count, size_bytes)
select df.dataset_id, r.source, r.number, r.id, count(*), coalesce(sum(fr.event_count), 0), sum(f.size_bytes)
from dataset_files df join files f on f.id = df.file_id join file_runs fr on fr.file_id = df.file_id
join runs r on r.id = fr.run_id group by df.dataset_id, r.id;
alter table datasets disable trigger datasets_guard;
update datasets d set run_count = t.runs, luminosity = t.luminosity, luminosity_run_count = t.telling,
  first_run = t.first_run, last_run = t.last_run
from (select x.dataset_id, count(*) as runs, coalesce(sum(r.luminosity::numeric), 0) as luminosity,
        count(r.luminosity) as telling, min(x.number) as first_run, max(x.number) as last_run
      from dataset_runs x join runs r on r.id = x.run_id group by x.dataset_id) t
where d.id = t.dataset_id;
alter table datasets enable always trigger datasets_guard;

-- As in migration 0006, and the columns above: kept by the database, also of a dataset that is CLOSED (the luminosity
-- of a run may become known late), and no change that somebody who holds a version has to know of.
create or replace function datasets_guard() returns trigger language plpgsql as $$
declare
  -- is_available is not yet computed here; version is ours.
  kept text[] := array['confirmed_count', 'bad_mark_count', 'is_available', 'version',
    'luminosity', 'luminosity_run_count', 'run_count', 'first_run', 'last_run'];
  silent text[] := array['confirmed_count', 'is_available',
    'luminosity', 'luminosity_run_count', 'run_count', 'first_run', 'last_run'];
  was jsonb;
  is_now jsonb;
begin
  if tg_op = 'INSERT' then
    if new.status <> 'OPEN' or new.sealed or (new.file_count, new.confirmed_count, new.size_bytes, new.event_count,
       new.bad_mark_count::bigint, new.luminosity, new.luminosity_run_count, new.run_count) <> (0, 0, 0, 0, 0, 0, 0, 0)
       or new.backed_up_at is not null then
      perform refuse('ILLEGAL_TRANSITION', format('dataset %s starts OPEN and empty', new.name));
    end if;
    return new;
  end if;
  if (new.id, new.name, new.created_at, new.created_by) is distinct from (old.id, old.name, old.created_at, old.created_by) then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s keeps its name', old.name));
  end if;
  if pg_trigger_depth() < 2 and
     (new.file_count, new.confirmed_count, new.size_bytes, new.event_count, new.bad_mark_count,
      new.luminosity, new.luminosity_run_count, new.run_count, new.first_run, new.last_run) is distinct from
     (old.file_count, old.confirmed_count, old.size_bytes, old.event_count, old.bad_mark_count,
      old.luminosity, old.luminosity_run_count, old.run_count, old.first_run, old.last_run) then
    perform refuse('ILLEGAL_TRANSITION', format('the counts of dataset %s are kept by the database', old.name));
  end if;
  if old.status = 'CLOSED' then
    was := to_jsonb(old) - kept;
    is_now := to_jsonb(new) - kept;
    if was is distinct from is_now then
      perform refuse('ILLEGAL_TRANSITION', format('dataset %s is CLOSED and never changes again', old.name),
        'make a new dataset, or mark this one bad');
    end if;
  end if;
  if new.status <> old.status then
    perform dataset_step_allowed(old, new);
    new.backed_up_at := case new.status when 'OPEN' then null when 'BACKED_UP' then clock_timestamp() else old.backed_up_at end;
    new.closed_at := case when new.status = 'CLOSED' then clock_timestamp() end;
  elsif (new.backed_up_at, new.closed_at) is distinct from (old.backed_up_at, old.closed_at) then
    perform refuse('ILLEGAL_TRANSITION', format('the times of dataset %s are kept by the database', old.name));
  end if;
  new.version := old.version + (case when (to_jsonb(new) - silent) = (to_jsonb(old) - silent)
    and (new.confirmed_count, new.run_count, new.luminosity, new.luminosity_run_count) is distinct from
        (old.confirmed_count, old.run_count, old.luminosity, old.luminosity_run_count)
    then 0 else 1 end);
  return new;
end
$$;

-- Files, events and bytes that (dataset, run) pairs win or lose; each pair once. The caller holds the datasets.
create function move_dataset_runs(datasets_of bigint[], runs_of bigint[], files bigint[], events bigint[], bytes bigint[])
returns void language plpgsql
-- One look-up a pair: the plan is kept, and may have been made when the tables were small.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  gone jsonb;
  fresh jsonb;
begin
  -- Shared lock: a luminosity that is being told is either read here, or added afterwards by who tells it.
  perform from runs r where r.id = any (runs_of) order by r.id for share;

  with delta as (
    select * from unnest(datasets_of, runs_of, files) as t (dataset_id, run_id, files)
  ), deleted as (
    delete from dataset_runs x using delta t join runs r on r.id = t.run_id
    where x.dataset_id = t.dataset_id and x.source = r.source and x.number = r.number and x.file_count + t.files = 0
    returning x.dataset_id, x.run_id)
  select jsonb_agg(deleted) into gone from deleted;

  update dataset_runs x set file_count = x.file_count + t.files, event_count = x.event_count + t.events,
    size_bytes = x.size_bytes + t.bytes
  from unnest(datasets_of, runs_of, files, events, bytes) as t (dataset_id, run_id, files, events, bytes)
  join runs r on r.id = t.run_id
  where x.dataset_id = t.dataset_id and x.source = r.source and x.number = r.number;

  with inserted as (
    insert into dataset_runs (dataset_id, source, number, run_id, file_count, event_count, size_bytes)
    select t.dataset_id, r.source, r.number, r.id, t.files, t.events, t.bytes
    from unnest(datasets_of, runs_of, files, events, bytes) as t (dataset_id, run_id, files, events, bytes)
    join runs r on r.id = t.run_id
    where t.files > 0 and not exists (
      select from dataset_runs x where x.dataset_id = t.dataset_id and x.source = r.source and x.number = r.number)
    returning dataset_id, run_id)
  select jsonb_agg(inserted) into fresh from inserted;

  update datasets d set
    run_count = d.run_count + t.runs, luminosity = d.luminosity + t.luminosity,
    luminosity_run_count = d.luminosity_run_count + t.telling,
    first_run = least((select min(x.number) from dataset_runs x where x.dataset_id = d.id and x.source = 'DATA'),
                      (select min(x.number) from dataset_runs x where x.dataset_id = d.id and x.source = 'SIMULATION')),
    last_run = greatest((select max(x.number) from dataset_runs x where x.dataset_id = d.id and x.source = 'DATA'),
                        (select max(x.number) from dataset_runs x where x.dataset_id = d.id and x.source = 'SIMULATION'))
  from (
    select c.dataset_id, sum(c.step) as runs, coalesce(sum(c.step * r.luminosity::numeric), 0) as luminosity,
      coalesce(sum(c.step) filter (where r.luminosity is not null), 0) as telling
    from (select 1 as step, * from jsonb_to_recordset(fresh) as i (dataset_id bigint, run_id bigint)
          union all select -1, * from jsonb_to_recordset(gone) as o (dataset_id bigint, run_id bigint)) c
    join runs r on r.id = c.run_id group by c.dataset_id) t
  where d.id = t.dataset_id;
end
$$;

-- After dataset_files_added and _removed, which hold the datasets and the files.
create function dataset_runs_follow_files() returns trigger language plpgsql as $$
declare
  t record;
begin
  -- execute: planned anew for as many rows as there are.
  execute $sql$
    select array_agg(p.dataset_id) as datasets_of, array_agg(p.run_id) as runs_of, array_agg(p.files) as files,
      array_agg(p.events) as events, array_agg(p.bytes) as bytes
    from (
      select c.dataset_id, fr.run_id, $1 * count(*) as files, $1 * coalesce(sum(fr.event_count), 0)::bigint as events,
        $1 * sum(f.size_bytes)::bigint as bytes
      from changed c join file_runs fr on fr.file_id = c.file_id join files f on f.id = c.file_id
      group by c.dataset_id, fr.run_id order by c.dataset_id, fr.run_id) p $sql$
  into t using case tg_op when 'INSERT' then 1 else -1 end;
  if t.runs_of is not null then
    perform move_dataset_runs(t.datasets_of, t.runs_of, t.files, t.events, t.bytes);
  end if;
  return null;
end
$$;
create trigger dataset_runs_follow_added after insert on dataset_files
  referencing new table as changed for each statement execute function dataset_runs_follow_files();
create trigger dataset_runs_follow_removed after delete on dataset_files
  referencing old table as changed for each statement execute function dataset_runs_follow_files();
alter table dataset_files enable always trigger dataset_runs_follow_added,
  enable always trigger dataset_runs_follow_removed;

-- The runs of a file may be told, or counted, when it is in a dataset already.
create function dataset_runs_follow_file_runs() returns trigger language plpgsql as $$
declare
  t record;
begin
  -- Against who adds such a file to a dataset right now; a file of this very transaction is in nobody else's.
  execute $sql$
    select from files f where f.id in (select file_id from changed)
      and f.xmin <> pg_current_xact_id()::xid order by f.id for no key update $sql$;
  execute $sql$
    select from datasets d where d.id in (
      select df.dataset_id from changed c join dataset_files df on df.file_id = c.file_id)
    order by d.id for no key update $sql$;
  execute format($sql$
    select array_agg(p.dataset_id) as datasets_of, array_agg(p.run_id) as runs_of, array_agg(p.files) as files,
      array_agg(p.events) as events, array_agg(p.bytes) as bytes
    from (
      select df.dataset_id, c.run_id, %1$s * count(*) as files, coalesce(sum(c.event_count), 0)::bigint as events,
        %1$s * sum(f.size_bytes)::bigint as bytes
      from changed c join dataset_files df on df.file_id = c.file_id join files f on f.id = c.file_id
      group by df.dataset_id, c.run_id order by df.dataset_id, c.run_id) p $sql$,
    case tg_op when 'INSERT' then 1 else 0 end)
  into t;
  if t.runs_of is not null then
    perform move_dataset_runs(t.datasets_of, t.runs_of, t.files, t.events, t.bytes);
  end if;
  return null;
end
$$;

-- What is told of a file and its runs stays; a count that was not known can be told once.
create function file_runs_guard() returns trigger language plpgsql as $$
begin
  if (new.file_id, new.run_id) is distinct from (old.file_id, old.run_id)
     or old.event_count is not null or new.event_count is null then
    perform refuse('ILLEGAL_TRANSITION', 'the runs of a file, and its events of each, never change');
  end if;
  return new;
end
$$;
drop trigger file_runs_kept on file_runs;
create trigger file_runs_kept before delete or truncate on file_runs
  for each statement execute function refuse_any_change();
create trigger file_runs_guard before update on file_runs for each row execute function file_runs_guard();
create trigger dataset_runs_follow_told after insert on file_runs
  referencing new table as changed for each statement execute function dataset_runs_follow_file_runs();
create trigger dataset_runs_follow_counted after update on file_runs
  referencing new table as changed for each statement execute function dataset_runs_follow_file_runs();
alter table file_runs enable always trigger file_runs_kept, enable always trigger file_runs_guard,
  enable always trigger dataset_runs_follow_told, enable always trigger dataset_runs_follow_counted;

-- A luminosity that is told when files of the run are in datasets already.
create function datasets_follow_runs() returns trigger language plpgsql as $$
begin
  execute $sql$
    select from datasets d where d.id in (
      select x.dataset_id from after_rows n join before_rows o using (id)
      join dataset_runs x on x.source = n.source and x.number = n.number
      where n.luminosity is distinct from o.luminosity)
    order by d.id for no key update $sql$;
  execute $sql$
    update datasets d set luminosity = d.luminosity + t.luminosity,
      luminosity_run_count = d.luminosity_run_count + t.telling
    from (
      select x.dataset_id,
        sum(coalesce(n.luminosity::numeric, 0) - coalesce(o.luminosity::numeric, 0)) as luminosity,
        sum((n.luminosity is not null)::int - (o.luminosity is not null)::int) as telling
      from after_rows n join before_rows o using (id)
      join dataset_runs x on x.source = n.source and x.number = n.number
      where n.luminosity is distinct from o.luminosity group by x.dataset_id) t
    where d.id = t.dataset_id $sql$;
  return null;
end
$$;
create trigger datasets_follow_runs after update on runs
  referencing old table as before_rows new table as after_rows for each statement execute function datasets_follow_runs();
alter table runs enable always trigger datasets_follow_runs;

create function dataset_runs_only_from_triggers() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', 'what a dataset holds of a run is kept by the database');
  end if;
  return null;
end
$$;
create trigger dataset_runs_kept before insert or update or delete on dataset_runs
  for each statement execute function dataset_runs_only_from_triggers();
create trigger dataset_runs_never_emptied before truncate on dataset_runs
  for each statement execute function refuse_any_change();
alter table dataset_runs enable always trigger dataset_runs_kept, enable always trigger dataset_runs_never_emptied;

-- I7 run by run, looked at when the transaction commits.
create function merge_runs_add_up() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select r.number, fr.event_count as told, i.events into wrong
  from (select f.run_id, sum(f.event_count) as events from merge_inputs mi join files f on f.id = mi.input_file_id
        where mi.merge_id = new.id group by f.run_id) i
  join file_runs fr on fr.file_id = new.output_file_id and fr.run_id = i.run_id join runs r on r.id = i.run_id
  where fr.event_count <> i.events limit 1;
  if found then
    perform refuse('EVENT_COUNT_MISMATCH', format('run %s: the merged file is said to hold %s of its events, the inputs hold %s',
      wrong.number, wrong.told, wrong.events));
  end if;
  return null;
end
$$;
create constraint trigger merge_runs_add_up after insert on merges
  deferrable initially deferred for each row execute function merge_runs_add_up();
alter table merges enable always trigger merge_runs_add_up;

-- Derived from: a skim of what it selected from, a reprocessed file of the first one. A parent was registered before
-- its child and has the lower id, so there is no circle.
create table file_parents (
  file_id bigint not null references files,
  parent_id bigint not null references files,
  primary key (file_id, parent_id),
  check (parent_id < file_id)
);
create index file_parents_by_parent on file_parents (parent_id, file_id);

create function file_parents_guard() returns trigger language plpgsql as $$
begin
  -- Foreign keys sleep in a session that plays replica.
  if exists (select from added a where not exists (select from files f where f.id = a.parent_id)
             or not exists (select from files f where f.id = a.file_id)) then
    perform refuse('NOT_FOUND', 'parents are registered files');
  end if;
  if exists (select from added a join files f on f.id = a.file_id where f.created_at <> now()) then
    perform refuse('ILLEGAL_TRANSITION', 'the parents of a file are told when it is registered, and never change');
  end if;
  return null;
end
$$;
create trigger file_parents_guard after insert on file_parents
  referencing new table as added for each statement execute function file_parents_guard();
create trigger file_parents_kept before update or delete or truncate on file_parents
  for each statement execute function refuse_any_change();
alter table file_parents enable always trigger file_parents_guard, enable always trigger file_parents_kept;

do $$
declare
  name text;
begin
  foreach name in array array[
    'datasets_guard()', 'move_dataset_runs(bigint[], bigint[], bigint[], bigint[], bigint[])',
    'dataset_runs_follow_files()', 'dataset_runs_follow_file_runs()', 'file_runs_guard()', 'datasets_follow_runs()',
    'dataset_runs_only_from_triggers()', 'merge_runs_add_up()', 'file_parents_guard()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
