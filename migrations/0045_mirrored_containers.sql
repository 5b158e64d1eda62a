-- A container of another site that a rule follows stands here, too: it lists those of its members that are here, and
-- only the rule changes it.

-- What that container is called here; null = the rule follows none, or none is kept for it.
alter table follow_rules add column mirror text check (mirror ~ '^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,199}$');
create unique index follow_rules_by_mirror on follow_rules (mirror);

create table mirrored_containers (
  container_id bigint primary key references containers,
  site text not null,
  -- Its name at that site.
  name text not null,
  -- null = the rule has ended: from then on it is changed by hand, as others are.
  rule_id bigint unique references follow_rules on delete set null,
  -- When its site was heard of last.
  heard_at timestamptz not null
);

create function mirrored_containers_guard() returns trigger language plpgsql as $$
begin
  if (new.container_id, new.site, new.name) is distinct from (old.container_id, old.site, old.name) then
    perform refuse('ILLEGAL_TRANSITION', 'a mirrored container keeps the site and the name that it comes from');
  end if;
  return new;
end
$$;
create trigger mirrored_containers_guard before update on mirrored_containers
  for each row execute function mirrored_containers_guard();
create trigger mirrored_containers_kept before delete or truncate on mirrored_containers
  for each statement execute function refuse_any_change();

-- What a rule keeps is changed by that rule: it names itself in the transaction.
create function mirrors_follow_their_rule() returns trigger language plpgsql as $$
declare
  touched record;
begin
  for touched in
    select o.name, m.site, m.rule_id from mirrored_containers m join containers o on o.id = m.container_id
    where m.container_id in (select container_id from changed)
      and m.rule_id::text is distinct from nullif(current_setting('sweepbook.mirror_rule', true), '')
      and m.rule_id is not null
    limit 1
  loop
    perform refuse('ILLEGAL_TRANSITION',
      format('container %s mirrors that of %s and is changed by import rule %s only', touched.name, touched.site, touched.rule_id),
      'have it changed there, make a container of your own, or end the rule');
  end loop;
  return null;
end
$$;
-- By their names before those that write the history.
create trigger a_mirror_grows_by_its_rule after insert on container_datasets
  referencing new table as changed for each statement execute function mirrors_follow_their_rule();
create trigger a_mirror_shrinks_by_its_rule after delete on container_datasets
  referencing old table as changed for each statement execute function mirrors_follow_their_rule();

alter table mirrored_containers enable always trigger mirrored_containers_guard, enable always trigger mirrored_containers_kept;
alter table container_datasets enable always trigger a_mirror_grows_by_its_rule, enable always trigger a_mirror_shrinks_by_its_rule;

-- As in the migrations before: guards look past temporary tables.
do $$
declare
  name text;
begin
  foreach name in array array['mirrored_containers_guard()', 'mirrors_follow_their_rule()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
