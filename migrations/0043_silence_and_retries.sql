-- Looks at a recall since the store last said anything of the file: how often it was looked at says nothing, a store
-- may take days.
alter table pool_copies
  add column silent_looks integer not null default 0 check (silent_looks >= 0);

-- How often and when a failed copy is tried again in this store; no first wait: that of the server.
alter table mass_stores
  add column retry_first_ms integer check (retry_first_ms between 1 and 86400000),
  add column retry_longest_ms integer not null default 600000 check (retry_longest_ms between 1 and 604800000),
  add column retry_factor double precision not null default 2 check (retry_factor between 1 and 10),
  -- Waiting for tape for longer than this is told as something that does not go on.
  add column tape_hours integer not null default 72 check (tape_hours between 1 and 8760),
  add constraint mass_stores_retry_waits check (coalesce(retry_first_ms, 1) <= retry_longest_ms);
