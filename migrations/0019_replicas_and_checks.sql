-- The life of a copy on disk: lost by an incident, and good again only when somebody has read it.

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state) values
  ('replica', '', 'AVAILABLE'),
  ('replica', '', 'STAGING'),
  ('replica', 'AVAILABLE', 'LOST'),
  ('replica', 'LOST', 'STAGING'),
  ('replica', 'LOST', 'AVAILABLE'),
  ('replica', 'STAGING', 'AVAILABLE'),
  ('replica', 'STAGING', 'LOST');
alter table lifecycle enable always trigger lifecycle_kept;

-- By which incident it is lost. No foreign key and no index: a report writes it a million times in one statement.
alter table replicas add column incident_id bigint, add check (status <> 'AVAILABLE' or incident_id is null);
-- Half of each page is free: a crash changes every row of a volume once, in place, without a look at the indexes.
alter table replicas set (fillfactor = 50);

-- A reading of one copy, from the wish to what was found; before it, where asked for, the copy from a mass store.
create table replica_checks (
  id bigint generated always as identity primary key,
  replica_id bigint not null references replicas,
  file_id bigint not null references files,
  -- The incident whose recovery asked for it.
  incident_id bigint references incidents,
  -- Copy the file from a mass store first, unless it is there already.
  is_restage boolean not null default false,
  -- RUNNING: the store that it may read from; it takes one of its places (mass_stores.concurrency).
  store_id integer references mass_stores,
  status text not null default 'REQUESTED' check (status in ('REQUESTED', 'RUNNING', 'GOOD', 'BAD', 'FAILED')),
  requested_by text not null default current_actor(),
  requested_at timestamptz not null default now(),
  -- The fence, as in backup_records.
  attempt integer not null default 0 check (attempt >= 0),
  answered_attempt integer,
  failure_count integer not null default 0 check (failure_count >= 0),
  next_attempt_at timestamptz not null default now(),
  worker text,
  lease_until timestamptz,
  read_size_bytes bigint,
  read_adler32 text,
  read_sha256 text,
  evidence jsonb,
  last_error_code text,
  last_error text,
  finished_at timestamptz,
  check ((status in ('GOOD', 'BAD', 'FAILED')) = (finished_at is not null)),
  check (status <> 'RUNNING' or (worker is not null and lease_until is not null)),
  check (status not in ('GOOD', 'BAD') or coalesce(
    length(evidence ->> 'asked') > 0 and length(evidence ->> 'answer') > 0 and length(evidence ->> 'askedAt') > 0, false)),
  check (status not in ('GOOD', 'BAD') or answered_attempt is not distinct from attempt),
  check (status <> 'FAILED' or last_error is not null)
);
create unique index replica_checks_one_at_once on replica_checks (replica_id) where status in ('REQUESTED', 'RUNNING');
create index replica_checks_waiting on replica_checks (next_attempt_at, id) where status = 'REQUESTED';
create index replica_checks_running on replica_checks (lease_until) where status = 'RUNNING';
create index replica_checks_by_file on replica_checks (file_id, id);
create index replica_checks_by_incident on replica_checks (incident_id, id) where incident_id is not null;
create index replica_checks_by_replica on replica_checks (replica_id, id);

create index replica_checks_reading on replica_checks (store_id) where store_id is not null;

-- How many copies a store takes and gives right now.
create function copies_under_way(store integer) returns bigint language sql stable as $$
  select (select count(*) from backup_records b where b.store_id = store
      and b.status in ('COPYING', 'COPIED') and b.lease_until > clock_timestamp())
    + (select count(*) from replica_checks c where c.store_id = store and c.lease_until > clock_timestamp())
$$;

create function replica_checks_guard() returns trigger language plpgsql as $$
declare
  registered files;
begin
  if tg_op = 'INSERT' then
    if new.status <> 'REQUESTED' or new.attempt <> 0 then
      perform refuse('ILLEGAL_TRANSITION', 'a check starts REQUESTED, attempt 0');
    end if;
    if not exists (select from replicas p where p.id = new.replica_id and p.file_id = new.file_id) then
      perform refuse('NOT_FOUND', 'a check is of a copy of its file');
    end if;
    return new;
  end if;
  if old.status in ('GOOD', 'BAD', 'FAILED') then
    perform refuse('ILLEGAL_TRANSITION', format('check %s is over: what was found stays', old.id));
  end if;
  if (new.id, new.replica_id, new.file_id, new.incident_id, new.is_restage, new.requested_by, new.requested_at)
     is distinct from
     (old.id, old.replica_id, old.file_id, old.incident_id, old.is_restage, old.requested_by, old.requested_at) then
    perform refuse('ILLEGAL_TRANSITION', format('check %s keeps its copy', old.id));
  end if;
  if new.attempt <> old.attempt then
    if new.attempt <> old.attempt + 1 or new.status <> 'RUNNING'
       or (old.status = 'RUNNING' and old.lease_until > clock_timestamp()) then
      perform refuse('LEASE_LOST', format('check %s: attempt %s is not a claim', old.id, new.attempt));
    end if;
  elsif new.status = 'RUNNING' and old.status <> 'RUNNING' then
    perform refuse('LEASE_LOST', format('check %s: a claim counts a new attempt', old.id));
  elsif new.status in ('GOOD', 'BAD') and old.status <> 'RUNNING' then
    perform refuse('ILLEGAL_TRANSITION', format('check %s: nobody has read the copy', old.id));
  end if;
  if new.status = 'GOOD' then
    select * into registered from files where id = new.file_id;
    if new.read_size_bytes is distinct from registered.size_bytes or new.read_adler32 is distinct from registered.adler32
       or (registered.sha256 is not null and new.read_sha256 is distinct from registered.sha256) then
      perform refuse('CHECKSUM_MISMATCH', format('%s: what was read is not what was registered', registered.lfn));
    end if;
  end if;
  if new.status in ('GOOD', 'BAD', 'FAILED') then
    new.finished_at := clock_timestamp();
  end if;
  if new.status <> 'RUNNING' then
    new.store_id := null;
  end if;
  return new;
end
$$;
create trigger replica_checks_guard before insert or update on replica_checks
  for each row execute function replica_checks_guard();
create trigger replica_checks_kept before delete or truncate on replica_checks
  for each statement execute function refuse_any_change();
alter table replica_checks enable always trigger replica_checks_guard, enable always trigger replica_checks_kept;

-- The incident whose recovery the transaction serves: its copies are restaged where a store has them.
create function current_recovery() returns bigint language sql stable as $$
  select nullif(current_setting('sweepbook.recovery', true), '')::bigint
$$;

-- What is told of a file that nothing holds is read before it is believed.
create function replicas_added() returns trigger language plpgsql as $$
begin
  if exists (select from added where status = 'LOST' or incident_id is not null) then
    perform refuse('ILLEGAL_TRANSITION', 'a replica starts AVAILABLE or STAGING');
  end if;
  if exists (select from incidents where still_lost_count > 0) then
    if exists (select from added a join incident_items i on i.file_id = a.file_id and i.is_lost
               where a.status = 'AVAILABLE') then
      perform refuse('FILE_LOST', 'a copy of a lost file starts STAGING: it is read before it is believed');
    end if;
  end if;
  if exists (select from added where status = 'STAGING') then
    insert into replica_checks (replica_id, file_id, incident_id, is_restage)
    select a.id, a.file_id, current_recovery(), current_recovery() is not null and f.confirmed_copies > 0
    from added a join files f on f.id = a.file_id where a.status = 'STAGING' order by a.id on conflict do nothing;
  end if;
  return null;
end
$$;
create trigger replicas_added after insert on replicas
  referencing new table as added for each statement execute function replicas_added();

-- A loss and its undoing are told by the line of the incident, whose items are the list; every other step by its own.
create function replicas_changed() returns trigger language plpgsql as $$
declare
  seen record;
begin
  -- One look at all rows: a loss and its undoing need no other.
  execute $sql$
    select min(w.what) filter (where w.is_strange) as strange,
      count(*) filter (where w.is_staged) as staged, count(*) filter (where w.is_told) as told
    from (
      select 'replica ' || o.id || ': ' || o.status || ' to ' || n.status as what,
        n.status = 'STAGING' and o.status <> 'STAGING' as is_staged,
        n.status <> o.status and o.status <> 'AVAILABLE'
          and not (n.status = 'AVAILABLE' and s.status is not distinct from 'UNDONE') as is_told,
        (n.id, n.file_id, n.volume_id, n.path, n.created_at)
          is distinct from (o.id, o.file_id, o.volume_id, o.path, o.created_at)
        or case
          when n.status = o.status then n.incident_id is distinct from o.incident_id
          when n.status = 'LOST' and o.status = 'AVAILABLE' then
            i.replica_id is null or s.xmin is distinct from pg_current_xact_id()::xid
          when not exists (select from lifecycle l
            where l.noun = 'replica' and l.from_state = o.status and l.to_state = n.status) then true
          when n.status = 'AVAILABLE' and o.status = 'LOST' then s.status is distinct from 'UNDONE'
          when n.status = 'AVAILABLE' then s.status is distinct from 'UNDONE' and not exists (
            select from replica_checks c where c.replica_id = n.id and c.status = 'GOOD'
              and c.id = (select max(id) from replica_checks x where x.replica_id = n.id))
          when n.status = 'LOST' then n.incident_id is distinct from o.incident_id or not exists (
            select from replica_checks c where c.replica_id = n.id and c.status in ('BAD', 'FAILED')
              and c.id = (select max(id) from replica_checks x where x.replica_id = n.id))
          else n.incident_id is distinct from o.incident_id end as is_strange
      from before_rows o left join after_rows n using (id)
      left join incidents s on s.id = coalesce(n.incident_id, o.incident_id)
      left join incident_items i on n.status = 'LOST' and o.status = 'AVAILABLE'
        and i.incident_id = n.incident_id and i.file_id = n.file_id and i.replica_id = n.id and i.status = 'HIT') w
    $sql$ into seen;
  if seen.strange is not null then
    perform refuse('ILLEGAL_TRANSITION', seen.strange || ' is not a step of its life',
      'an incident that is reported loses it; read and found good, or its incident undone, it is there again');
  end if;
  if seen.staged > 0 then
    execute $sql$
      insert into replica_checks (replica_id, file_id, incident_id, is_restage)
      select n.id, n.file_id, current_recovery(), current_recovery() is not null and f.confirmed_copies > 0
      from after_rows n join before_rows o using (id) join files f on f.id = n.file_id
      where n.status = 'STAGING' and o.status <> 'STAGING' order by n.id on conflict do nothing $sql$;
  end if;
  if seen.told > 0 then
    execute $sql$
      insert into events (kind, file_id, incident_id, from_state, to_state, facts)
      select 'REPLICA_STATUS', n.file_id, o.incident_id, o.status, n.status, jsonb_strip_nulls(jsonb_build_object(
        'replicaId', n.id, 'path', n.path, 'evidence', c.evidence,
        'errorCode', case when n.status = 'LOST' then c.last_error_code end))
      from after_rows n join before_rows o using (id)
      left join incidents s on s.id = o.incident_id
      left join lateral (select * from replica_checks c where c.replica_id = n.id order by c.id desc limit 1) c
        on n.status <> 'STAGING'
      where n.status <> o.status and o.status <> 'AVAILABLE'
        and not (n.status = 'AVAILABLE' and s.status is not distinct from 'UNDONE') order by n.id $sql$;
  end if;
  return null;
end
$$;
create trigger replicas_changed after update on replicas
  referencing old table as before_rows new table as after_rows
  for each statement execute function replicas_changed();
alter table replicas enable always trigger replicas_added, enable always trigger replicas_changed;

do $$
declare
  name text;
begin
  foreach name in array array[
    'events_in_order_of_incident()', 'incidents_guard()', 'incident_opened()', 'incident_moved()',
    'incident_items_added()', 'incident_items_changed()', 'dataset_stays_safe()', 'bad_marks_added()', 'bad_marks_changed()',
    'incident_datasets_guard()', 'incident_datasets_marked()', 'incident_datasets_freed()',
    'bad_marks_of_incidents()', 'dataset_files_of_incidents()', 'incident_hears_of_backups()',
    'replica_checks_guard()', 'copies_under_way(integer)', 'replicas_added()', 'replicas_changed()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
