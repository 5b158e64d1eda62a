-- Backup records: how far a copy has come, what the store answered, and the fence against workers that lost their lease.

insert into lifecycle (noun, from_state, to_state) values
  ('backup', '', 'REQUESTED'),
  ('backup', 'REQUESTED', 'COPYING'),
  ('backup', 'REQUESTED', 'FAILED'),
  ('backup', 'COPYING', 'COPIED'),
  ('backup', 'COPYING', 'REQUESTED'),
  ('backup', 'COPYING', 'FAILED'),
  ('backup', 'COPIED', 'CONFIRMED'),
  ('backup', 'COPIED', 'COPYING'),
  ('backup', 'COPIED', 'REQUESTED'),
  ('backup', 'COPIED', 'FAILED'),
  ('backup', 'CONFIRMED', 'LOST'),
  ('backup', 'FAILED', 'REQUESTED'),
  ('backup', 'LOST', 'REQUESTED');

create table backup_records (
  id bigint generated always as identity primary key,
  file_id bigint not null references files,
  store_id integer not null references mass_stores,
  status text not null default 'REQUESTED'
    check (status in ('REQUESTED', 'COPYING', 'COPIED', 'CONFIRMED', 'FAILED', 'LOST')),
  requested_by text not null default current_actor(),
  requested_at timestamptz not null default now(),
  -- The fence: grows by one with each claim; only the holder of the last one may answer.
  attempt integer not null default 0 check (attempt >= 0),
  answered_attempt integer,
  -- Attempts that failed since the backup was last asked for.
  failure_count integer not null default 0 check (failure_count >= 0),
  worker text,
  lease_until timestamptz,
  next_attempt_at timestamptz not null default now(),
  store_key text,
  stored_size_bytes bigint,
  stored_adler32 text,
  stored_sha256 text,
  evidence jsonb,
  last_error_code text,
  last_error text,
  copied_at timestamptz,
  confirmed_at timestamptz,
  updated_at timestamptz not null default now(),
  unique (file_id, store_id),
  -- I5
  check (status not in ('COPIED', 'CONFIRMED') or answered_attempt is not distinct from attempt),
  check (status not in ('COPYING', 'COPIED') or (worker is not null and lease_until is not null)),
  -- I3
  check (status <> 'CONFIRMED' or (
    store_key is not null and stored_size_bytes is not null and stored_adler32 is not null
    and confirmed_at is not null and coalesce(
      length(evidence ->> 'asked') > 0 and length(evidence ->> 'answer') > 0 and length(evidence ->> 'askedAt') > 0,
      false))),
  check (status <> 'FAILED' or last_error is not null)
) with (fillfactor = 70);
-- One stored file is the backup of one file.
create unique index backup_records_one_key on backup_records (store_id, store_key) where status = 'CONFIRMED';
create index backup_records_unfinished on backup_records (status, next_attempt_at, id)
  where status in ('REQUESTED', 'COPYING', 'COPIED', 'FAILED');

create function backup_records_guard() returns trigger language plpgsql as $$
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
       or (registered.sha256 is not null and new.stored_sha256 is distinct from registered.sha256) then
      perform refuse('CHECKSUM_MISMATCH', format('%s: what the store holds is not what was registered', registered.lfn));
    end if;
  end if;
  new.updated_at := clock_timestamp();
  return new;
end
$$;
create trigger backup_records_guard before insert or update on backup_records
  for each row execute function backup_records_guard();
create trigger backup_records_kept before delete or truncate on backup_records
  for each statement execute function refuse_any_change();

create function backups_requested() returns trigger language plpgsql as $$
begin
  insert into events (kind, file_id, backup_id, to_state)
  select 'BACKUP_STATUS', file_id, id, status from added order by id;
  return null;
end
$$;
create trigger backups_requested after insert on backup_records
  referencing new table as added for each statement execute function backups_requested();

create function backups_changed() returns trigger language plpgsql as $$
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
  with delta as (
    select n.file_id, sum((n.status = 'CONFIRMED')::int - (o.status = 'CONFIRMED')::int)::int as step
    from after_rows n join before_rows o using (id)
    where (n.status = 'CONFIRMED') <> (o.status = 'CONFIRMED')
    group by n.file_id)
  update files f set confirmed_copies = f.confirmed_copies + delta.step
  from delta where f.id = delta.file_id and delta.step <> 0 $sql$;
  return null;
end
$$;
create trigger backups_changed after update on backup_records
  referencing old table as before_rows new table as after_rows for each statement execute function backups_changed();
alter table backup_records enable always trigger backup_records_guard, enable always trigger backup_records_kept,
  enable always trigger backups_requested, enable always trigger backups_changed;
