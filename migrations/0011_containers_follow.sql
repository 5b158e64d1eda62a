-- What happens elsewhere reaches the containers in the same transaction: bad marks, and luminosities of runs.

-- A member that turns bad leaves; all that one statement marks for one reason leave by one line.
create function bad_members_leave() returns trigger language plpgsql as $$
declare
  touched record;
  leaving bigint[];
begin
  perform demand_read_committed();
  for touched in
    select cd.container_id, m.reason, array_agg(distinct cd.dataset_id) as ids
    from marked m join container_datasets cd using (dataset_id)
    where not cd.suspended group by cd.container_id, m.reason order by cd.container_id, m.reason
  loop
    perform from containers where id = touched.container_id for no key update;
    with suspending as (
      update container_datasets set suspended = true
      where container_id = touched.container_id and dataset_id = any (touched.ids) and not suspended
      returning dataset_id)
    select array_agg(dataset_id order by dataset_id) into leaving from suspending;
    if leaving is not null then
      perform change_container(touched.container_id, 'MARKED_BAD', leaving, -1, cardinality(leaving), touched.reason);
    end if;
  end loop;
  return null;
end
$$;
create trigger bad_members_leave after insert on bad_marks
  referencing new table as marked for each statement execute function bad_members_leave();

-- With its last mark taken off it comes back, unless it was taken out meanwhile.
create function cleared_members_return() returns trigger language plpgsql as $$
declare
  touched record;
  returning_ids bigint[];
begin
  perform demand_read_committed();
  for touched in
    select cd.container_id, n.cleared_reason as reason, array_agg(distinct cd.dataset_id) as ids
    from after_rows n join before_rows o using (id)
    join datasets d on d.id = n.dataset_id and d.bad_mark_count = 0
    join container_datasets cd on cd.dataset_id = n.dataset_id
    where o.cleared_at is null and n.cleared_at is not null and cd.suspended
    group by cd.container_id, n.cleared_reason order by cd.container_id, n.cleared_reason
  loop
    perform from containers where id = touched.container_id for no key update;
    with resuming as (
      update container_datasets set suspended = false
      where container_id = touched.container_id and dataset_id = any (touched.ids) and suspended
      returning dataset_id)
    select array_agg(dataset_id order by dataset_id) into returning_ids from resuming;
    if returning_ids is not null then
      perform change_container(touched.container_id, 'CLEARED', returning_ids, 1, -cardinality(returning_ids), touched.reason);
    end if;
  end loop;
  return null;
end
$$;
create trigger cleared_members_return after update on bad_marks
  referencing old table as before_rows new table as after_rows for each statement execute function cleared_members_return();
alter table bad_marks enable always trigger bad_members_leave, enable always trigger cleared_members_return;

-- The luminosity of a run may become known when its datasets are closed and listed already.
create function luminosity_reaches_containers() returns trigger language plpgsql as $$
declare
  changed bigint[];
begin
  -- execute: planned anew for as many rows as there are.
  execute $sql$
    select array_agg(n.id) from after_rows n join before_rows o using (id)
    where n.luminosity is distinct from o.luminosity $sql$ into changed;
  if changed is null then
    return null;
  end if;
  perform from containers where id in (select container_id from container_runs where run_id = any (changed))
  order by id for no key update;
  update containers c set
    luminosity = c.luminosity + t.gain,
    luminosity_run_count = c.luminosity_run_count + t.known
  from (
    select cr.container_id, sum(coalesce(r.luminosity::numeric, 0) - coalesce(cr.luminosity, 0)) as gain,
      sum((r.luminosity is not null)::integer - (cr.luminosity is not null)::integer) as known
    from container_runs cr join runs r on r.id = cr.run_id
    where cr.run_id = any (changed) group by cr.container_id) t
  where c.id = t.container_id;
  update container_runs cr set luminosity = r.luminosity::numeric
  from runs r where r.id = cr.run_id and cr.run_id = any (changed);
  return null;
end
$$;
create trigger luminosity_reaches_containers after update on runs
  referencing old table as before_rows new table as after_rows
  for each statement execute function luminosity_reaches_containers();
alter table runs enable always trigger luminosity_reaches_containers;

-- As in the migrations before: guards look past temporary tables.
do $$
declare
  name text;
begin
  foreach name in array array['bad_members_leave()', 'cleared_members_return()', 'luminosity_reaches_containers()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
