-- Foreign imports: what a manifest tells, how far each of its files has come, and where entered datasets come from.

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state) values
  ('import', '', 'RUNNING'),
  ('import', 'RUNNING', 'ENTERED'),
  ('import', 'RUNNING', 'FAILED'),
  ('import', 'RUNNING', 'CANCELLED'),
  ('import', 'FAILED', 'RUNNING'),
  ('import', 'FAILED', 'CANCELLED');
alter table lifecycle enable always trigger lifecycle_kept;

-- One more kind of line, whatever other kinds there are by now.
do $$
declare
  kinds text;
begin
  select string_agg(quote_literal(kind), ', ') into kinds
  from (
    select m[1] as kind from pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''::text', 'g') m
    where c.conrelid = 'events'::regclass and c.conname = 'events_kind_check'
    union select 'IMPORT_STATUS') every_kind;
  alter table events drop constraint events_kind_check;
  execute format('alter table events add constraint events_kind_check check (kind in (%s))', kinds);
end
$$;

-- As in 0018: how an import comes along is production's business; others see the dataset when it is entered.
drop index events_for_all, events_for_all_by_actor;
create index events_for_all on events (xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS');
create index events_for_all_by_actor on events (actor, xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS');
create index events_by_import on events (((facts ->> 'importId')::bigint), xid, id) where kind = 'IMPORT_STATUS';

-- As events_in_order of 0001, for the lines of an import.
create function events_in_order_of_import() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid, (select xid from events
    where kind = 'IMPORT_STATUS' and (facts ->> 'importId')::bigint = (new.facts ->> 'importId')::bigint
    order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order_of_import before insert on events
  for each row when (new.kind = 'IMPORT_STATUS') execute function events_in_order_of_import();
alter table events enable always trigger events_in_order_of_import;

-- A manifest on its way in. Until it is accepted (a row of imports has its number) it can be thrown away as a whole.
create table import_receipts (
  id bigint generated always as identity primary key,
  received_by text not null default current_actor(),
  touched_at timestamptz not null default now()
);

create table imports (
  id bigint primary key references import_receipts,
  status text not null default 'RUNNING' check (status in ('RUNNING', 'ENTERED', 'FAILED', 'CANCELLED')),
  -- The name here; that at its site stands in origin.
  dataset_name text not null check (dataset_name ~ '^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$'),
  source_site text not null,
  -- What the manifest says of the dataset at its site, and of itself; never changes.
  origin jsonb not null,
  manifest_sha256 text not null check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  -- The key whose signature was verified; null = nobody asked for one.
  signed_by text,
  store_id integer not null references mass_stores,
  file_count bigint not null check (file_count > 0),
  size_bytes bigint not null,
  event_count bigint not null,
  run_count bigint not null,
  requested_by text not null default current_actor(),
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  last_error_code text,
  last_error text check (length(last_error) <= 2000),
  dataset_id bigint unique references datasets,
  version integer not null default 1,
  check ((status = 'ENTERED') = (dataset_id is not null)),
  check ((status in ('ENTERED', 'CANCELLED')) = (finished_at is not null)),
  check (status <> 'FAILED' or last_error is not null)
);
-- Never doubles: of one dataset one import at a time.
create unique index imports_one_at_a_time on imports (dataset_name) where status in ('RUNNING', 'FAILED');
create index imports_running on imports (id) where status = 'RUNNING';

create table import_runs (
  import_id bigint not null references import_receipts,
  line integer not null,
  source text not null check (source in ('DATA', 'SIMULATION')),
  number integer not null check (number > 0),
  started_at timestamptz,
  ended_at timestamptz,
  event_count bigint,
  luminosity double precision,
  conditions text,
  verdict text check (verdict in ('GOOD', 'BAD')),
  verdict_comment text,
  primary key (import_id, source, number)
);

create table import_files (
  id bigint generated always as identity primary key,
  import_id bigint not null references import_receipts,
  line integer not null,
  lfn text not null,
  size_bytes bigint not null,
  adler32 text not null,
  sha256 text,
  event_count bigint,
  stream text,
  release text,
  site text,
  -- [{source, number, eventCount}]
  runs jsonb not null,
  -- What it was derived from, as its site tells it.
  parents jsonb not null default '[]',
  -- Where it can be read, the best first.
  urls text[] not null,
  status text not null default 'WAITING' check (status in ('WAITING', 'FETCHING', 'BACKING_UP', 'SAFE', 'FAILED')),
  file_id bigint references files,
  -- Where it lies, or will lie, on disk here; null = nothing of ours is there.
  path text,
  -- We put it there: it goes when the import is cancelled.
  is_brought boolean not null default false,
  fetched_bytes bigint not null default 0,
  fetched_from text,
  fetched_at timestamptz,
  -- The fence, as in backup_records.
  attempt integer not null default 0 check (attempt >= 0),
  worker text,
  lease_until timestamptz,
  failure_count integer not null default 0,
  -- Since when its source has not been reachable.
  silent_since timestamptz,
  next_attempt_at timestamptz not null default now(),
  last_error_code text,
  last_error text check (length(last_error) <= 2000),
  unique (import_id, lfn),
  check (status <> 'FETCHING' or (worker is not null and lease_until is not null)),
  check (status not in ('BACKING_UP', 'SAFE') or file_id is not null),
  check (status <> 'FAILED' or last_error is not null),
  check (not is_brought or path is not null)
) with (fillfactor = 70);
create index import_files_by_status on import_files (import_id, status);
create index import_files_waiting on import_files (next_attempt_at, id) where status = 'WAITING';
create index import_files_fetching on import_files (lease_until) where status = 'FETCHING';
create index import_files_brought on import_files (import_id, id) where is_brought;
create index import_files_by_file on import_files (file_id) where file_id is not null;

-- Copies on disk that count for nothing yet: a worker backs up from them. They become replicas when their dataset is
-- entered, or go. So nobody is shown a copy that may be taken away again.
create table incoming_copies (
  file_id bigint primary key references files,
  volume_id integer not null references volumes,
  path text not null check (octet_length(path) between 1 and 4096),
  brought_at timestamptz not null default clock_timestamp()
);

create function imports_guard() returns trigger language plpgsql as $$
declare
  moving text[] := array['status', 'finished_at', 'last_error_code', 'last_error', 'dataset_id', 'version'];
begin
  if tg_op = 'INSERT' then
    if new.status <> 'RUNNING' then
      perform refuse('ILLEGAL_TRANSITION', 'an import starts RUNNING');
    end if;
    return new;
  end if;
  if to_jsonb(new) - moving is distinct from to_jsonb(old) - moving then
    perform refuse('ILLEGAL_TRANSITION', format('import %s: what its manifest told never changes', old.id));
  end if;
  if new.status <> old.status then
    if not exists (select from lifecycle where noun = 'import' and from_state = old.status and to_state = new.status) then
      perform refuse('ILLEGAL_TRANSITION',
        format('import %s: %s to %s is not a step of its life', old.id, old.status, new.status));
    end if;
    if new.status = 'ENTERED' and not exists (
      select from datasets d where d.id = new.dataset_id and d.status = 'CLOSED' and d.name = new.dataset_name
        and d.file_count = new.file_count) then
      perform refuse('ILLEGAL_TRANSITION', format('import %s: its dataset is not closed with all its files', old.id));
    end if;
    new.finished_at := case when new.status in ('ENTERED', 'CANCELLED') then clock_timestamp() end;
  elsif old.status in ('ENTERED', 'CANCELLED') then
    perform refuse('ILLEGAL_TRANSITION', format('import %s is over and never changes again', old.id));
  end if;
  new.version := old.version + 1;
  return new;
end
$$;
create trigger imports_guard before insert or update on imports for each row execute function imports_guard();
create trigger imports_kept before delete or truncate on imports for each statement execute function refuse_any_change();

create function imports_tell() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into events (kind, to_state, facts) values ('IMPORT_STATUS', new.status, jsonb_build_object(
      'importId', new.id, 'dataset', new.dataset_name, 'site', new.source_site, 'fileCount', new.file_count));
  elsif new.status <> old.status then
    insert into events (kind, dataset_id, from_state, to_state, reason, facts)
    values ('IMPORT_STATUS', null, old.status, new.status,
      case when new.status = 'FAILED' then new.last_error else current_reason() end,
      jsonb_build_object('importId', new.id, 'dataset', new.dataset_name, 'site', new.source_site));
  end if;
  return null;
end
$$;
create trigger imports_tell after insert or update on imports for each row execute function imports_tell();
alter table imports enable always trigger imports_guard, enable always trigger imports_kept,
  enable always trigger imports_tell;

-- What was received is added to, and thrown away, only as long as it is no import.
create function import_parts_kept() returns trigger language plpgsql as $$
begin
  if exists (select from gone g join imports i on i.id = g.import_id) then
    perform refuse('ILLEGAL_TRANSITION', 'what the manifest of an import told is kept for good');
  end if;
  return null;
end
$$;
create trigger import_runs_kept after delete on import_runs
  referencing old table as gone for each statement execute function import_parts_kept();
create trigger import_files_kept after delete on import_files
  referencing old table as gone for each statement execute function import_parts_kept();
create trigger import_runs_complete after insert on import_runs
  referencing new table as gone for each statement execute function import_parts_kept();
create trigger import_files_complete after insert on import_files
  referencing new table as gone for each statement execute function import_parts_kept();
create trigger import_runs_never_changed before update or truncate on import_runs
  for each statement execute function refuse_any_change();
create trigger import_files_never_emptied before truncate on import_files
  for each statement execute function refuse_any_change();
alter table import_runs enable always trigger import_runs_complete, enable always trigger import_runs_kept, enable always trigger import_runs_never_changed;

create function import_files_guard() returns trigger language plpgsql as $$
begin
  if (new.id, new.import_id, new.line, new.lfn, new.size_bytes, new.adler32, new.sha256, new.event_count, new.stream,
      new.release, new.site, new.runs, new.parents)
     is distinct from
     (old.id, old.import_id, old.line, old.lfn, old.size_bytes, old.adler32, old.sha256, old.event_count, old.stream,
      old.release, old.site, old.runs, old.parents) then
    perform refuse('ILLEGAL_TRANSITION', format('%s: what a manifest told of a file never changes', old.lfn));
  end if;
  if new.attempt <> old.attempt then
    if new.attempt <> old.attempt + 1 or new.status <> 'FETCHING'
       or (old.status = 'FETCHING' and old.lease_until > clock_timestamp()) then
      perform refuse('LEASE_LOST', format('%s: attempt %s is not a claim', old.lfn, new.attempt));
    end if;
  elsif new.status = 'FETCHING' and old.status <> 'FETCHING' then
    perform refuse('LEASE_LOST', format('%s: a claim counts a new attempt', old.lfn));
  end if;
  -- What is registered is what the manifest told, or it is another file.
  if new.file_id is not null and new.file_id is distinct from old.file_id and not exists (
    select from files f where f.id = new.file_id and f.lfn = new.lfn and f.kind = 'MERGED_FILE'
      and f.size_bytes = new.size_bytes and f.adler32 = new.adler32
      and (f.sha256 is null or new.sha256 is null or f.sha256 = new.sha256)) then
    perform refuse('DUPLICATE', format('%s is registered with another content', new.lfn));
  end if;
  if new.status = 'SAFE' and old.status <> 'SAFE' and not exists (
    select from files f where f.id = new.file_id and f.missing_copies = 0) then
    perform refuse('FILES_NOT_BACKED_UP', format('%s is not backed up as it must be', new.lfn));
  end if;
  return new;
end
$$;
create trigger import_files_guard before update on import_files for each row execute function import_files_guard();
alter table import_files enable always trigger import_files_complete, enable always trigger import_files_kept, enable always trigger import_files_never_emptied,
  enable always trigger import_files_guard;

do $$
declare
  name text;
begin
  foreach name in array array['events_in_order_of_import()', 'imports_guard()', 'imports_tell()', 'import_parts_kept()',
    'import_files_guard()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
