-- Webhooks: who wants to be told when datasets turn bad or good, and how far each has been told.

create table webhooks (
  id bigint generated always as identity primary key,
  owner text not null default current_actor() check (length(owner) between 1 and 128),
  url text not null check (octet_length(url) <= 2048 and url ~ '^https?://[^/]'),
  kinds text[] not null check (
    cardinality(kinds) > 0
    and kinds <@ array['DATASET_MARKED_BAD', 'DATASET_CLEARED', 'DATASET_CLOSED']),
  scope text not null default 'OWN' check (scope in ('OWN', 'ALL')),
  -- Conditions on the names of datasets; null = every name.
  names jsonb check (octet_length(names::text) <= 32768),
  -- The secret is made from the salt and a key that is not in the database; key_id tells which key.
  salt bytea not null check (octet_length(salt) = 16),
  key_id text not null check (key_id ~ '^[0-9a-f]{12}$'),
  status text not null default 'ENABLED' check (status in ('ENABLED', 'DISABLED')),
  disabled_reason text,
  disabled_at timestamptz,
  created_at timestamptz not null default now(),
  -- The place in the log (docs/decisions/0007-cursors-of-the-log.md): all lines up to it are told.
  epoch text not null,
  told_xid xid8 not null,
  told_id bigint not null,
  -- The fence: grows by one with each claim; only the holder of the last one moves the place.
  claim integer not null default 0 check (claim >= 0),
  server text,
  lease_until timestamptz,
  -- Of the notice that could not be delivered yet.
  failure_count integer not null default 0 check (failure_count >= 0),
  first_failed_at timestamptz,
  next_attempt_at timestamptz not null default now(),
  last_attempt_at timestamptz,
  last_notice text,
  last_status integer,
  last_attempts integer,
  last_error text check (length(last_error) <= 500),
  tested_at timestamptz,
  check ((status = 'DISABLED') = (disabled_reason is not null)),
  check ((status = 'DISABLED') = (disabled_at is not null)),
  check ((failure_count = 0) = (first_failed_at is null))
) with (fillfactor = 70);
create index webhooks_by_owner on webhooks (owner, id);
create index webhooks_due on webhooks (next_attempt_at, id) where status = 'ENABLED';
-- The lines that notices are made of.
create index events_for_notices on events (xid, id)
  where kind in ('DATASET_MARKED_BAD', 'DATASET_CLEARED') or (kind = 'DATASET_STATUS' and to_state = 'CLOSED');

create function webhooks_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    -- Two at once must not both be the last that is allowed.
    perform pg_advisory_xact_lock(hashtextextended('webhooks of ' || new.owner, 0));
    if (select count(*) from webhooks where owner = new.owner) >= 20 then
      perform refuse('LIMIT_REACHED', format('%s has 20 webhooks', new.owner), 'delete one first');
    end if;
    if new.status <> 'ENABLED' or new.claim <> 0 or new.lease_until is not null then
      perform refuse('ILLEGAL_TRANSITION', 'a webhook starts ENABLED, claimed by nobody');
    end if;
    return new;
  end if;
  if (new.id, new.owner, new.url, new.kinds, new.scope, new.names, new.salt, new.key_id, new.created_at) is distinct from
     (old.id, old.owner, old.url, old.kinds, old.scope, old.names, old.salt, old.key_id, old.created_at) then
    perform refuse('ILLEGAL_TRANSITION', format('webhook %s keeps its address, secret and conditions', old.id),
      'make another one');
  end if;
  if new.epoch = old.epoch and (new.told_xid, new.told_id) < (old.told_xid, old.told_id) then
    perform refuse('ILLEGAL_TRANSITION', format('webhook %s is never told again what it was told', old.id));
  end if;
  if new.claim <> old.claim and (new.claim <> old.claim + 1 or old.lease_until > clock_timestamp()) then
    perform refuse('LEASE_LOST', format('webhook %s is being served by %s', old.id, old.server));
  end if;
  return new;
end
$$;
create trigger webhooks_guard before insert or update on webhooks for each row execute function webhooks_guard();
alter table webhooks enable always trigger webhooks_guard;

do $$
begin
  execute format('alter function webhooks_guard() set search_path = %I, pg_temp', current_schema());
end
$$;
