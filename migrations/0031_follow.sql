-- Standing rules: import whatever matches from another site, and hear what becomes of it there.

create table follow_rules (
  id bigint generated always as identity primary key,
  site text not null check (length(site) between 1 and 64),
  -- A DatasetFilter of the other site; {} = everything that is available there.
  filter jsonb not null default '{}' check (octet_length(filter::text) <= 32768),
  store_id integer not null references mass_stores,
  created_by text not null default current_actor(),
  created_at timestamptz not null default now(),
  -- The place in the log of the other site up to which it has been heard; null = all is to be listed.
  cursor text,
  -- Nothing that was closed there before has been left out.
  listed_until timestamptz,
  -- The fence: grows by one with each claim; only the holder of the last one may answer.
  claim integer not null default 0 check (claim >= 0),
  lease_until timestamptz,
  next_look_at timestamptz not null default now(),
  looked_at timestamptz,
  last_error_code text,
  last_error text check (length(last_error) <= 2000)
);

create table followed_datasets (
  rule_id bigint not null references follow_rules on delete cascade,
  -- Its name, there and here.
  name text not null,
  found_at timestamptz not null default now(),
  import_id bigint references imports,
  -- It could not be begun: why; tried again when the rule is looked at on demand.
  error_code text,
  error text check (length(error) <= 2000),
  -- What its site says of it now; null = all is well there.
  bad_reason text check (length(bad_reason) <= 2000),
  -- The mark that was set here for that.
  bad_mark_id bigint references bad_marks,
  primary key (rule_id, name)
);
create index followed_datasets_waiting on followed_datasets (rule_id, found_at) where import_id is null and error is null;

create function follow_rules_guard() returns trigger language plpgsql as $$
begin
  if (new.id, new.site, new.filter, new.store_id, new.created_by, new.created_at)
     is distinct from (old.id, old.site, old.filter, old.store_id, old.created_by, old.created_at) then
    perform refuse('ILLEGAL_TRANSITION', format('rule %s keeps its site and its filter', old.id), 'make another one');
  end if;
  if new.claim <> old.claim and (new.claim <> old.claim + 1 or old.lease_until > clock_timestamp()) then
    perform refuse('LEASE_LOST', format('rule %s is being looked at by another worker', old.id));
  end if;
  return new;
end
$$;
create trigger follow_rules_guard before update on follow_rules for each row execute function follow_rules_guard();
alter table follow_rules enable always trigger follow_rules_guard;

do $$
begin
  execute format('alter function follow_rules_guard() set search_path = %I, pg_temp', current_schema());
end
$$;
