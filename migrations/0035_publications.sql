-- Publications: what users ask to have published, how far it has come, and what went into which composite file.

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state)
select 'publication', step[1], step[2] from (values
  (array['', 'REQUESTED']),
  (array['REQUESTED', 'AWAITING_APPROVAL']), (array['REQUESTED', 'CHECKING']), (array['REQUESTED', 'WITHDRAWN']),
  (array['AWAITING_APPROVAL', 'CHECKING']), (array['AWAITING_APPROVAL', 'FAILED']), (array['AWAITING_APPROVAL', 'WITHDRAWN']),
  (array['CHECKING', 'MERGING']), (array['CHECKING', 'FAILED']), (array['CHECKING', 'WITHDRAWN']),
  (array['MERGING', 'BACKING_UP']), (array['MERGING', 'FAILED']), (array['MERGING', 'WITHDRAWN']),
  (array['BACKING_UP', 'CLOSING']), (array['BACKING_UP', 'FAILED']), (array['BACKING_UP', 'WITHDRAWN']),
  (array['CLOSING', 'BACKING_UP']), (array['CLOSING', 'PUBLISHED']), (array['CLOSING', 'FAILED']),
  (array['CLOSING', 'WITHDRAWN'])) as t (step);
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
    union select 'PUBLICATION_STATUS') every_kind;
  alter table events drop constraint events_kind_check;
  execute format('alter table events add constraint events_kind_check check (kind in (%s))', kinds);
end
$$;

drop index events_for_all, events_for_all_by_actor;
create index events_for_all on events (xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS', 'POOL_COPY_STATUS',
    'PUBLICATION_STATUS');
create index events_for_all_by_actor on events (actor, xid, id)
  where kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS', 'POOL_COPY_STATUS',
    'PUBLICATION_STATUS');
create index events_by_publication on events (((facts ->> 'publicationId')::bigint), xid, id) where kind = 'PUBLICATION_STATUS';

-- As events_in_order of 0001, for the lines of a publication.
create function events_in_order_of_publication() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid, (select xid from events
    where kind = 'PUBLICATION_STATUS' and (facts ->> 'publicationId')::bigint = (new.facts ->> 'publicationId')::bigint
    order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order_of_publication before insert on events
  for each row when (new.kind = 'PUBLICATION_STATUS') execute function events_in_order_of_publication();
alter table events enable always trigger events_in_order_of_publication;

create table publications (
  id bigint generated always as identity primary key,
  status text not null default 'REQUESTED' check (status in (
    'REQUESTED', 'AWAITING_APPROVAL', 'CHECKING', 'MERGING', 'BACKING_UP', 'CLOSING', 'PUBLISHED', 'FAILED', 'WITHDRAWN')),
  dataset_name text not null check (dataset_name ~ '^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$'),
  -- Its owner, and that of the dataset.
  requested_by text not null default current_actor(),
  -- The group whose quota it is charged to; null = the requester's own.
  charged_group text,
  description text not null check (length(description) between 1 and 10000),
  stream text,
  release text,
  tree_name text,
  store_id integer not null references mass_stores,
  -- TAR = an archive with an index, COMMAND = the merging tool of the site.
  merge_tool text not null check (merge_tool in ('TAR', 'COMMAND')),
  -- Wanted size of a composite file.
  wanted_bytes bigint not null check (wanted_bytes > 0),
  file_count bigint not null check (file_count > 0),
  -- As told; as found once it is checked.
  size_bytes bigint not null check (size_bytes >= 0),
  -- null = not known
  event_count bigint,
  requested_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  finished_at timestamptz,
  last_error_code text,
  last_error text check (length(last_error) <= 2000),
  -- Bytes of the step under way.
  done_bytes bigint not null default 0,
  dataset_id bigint unique references datasets,
  -- The fence, as in backup_records.
  attempt integer not null default 0 check (attempt >= 0),
  worker text,
  lease_until timestamptz,
  failure_count integer not null default 0,
  -- Since when the disk has been full, or away.
  silent_since timestamptz,
  next_attempt_at timestamptz not null default now(),
  -- What it left on disk is gone.
  cleaned_at timestamptz,
  version integer not null default 1,
  check ((status = 'PUBLISHED') = (dataset_id is not null)),
  check ((status in ('PUBLISHED', 'FAILED', 'WITHDRAWN')) = (finished_at is not null)),
  check (status <> 'FAILED' or last_error is not null),
  check (cleaned_at is null or finished_at is not null),
  check ((decided_by is null) = (decided_at is null))
) with (fillfactor = 70);
-- Never doubles: of one dataset one publication at a time.
create unique index publications_one_at_a_time on publications (dataset_name) where finished_at is null;
create index publications_under_way on publications (next_attempt_at, id) where finished_at is null;
create index publications_by_requester on publications (requested_by, id);
create index publications_by_group on publications (charged_group, id) where charged_group is not null;
create index publications_to_clean on publications (id) where finished_at is not null and cleaned_at is null;

create table publication_composites (
  publication_id bigint not null references publications,
  number integer not null check (number > 0),
  lfn text not null unique,
  file_count bigint not null check (file_count > 0),
  -- Of its inputs, together.
  input_bytes bigint not null,
  -- As it lies on disk; null = it is not made yet.
  path text,
  size_bytes bigint check (size_bytes > 0),
  adler32 text,
  sha256 text,
  event_count bigint,
  made_at timestamptz,
  file_id bigint unique references files,
  primary key (publication_id, number),
  check ((path is null) = (made_at is null) and (path is null) = (size_bytes is null) and (path is null) = (sha256 is null)
    and (path is null) = (adler32 is null)),
  check (file_id is null or path is not null)
);

-- The files of the user: they stay where they are, and are registered nowhere else.
create table publication_files (
  id bigint generated always as identity primary key,
  publication_id bigint not null references publications,
  path text not null check (octet_length(path) between 2 and 4096 and path like '/%'),
  -- Its name among the members of the archive.
  name text not null check (octet_length(name) between 1 and 4096),
  told_events bigint check (told_events >= 0),
  size_bytes bigint,
  sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
  event_count bigint check (event_count >= 0),
  -- Inode, size and time of change when it was checked: it must still be so when it was merged.
  stamp text,
  fault_code text,
  fault text check (length(fault) <= 2000),
  composite integer,
  -- Where its bytes begin in an archive.
  member_offset bigint check (member_offset >= 0),
  unique (publication_id, name),
  unique (publication_id, path),
  foreign key (publication_id, composite) references publication_composites (publication_id, number),
  check ((size_bytes is null) = (sha256 is null) and (size_bytes is null) = (stamp is null)),
  check (composite is null or size_bytes is not null)
) with (fillfactor = 70);
create index publication_files_by_composite on publication_files (publication_id, composite, id);
create index publication_files_faulty on publication_files (publication_id, id) where fault is not null;

create function publications_guard() returns trigger language plpgsql as $$
declare
  moving text[] := array['status', 'size_bytes', 'event_count', 'decided_by', 'decided_at', 'finished_at', 'last_error_code',
    'last_error', 'done_bytes', 'dataset_id', 'attempt', 'worker', 'lease_until', 'failure_count', 'silent_since',
    'next_attempt_at', 'cleaned_at', 'version'];
begin
  if tg_op = 'INSERT' then
    if new.status <> 'REQUESTED' or new.attempt <> 0 then
      perform refuse('ILLEGAL_TRANSITION', 'a publication starts REQUESTED');
    end if;
    return new;
  end if;
  if to_jsonb(new) - moving is distinct from to_jsonb(old) - moving then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: what was asked for never changes', old.id));
  end if;
  if old.finished_at is not null and (to_jsonb(new) - array['cleaned_at', 'worker', 'lease_until', 'version'])
     is distinct from (to_jsonb(old) - array['cleaned_at', 'worker', 'lease_until', 'version']) then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s is over and never changes again', old.id));
  end if;
  if new.attempt <> old.attempt and (new.attempt <> old.attempt + 1 or old.lease_until > clock_timestamp()) then
    perform refuse('LEASE_LOST', format('publication %s: attempt %s is not a claim', old.id, new.attempt));
  end if;
  if (new.size_bytes, new.event_count) is distinct from (old.size_bytes, old.event_count)
     and not (old.status = 'CHECKING' and new.status = 'MERGING') then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: its files are counted when they are checked', old.id));
  end if;
  if new.status <> old.status then
    perform publication_step_allowed(old, new);
    new.finished_at := case when new.status in ('PUBLISHED', 'FAILED', 'WITHDRAWN') then clock_timestamp() end;
  end if;
  new.version := old.version + 1;
  return new;
end
$$;

-- What each step asks for.
create function publication_step_allowed(was publications, wanted publications) returns void language plpgsql as $$
begin
  if not exists (select from lifecycle where noun = 'publication' and from_state = was.status and to_state = wanted.status) then
    perform refuse('ILLEGAL_TRANSITION',
      format('publication %s: %s to %s is not a step of its life', was.id, was.status, wanted.status));
  end if;
  if was.status = 'AWAITING_APPROVAL' and wanted.status = 'CHECKING' and wanted.decided_by is null then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: somebody approves of it, and is named', was.id));
  end if;
  if wanted.status = 'MERGING' and (
      (select count(*) from publication_files where publication_id = was.id) <> was.file_count
      or exists (select from publication_files where publication_id = was.id and (composite is null or fault is not null))) then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: not all of its files are checked and good', was.id));
  end if;
  -- As merges: what comes out holds what went in.
  if wanted.status = 'BACKING_UP' and was.status = 'MERGING' and (
      not exists (select from publication_composites where publication_id = was.id)
      or exists (select from publication_composites c where c.publication_id = was.id and c.file_id is null)) then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: not all of its composite files are registered', was.id));
  end if;
  if wanted.status = 'CLOSING' and exists (
      select from publication_composites c join files f on f.id = c.file_id
      where c.publication_id = was.id and f.missing_copies > 0) then
    perform refuse('FILES_NOT_BACKED_UP', format('publication %s: not all of its files are backed up as they must be', was.id));
  end if;
  if wanted.status = 'PUBLISHED' and not exists (
      select from datasets d where d.id = wanted.dataset_id and d.status = 'CLOSED' and d.kind = 'USER'
        and d.name = was.dataset_name and d.owner = was.requested_by
        and d.file_count = (select count(*) from publication_composites where publication_id = was.id)
        and not exists (select from publication_composites c where c.publication_id = was.id and not exists (
          select from dataset_files df where df.dataset_id = d.id and df.file_id = c.file_id))) then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: its dataset is not closed with all its files', was.id));
  end if;
end
$$;
create trigger publications_guard before insert or update on publications for each row execute function publications_guard();
create trigger publications_kept before delete or truncate on publications for each statement execute function refuse_any_change();

create function publications_tell() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' or new.status <> old.status then
    insert into events (kind, from_state, to_state, reason, facts)
    values ('PUBLICATION_STATUS', case when tg_op = 'UPDATE' then old.status end, new.status,
      case when new.status = 'FAILED' then new.last_error else current_reason() end,
      jsonb_build_object('publicationId', new.id, 'dataset', new.dataset_name, 'owner', new.requested_by,
        'fileCount', new.file_count));
  end if;
  return null;
end
$$;
create trigger publications_tell after insert or update on publications for each row execute function publications_tell();
alter table publications enable always trigger publications_guard, enable always trigger publications_kept,
  enable always trigger publications_tell;

-- The list of files is whole when the request is made; what was found and merged never changes again.
create function publication_files_guard() returns trigger language plpgsql as $$
declare
  state text := (select status from publications where id = new.publication_id);
begin
  if tg_op = 'INSERT' then
    if state is distinct from 'REQUESTED' or new.size_bytes is not null or new.composite is not null then
      perform refuse('ILLEGAL_TRANSITION', format('publication %s takes no further files', new.publication_id));
    end if;
    return new;
  end if;
  if (new.id, new.publication_id, new.path, new.name, new.told_events)
     is distinct from (old.id, old.publication_id, old.path, old.name, old.told_events) then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: what was asked for never changes', old.publication_id));
  end if;
  if state is distinct from 'CHECKING' and (to_jsonb(new) - 'member_offset') is distinct from (to_jsonb(old) - 'member_offset') then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: its files are checked once', old.publication_id));
  end if;
  if new.member_offset is distinct from old.member_offset and state is distinct from 'MERGING' then
    perform refuse('ILLEGAL_TRANSITION', format('publication %s: its members are placed when they are merged', old.publication_id));
  end if;
  return new;
end
$$;
create trigger publication_files_guard before insert or update on publication_files
  for each row execute function publication_files_guard();
create trigger publication_files_kept before delete or truncate on publication_files
  for each statement execute function refuse_any_change();
alter table publication_files enable always trigger publication_files_guard, enable always trigger publication_files_kept;

create function publication_composites_guard() returns trigger language plpgsql as $$
declare
  state text := (select status from publications where id = new.publication_id);
  inputs record;
begin
  if tg_op = 'INSERT' then
    if state is distinct from 'CHECKING' or new.path is not null or new.file_id is not null then
      perform refuse('ILLEGAL_TRANSITION', format('publication %s: composite files are planned when all is checked', new.publication_id));
    end if;
    return new;
  end if;
  if (new.publication_id, new.number, new.lfn, new.file_count, new.input_bytes)
     is distinct from (old.publication_id, old.number, old.lfn, old.file_count, old.input_bytes)
     or state is distinct from 'MERGING' or old.file_id is not null then
    perform refuse('ILLEGAL_TRANSITION', format('%s: what was planned and made never changes', old.lfn));
  end if;
  if new.file_id is null then
    return new;
  end if;
  select count(*) as n, case when bool_and(event_count is not null) then sum(event_count) end as events into inputs
  from publication_files where publication_id = new.publication_id and composite = new.number;
  if inputs.n <> new.file_count or inputs.events is distinct from new.event_count then
    perform refuse('EVENT_COUNT_MISMATCH', format('%s: %s files with %s events went in, it holds %s files with %s', new.lfn,
      inputs.n, coalesce(inputs.events::text, 'uncounted'), new.file_count, coalesce(new.event_count::text, 'uncounted')));
  end if;
  if not exists (
    select from files f where f.id = new.file_id and f.lfn = new.lfn and f.kind = 'MERGED_FILE' and f.size_bytes = new.size_bytes
      and f.adler32 = new.adler32 and f.sha256 = new.sha256 and f.event_count is not distinct from new.event_count) then
    perform refuse('DUPLICATE', format('%s is registered with another content', new.lfn));
  end if;
  return new;
end
$$;
create trigger publication_composites_guard before insert or update on publication_composites
  for each row execute function publication_composites_guard();
create trigger publication_composites_kept before delete or truncate on publication_composites
  for each statement execute function refuse_any_change();
alter table publication_composites enable always trigger publication_composites_guard,
  enable always trigger publication_composites_kept;

do $$
declare
  name text;
begin
  foreach name in array array['events_in_order_of_publication()', 'publications_guard()',
    'publication_step_allowed(publications, publications)', 'publications_tell()', 'publication_files_guard()',
    'publication_composites_guard()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
