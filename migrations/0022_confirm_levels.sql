-- Stores as sites have them: what a confirmation must cover, whether the last self-test was passed, and backups that
-- wait for days until tape has them.

-- Which kinds there are is the program's business: each is a driver.
alter table mass_stores
  drop constraint mass_stores_kind_check,
  add constraint mass_stores_kind_check check (kind ~ '^[a-z][a-z0-9-]{0,31}$'),
  add column confirm_level text not null default 'READ_BACK' check (confirm_level in ('COPIED', 'READ_BACK', 'ARCHIVED')),
  -- Whether its own answers may be believed: the last self-test says so.
  add column is_trusted boolean not null default true,
  -- It stands in the store file (or is the folder of the first start); others are kept for what they hold.
  add column is_configured boolean not null default true;

-- What the self-tests found. Never changed.
create table store_tests (
  id bigint generated always as identity primary key,
  store_id integer not null references mass_stores,
  tested_at timestamptz not null default clock_timestamp(),
  host text not null,
  passed boolean not null,
  -- It could be tested at all; if not, nothing is known.
  is_conclusive boolean not null,
  findings jsonb not null check (jsonb_typeof(findings) = 'array'),
  check (is_conclusive or not passed)
);
create index store_tests_last on store_tests (store_id, id desc);
create trigger store_tests_kept before update or delete or truncate on store_tests
  for each statement execute function refuse_any_change();

create function store_tests_tell() returns trigger language plpgsql as $$
begin
  if new.is_conclusive then
    update mass_stores set is_trusted = new.passed where id = new.store_id and is_trusted <> new.passed;
  end if;
  return null;
end
$$;
create trigger store_tests_tell after insert on store_tests for each row execute function store_tests_tell();
alter table store_tests enable always trigger store_tests_kept, enable always trigger store_tests_tell;

alter table backup_records
  -- What the confirmation covers; before this column came in all were read back.
  add column confirm_level text default 'READ_BACK' check (confirm_level in ('COPIED', 'READ_BACK', 'ARCHIVED')),
  -- It lies under its final name and waits for tape; no worker holds it.
  add column awaits_tape_since timestamptz,
  add column next_look_at timestamptz,
  add column look_count integer not null default 0,
  drop constraint backup_records_check1,
  add constraint backup_records_held check (status not in ('COPYING', 'COPIED')
    or (worker is not null and lease_until is not null)
    or (status = 'COPIED' and awaits_tape_since is not null and store_key is not null)),
  add constraint backup_records_waits check ((awaits_tape_since is null) = (next_look_at is null)
    and (awaits_tape_since is null or status = 'COPIED'));
alter table backup_records alter column confirm_level drop default;
create index backup_records_await_tape on backup_records (store_id, next_look_at) where awaits_tape_since is not null;

create function confirm_level_rank(level text) returns integer language sql immutable parallel safe as $$
  select array_position(array['COPIED', 'READ_BACK', 'ARCHIVED'], level)
$$;

-- A confirmation covers at least what its store asks for; a store that failed its self-test is not believed.
create function backups_cover_their_level() returns trigger language plpgsql as $$
declare
  store mass_stores;
begin
  if new.status <> 'CONFIRMED' then
    new.confirm_level := null;
    return new;
  end if;
  select * into store from mass_stores where id = new.store_id;
  if new.confirm_level is null or confirm_level_rank(new.confirm_level) < confirm_level_rank(store.confirm_level)
     or (not store.is_trusted and new.confirm_level = 'COPIED') then
    perform refuse('NOT_CONFIRMED', format('backup record %s: store %s confirms with %s, and this is %s', new.id, store.name,
      case when store.is_trusted then store.confirm_level else 'READ_BACK at least (its self-test failed)' end,
      coalesce(new.confirm_level, 'nothing')));
  end if;
  return new;
end
$$;
create trigger backups_cover_their_level before update of status, confirm_level on backup_records
  for each row when (old.status is distinct from new.status or old.confirm_level is distinct from new.confirm_level)
  execute function backups_cover_their_level();
alter table backup_records enable always trigger backups_cover_their_level;

-- As before; a store that is taken at its word may say size and adler32 alone, if that is all it keeps.
create or replace function backup_records_guard() returns trigger language plpgsql as $$
declare
  registered files;
begin
  if tg_op = 'INSERT' then
    if new.status <> 'REQUESTED' or new.attempt <> 0 then
      perform refuse('ILLEGAL_TRANSITION', 'a backup record starts REQUESTED, attempt 0');
    end if;
    return new;
  end if;
  if (new.id, new.file_id, new.store_id) is distinct from (old.id, old.file_id, old.store_id) then
    perform refuse('ILLEGAL_TRANSITION', format('backup record %s keeps its file and its store', old.id));
  end if;
  if old.status = 'CONFIRMED' and new.status = 'CONFIRMED' then
    perform refuse('ILLEGAL_TRANSITION', format('backup record %s is confirmed: its evidence stays', old.id));
  end if;
  if new.status <> old.status and not exists (
    select from lifecycle where noun = 'backup' and from_state = old.status and to_state = new.status) then
    perform refuse('ILLEGAL_TRANSITION',
      format('backup record %s: %s to %s is not a step of its life', old.id, old.status, new.status));
  end if;
  if new.attempt <> old.attempt then
    if new.attempt <> old.attempt + 1 or new.status <> 'COPYING'
       or (old.status <> 'REQUESTED' and old.lease_until > clock_timestamp()) then
      perform refuse('LEASE_LOST', format('backup record %s: attempt %s is not a claim', old.id, new.attempt));
    end if;
  elsif new.status <> old.status and old.status in ('COPYING', 'COPIED')
        and new.answered_attempt is distinct from old.attempt then
    perform refuse('LEASE_LOST', format('backup record %s: attempt %s has been overtaken by %s', old.id,
      coalesce(new.answered_attempt::text, 'none'), old.attempt));
  elsif new.status = 'COPYING' and old.status <> 'COPYING' then
    perform refuse('LEASE_LOST', format('backup record %s: a claim counts a new attempt', old.id));
  end if;
  if new.status = 'CONFIRMED' then
    select * into registered from files where id = new.file_id;
    if new.stored_size_bytes is distinct from registered.size_bytes
       or new.stored_adler32 is distinct from registered.adler32
       or (registered.sha256 is not null and new.stored_sha256 is distinct from registered.sha256
           and not (new.stored_sha256 is null and new.confirm_level in ('COPIED', 'ARCHIVED'))) then
      perform refuse('CHECKSUM_MISMATCH', format('%s: what the store holds is not what was registered', registered.lfn));
    end if;
  end if;
  new.updated_at := clock_timestamp();
  return new;
end
$$;

do $$
declare
  name text;
begin
  foreach name in array array['store_tests_tell()', 'backups_cover_their_level()', 'backup_records_guard()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
