-- Audits of stores: what was confirmed is read back, and the catalogue and a store are compared in both directions.

alter table mass_stores add column known_since timestamptz not null default clock_timestamp();

create table audits (
  id bigint generated always as identity primary key,
  store_id integer not null references mass_stores,
  what text not null check (what in ('READ_BACK', 'COMPARE')),
  asked_by text not null default current_actor(),
  started_at timestamptz not null default clock_timestamp(),
  -- DONE: come to its end, and what was bad is LOST. ALARM: so much looks wrong that nothing was done; somebody decides.
  state text not null default 'RUNNING' check (state in ('RUNNING', 'DONE', 'ALARM', 'DISMISSED')),
  finished_at timestamptz,
  -- Who is at it; the fence is the attempt.
  attempt integer not null default 0,
  worker text,
  lease_until timestamptz,
  -- The last record that was read: there it goes on.
  after_at timestamptz not null default '-infinity',
  after_id bigint not null default 0,
  looked_count bigint not null default 0,
  looked_bytes numeric not null default 0,
  wrong_count bigint not null default 0,
  unreadable_count bigint not null default 0,
  unknown_count bigint not null default 0,
  detail text,
  check ((state = 'RUNNING') = (finished_at is null))
);
create unique index audits_one_running on audits (store_id, what) where state = 'RUNNING';
create index audits_of_store on audits (store_id, what, id desc);

create table audit_findings (
  id bigint generated always as identity primary key,
  audit_id bigint not null references audits,
  -- null = a file that the catalogue does not know
  backup_id bigint references backup_records,
  store_key text not null,
  what text not null check (what in ('BAD', 'UNREADABLE', 'UNKNOWN')),
  says text not null,
  evidence jsonb,
  found_at timestamptz not null default clock_timestamp(),
  -- LOST: the record is lost by it. DISMISSED: it was not so, or not any more.
  outcome text check (outcome in ('LOST', 'DISMISSED')),
  check ((backup_id is null) = (what = 'UNKNOWN'))
);
create index audit_findings_of_audit on audit_findings (audit_id, id);
create index audit_findings_open on audit_findings (audit_id, id) where what = 'BAD' and outcome is null;

-- What a listing has shown so far; begun anew with each attempt.
create unlogged table audit_seen (
  audit_id bigint not null,
  backup_id bigint not null,
  primary key (audit_id, backup_id)
);

create index backup_records_by_confirmation on backup_records (store_id, confirmed_at, id) where status = 'CONFIRMED';

create trigger audits_kept before delete or truncate on audits for each statement execute function refuse_any_change();
create function audits_guard() returns trigger language plpgsql as $$
begin
  if old.state in ('DONE', 'DISMISSED')
     or (new.id, new.store_id, new.what, new.asked_by, new.started_at)
       is distinct from (old.id, old.store_id, old.what, old.asked_by, old.started_at) then
    perform refuse('ILLEGAL_TRANSITION', format('audit %s is at its end', old.id), 'start another one');
  end if;
  return new;
end
$$;
create trigger audits_guard before update on audits for each row execute function audits_guard();
create trigger audit_findings_kept before delete or truncate on audit_findings
  for each statement execute function refuse_any_change();
create function audit_findings_guard() returns trigger language plpgsql as $$
begin
  if old.outcome is not null or (to_jsonb(new) - 'outcome') is distinct from (to_jsonb(old) - 'outcome') then
    perform refuse('ILLEGAL_TRANSITION', format('finding %s of audit %s stays as it was found', old.id, old.audit_id));
  end if;
  return new;
end
$$;
create trigger audit_findings_guard before update on audit_findings for each row execute function audit_findings_guard();
alter table audits enable always trigger audits_kept, enable always trigger audits_guard;
alter table audit_findings enable always trigger audit_findings_kept, enable always trigger audit_findings_guard;

do $$
declare
  name text;
begin
  foreach name in array array['audits_guard()', 'audit_findings_guard()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;

-- Keys under which this store lost it: what lies there is not trusted, and never replaced.
alter table backup_records add column lost_keys text[] not null default '{}';
create function backups_keep_lost_keys() returns trigger language plpgsql as $$
begin
  if old.store_key is not null and not old.store_key = any (old.lost_keys) then
    new.lost_keys := old.lost_keys || old.store_key;
  end if;
  return new;
end
$$;
create trigger backups_keep_lost_keys before update of status on backup_records
  for each row when (old.status = 'CONFIRMED' and new.status = 'LOST') execute function backups_keep_lost_keys();
alter table backup_records enable always trigger backups_keep_lost_keys;
do $$
begin
  execute format('alter function backups_keep_lost_keys() set search_path = %I, pg_temp', current_schema());
end
$$;
