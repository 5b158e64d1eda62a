-- Several stores for a file: a policy names them by kind and size. What a file owes is fixed when it is registered.

-- A policy never changes; another set of them puts it out of use, and it goes on for the files that came in under it.
create table backup_policies (
  id integer generated always as identity primary key,
  -- The first that fits counts; null = out of use.
  position integer unique check (position > 0),
  kind text check (kind in ('RUN_FILE', 'MERGED_FILE')),
  min_bytes bigint check (min_bytes > 0),
  max_bytes bigint check (max_bytes >= coalesce(min_bytes, 1)),
  store_ids integer[] not null check (cardinality(store_ids) between 1 and 8),
  created_at timestamptz not null default clock_timestamp()
);

create function backup_policies_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' then
    if (to_jsonb(new) - 'position') is distinct from (to_jsonb(old) - 'position') then
      perform refuse('ILLEGAL_TRANSITION', 'a backup policy never changes', 'make another one');
    end if;
  elsif (select count(distinct s.id) from mass_stores s where s.id = any (new.store_ids)) <> cardinality(new.store_ids) then
    perform refuse('BAD_USER_INPUT', 'a backup policy names stores that are known, each once');
  end if;
  return new;
end
$$;
create trigger backup_policies_guard before insert or update on backup_policies
  for each row execute function backup_policies_guard();
create trigger backup_policies_kept before delete or truncate on backup_policies
  for each statement execute function refuse_any_change();
alter table backup_policies enable always trigger backup_policies_guard, enable always trigger backup_policies_kept;

alter table files
  -- null = one copy, wherever it is
  add column policy_id integer references backup_policies,
  -- Stores that have yet to confirm it before it counts as backed up; kept by the triggers of backup_records.
  add column missing_copies integer not null default 1 check (missing_copies >= 0);
alter table files disable trigger files_guard;
update files set missing_copies = 0 where confirmed_copies > 0;
alter table files enable always trigger files_guard;
drop index files_by_safety;
create index files_by_safety on files ((missing_copies = 0), kind, lfn);

create or replace function files_guard() returns trigger language plpgsql as $$
declare
  policy backup_policies;
begin
  if tg_op = 'INSERT' then
    if new.confirmed_copies <> 0 then
      perform refuse('NOT_CONFIRMED', 'a new file has no confirmed copy');
    end if;
    select * into policy from backup_policies p
    where p.position is not null and coalesce(p.kind, new.kind) = new.kind
      and new.size_bytes between coalesce(p.min_bytes, 0) and coalesce(p.max_bytes, new.size_bytes)
    order by p.position limit 1;
    new.policy_id := policy.id;
    new.missing_copies := coalesce(cardinality(policy.store_ids), 1);
    return new;
  end if;
  if pg_trigger_depth() < 2 or
     (to_jsonb(new) - '{confirmed_copies,missing_copies}'::text[]) is distinct from
     (to_jsonb(old) - '{confirmed_copies,missing_copies}'::text[]) then
    perform refuse('ILLEGAL_TRANSITION', format('file %s: what was registered never changes', old.lfn),
      'register the new content under a new LFN');
  end if;
  return new;
end
$$;

create or replace function backups_changed() returns trigger language plpgsql as $$
begin
  -- execute: planned anew for as many rows as there are. A kept plan for one row takes minutes for ten thousand.
  execute $sql$
  insert into events (kind, file_id, backup_id, from_state, to_state, actor, reason, facts)
  select 'BACKUP_STATUS', n.file_id, n.id, o.status, n.status, current_actor(),
         case when n.status in ('FAILED', 'REQUESTED', 'LOST') then coalesce(current_reason(), n.last_error) end,
         jsonb_strip_nulls(jsonb_build_object('attempt', n.attempt, 'worker', n.worker,
           'errorCode', case when n.status in ('FAILED', 'REQUESTED', 'LOST') then n.last_error_code end,
           'evidence', case when n.status in ('FAILED', 'LOST') then n.evidence end))
  from after_rows n join before_rows o using (id)
  where n.status <> o.status order by n.id $sql$;

  execute $sql$
  with steps as (
    select n.file_id, n.store_id, (n.status = 'CONFIRMED')::int - (o.status = 'CONFIRMED')::int as step
    from after_rows n join before_rows o using (id)
    where (n.status = 'CONFIRMED') <> (o.status = 'CONFIRMED')
  ), delta as (
    select s.file_id, sum(s.step)::int as step,
      coalesce(sum(s.step) filter (where s.store_id = any (p.store_ids)), 0)::int as owed
    from steps s join files f on f.id = s.file_id left join backup_policies p on p.id = f.policy_id
    group by s.file_id)
  update files f set confirmed_copies = f.confirmed_copies + delta.step,
    missing_copies = case when f.policy_id is null then (f.confirmed_copies + delta.step = 0)::int
      else f.missing_copies - delta.owed end
  from delta where f.id = delta.file_id and (delta.step <> 0 or delta.owed <> 0) $sql$;
  return null;
end
$$;

create or replace function dataset_files_changed() returns trigger language plpgsql as $$
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
    select c.dataset_id, count(*) as n, count(*) filter (where f.missing_copies = 0) as confirmed,
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

-- A file has all that its policy asks for, or no longer: its datasets count it, its runs may leave production. One
-- that lost its last copy has its datasets looked at, also where they had ceased to count it before.
create or replace function files_safety_changed() returns trigger language plpgsql as $$
declare
  safe bigint[];
  gone bigint[];
  bare bigint[];
begin
  -- execute: planned anew for as many rows as there are.
  execute $sql$
    select array_agg(n.id) filter (where o.missing_copies > 0 and n.missing_copies = 0),
           array_agg(n.id) filter (where o.missing_copies = 0 and n.missing_copies > 0),
           array_agg(n.id) filter (where o.missing_copies > 0 and o.confirmed_copies > 0 and n.confirmed_copies = 0)
    from after_rows n join before_rows o using (id) $sql$ into safe, gone, bare;
  if safe is null and gone is null and bare is null then
    return null;
  end if;
  perform from datasets d
  where d.id in (select dataset_id from dataset_files where file_id = any (safe || gone || bare))
  order by d.id for no key update;
  update datasets d set confirmed_count = d.confirmed_count + t.step
  from (
    select dataset_id, sum(case when file_id = any (safe) then 1 when file_id = any (gone) then -1 else 0 end) as step
    from dataset_files where file_id = any (safe || gone || bare) group by dataset_id) t
  where d.id = t.dataset_id;
  if safe is not null then
    perform refresh_runs(array(select distinct run_id from file_runs where file_id = any (safe)));
  end if;
  return null;
end
$$;

-- What the dataset itself does not count (confirmed_count).
create or replace function copies_changed() returns trigger language plpgsql as $$
declare
  changed bigint[];
begin
  execute $sql$
    select array_agg(n.id) from after_rows n join before_rows o using (id)
    where n.confirmed_copies <> o.confirmed_copies
      and (o.confirmed_copies > 0 or (o.missing_copies = 0) = (n.missing_copies = 0)) $sql$ into changed;
  if changed is not null then
    perform list_changed(changed);
  end if;
  return null;
end
$$;

create or replace function done_runs(ids bigint[]) returns setof bigint language sql stable as $$
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
      where fr.run_id = r.id and m.missing_copies > 0)
$$;

do $$
declare
  name text;
begin
  foreach name in array array['backup_policies_guard()', 'files_guard()', 'backups_changed()', 'dataset_files_changed()',
    'files_safety_changed()', 'copies_changed()', 'done_runs(bigint[])'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
