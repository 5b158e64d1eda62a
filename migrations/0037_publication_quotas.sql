-- What a user or a group may publish, where operators have said so; else the default of the site holds.

create table publication_quotas (
  kind text not null check (kind in ('USER', 'GROUP')),
  name text not null check (length(name) between 1 and 128 and name !~ '[[:cntrl:]]'),
  files bigint not null check (files between 0 and 9007199254740991),
  bytes bigint not null check (bytes between 0 and 9007199254740991),
  -- Requests under way at once.
  running integer not null check (running >= 0),
  set_by text not null default current_actor(),
  set_at timestamptz not null default now(),
  primary key (kind, name)
);
