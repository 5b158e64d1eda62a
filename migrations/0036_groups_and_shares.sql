-- Groups of users, and datasets that are shown to some before they are published.

create table groups (
  name text primary key check (name ~ '^[A-Za-z0-9/][A-Za-z0-9._/-]{0,127}$'),
  description text check (length(description) <= 1000),
  created_by text not null default current_actor(),
  created_at timestamptz not null default now()
);

create table group_members (
  group_name text not null references groups on delete cascade,
  principal text not null check (length(principal) between 1 and 128 and principal !~ '[[:cntrl:]]'),
  added_by text not null default current_actor(),
  added_at timestamptz not null default now(),
  primary key (group_name, principal)
);
create index group_members_by_principal on group_members (principal, group_name);

-- With whom: a user by name, or whoever is in a group, now or later.
create table dataset_shares (
  dataset_id bigint not null references datasets,
  kind text not null check (kind in ('USER', 'GROUP')),
  name text not null check (length(name) between 1 and 128 and name !~ '[[:cntrl:]]'),
  shared_by text not null default current_actor(),
  shared_at timestamptz not null default now(),
  primary key (dataset_id, kind, name)
);
create index dataset_shares_by_name on dataset_shares (kind, name, dataset_id);

-- One more kind of line, whatever other kinds there are by now.
do $$
declare
  kinds text;
begin
  select string_agg(quote_literal(kind), ', ') into kinds
  from (
    select m[1] as kind from pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''::text', 'g') m
    where c.conrelid = 'events'::regclass and c.conname = 'events_kind_check'
    union select 'DATASET_SHARED' union select 'DATASET_UNSHARED') every_kind;
  alter table events drop constraint events_kind_check;
  execute format('alter table events add constraint events_kind_check check (kind in (%s))', kinds);
end
$$;

-- With whom is told to the owner and to operators by Dataset.sharedWith alone: those who see a dataset see its lines.
create function dataset_shares_tell() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' and exists (select from changed c left join datasets d on d.id = c.dataset_id
                                  where d.status is null or d.status = 'CLOSED') then
    perform refuse('ILLEGAL_TRANSITION', 'what is published is not shared: everybody sees it');
  end if;
  insert into events (kind, dataset_id, from_state, to_state, facts)
  select case tg_op when 'INSERT' then 'DATASET_SHARED' else 'DATASET_UNSHARED' end, d.id, d.status, d.status,
    jsonb_build_object('count', count(*))
  from changed c join datasets d on d.id = c.dataset_id group by d.id, d.status order by d.id;
  return null;
end
$$;
create trigger dataset_shares_added after insert on dataset_shares
  referencing new table as changed for each statement execute function dataset_shares_tell();
create trigger dataset_shares_removed after delete on dataset_shares
  referencing old table as changed for each statement execute function dataset_shares_tell();
create trigger dataset_shares_kept before update or truncate on dataset_shares
  for each statement execute function refuse_any_change();
create trigger group_members_kept before update or truncate on group_members
  for each statement execute function refuse_any_change();
alter table dataset_shares enable always trigger dataset_shares_added, enable always trigger dataset_shares_removed,
  enable always trigger dataset_shares_kept;
alter table group_members enable always trigger group_members_kept;

do $$
begin
  execute format('alter function dataset_shares_tell() set search_path = %I, pg_temp', current_schema());
end
$$;
