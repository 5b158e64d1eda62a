-- Suspicious copies: what jobs could not read, and what was found when the copy was read by us.

alter table lifecycle disable trigger lifecycle_kept;
insert into lifecycle (noun, from_state, to_state) values
  ('suspicion', '', 'REPORTED'),
  ('suspicion', 'REPORTED', 'SUSPICIOUS'),
  ('suspicion', 'SUSPICIOUS', 'CHECKING'),
  ('suspicion', 'CHECKING', 'SUSPICIOUS'),
  ('suspicion', 'CHECKING', 'CHECKED_GOOD'),
  ('suspicion', 'CHECKING', 'BAD'),
  ('suspicion', 'CHECKING', 'UNREADABLE_FROM_HERE'),
  ('suspicion', 'CHECKING', 'OBSOLETE'),
  ('suspicion', 'SUSPICIOUS', 'OBSOLETE'),
  ('suspicion', 'UNREADABLE_FROM_HERE', 'SUSPICIOUS');
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
    union select 'COPY_SUSPICION') every_kind;
  alter table events drop constraint events_kind_check;
  execute format('alter table events add constraint events_kind_check check (kind in (%s))', kinds);
end
$$;

-- The reports about one copy, on disk or in a mass store, until it has been read and the answer is known.
create table suspicions (
  id bigint generated always as identity primary key,
  file_id bigint not null references files,
  replica_id bigint references replicas,
  backup_id bigint references backup_records,
  -- "volume:path" or "store:key", for people.
  place text not null,
  state text not null default 'REPORTED' check (state in (
    'REPORTED', 'SUSPICIOUS', 'CHECKING', 'CHECKED_GOOD', 'BAD', 'UNREADABLE_FROM_HERE', 'OBSOLETE')),
  job_count integer not null default 0 check (job_count >= 0),
  report_count bigint not null default 0 check (report_count >= job_count),
  first_reported_at timestamptz not null default now(),
  last_reported_at timestamptz not null default now(),
  last_error text,
  -- The row is the job. The fence: grows by one with each claim; only the holder of the last one may answer.
  attempt integer not null default 0 check (attempt >= 0),
  worker text,
  lease_until timestamptz,
  next_attempt_at timestamptz,
  -- Hosts that could not read it, as often as they tried.
  blind_hosts text[] not null default '{}' check (cardinality(blind_hosts) <= 64),
  checked_at timestamptz,
  finding text check (length(finding) <= 2000),
  evidence jsonb,
  check (num_nonnulls(replica_id, backup_id) = 1),
  check (state <> 'CHECKING' or (worker is not null and lease_until is not null)),
  check (state <> 'SUSPICIOUS' or next_attempt_at is not null),
  -- Reports alone decide nothing: an answer says what was read, where and when.
  check (state not in ('CHECKED_GOOD', 'BAD') or (checked_at is not null and finding is not null and coalesce(
    length(evidence ->> 'asked') > 0 and length(evidence ->> 'answer') > 0 and length(evidence ->> 'askedAt') > 0,
    false)))
) with (fillfactor = 70);
create unique index suspicions_one_of_replica on suspicions (replica_id)
  where state in ('REPORTED', 'SUSPICIOUS', 'CHECKING', 'UNREADABLE_FROM_HERE');
create unique index suspicions_one_of_backup on suspicions (backup_id)
  where state in ('REPORTED', 'SUSPICIOUS', 'CHECKING', 'UNREADABLE_FROM_HERE');
create index suspicions_to_check on suspicions (next_attempt_at, id) where state in ('SUSPICIOUS', 'CHECKING');
create index suspicions_by_file on suspicions (file_id);

-- What each job said; one that says it again is counted in its row.
create table read_failures (
  id bigint generated always as identity primary key,
  suspicion_id bigint not null references suspicions,
  principal text not null default current_actor(),
  job text not null check (length(job) between 1 and 200),
  url text not null check (octet_length(url) <= 4096),
  error text not null check (length(error) between 1 and 1000),
  report_count integer not null default 1 check (report_count >= 1),
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  unique (suspicion_id, principal, job)
);
create index read_failures_by_principal on read_failures (principal, first_at);

create function suspicions_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.state <> 'REPORTED' or new.attempt <> 0 then
      perform refuse('ILLEGAL_TRANSITION', 'a suspicion starts REPORTED, attempt 0');
    end if;
    if not exists (select from files where id = new.file_id)
       or (new.replica_id is not null and not exists (
         select from replicas where id = new.replica_id and file_id = new.file_id))
       or (new.backup_id is not null and not exists (
         select from backup_records where id = new.backup_id and file_id = new.file_id)) then
      perform refuse('NOT_FOUND', 'a suspicion is about a copy of its file');
    end if;
    return new;
  end if;
  if (new.id, new.file_id, new.replica_id, new.backup_id, new.place, new.first_reported_at) is distinct from
     (old.id, old.file_id, old.replica_id, old.backup_id, old.place, old.first_reported_at) then
    perform refuse('ILLEGAL_TRANSITION', format('suspicion %s keeps its copy', old.id));
  end if;
  if old.state in ('CHECKED_GOOD', 'BAD', 'OBSOLETE') then
    perform refuse('ILLEGAL_TRANSITION', format('suspicion %s is %s, and stays so', old.id, old.state));
  end if;
  if new.state <> old.state and not exists (
    select from lifecycle where noun = 'suspicion' and from_state = old.state and to_state = new.state) then
    perform refuse('ILLEGAL_TRANSITION',
      format('suspicion %s: %s to %s is not a step of its life', old.id, old.state, new.state));
  end if;
  if new.attempt <> old.attempt then
    if new.attempt <> old.attempt + 1 or new.state <> 'CHECKING'
       or (old.state = 'CHECKING' and old.lease_until > clock_timestamp()) then
      perform refuse('LEASE_LOST', format('suspicion %s: attempt %s is not a claim', old.id, new.attempt));
    end if;
  elsif new.state = 'CHECKING' and old.state <> 'CHECKING' then
    perform refuse('LEASE_LOST', format('suspicion %s: a claim counts a new attempt', old.id));
  end if;
  return new;
end
$$;
create trigger suspicions_guard before insert or update on suspicions
  for each row execute function suspicions_guard();
create trigger suspicions_kept before delete or truncate on suspicions
  for each statement execute function refuse_any_change();

create function suspicions_told() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and old.state = new.state then
    return null;
  end if;
  insert into events (kind, file_id, from_state, to_state, reason, facts)
  values ('COPY_SUSPICION', new.file_id, case when tg_op = 'UPDATE' then old.state end, new.state,
    coalesce(current_reason(), new.finding),
    jsonb_strip_nulls(jsonb_build_object('suspicionId', new.id, 'place', new.place, 'jobCount', new.job_count,
      'attempt', new.attempt, 'worker', new.worker, 'evidence', case when new.state = 'BAD' then new.evidence end)));
  return null;
end
$$;
create trigger suspicions_told after insert or update on suspicions
  for each row execute function suspicions_told();
alter table suspicions enable always trigger suspicions_guard, enable always trigger suspicions_kept,
  enable always trigger suspicions_told;

-- What a job said stays as it was said; only its repeats are counted.
create function read_failures_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and (new.report_count <= old.report_count
     or (new.id, new.suspicion_id, new.principal, new.job, new.first_at) is distinct from
        (old.id, old.suspicion_id, old.principal, old.job, old.first_at)) then
    perform refuse('ILLEGAL_TRANSITION', format('read failure %s only counts its repeats', old.id));
  end if;
  return new;
end
$$;
create trigger read_failures_guard before update on read_failures
  for each row execute function read_failures_guard();
create trigger read_failures_kept before delete or truncate on read_failures
  for each statement execute function refuse_any_change();
alter table read_failures enable always trigger read_failures_guard, enable always trigger read_failures_kept;

do $$
declare
  name text;
begin
  foreach name in array array['suspicions_guard()', 'suspicions_told()', 'read_failures_guard()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
