-- Pools: volumes of this site that hold copies of files for reading. What lies in a pool is a cache of the mass
-- stores: it comes when somebody asks for it, and goes when others need the room.

alter table mass_stores
  -- Its files may lie on tape alone, and then no job can open them.
  add column has_tape boolean not null default false,
  -- Files must be asked for and come to its disk before they can be read (tape REST API).
  add column needs_recall boolean not null default false;

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state) values
  ('pool copy', '', 'REQUESTED'),
  ('pool copy', 'REQUESTED', 'RECALLING'),
  ('pool copy', 'REQUESTED', 'COPYING'),
  ('pool copy', 'REQUESTED', 'FAILED'),
  ('pool copy', 'REQUESTED', 'CANCELLED'),
  ('pool copy', 'RECALLING', 'REQUESTED'),
  ('pool copy', 'RECALLING', 'FAILED'),
  ('pool copy', 'RECALLING', 'CANCELLED'),
  ('pool copy', 'COPYING', 'ONLINE'),
  ('pool copy', 'COPYING', 'REQUESTED'),
  ('pool copy', 'COPYING', 'FAILED'),
  ('pool copy', 'ONLINE', 'EVICTING'),
  ('pool copy', 'ONLINE', 'LOST'),
  ('pool copy', 'EVICTING', 'EVICTED'),
  ('pool copy', 'LOST', 'ONLINE'),
  ('pool copy', 'LOST', 'REQUESTED'),
  ('pool copy', 'EVICTED', 'REQUESTED'),
  ('pool copy', 'FAILED', 'REQUESTED'),
  ('pool copy', 'CANCELLED', 'REQUESTED'),
  ('replica', 'AVAILABLE', 'EVICTED'),
  ('replica', 'EVICTED', 'AVAILABLE');
alter table lifecycle enable always trigger lifecycle_kept;

do $$
declare
  kinds text;
begin
  select string_agg(quote_literal(kind), ', ') into kinds
  from (
    select m[1] as kind from pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''::text', 'g') m
    where c.conrelid = 'events'::regclass and c.conname = 'events_kind_check'
    union select 'POOL_COPY_STATUS') every_kind;
  alter table events drop constraint events_kind_check;
  execute format('alter table events add constraint events_kind_check check (kind in (%s))', kinds);
end
$$;

-- As in 0018 and 0030: what comes and goes in a pool is told of single files.
drop index events_for_all, events_for_all_by_actor;
create index events_for_all on events (xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS',
    'IMPORT_STATUS', 'POOL_COPY_STATUS');
create index events_for_all_by_actor on events (actor, xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS',
    'IMPORT_STATUS', 'POOL_COPY_STATUS');
create index events_by_pool_copy on events (((facts ->> 'poolCopyId')::bigint), xid, id) where kind = 'POOL_COPY_STATUS';

-- As events_in_order of 0001, for the lines of a copy in a pool.
create function events_in_order_of_pool_copy() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid, (select xid from events
    where kind = 'POOL_COPY_STATUS' and (facts ->> 'poolCopyId')::bigint = (new.facts ->> 'poolCopyId')::bigint
    order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order_of_pool_copy before insert on events
  for each row when (new.kind = 'POOL_COPY_STATUS') execute function events_in_order_of_pool_copy();
alter table events enable always trigger events_in_order_of_pool_copy;

create table pools (
  id integer generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  volume_id integer not null unique references volumes,
  path text not null check (path ~ '^(/[^/]+)+$' and octet_length(path) <= 1024),
  -- By protocol, with {path} where the path below the pool stands.
  urls jsonb not null check (jsonb_typeof(urls) = 'object'),
  size_limit bigint not null check (size_limit between 1 and 9007199254740991),
  -- Who may stage into it.
  roles text[] not null,
  pin_seconds integer not null check (pin_seconds > 0),
  most_pin_seconds integer not null check (most_pin_seconds >= pin_seconds),
  -- Files that one principal may want at once.
  file_limit integer not null check (file_limit > 0),
  concurrency integer not null check (concurrency between 1 and 64),
  -- Of the copies that are there, come or go; kept by the trigger of pool_copies.
  used_bytes bigint not null default 0 check (used_bytes >= 0),
  is_prepared boolean not null default false,
  is_configured boolean not null default true,
  created_at timestamptz not null default now()
);

create table pool_copies (
  id bigint generated always as identity primary key,
  pool_id integer not null references pools,
  file_id bigint not null references files,
  -- Since it was ONLINE for the first time.
  replica_id bigint unique references replicas,
  path text not null,
  size_bytes bigint not null,
  status text not null default 'REQUESTED' check (status in
    ('REQUESTED', 'RECALLING', 'COPYING', 'ONLINE', 'EVICTING', 'EVICTED', 'LOST', 'FAILED', 'CANCELLED')),
  requested_at timestamptz not null default now(),
  -- COPYING: the store that it is read from; it takes one of its places (mass_stores.concurrency).
  store_id integer references mass_stores,
  copied_bytes bigint not null default 0 check (copied_bytes >= 0),
  -- The store that was asked to bring it from tape, and how it calls that; kept until the store may let it go again.
  recall_store_id integer references mass_stores,
  recall_id text check (length(recall_id) between 1 and 1000),
  is_recalled boolean not null default false,
  next_look_at timestamptz,
  look_count integer not null default 0,
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
  online_at timestamptz,
  -- The last pin that it had, or has; those whose pin is the longest gone go first.
  pinned_until timestamptz not null default now(),
  unique (pool_id, file_id),
  check (status not in ('COPYING', 'EVICTING') or (worker is not null and lease_until is not null)),
  check (status <> 'FAILED' or last_error is not null),
  check (status <> 'RECALLING' or (recall_id is not null and recall_store_id is not null)),
  check (status <> 'ONLINE' or (replica_id is not null and online_at is not null and coalesce(
    length(evidence ->> 'asked') > 0 and length(evidence ->> 'answer') > 0 and length(evidence ->> 'askedAt') > 0, false)))
) with (fillfactor = 70);
create index pool_copies_by_file on pool_copies (file_id);
create index pool_copies_waiting on pool_copies (next_attempt_at, id) where status = 'REQUESTED';
create index pool_copies_leased on pool_copies (lease_until) where status in ('COPYING', 'EVICTING');
create index pool_copies_reading on pool_copies (store_id) where store_id is not null;
create index pool_copies_recalled on pool_copies (recall_store_id, next_look_at) where recall_id is not null;
create index pool_copies_to_evict on pool_copies (pool_id, pinned_until, id) where status = 'ONLINE';

-- Who wants what to lie in a pool, and for how long once it is there.
create table stage_requests (
  id bigint generated always as identity primary key,
  pool_id integer not null references pools,
  principal text not null default current_actor(),
  -- null = files that were named
  dataset_id bigint references datasets,
  -- Of the files: asked for twice is asked for once.
  digest text not null,
  file_count integer not null check (file_count > 0),
  size_bytes bigint not null check (size_bytes > 0),
  pin_seconds integer not null check (pin_seconds > 0),
  requested_at timestamptz not null default now(),
  released_at timestamptz,
  released_by text,
  check ((released_at is null) = (released_by is null))
);
create unique index stage_requests_once on stage_requests (principal, pool_id, digest) where released_at is null;
create table stage_items (
  request_id bigint not null references stage_requests,
  copy_id bigint not null references pool_copies,
  -- null = its pin begins when the copy is there.
  pinned_until timestamptz,
  released_at timestamptz,
  primary key (request_id, copy_id)
) with (fillfactor = 70);
create index stage_items_by_copy on stage_items (copy_id) where released_at is null;

create function pools_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.used_bytes <> 0 then
      perform refuse('ILLEGAL_TRANSITION', 'a new pool is empty');
    end if;
  elsif (new.id, new.name, new.volume_id, new.path) is distinct from (old.id, old.name, old.volume_id, old.path) then
    perform refuse('BAD_USER_INPUT', format('pool %s keeps its volume and its path', old.name), 'make another pool');
  elsif new.used_bytes <> old.used_bytes and pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', format('what pool %s holds is counted', old.name));
  end if;
  return new;
end
$$;
create trigger pools_guard before insert or update on pools for each row execute function pools_guard();
create trigger pools_kept before delete or truncate on pools for each statement execute function refuse_any_change();
alter table pools enable always trigger pools_guard, enable always trigger pools_kept;

create function pool_copies_guard() returns trigger language plpgsql as $$
declare
  registered files;
begin
  if tg_op = 'INSERT' then
    select * into registered from files where id = new.file_id;
    if registered.id is null or not exists (select from pools p where p.id = new.pool_id) then
      perform refuse('NOT_FOUND', 'a copy in a pool is of a registered file');
    end if;
    if new.status <> 'REQUESTED' or new.attempt <> 0 or new.replica_id is not null then
      perform refuse('ILLEGAL_TRANSITION', 'a copy in a pool starts REQUESTED, attempt 0');
    end if;
    new.size_bytes := registered.size_bytes;
    new.path := (select p.path from pools p where p.id = new.pool_id) || registered.lfn;
    return new;
  end if;
  if (new.id, new.pool_id, new.file_id, new.path, new.size_bytes) is distinct from
     (old.id, old.pool_id, old.file_id, old.path, old.size_bytes)
     or (old.replica_id is not null and new.replica_id is distinct from old.replica_id) then
    perform refuse('ILLEGAL_TRANSITION', format('copy %s in a pool keeps its file', old.id));
  end if;
  if new.status <> old.status and not exists (
    select from lifecycle where noun = 'pool copy' and from_state = old.status and to_state = new.status) then
    perform refuse('ILLEGAL_TRANSITION',
      format('copy %s in a pool: %s to %s is not a step of its life', old.id, old.status, new.status));
  end if;
  if new.attempt <> old.attempt then
    if new.attempt <> old.attempt + 1 or new.status not in ('COPYING', 'EVICTING')
       or (old.status = new.status and old.lease_until > clock_timestamp()) then
      perform refuse('LEASE_LOST', format('copy %s in a pool: attempt %s is not a claim', old.id, new.attempt));
    end if;
  elsif new.status in ('COPYING', 'EVICTING') and old.status <> new.status then
    perform refuse('LEASE_LOST', format('copy %s in a pool: a claim counts a new attempt', old.id));
  end if;
  if new.status = 'ONLINE' and old.status = 'COPYING' then
    select * into registered from files where id = new.file_id;
    if new.answered_attempt is distinct from new.attempt then
      perform refuse('LEASE_LOST', format('copy %s in a pool: only the holder of the attempt answers', old.id));
    end if;
    if new.read_size_bytes is distinct from registered.size_bytes or new.read_adler32 is distinct from registered.adler32
       or (registered.sha256 is not null and new.read_sha256 is distinct from registered.sha256) then
      perform refuse('CHECKSUM_MISMATCH', format('%s: what was read is not what was registered', registered.lfn));
    end if;
  elsif new.status = 'EVICTING' and old.status = 'ONLINE' then
    if old.pinned_until > clock_timestamp() then
      perform refuse('ILLEGAL_TRANSITION', format('copy %s in a pool is pinned until %s', old.id, old.pinned_until));
    end if;
    -- Held until the end: a store that is losing it right now waits, and then sees that the cache is gone.
    perform from backup_records b where b.file_id = old.file_id and b.status = 'CONFIRMED' limit 1 for share;
    if not found then
      perform refuse('NOT_CONFIRMED', format('copy %s in a pool: no mass store has a confirmed copy', old.id));
    end if;
  end if;
  if new.status <> 'COPYING' then
    new.store_id := null;
  end if;
  return new;
end
$$;
create trigger pool_copies_guard before insert or update on pool_copies
  for each row execute function pool_copies_guard();
create trigger pool_copies_kept before delete or truncate on pool_copies
  for each statement execute function refuse_any_change();

-- What takes room, and the line of the log for each step.
create function pool_copies_added() returns trigger language plpgsql as $$
begin
  insert into events (kind, file_id, to_state, facts)
  select 'POOL_COPY_STATUS', a.file_id, a.status, jsonb_build_object('poolCopyId', a.id, 'pool', p.name)
  from added a join pools p on p.id = a.pool_id order by a.id;
  return null;
end
$$;
create trigger pool_copies_added after insert on pool_copies
  referencing new table as added for each statement execute function pool_copies_added();
create function pool_copies_changed() returns trigger language plpgsql as $$
begin
  if not exists (select from after_rows n join before_rows o using (id) where n.status <> o.status) then
    return null;
  end if;
  execute $sql$
    insert into events (kind, file_id, from_state, to_state, reason, facts)
    select 'POOL_COPY_STATUS', n.file_id, o.status, n.status,
      case when n.status in ('FAILED', 'REQUESTED') then coalesce(current_reason(), n.last_error) end,
      jsonb_strip_nulls(jsonb_build_object('poolCopyId', n.id, 'pool', p.name, 'attempt', n.attempt, 'worker', n.worker,
        'errorCode', case when n.status in ('FAILED', 'REQUESTED') then n.last_error_code end))
    from after_rows n join before_rows o using (id) join pools p on p.id = n.pool_id
    where n.status <> o.status order by n.id $sql$;
  execute $sql$
    update pools p set used_bytes = p.used_bytes + t.step
    from (
      select n.pool_id, sum(n.size_bytes * ((n.status in ('COPYING', 'ONLINE', 'EVICTING'))::int
        - (o.status in ('COPYING', 'ONLINE', 'EVICTING'))::int)) as step
      from after_rows n join before_rows o using (id) group by n.pool_id) t
    where p.id = t.pool_id and t.step <> 0 $sql$;
  return null;
end
$$;
create trigger pool_copies_changed after update on pool_copies
  referencing old table as before_rows new table as after_rows
  for each statement execute function pool_copies_changed();
alter table pool_copies enable always trigger pool_copies_guard, enable always trigger pool_copies_kept,
  enable always trigger pool_copies_added, enable always trigger pool_copies_changed;

-- What somebody asked for stays as he asked for it; its pins move, and end once.
create function stage_requests_guard() returns trigger language plpgsql as $$
begin
  if (new.id, new.pool_id, new.principal, new.dataset_id, new.digest, new.file_count, new.size_bytes) is distinct from
     (old.id, old.pool_id, old.principal, old.dataset_id, old.digest, old.file_count, old.size_bytes)
     or old.released_at is not null then
    perform refuse('ILLEGAL_TRANSITION', format('stage request %s stays as it was asked for', old.id));
  end if;
  return new;
end
$$;
create trigger stage_requests_guard before update on stage_requests
  for each row execute function stage_requests_guard();
create trigger stage_requests_kept before delete or truncate on stage_requests
  for each statement execute function refuse_any_change();
create function stage_items_guard() returns trigger language plpgsql as $$
begin
  if (new.request_id, new.copy_id) is distinct from (old.request_id, old.copy_id) or (old.released_at is not null
     and exists (select from stage_requests r where r.id = old.request_id and r.released_at is not null)) then
    perform refuse('ILLEGAL_TRANSITION', format('what was released from stage request %s stays so', old.request_id));
  end if;
  return new;
end
$$;
create trigger stage_items_guard before update on stage_items for each row execute function stage_items_guard();
create trigger stage_items_kept before delete or truncate on stage_items
  for each statement execute function refuse_any_change();
alter table stage_requests enable always trigger stage_requests_guard, enable always trigger stage_requests_kept;
alter table stage_items enable always trigger stage_items_guard, enable always trigger stage_items_kept;

create or replace function copies_under_way(store integer) returns bigint language sql stable as $$
  select (select count(*) from backup_records b where b.store_id = store
      and b.status in ('COPYING', 'COPIED') and b.lease_until > clock_timestamp())
    + (select count(*) from replica_checks c where c.store_id = store and c.lease_until > clock_timestamp())
    + (select count(*) from pool_copies c where c.store_id = store and c.lease_until > clock_timestamp())
$$;

do $$
declare
  name text;
begin
  foreach name in array array['events_in_order_of_pool_copy()', 'pools_guard()', 'pool_copies_guard()',
    'pool_copies_added()', 'pool_copies_changed()', 'stage_requests_guard()', 'stage_items_guard()',
    'copies_under_way(integer)']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
