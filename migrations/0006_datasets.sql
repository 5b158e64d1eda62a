-- Datasets: the life cycle, the files, bad marks and sweeps. Counts are kept here, so that closing looks at one row.

insert into lifecycle (noun, from_state, to_state) values
  ('dataset', '', 'OPEN'),
  ('dataset', 'OPEN', 'BACKED_UP'),
  ('dataset', 'OPEN', 'CLOSED'),
  ('dataset', 'BACKED_UP', 'OPEN'),
  ('dataset', 'BACKED_UP', 'CLOSED');

create table datasets (
  id bigint generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$'),
  kind text not null check (kind in ('PR', 'SP', 'SKIM', 'IMPORT', 'USER')),
  status text not null default 'OPEN' check (status in ('OPEN', 'BACKED_UP', 'CLOSED')),
  owner text not null,
  stream text,
  release text,
  tree_name text,
  description text,
  backup_waived boolean not null default false,
  waiver_reason text,
  -- A sweep is under way: no file comes or goes.
  sealed boolean not null default false,
  bad_mark_count integer not null default 0 check (bad_mark_count >= 0),
  -- The one definition of what everybody may see.
  is_available boolean not null generated always as (status = 'CLOSED' and bad_mark_count = 0) stored,
  file_count bigint not null default 0,
  confirmed_count bigint not null default 0,
  size_bytes bigint not null default 0 check (size_bytes <= 9007199254740991),
  event_count bigint not null default 0 check (event_count <= 9007199254740991),
  version integer not null default 1,
  created_at timestamptz not null default now(),
  created_by text not null default current_actor(),
  backed_up_at timestamptz,
  closed_at timestamptz,
  check (backup_waived = (waiver_reason is not null)),
  check (not sealed or status = 'OPEN'),
  check ((status = 'CLOSED') = (closed_at is not null))
) with (fillfactor = 70);
create index datasets_available on datasets (id) where is_available;
create index datasets_by_name on datasets (name text_pattern_ops);

create table dataset_files (
  dataset_id bigint not null references datasets,
  file_id bigint not null references files,
  added_at timestamptz not null default now(),
  added_by text not null default current_actor(),
  primary key (dataset_id, file_id)
);
create index dataset_files_by_file on dataset_files (file_id);

create table bad_marks (
  id bigint generated always as identity primary key,
  dataset_id bigint not null references datasets,
  reason text not null check (length(btrim(reason)) > 0),
  marked_by text not null default current_actor(),
  marked_at timestamptz not null default now(),
  cleared_by text,
  cleared_at timestamptz,
  cleared_reason text check (length(btrim(cleared_reason)) > 0),
  check ((cleared_at is null) = (cleared_by is null)),
  check ((cleared_at is null) = (cleared_reason is null))
);
create index bad_marks_standing on bad_marks (dataset_id) where cleared_at is null;

create table sweeps (
  id bigint generated always as identity primary key,
  dataset_id bigint not null references datasets,
  store_id integer not null references mass_stores,
  requested_by text not null default current_actor(),
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  outcome text check (outcome in ('CLOSED', 'CANCELLED')),
  check ((finished_at is null) = (outcome is null))
);
create unique index sweeps_one_running on sweeps (dataset_id) where finished_at is null;

create function datasets_guard() returns trigger language plpgsql as $$
declare
  -- is_available is not yet computed here; version is ours.
  kept text[] := array['confirmed_count', 'bad_mark_count', 'is_available', 'version'];
  was jsonb;
  is_now jsonb;
begin
  if tg_op = 'INSERT' then
    if new.status <> 'OPEN' or new.sealed or (new.file_count, new.confirmed_count, new.size_bytes, new.event_count,
       new.bad_mark_count::bigint) <> (0, 0, 0, 0, 0) or new.backed_up_at is not null then
      perform refuse('ILLEGAL_TRANSITION', format('dataset %s starts OPEN and empty', new.name));
    end if;
    return new;
  end if;
  if (new.id, new.name, new.created_at, new.created_by) is distinct from (old.id, old.name, old.created_at, old.created_by) then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s keeps its name', old.name));
  end if;
  if pg_trigger_depth() < 2 and
     (new.file_count, new.confirmed_count, new.size_bytes, new.event_count, new.bad_mark_count) is distinct from
     (old.file_count, old.confirmed_count, old.size_bytes, old.event_count, old.bad_mark_count) then
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
  new.version := old.version + (case when new.confirmed_count <> old.confirmed_count
    and (to_jsonb(new) - '{confirmed_count,is_available}'::text[]) = (to_jsonb(old) - '{confirmed_count,is_available}'::text[])
    then 0 else 1 end);
  return new;
end
$$;

-- I1, I2: what each step asks for.
create function dataset_step_allowed(was datasets, wanted datasets) returns void language plpgsql as $$
begin
  if not exists (select from lifecycle where noun = 'dataset' and from_state = was.status and to_state = wanted.status) then
    perform refuse('ILLEGAL_TRANSITION',
      format('dataset %s: %s to %s is not a step of its life', was.name, was.status, wanted.status));
  end if;
  if wanted.status = 'OPEN' then
    if current_reason() is null then
      perform refuse('BAD_USER_INPUT', format('dataset %s: reopening needs a reason', was.name));
    end if;
    return;
  end if;
  if was.file_count = 0 then
    perform refuse('DATASET_EMPTY', format('dataset %s has no file', was.name));
  end if;
  if wanted.backup_waived and wanted.status = 'CLOSED' then
    return;
  end if;
  if was.status = 'OPEN' and wanted.status = 'CLOSED' then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s: OPEN to CLOSED is for waived backups only', was.name),
      'mark it backed up first');
  end if;
  if was.confirmed_count <> was.file_count then
    perform refuse('FILES_NOT_BACKED_UP', format('dataset %s: %s of %s files have a confirmed backup', was.name,
      was.confirmed_count, was.file_count));
  end if;
end
$$;
create trigger datasets_guard before insert or update on datasets for each row execute function datasets_guard();
create trigger datasets_kept before delete or truncate on datasets for each statement execute function refuse_any_change();

-- I1 after the close: a dataset whose backup is found lost leaves the users' sight in the same transaction.
create function dataset_stays_safe() returns trigger language plpgsql as $$
declare
  d datasets;
begin
  select * into d from datasets where id = new.id;
  if d.status <> 'OPEN' and not d.backup_waived and d.confirmed_count < d.file_count and d.bad_mark_count = 0 then
    perform refuse('FILES_NOT_BACKED_UP', format('dataset %s is %s, and %s of its files would have no confirmed backup',
      d.name, d.status, d.file_count - d.confirmed_count), 'mark it bad in the same transaction');
  end if;
  return null;
end
$$;
create constraint trigger dataset_stays_safe after update on datasets deferrable initially deferred
  for each row when (new.status <> 'OPEN' and not new.backup_waived and new.confirmed_count < new.file_count)
  execute function dataset_stays_safe();

create function datasets_created() returns trigger language plpgsql as $$
begin
  insert into events (kind, dataset_id, to_state) select 'DATASET_STATUS', id, status from added order by id;
  return null;
end
$$;
create trigger datasets_created after insert on datasets
  referencing new table as added for each statement execute function datasets_created();

create function datasets_changed() returns trigger language plpgsql as $$
begin
  insert into events (kind, dataset_id, from_state, to_state)
  select case when n.status <> o.status then 'DATASET_STATUS' when n.sealed then 'DATASET_SEALED' else 'DATASET_UNSEALED' end,
         n.id, o.status, n.status
  from after_rows n join before_rows o using (id)
  where n.status <> o.status or n.sealed <> o.sealed order by n.id;
  return null;
end
$$;
create trigger datasets_changed after update on datasets
  referencing old table as before_rows new table as after_rows for each statement execute function datasets_changed();
alter table datasets enable always trigger datasets_guard, enable always trigger datasets_kept,
  enable always trigger dataset_stays_safe, enable always trigger datasets_created, enable always trigger datasets_changed;

-- I2: files come and go only while the dataset is OPEN and not sealed; the counts follow.
create function dataset_files_changed() returns trigger language plpgsql as $$
declare
  touched record;
  step integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  -- Foreign keys sleep in a session that plays replica.
  if exists (select from changed c where not exists (select from files f where f.id = c.file_id)
             or not exists (select from datasets d where d.id = c.dataset_id)) then
    perform refuse('NOT_FOUND', 'a dataset holds registered files only');
  end if;
  for touched in
    select d.* from datasets d where d.id in (select dataset_id from changed) order by d.id for no key update
  loop
    if touched.status <> 'OPEN' then
      perform refuse('ILLEGAL_TRANSITION', format('dataset %s is %s: its file list never changes', touched.name, touched.status));
    elsif touched.sealed then
      perform refuse('DATASET_SEALED', format('dataset %s is being swept: its file list is sealed', touched.name));
    end if;
  end loop;
  -- Shared lock: a backup that is confirmed right now is either counted here or counts itself afterwards.
  perform from files f where f.id in (select file_id from changed) order by f.id for share;
  if tg_op = 'INSERT' and exists (
    select from changed c join files f on f.id = c.file_id where f.kind <> 'MERGED_FILE') then
    perform refuse('NOT_MERGED', 'a dataset holds merged files only');
  end if;
  update datasets d set
    file_count = d.file_count + step * t.n,
    confirmed_count = d.confirmed_count + step * t.confirmed,
    size_bytes = d.size_bytes + step * t.bytes,
    event_count = d.event_count + step * t.events
  from (
    select c.dataset_id, count(*) as n, count(*) filter (where f.confirmed_copies > 0) as confirmed,
           sum(f.size_bytes) as bytes, coalesce(sum(f.event_count), 0) as events
    from changed c join files f on f.id = c.file_id group by c.dataset_id) t
  where d.id = t.dataset_id;
  insert into events (kind, dataset_id, facts)
  select case tg_op when 'INSERT' then 'DATASET_FILES_ADDED' else 'DATASET_FILES_REMOVED' end, c.dataset_id,
         jsonb_build_object('fileCount', count(*))
  from changed c group by c.dataset_id order by c.dataset_id;
  return null;
end
$$;
create trigger dataset_files_added after insert on dataset_files
  referencing new table as changed for each statement execute function dataset_files_changed();
create trigger dataset_files_removed after delete on dataset_files
  referencing old table as changed for each statement execute function dataset_files_changed();
create trigger dataset_files_kept before update or truncate on dataset_files
  for each statement execute function refuse_any_change();
alter table dataset_files enable always trigger dataset_files_added, enable always trigger dataset_files_removed,
  enable always trigger dataset_files_kept;

-- A file won or lost its safety: its datasets count it, its runs may leave production.
create function files_safety_changed() returns trigger language plpgsql as $$
declare
  safe bigint[];
  gone bigint[];
begin
  -- execute: planned anew for as many rows as there are.
  execute $sql$
    select array_agg(n.id) filter (where o.confirmed_copies = 0 and n.confirmed_copies > 0),
           array_agg(n.id) filter (where o.confirmed_copies > 0 and n.confirmed_copies = 0)
    from after_rows n join before_rows o using (id) $sql$ into safe, gone;
  if safe is null and gone is null then
    return null;
  end if;
  perform from datasets d
  where d.id in (select dataset_id from dataset_files where file_id = any (safe || gone))
  order by d.id for no key update;
  update datasets d set confirmed_count = d.confirmed_count + t.step
  from (
    select dataset_id, sum(case when file_id = any (safe) then 1 else -1 end) as step
    from dataset_files where file_id = any (safe || gone) group by dataset_id) t
  where d.id = t.dataset_id;
  if safe is not null then
    perform refresh_runs(array(select distinct run_id from file_runs where file_id = any (safe)));
  end if;
  return null;
end
$$;
create trigger files_safety_changed after update on files
  referencing old table as before_rows new table as after_rows for each statement execute function files_safety_changed();
alter table files enable always trigger files_safety_changed;

create function bad_marks_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.cleared_at is not null then
      perform refuse('ILLEGAL_TRANSITION', 'a bad mark is set before it is cleared');
    end if;
    update datasets set bad_mark_count = bad_mark_count + 1 where id = new.dataset_id;
    insert into events (kind, dataset_id, from_state, to_state, reason)
    select 'DATASET_MARKED_BAD', id, status, status, new.reason from datasets where id = new.dataset_id;
    return null;
  end if;
  if old.cleared_at is not null or new.cleared_at is null or
     (new.id, new.dataset_id, new.reason, new.marked_by, new.marked_at) is distinct from
     (old.id, old.dataset_id, old.reason, old.marked_by, old.marked_at) then
    perform refuse('ILLEGAL_TRANSITION', 'a bad mark is cleared once, and otherwise never changes');
  end if;
  update datasets set bad_mark_count = bad_mark_count - 1 where id = new.dataset_id;
  insert into events (kind, dataset_id, from_state, to_state, reason)
  select 'DATASET_CLEARED', id, status, status, new.cleared_reason from datasets where id = new.dataset_id;
  return null;
end
$$;
create trigger bad_marks_guard after insert or update on bad_marks for each row execute function bad_marks_guard();
create trigger bad_marks_kept before delete or truncate on bad_marks for each statement execute function refuse_any_change();
alter table bad_marks enable always trigger bad_marks_guard, enable always trigger bad_marks_kept;

-- A sweep is asked for, perhaps pointed to another store, and ends once. It and the seal of its dataset go together:
-- looked at when the transaction commits.
create function sweeps_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.finished_at is not null then
      perform refuse('ILLEGAL_TRANSITION', 'a sweep begins before it ends');
    end if;
  elsif old.finished_at is not null or (new.id, new.dataset_id, new.requested_by, new.requested_at) is distinct from
     (old.id, old.dataset_id, old.requested_by, old.requested_at) then
    perform refuse('ILLEGAL_TRANSITION', 'a sweep ends once, and otherwise changes nothing but its store');
  end if;
  return new;
end
$$;
create trigger sweeps_guard before insert or update on sweeps for each row execute function sweeps_guard();
create trigger sweeps_kept before delete or truncate on sweeps for each statement execute function refuse_any_change();

create function sweep_seals() returns trigger language plpgsql as $$
declare
  d datasets;
begin
  select * into d from datasets where id = (to_jsonb(new) ->> tg_argv[0])::bigint;
  if d.sealed <> exists (select from sweeps where dataset_id = d.id and finished_at is null) then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s is sealed while a sweep is under way, and only then', d.name),
      'sweep it, or reopen it to call the sweep off');
  end if;
  if d.status <> 'CLOSED' and exists (select from sweeps where dataset_id = d.id and outcome = 'CLOSED') then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s is %s: its sweep has not closed it', d.name, d.status));
  end if;
  return null;
end
$$;
create constraint trigger sweep_seals after insert or update on sweeps
  deferrable initially deferred for each row execute function sweep_seals('dataset_id');
create constraint trigger seal_has_sweep after update of sealed, status on datasets
  deferrable initially deferred for each row when (old.sealed <> new.sealed) execute function sweep_seals('id');
alter table sweeps enable always trigger sweeps_guard, enable always trigger sweeps_kept,
  enable always trigger sweep_seals;
alter table datasets enable always trigger seal_has_sweep;

-- The steps are law: whoever may write rows here could open a closed dataset.
create trigger lifecycle_kept before insert or update or delete or truncate on lifecycle
  for each statement execute function refuse_any_change();
alter table lifecycle enable always trigger lifecycle_kept;
