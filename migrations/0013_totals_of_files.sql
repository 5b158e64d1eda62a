-- Files, events and bytes by site, kind, stream, release, status and store, exact at any moment without counting rows.
-- Who changes a file appends what has changed and waits for nobody; now and then the changes are folded into the totals.
-- A total is what is folded plus what is not.

create table file_totals (
  -- null: files; else their confirmed copies in this store.
  store_id integer references mass_stores,
  site_id integer not null references sites,
  kind text not null,
  stream text,
  release text,
  -- numeric: the sum of many files does not fit in a bigint.
  files bigint not null,
  events numeric not null,
  bytes numeric not null,
  -- With a confirmed copy.
  safe_files bigint not null,
  safe_events numeric not null,
  safe_bytes numeric not null,
  -- In a dataset of counted_datasets.
  shown_files bigint not null,
  shown_events numeric not null,
  shown_bytes numeric not null
) with (fillfactor = 70);
create unique index file_totals_key on file_totals (store_id, site_id, kind, stream, release) nulls not distinct;

create table file_total_changes (
  id bigint generated always as identity primary key,
  store_id integer,
  site_id integer not null,
  kind text not null,
  stream text,
  release text,
  files bigint not null default 0,
  events numeric not null default 0,
  bytes numeric not null default 0,
  safe_files bigint not null default 0,
  safe_events numeric not null default 0,
  safe_bytes numeric not null default 0,
  shown_files bigint not null default 0,
  shown_events numeric not null default 0,
  shown_bytes numeric not null default 0
);

-- Closing a dataset or marking it bad does not touch its files: it is noted here, and its files are counted later. Its
-- file list never changes any more, so later is as good as at once. Datasets with a waived backup are few: their files
-- are counted when somebody asks.
create table publication_changes (
  id bigint generated always as identity primary key,
  dataset_id bigint not null references datasets
);
create index publication_changes_by_dataset on publication_changes (dataset_id);
create table counted_datasets (dataset_id bigint primary key references datasets);
create index datasets_available_waived on datasets (id) where is_available and backup_waived;

-- Folding is asked for by touching this row; what it does stands in its trigger.
create table totals_state (
  singleton boolean primary key default true check (singleton),
  folded_at timestamptz not null default now()
);
insert into totals_state default values;

-- What the totals of published files change by when these datasets are counted as they are now. A file counts once,
-- however many datasets show it.
create function publication_steps(ids bigint[])
returns table (site_id integer, kind text, stream text, release text, files bigint, events numeric, bytes numeric)
language sql stable as $$
  with state as (
    select d.id, d.is_available and not d.backup_waived as is_shown,
      exists (select from counted_datasets c where c.dataset_id = d.id) as was_shown
    from datasets d where d.id = any (ids)
  ), known as (
    select id, is_shown, was_shown from state
    union all
    select dataset_id, true, true from counted_datasets c where not exists (select from state s where s.id = c.dataset_id)
  ), step as (
    select t.file_id, bool_or(k.is_shown)::int - bool_or(k.was_shown)::int as n
    from (select distinct df.file_id from state s join dataset_files df on df.dataset_id = s.id
          where s.is_shown <> s.was_shown) t
    join dataset_files df on df.file_id = t.file_id
    join known k on k.id = df.dataset_id
    group by t.file_id)
  select f.site_id, f.kind, f.stream, f.release, sum(s.n)::bigint, sum(s.n * coalesce(f.event_count, 0)),
    sum(s.n * f.size_bytes)
  from step s join files f on f.id = s.file_id where s.n <> 0
  group by f.site_id, f.kind, f.stream, f.release
$$;

-- Every file has one status: PUBLISHED (everybody sees it), PUBLISHED_WITHOUT_BACKUP (the same, and its backup was
-- waived), BACKED_UP (safe, and not shown yet or not any more), REGISTERED (neither). Lines of one group are to be
-- summed: a line alone says little, and may be negative.
create view file_status_parts as
  with part as (
    select site_id, kind, stream, release, files, events, bytes, safe_files, safe_events, safe_bytes,
      shown_files, shown_events, shown_bytes
    from file_totals where store_id is null
    union all
    select site_id, kind, stream, release, files, events, bytes, safe_files, safe_events, safe_bytes,
      shown_files, shown_events, shown_bytes
    from file_total_changes where store_id is null
    union all
    select site_id, kind, stream, release, 0, 0, 0, 0, 0, 0, files, events, bytes
    from publication_steps(array(select distinct dataset_id from publication_changes)))
  select p.site_id, p.kind, p.stream, p.release, s.status, s.files, s.events, s.bytes
  from part p cross join lateral (values
    ('REGISTERED', p.files - p.safe_files, p.events - p.safe_events, p.bytes - p.safe_bytes),
    ('BACKED_UP', p.safe_files - p.shown_files, p.safe_events - p.shown_events, p.safe_bytes - p.shown_bytes),
    ('PUBLISHED', p.shown_files, p.shown_events, p.shown_bytes)) s (status, files, events, bytes)
  where s.files <> 0
  union all
  -- What only a dataset with a waived backup shows: from where it was counted to where it belongs.
  select f.site_id, f.kind, f.stream, f.release, s.status, s.step, s.step * coalesce(f.event_count, 0), s.step * f.size_bytes
  from (
    select distinct df.file_id from datasets d join dataset_files df on df.dataset_id = d.id
    where d.is_available and d.backup_waived) w
  join files f on f.id = w.file_id
  cross join lateral (values
    (case when f.confirmed_copies > 0 then 'BACKED_UP' else 'REGISTERED' end, -1),
    (case when f.confirmed_copies > 0 then 'PUBLISHED' else 'PUBLISHED_WITHOUT_BACKUP' end, 1)) s (status, step)
  where not exists (
    select from dataset_files df join datasets d on d.id = df.dataset_id
    where df.file_id = w.file_id and d.is_available and not d.backup_waived);

create function files_counted() returns trigger language plpgsql as $$
begin
  insert into file_total_changes (site_id, kind, stream, release, files, events, bytes)
  select site_id, kind, stream, release, count(*), coalesce(sum(event_count), 0), sum(size_bytes)
  from added group by site_id, kind, stream, release;
  return null;
end
$$;
create trigger files_counted after insert on files
  referencing new table as added for each statement execute function files_counted();

create function files_recounted() returns trigger language plpgsql as $$
begin
  -- execute: planned anew for as many rows as there are.
  execute $sql$
    insert into file_total_changes (site_id, kind, stream, release, safe_files, safe_events, safe_bytes)
    select site_id, kind, stream, release, sum(step), sum(step * coalesce(event_count, 0)), sum(step * size_bytes)
    from (
      select n.*, case when n.confirmed_copies > 0 then 1 else -1 end as step
      from after_rows n join before_rows o using (id)
      where (n.confirmed_copies > 0) <> (o.confirmed_copies > 0)) moved
    group by site_id, kind, stream, release $sql$;
  return null;
end
$$;
create trigger files_recounted after update on files
  referencing old table as before_rows new table as after_rows for each statement execute function files_recounted();

create function copies_counted() returns trigger language plpgsql as $$
begin
  -- Most updates are claims and leases.
  if not exists (select from after_rows where status = 'CONFIRMED')
     and not exists (select from before_rows where status = 'CONFIRMED') then
    return null;
  end if;
  execute $sql$
    insert into file_total_changes (store_id, site_id, kind, stream, release, files, events, bytes)
    select moved.store_id, f.site_id, f.kind, f.stream, f.release, sum(step), sum(step * coalesce(f.event_count, 0)),
      sum(step * f.size_bytes)
    from (
      select n.store_id, n.file_id, case when n.status = 'CONFIRMED' then 1 else -1 end as step
      from after_rows n join before_rows o using (id)
      where (n.status = 'CONFIRMED') <> (o.status = 'CONFIRMED')) moved
    join files f on f.id = moved.file_id
    group by moved.store_id, f.site_id, f.kind, f.stream, f.release $sql$;
  return null;
end
$$;
create trigger copies_counted after update on backup_records
  referencing old table as before_rows new table as after_rows for each statement execute function copies_counted();

create function publications_noted() returns trigger language plpgsql as $$
begin
  -- Only what is CLOSED is shown or was.
  if not exists (select from after_rows where status = 'CLOSED') then
    return null;
  end if;
  execute $sql$
    insert into publication_changes (dataset_id)
    select n.id from after_rows n join before_rows o using (id)
    where n.is_available <> o.is_available and not n.backup_waived $sql$;
  return null;
end
$$;
create trigger publications_noted after update on datasets
  referencing old table as before_rows new table as after_rows for each statement execute function publications_noted();

-- One at a time; who comes second leaves it to the first. All is computed before the first row is written: until then
-- this transaction has no number, and holds up no reader of the log.
create function fold_totals() returns trigger language plpgsql as $$
declare
  -- Files that are looked at in one go, unless one dataset has more.
  most_files constant bigint := 200000;
  chosen bigint[];
  noted bigint[];
  shown bigint[];
  steps jsonb;
begin
  if not pg_try_advisory_xact_lock(77341, 0) then
    return null;
  end if;
  select array_agg(id) into chosen from (
    select d.id, sum(d.file_count) over (order by q.first, d.id) - d.file_count as before
    from (select dataset_id, min(id) as first from publication_changes group by dataset_id) q
    join datasets d on d.id = q.dataset_id) x
  where before < most_files;
  if chosen is not null then
    select (select array_agg(p.id) from publication_changes p where p.dataset_id = any (chosen)),
           (select array_agg(d.id) from datasets d where d.id = any (chosen) and d.is_available and not d.backup_waived),
           (select jsonb_agg(to_jsonb(s)) from publication_steps(chosen) s)
    into noted, shown, steps;
    delete from publication_changes where id = any (noted);
    delete from counted_datasets where dataset_id = any (chosen);
    insert into counted_datasets select unnest(shown);
    insert into file_total_changes (site_id, kind, stream, release, shown_files, shown_events, shown_bytes)
    select * from jsonb_to_recordset(steps) as s (site_id integer, kind text, stream text, release text,
      files bigint, events numeric, bytes numeric);
  end if;
  with gone as (
    delete from file_total_changes where id in (select id from file_total_changes order by id limit 200000) returning *)
  insert into file_totals as t
  select store_id, site_id, kind, stream, release, sum(files), sum(events), sum(bytes), sum(safe_files),
    sum(safe_events), sum(safe_bytes), sum(shown_files), sum(shown_events), sum(shown_bytes)
  from gone group by store_id, site_id, kind, stream, release
  on conflict (store_id, site_id, kind, stream, release) do update set
    files = t.files + excluded.files, events = t.events + excluded.events, bytes = t.bytes + excluded.bytes,
    safe_files = t.safe_files + excluded.safe_files, safe_events = t.safe_events + excluded.safe_events,
    safe_bytes = t.safe_bytes + excluded.safe_bytes, shown_files = t.shown_files + excluded.shown_files,
    shown_events = t.shown_events + excluded.shown_events, shown_bytes = t.shown_bytes + excluded.shown_bytes;
  return null;
end
$$;
create trigger fold_totals before update on totals_state for each statement execute function fold_totals();

-- What is there already.
insert into counted_datasets select id from datasets where is_available and not backup_waived;
insert into file_totals
select null, site_id, kind, stream, release, count(*), coalesce(sum(event_count), 0), sum(size_bytes),
  count(*) filter (where confirmed_copies > 0),
  coalesce(sum(event_count) filter (where confirmed_copies > 0), 0),
  coalesce(sum(size_bytes) filter (where confirmed_copies > 0), 0),
  count(s.file_id),
  coalesce(sum(event_count) filter (where s.file_id is not null), 0),
  coalesce(sum(size_bytes) filter (where s.file_id is not null), 0)
from files f
left join (select distinct df.file_id from dataset_files df join counted_datasets c using (dataset_id)) s on s.file_id = f.id
group by site_id, kind, stream, release;
insert into file_totals
select b.store_id, f.site_id, f.kind, f.stream, f.release, count(*), coalesce(sum(f.event_count), 0), sum(f.size_bytes),
  0, 0, 0, 0, 0, 0
from backup_records b join files f on f.id = b.file_id where b.status = 'CONFIRMED'
group by b.store_id, f.site_id, f.kind, f.stream, f.release;

-- Counts are written by the triggers of what they count, and by nobody else.
create function totals_only_from_triggers() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', format('%s is kept by the database', tg_table_name));
  end if;
  return null;
end
$$;
do $$
declare
  name text;
begin
  foreach name in array array['file_totals', 'file_total_changes', 'publication_changes', 'counted_datasets'] loop
    execute format('create trigger %1$s_kept before insert or update or delete on %1$I
      for each statement execute function totals_only_from_triggers()', name);
    execute format('create trigger %1$s_whole before truncate on %1$I
      for each statement execute function refuse_any_change()', name);
    execute format('alter table %1$I enable always trigger %1$s_kept, enable always trigger %1$s_whole', name);
  end loop;
  foreach name in array array[
    'publication_steps(bigint[])', 'files_counted()', 'files_recounted()', 'copies_counted()', 'publications_noted()',
    'fold_totals()', 'totals_only_from_triggers()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
create trigger totals_state_kept before delete or truncate on totals_state
  for each statement execute function refuse_any_change();
alter table files enable always trigger files_counted, enable always trigger files_recounted;
alter table backup_records enable always trigger copies_counted;
alter table datasets enable always trigger publications_noted;
alter table totals_state enable always trigger fold_totals, enable always trigger totals_state_kept;
