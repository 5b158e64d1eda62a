-- The root of a new store is made once. A store that cannot be reached at that moment waits for it, and takes no
-- copies before: later on, a root that is not there is a store that is not mounted.
alter table mass_stores add column is_prepared boolean not null default true;
