-- Incidents: what a loss of storage hit, item by item, which datasets it hid, and what has come back since.

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state) values
  ('incident', '', 'OPEN'),
  ('incident', 'OPEN', 'RECOVERING'),
  ('incident', 'OPEN', 'CLOSED'),
  ('incident', 'OPEN', 'UNDONE'),
  ('incident', 'RECOVERING', 'OPEN'),
  ('incident', 'RECOVERING', 'CLOSED'),
  ('incident', 'RECOVERING', 'UNDONE'),
  ('incident', 'CLOSED', 'RECOVERING');
alter table lifecycle enable always trigger lifecycle_kept;

-- Other migrations add words of their own: what is there is kept.
do $$
declare
  known text[];
begin
  select array_agg(word[1]) into known
  from pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''::text', 'g') as word
  where c.conrelid = 'events'::regclass and c.conname = 'events_kind_check';
  execute format('alter table events drop constraint events_kind_check, add constraint events_kind_check check (kind in (%s))',
    (select string_agg(quote_literal(word), ', ')
     from unnest(known || array['INCIDENT_STATUS', 'REPLICA_STATUS']) as word));
end
$$;
alter table events add column incident_id bigint;
create index events_by_incident on events (incident_id, xid, id) where incident_id is not null;

-- As in 0008: how an incident and its copies come along is production's business; others see what becomes of datasets.
drop index events_for_all, events_for_all_by_actor;
create index events_for_all on events (xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS');
create index events_for_all_by_actor on events (actor, xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS');

-- As events_in_order of 0001, for the lines of an incident.
create function events_in_order_of_incident() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid,
    (select xid from events where incident_id = new.incident_id order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order_of_incident before insert on events
  for each row when (new.incident_id is not null) execute function events_in_order_of_incident();
alter table events enable always trigger events_in_order_of_incident;

create table incidents (
  id bigint generated always as identity primary key,
  status text not null default 'OPEN' check (status in ('OPEN', 'RECOVERING', 'CLOSED', 'UNDONE')),
  -- What was lost: copies on disk, or copies in a mass store.
  what text not null check (what in ('REPLICAS', 'BACKUPS')),
  reason text not null check (length(btrim(reason)) between 1 and 2000),
  -- As it was reported.
  scope jsonb not null,
  since timestamptz,
  until timestamptz not null,
  reported_by text not null default current_actor(),
  reported_at timestamptz not null default now(),
  -- Kept by the triggers of incident_items. The first four are what was found and never change.
  item_count bigint not null default 0,
  safe_count bigint not null default 0,
  recoverable_count bigint not null default 0,
  lost_count bigint not null default 0,
  -- Items that nobody has brought back yet and that need it; those whose file nothing holds; those brought back.
  open_count bigint not null default 0 check (open_count >= 0),
  still_lost_count bigint not null default 0 check (still_lost_count >= 0),
  restored_count bigint not null default 0,
  -- BACKUPS: where the copies are asked for again.
  backup_store_id integer references mass_stores,
  -- RECOVERING: where files are restaged; null = where they were.
  recovery_volume_id integer references volumes,
  path_from text,
  path_to text,
  -- How far the items have been given out to workers, by ordinal.
  fed_ordinal bigint not null default 0,
  closed_at timestamptz,
  closed_by text,
  closing_reason text,
  version integer not null default 1,
  check (since <= until),
  check ((what = 'BACKUPS') = (backup_store_id is not null)),
  check ((path_from is null) = (path_to is null)),
  check ((status in ('CLOSED', 'UNDONE')) = (closed_at is not null)),
  check ((closed_at is null) = (closed_by is null) and (closed_at is null) = (closing_reason is null))
);
create index incidents_unfinished on incidents (id) where status in ('OPEN', 'RECOVERING');

-- One row for each copy that was hit. No foreign keys: a million of them would lock a million rows of files for
-- the time of the report; incident_items_guard looks instead, and files, replicas and backups are never deleted.
create table incident_items (
  incident_id bigint not null,
  -- Its place in the incident: last copies first.
  ordinal bigint not null check (ordinal > 0),
  file_id bigint not null,
  replica_id bigint,
  backup_id bigint,
  -- As it was found: another copy like it; a copy of the other sort; nothing.
  finding text not null check (finding in ('SAFE', 'RECOVERABLE', 'LOST')),
  status text not null default 'HIT' check (status in ('HIT', 'RESTORED', 'UNDONE')),
  -- Nothing holds the file now.
  is_lost boolean not null,
  -- BACKUPS: no confirmed backup now.
  is_unbacked boolean not null,
  restored_at timestamptz,
  primary key (incident_id, ordinal),
  check ((replica_id is null) <> (backup_id is null)),
  check (not is_lost or finding = 'LOST'),
  check (not is_unbacked or (backup_id is not null and finding <> 'SAFE')),
  check ((status = 'RESTORED') = (restored_at is not null)),
  check (status = 'HIT' or not (is_lost or is_unbacked))
);
create index incident_items_by_file on incident_items (file_id, incident_id);
create index incident_items_unbacked on incident_items (file_id) where is_unbacked;

create table incident_datasets (
  incident_id bigint not null references incidents,
  dataset_id bigint not null references datasets,
  -- Files: of the dataset, hit, lost, and on disk without a confirmed backup; as it was found …
  file_count bigint not null check (file_count > 0),
  hit_count bigint not null check (hit_count > 0),
  lost_total bigint not null check (lost_total between 0 and hit_count),
  unbacked_total bigint not null check (unbacked_total between 0 and hit_count),
  -- … and now.
  lost_count bigint not null check (lost_count between 0 and lost_total),
  unbacked_count bigint not null check (unbacked_count between 0 and unbacked_total + lost_total),
  primary key (incident_id, dataset_id)
);
create index incident_datasets_by_dataset on incident_datasets (dataset_id);

alter table bad_marks add column incident_id bigint references incidents;
create unique index bad_marks_by_incident on bad_marks (incident_id, dataset_id) where incident_id is not null;

-- What bad_marks_guard of 0006 does row by row, for as many as a crash marks at once.
drop trigger bad_marks_guard on bad_marks;
drop function bad_marks_guard();
create function bad_marks_added() returns trigger language plpgsql as $$
begin
  if exists (select from added where cleared_at is not null) then
    perform refuse('ILLEGAL_TRANSITION', 'a bad mark is set before it is cleared');
  end if;
  -- execute, here and below: planned anew for as many rows as there are.
  execute $sql$ select from datasets where id in (select dataset_id from added) order by id for no key update $sql$;
  execute $sql$
    update datasets d set bad_mark_count = d.bad_mark_count + t.n
    from (select dataset_id, count(*)::integer as n from added group by dataset_id) t where d.id = t.dataset_id $sql$;
  execute $sql$
    insert into events (kind, dataset_id, from_state, to_state, reason)
    select 'DATASET_MARKED_BAD', d.id, d.status, d.status, a.reason
    from added a join datasets d on d.id = a.dataset_id order by a.id $sql$;
  return null;
end
$$;
create function bad_marks_changed() returns trigger language plpgsql as $$
declare
  is_strange boolean;
begin
  execute $sql$
    select bool_or(o.cleared_at is not null or n.cleared_at is null or
      (n.id, n.dataset_id, n.reason, n.marked_by, n.marked_at) is distinct from
      (o.id, o.dataset_id, o.reason, o.marked_by, o.marked_at))
    from before_rows o left join after_rows n using (id) $sql$ into is_strange;
  if is_strange then
    perform refuse('ILLEGAL_TRANSITION', 'a bad mark is cleared once, and otherwise never changes');
  elsif is_strange is null then
    return null;
  end if;
  execute $sql$ select from datasets where id in (select dataset_id from after_rows) order by id for no key update $sql$;
  execute $sql$
    update datasets d set bad_mark_count = d.bad_mark_count - t.n
    from (select dataset_id, count(*)::integer as n from after_rows group by dataset_id) t where d.id = t.dataset_id $sql$;
  execute $sql$
    insert into events (kind, dataset_id, from_state, to_state, reason)
    select 'DATASET_CLEARED', d.id, d.status, d.status, a.cleared_reason
    from after_rows a join datasets d on d.id = a.dataset_id order by a.id $sql$;
  return null;
end
$$;
create trigger bad_marks_added after insert on bad_marks
  referencing new table as added for each statement execute function bad_marks_added();
create trigger bad_marks_changed after update on bad_marks
  referencing old table as before_rows new table as after_rows for each statement execute function bad_marks_changed();
alter table bad_marks enable always trigger bad_marks_added, enable always trigger bad_marks_changed;

-- The life of an incident; what was reported never changes.
create function incidents_guard() returns trigger language plpgsql as $$
declare
  counted text[] := array['open_count', 'still_lost_count', 'restored_count', 'item_count', 'safe_count',
    'recoverable_count', 'lost_count'];
  moving text[] := array['status', 'recovery_volume_id', 'path_from', 'path_to', 'fed_ordinal', 'closed_at',
    'closed_by', 'closing_reason', 'version'];
begin
  if tg_op = 'INSERT' then
    if new.status <> 'OPEN' or new.fed_ordinal <> 0 or (new.item_count, new.safe_count, new.recoverable_count,
       new.lost_count, new.open_count, new.still_lost_count, new.restored_count) <> (0, 0, 0, 0, 0, 0, 0) then
      perform refuse('ILLEGAL_TRANSITION', 'an incident starts OPEN and without items');
    end if;
    return new;
  end if;
  if to_jsonb(new) - moving - counted is distinct from to_jsonb(old) - moving - counted then
    perform refuse('ILLEGAL_TRANSITION', format('incident %s: what was reported never changes', old.id));
  end if;
  if pg_trigger_depth() < 2 and (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
    perform refuse('ILLEGAL_TRANSITION', format('the counts of incident %s are kept by the database', old.id));
  end if;
  if new.status <> old.status then
    if not exists (select from lifecycle
                   where noun = 'incident' and from_state = old.status and to_state = new.status) then
      perform refuse('ILLEGAL_TRANSITION',
        format('incident %s: %s to %s is not a step of its life', old.id, old.status, new.status));
    end if;
    if new.status = 'UNDONE' and old.what = 'BACKUPS' then
      perform refuse('ILLEGAL_TRANSITION', format('incident %s: a store is not believed without being asked', old.id),
        'each copy is asked for again and read; what is there is confirmed, and the marks go with it');
    end if;
    if new.status in ('CLOSED', 'UNDONE') then
      new.closed_at := clock_timestamp();
      new.closed_by := current_actor();
      new.closing_reason := current_reason();
      if new.closing_reason is null then
        perform refuse('BAD_USER_INPUT', format('incident %s: closing needs a reason', old.id));
      end if;
    else
      new.closed_at := null;
      new.closed_by := null;
      new.closing_reason := null;
    end if;
  elsif (new.closed_at, new.closed_by, new.closing_reason) is distinct from
        (old.closed_at, old.closed_by, old.closing_reason) then
    perform refuse('ILLEGAL_TRANSITION', format('incident %s: who closed it, when and why stays', old.id));
  end if;
  new.version := old.version + 1;
  return new;
end
$$;
create trigger incidents_guard before insert or update on incidents for each row execute function incidents_guard();
create trigger incidents_kept before delete or truncate on incidents for each statement execute function refuse_any_change();

-- Written when the transaction commits, with the counts of the items that came with it. This one line tells of all
-- replicas that became LOST: the items are its list, and never change.
create function incident_opened() returns trigger language plpgsql as $$
declare
  i incidents;
begin
  select * into i from incidents where id = new.id;
  if i.item_count = 0 then
    perform refuse('BAD_USER_INPUT', format('incident %s has hit nothing', i.id));
  end if;
  insert into events (kind, incident_id, to_state, reason, facts)
  values ('INCIDENT_STATUS', i.id, 'OPEN', i.reason, jsonb_build_object('what', i.what, 'itemCount', i.item_count,
    'safeCount', i.safe_count, 'recoverableCount', i.recoverable_count, 'lostCount', i.lost_count));
  return null;
end
$$;
create constraint trigger incident_opened after insert on incidents
  deferrable initially deferred for each row execute function incident_opened();

create function incident_moved() returns trigger language plpgsql as $$
begin
  insert into events (kind, incident_id, from_state, to_state, facts)
  values ('INCIDENT_STATUS', new.id, old.status, new.status, jsonb_build_object(
    'restoredCount', new.restored_count, 'openCount', new.open_count, 'stillLostCount', new.still_lost_count));
  return null;
end
$$;
create trigger incident_moved after update on incidents
  for each row when (old.status <> new.status) execute function incident_moved();
alter table incidents enable always trigger incidents_guard, enable always trigger incidents_kept,
  enable always trigger incident_opened, enable always trigger incident_moved;

-- Items come with their incident, in its transaction, and are never more.
create function incident_items_added() returns trigger language plpgsql as $$
declare
  strange text;
begin
  -- execute, here and below: planned anew for as many rows as there are.
  execute $sql$
    select format('item %s of incident %s', a.ordinal, a.incident_id)
    from added a
    left join incidents i on i.id = a.incident_id and i.xmin = pg_current_xact_id()::xid
    left join replicas p on p.id = a.replica_id and p.file_id = a.file_id and p.status = 'AVAILABLE'
    left join backup_records b on b.id = a.backup_id and b.file_id = a.file_id and b.status = 'CONFIRMED'
    where i.id is null or a.status <> 'HIT' or a.is_lost <> (a.finding = 'LOST')
      or a.is_unbacked <> (a.backup_id is not null and a.finding <> 'SAFE')
      or case i.what when 'REPLICAS' then p.id is null else b.id is null end
    -- Ordered, so that the plan is made for all rows: none is expected, and all are looked at.
    order by 1 limit 1 $sql$ into strange;
  if strange is not null then
    perform refuse('ILLEGAL_TRANSITION', strange || ' is no copy that was there',
      'report the loss with reportStorageLoss');
  end if;
  execute $sql$
    update incidents i set item_count = i.item_count + t.n, safe_count = i.safe_count + t.safe,
      recoverable_count = i.recoverable_count + t.recoverable, lost_count = i.lost_count + t.lost,
      open_count = i.open_count + t.open, still_lost_count = i.still_lost_count + t.lost
    from (select incident_id, count(*) as n, count(*) filter (where finding = 'SAFE') as safe,
            count(*) filter (where finding = 'RECOVERABLE') as recoverable,
            count(*) filter (where finding = 'LOST') as lost,
            count(*) filter (where finding <> 'SAFE' or backup_id is not null) as open
          from added group by incident_id) t
    where i.id = t.incident_id $sql$;
  return null;
end
$$;
create trigger incident_items_added after insert on incident_items
  referencing new table as added for each statement execute function incident_items_added();

-- What becomes of items: HIT to RESTORED or UNDONE; lost to not lost; never back. The counts follow, and with the
-- last lost file of a dataset its mark goes.
create function incident_items_changed() returns trigger language plpgsql as $$
declare
  strange text;
begin
  if not exists (select from before_rows) then
    return null;
  end if;
  execute $sql$
    select format('item %s of incident %s', o.ordinal, o.incident_id)
    from before_rows o left join after_rows n using (incident_id, ordinal)
    left join incidents i on i.id = n.incident_id
    where n.incident_id is null
      or (n.file_id, n.replica_id, n.backup_id, n.finding)
        is distinct from (o.file_id, o.replica_id, o.backup_id, o.finding)
      or (o.status <> 'HIT' and (n.status, n.restored_at) is distinct from (o.status, o.restored_at))
      or (n.is_lost and not o.is_lost) or (n.is_unbacked and not o.is_unbacked)
      or (n.status = 'UNDONE' and o.status <> 'UNDONE' and i.status <> 'UNDONE')
      -- Needs evidence: a copy that was read and found good, or that a store has confirmed.
      or (i.status <> 'UNDONE' and ((o.is_lost and not n.is_lost) or (n.status = 'RESTORED' and o.status = 'HIT'))
        and not exists (select from backup_records b where b.file_id = n.file_id and b.status = 'CONFIRMED')
        and not exists (select from replica_checks c where c.file_id = n.file_id and c.status = 'GOOD'
          and c.finished_at >= i.reported_at))
      or (i.status <> 'UNDONE' and o.is_unbacked and not n.is_unbacked
        and not exists (select from backup_records b where b.file_id = n.file_id and b.status = 'CONFIRMED'))
      or (o.is_lost and not n.is_lost and exists (
        select from incident_items x where x.file_id = n.file_id and x.incident_id = n.incident_id and x.is_lost))
    -- Ordered, so that the plan is made for all rows: none is expected, and all are looked at.
    order by 1 limit 1 $sql$ into strange;
  if strange is not null then
    perform refuse('ILLEGAL_TRANSITION', strange || ' keeps what was found, until a copy of the file is read and found good');
  end if;
  execute $sql$
    update incident_datasets x set lost_count = x.lost_count - t.lost,
      unbacked_count = x.unbacked_count - t.unbacked
    from (
      select f.incident_id, df.dataset_id, count(*) filter (where f.was_lost and not f.is_lost) as lost,
        sum((f.was_unbacked and not f.was_lost)::int - (f.is_unbacked and not f.is_lost)::int) as unbacked
      from (
        select n.incident_id, n.file_id, bool_or(o.is_lost) as was_lost, bool_or(n.is_lost) as is_lost,
          bool_or(o.is_unbacked) as was_unbacked, bool_or(n.is_unbacked) as is_unbacked
        from after_rows n join before_rows o using (incident_id, ordinal)
        where (o.is_lost, o.is_unbacked) <> (n.is_lost, n.is_unbacked)
        group by 1, 2) f
      join dataset_files df on df.file_id = f.file_id
      group by 1, 2) t
    where x.incident_id = t.incident_id and x.dataset_id = t.dataset_id $sql$;
  execute $sql$
    update incidents i set open_count = i.open_count - t.done, still_lost_count = i.still_lost_count - t.found,
      restored_count = i.restored_count + t.restored
    from (
      select n.incident_id,
        count(*) filter (where o.status = 'HIT' and n.status <> 'HIT'
          and (n.finding <> 'SAFE' or n.backup_id is not null)) as done,
        count(*) filter (where o.is_lost and not n.is_lost) as found,
        count(*) filter (where o.status = 'HIT' and n.status = 'RESTORED') as restored
      from after_rows n join before_rows o using (incident_id, ordinal) group by 1) t
    where i.id = t.incident_id and (t.done, t.found, t.restored) <> (0, 0, 0) $sql$;
  return null;
end
$$;
create trigger incident_items_changed after update on incident_items
  referencing old table as before_rows new table as after_rows
  for each statement execute function incident_items_changed();
create trigger incident_items_kept before delete or truncate on incident_items
  for each statement execute function refuse_any_change();
alter table incident_items enable always trigger incident_items_added, enable always trigger incident_items_changed,
  enable always trigger incident_items_kept;

-- I1 of 0006, and what a lost store leaves of it: a dataset that was published with a confirmed backup of each file
-- stays what it is while a disk holds what a store has lost in an incident; the copy is asked for again at once.
create or replace function dataset_stays_safe() returns trigger language plpgsql as $$
declare
  d datasets;
begin
  select * into d from datasets where id = new.id;
  if d.status <> 'OPEN' and not d.backup_waived and d.confirmed_count < d.file_count and d.bad_mark_count = 0
     and exists (
       select from dataset_files df join files f on f.id = df.file_id
       where df.dataset_id = d.id and f.confirmed_copies = 0 and not (
         exists (select from incident_items i where i.file_id = f.id and i.is_unbacked and not i.is_lost)
         and exists (select from replicas p where p.file_id = f.id and p.status = 'AVAILABLE'))) then
    perform refuse('FILES_NOT_BACKED_UP', format('dataset %s is %s, and %s of its files would have no confirmed backup',
      d.name, d.status, d.file_count - d.confirmed_count), 'mark it bad in the same transaction');
  end if;
  return null;
end
$$;

create function incident_datasets_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if not exists (select from incidents i where i.id = new.incident_id and i.xmin = pg_current_xact_id()::xid)
       or (new.lost_count, new.unbacked_count) <> (new.lost_total, new.unbacked_total) then
      perform refuse('ILLEGAL_TRANSITION', 'the datasets of an incident come with it',
        'report the loss with reportStorageLoss');
    end if;
  elsif pg_trigger_depth() < 2 or
    (to_jsonb(new) - '{lost_count,unbacked_count}'::text[]) is distinct from
    (to_jsonb(old) - '{lost_count,unbacked_count}'::text[]) then
    perform refuse('ILLEGAL_TRANSITION', 'what an incident did to a dataset is counted by the database');
  end if;
  return new;
end
$$;
create trigger incident_datasets_guard before insert or update on incident_datasets
  for each row execute function incident_datasets_guard();
create trigger incident_datasets_kept before delete or truncate on incident_datasets
  for each statement execute function refuse_any_change();

-- When the report commits: who lost a file is marked.
create function incident_datasets_marked() returns trigger language plpgsql as $$
declare
  x incident_datasets;
begin
  select * into x from incident_datasets where incident_id = new.incident_id and dataset_id = new.dataset_id;
  if x.lost_count > 0 and not exists (select from bad_marks m
     where m.incident_id = x.incident_id and m.dataset_id = x.dataset_id and m.cleared_at is null) then
    perform refuse('DATASET_BAD', format('dataset %s lost files in incident %s and carries no mark of it', x.dataset_id,
      x.incident_id), 'mark it bad in the same transaction');
  end if;
  return null;
end
$$;
create constraint trigger incident_datasets_marked after insert on incident_datasets
  deferrable initially deferred for each row execute function incident_datasets_marked();

create function incident_datasets_freed() returns trigger language plpgsql as $$
begin
  update bad_marks m set cleared_at = clock_timestamp(), cleared_by = current_actor(),
    cleared_reason = case i.status when 'UNDONE' then format('incident %s was undone: %s', i.id, i.closing_reason)
      else format('incident %s: all files are good again', i.id) end
  from after_rows n join incidents i on i.id = n.incident_id
  where m.incident_id = n.incident_id and m.dataset_id = n.dataset_id and m.cleared_at is null
    and n.lost_count = 0;
  return null;
end
$$;
create trigger incident_datasets_freed after update on incident_datasets
  referencing new table as after_rows for each statement execute function incident_datasets_freed();
alter table incident_datasets enable always trigger incident_datasets_guard,
  enable always trigger incident_datasets_kept, enable always trigger incident_datasets_marked,
  enable always trigger incident_datasets_freed;

-- A mark of an incident goes with the loss, and not before.
create function bad_marks_of_incidents() returns trigger language plpgsql as $$
declare
  x incident_datasets;
begin
  if tg_op = 'UPDATE' and new.incident_id is distinct from old.incident_id then
    perform refuse('ILLEGAL_TRANSITION', 'a bad mark keeps its incident');
  end if;
  select * into x from incident_datasets where incident_id = new.incident_id and dataset_id = new.dataset_id;
  if tg_op = 'INSERT' and new.incident_id is not null and coalesce(x.lost_count, 0) = 0 then
    perform refuse('ILLEGAL_TRANSITION', format('dataset %s lost nothing in incident %s', new.dataset_id, new.incident_id));
  end if;
  if tg_op = 'UPDATE' and old.cleared_at is null and new.cleared_at is not null and x.lost_count > 0 then
    perform refuse('DATASET_BAD', format('%s files of the dataset are lost since incident %s', x.lost_count, x.incident_id), 'recover or undo the incident: its marks go with it');
  end if;
  return new;
end
$$;
create trigger bad_marks_of_incidents before insert or update on bad_marks
  for each row execute function bad_marks_of_incidents();
alter table bad_marks enable always trigger bad_marks_of_incidents;

-- A lost file leaves an OPEN dataset: it holds the dataset back no more. None comes in.
-- The lock: a report that is under way is waited for, and waits for those who add (see report.service.ts).
create function dataset_files_of_incidents() returns trigger language plpgsql as $$
declare
  lost text;
begin
  if tg_op = 'INSERT' then
    perform pg_advisory_xact_lock_shared(77341, 2);
    select f.lfn into lost
    from changed c join incident_items i on i.file_id = c.file_id and i.is_lost join files f on f.id = c.file_id
    order by f.lfn limit 1;
    if lost is not null then
      perform refuse('FILE_LOST', format('%s is lost, and nothing holds it', lost),
        'bring it back and confirm it (confirmReplica), or leave it out');
    end if;
    return null;
  end if;
  update incident_datasets x set lost_count = x.lost_count - t.lost, unbacked_count = x.unbacked_count - t.unbacked
  from (
    select i.incident_id, i.dataset_id, count(*) filter (where i.is_lost) as lost,
      count(*) filter (where i.is_unbacked and not i.is_lost) as unbacked
    from (
      select i.incident_id, c.dataset_id, c.file_id, bool_or(i.is_lost) as is_lost, bool_or(i.is_unbacked) as is_unbacked
      from changed c join incident_items i on i.file_id = c.file_id and (i.is_lost or i.is_unbacked)
      group by 1, 2, 3) i
    group by 1, 2) t
  where x.incident_id = t.incident_id and x.dataset_id = t.dataset_id;
  return null;
end
$$;
create trigger incident_hears_of_adding after insert on dataset_files
  referencing new table as changed for each statement execute function dataset_files_of_incidents();
create trigger incident_hears_of_removing after delete on dataset_files
  referencing old table as changed for each statement execute function dataset_files_of_incidents();
alter table dataset_files enable always trigger incident_hears_of_adding,
  enable always trigger incident_hears_of_removing;

-- A store has confirmed a copy: its file is not lost any more, and where the copy was asked for again, it is back.
create function incident_hears_of_backups() returns trigger language plpgsql as $$
declare
  confirmed bigint[];
begin
  execute $sql$
    select array_agg(n.id) from after_rows n join before_rows o using (id)
    where n.status = 'CONFIRMED' and o.status <> 'CONFIRMED'
      and exists (select from incident_items x where x.file_id = n.file_id) $sql$ into confirmed;
  if confirmed is null then
    return null;
  end if;
  update incident_items i set is_lost = false, is_unbacked = false,
    status = case when c.is_back then 'RESTORED' else i.status end,
    restored_at = case when c.is_back then clock_timestamp() else i.restored_at end
  from (
    select x.incident_id, x.ordinal,
      x.backup_id is not null and x.status = 'HIT' and s.backup_store_id = b.store_id as is_back
    from backup_records b join incident_items x on x.file_id = b.file_id join incidents s on s.id = x.incident_id
    where b.id = any (confirmed)) c
  where i.incident_id = c.incident_id and i.ordinal = c.ordinal and (i.is_lost or i.is_unbacked or c.is_back);
  return null;
end
$$;
create trigger incident_hears_of_backups after update on backup_records
  referencing old table as before_rows new table as after_rows
  for each statement execute function incident_hears_of_backups();
alter table backup_records enable always trigger incident_hears_of_backups;

-- As in 0013. PUBLISHED_WITHOUT_BACKUP: also what everybody sees from disk while its backup, lost in an incident, is
-- made again.
create or replace view file_status_parts as
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
    where df.file_id = w.file_id and d.is_available and not d.backup_waived)
  union all
  -- Shown, and its backup lost: from where it was counted (shown, and not safe) to where it belongs.
  select f.site_id, f.kind, f.stream, f.release, s.status, s.step, s.step * coalesce(f.event_count, 0), s.step * f.size_bytes
  from (select distinct i.file_id from incident_items i where i.is_unbacked) u
  join files f on f.id = u.file_id and f.confirmed_copies = 0
  cross join lateral (values ('REGISTERED', -1), ('BACKED_UP', 1), ('PUBLISHED', -1), ('PUBLISHED_WITHOUT_BACKUP', 1))
    s (status, step)
  where exists (
    select from dataset_files df join datasets d on d.id = df.dataset_id
    where df.file_id = u.file_id and d.is_available and not d.backup_waived);
