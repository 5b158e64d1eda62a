-- Where data lies (sites, volumes, mass stores) and who may ask for it (tokens).

create table sites (
  id integer generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  description text,
  created_at timestamptz not null default now()
);

create table mass_stores (
  id integer generated always as identity primary key,
  site_id integer not null references sites,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  kind text not null check (kind in ('directory')),
  root text not null,
  -- What a job puts before the key to open a file; empty means the path itself.
  url_prefix text,
  is_default boolean not null default false,
  -- Copies at once, over all workers.
  concurrency integer not null default 8 check (concurrency between 1 and 64),
  attempt_limit integer not null default 8 check (attempt_limit between 1 and 100),
  created_at timestamptz not null default now()
);
create unique index mass_stores_one_default on mass_stores (is_default) where is_default;

create table volumes (
  id integer generated always as identity primary key,
  site_id integer not null references sites,
  name text not null check (length(name) between 1 and 255 and name !~ '[[:cntrl:]]'),
  kind text not null default 'DISK_SERVER' check (kind in ('DISK_SERVER', 'POOL', 'SCRATCH', 'READ_ONLY_POOL')),
  created_at timestamptz not null default now(),
  unique (site_id, name)
);

create table tokens (
  id bigint generated always as identity primary key,
  principal text not null check (length(principal) between 1 and 128 and principal !~ '[[:cntrl:]]'),
  roles text[] not null check (
    cardinality(roles) > 0
    and roles <@ array['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN']),
  -- The token itself is never stored: the prefix finds the row, the hash proves it.
  prefix text not null unique,
  secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
  note text,
  created_at timestamptz not null default now(),
  created_by text not null default current_actor(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

-- A creating call that is sent again with its key gets the first answer.
create table idempotency_keys (
  principal text not null,
  key text not null check (length(key) between 1 and 200),
  operation text not null,
  request_sha256 bytea not null,
  response jsonb,
  created_at timestamptz not null default now(),
  primary key (principal, key)
);
