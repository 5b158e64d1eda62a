-- A copy in a pool is a replica like any other while it is there: jobs report it, incidents lose it. Only its pool
-- lets it go, and brings it back.

alter table replicas drop constraint replicas_status_check;
alter table replicas add constraint replicas_status_check check (status in ('AVAILABLE', 'STAGING', 'LOST', 'EVICTED'));

create or replace function replicas_added() returns trigger language plpgsql as $$
begin
  if exists (select from added where status in ('LOST', 'EVICTED') or incident_id is not null) then
    perform refuse('ILLEGAL_TRANSITION', 'a replica starts AVAILABLE or STAGING');
  end if;
  if exists (select from incidents where still_lost_count > 0) then
    if exists (select from added a join incident_items i on i.file_id = a.file_id and i.is_lost
               where a.status = 'AVAILABLE') then
      perform refuse('FILE_LOST', 'a copy of a lost file starts STAGING: it is read before it is believed');
    end if;
  end if;
  if exists (select from added where status = 'STAGING') then
    insert into replica_checks (replica_id, file_id, incident_id, is_restage)
    select a.id, a.file_id, current_recovery(), current_recovery() is not null and f.confirmed_copies > 0
    from added a join files f on f.id = a.file_id where a.status = 'STAGING' order by a.id on conflict do nothing;
  end if;
  return null;
end
$$;

create or replace function replicas_changed() returns trigger language plpgsql as $$
declare
  seen record;
begin
  -- One look at all rows: a loss and its undoing need no other.
  execute $sql$
    select min(w.what) filter (where w.is_strange) as strange,
      count(*) filter (where w.is_staged) as staged, count(*) filter (where w.is_told) as told
    from (
      select 'replica ' || o.id || ': ' || o.status || ' to ' || n.status as what,
        n.status = 'STAGING' and o.status <> 'STAGING' as is_staged,
        n.status <> o.status and o.status not in ('AVAILABLE', 'EVICTED')
          and not (n.status = 'AVAILABLE' and s.status is not distinct from 'UNDONE') as is_told,
        (n.id, n.file_id, n.volume_id, n.path, n.created_at)
          is distinct from (o.id, o.file_id, o.volume_id, o.path, o.created_at)
        or case
          when n.status = o.status then n.incident_id is distinct from o.incident_id
          when n.status = 'LOST' and o.status = 'AVAILABLE' then
            i.replica_id is null or s.xmin is distinct from pg_current_xact_id()::xid
          when not exists (select from lifecycle l
            where l.noun = 'replica' and l.from_state = o.status and l.to_state = n.status) then true
          -- Only a pool lets its copies go.
          when n.status = 'EVICTED' then n.incident_id is not null or not exists (
            select from pool_copies c where c.replica_id = n.id and c.status = 'EVICTING')
          -- A pool that has brought its copy anew, and read it.
          when n.status = 'AVAILABLE' and exists (select from pool_copies c where c.replica_id = n.id
            and c.status = 'ONLINE' and c.xmin = pg_current_xact_id()::xid) then false
          when n.status = 'AVAILABLE' and o.status = 'EVICTED' then true
          when n.status = 'AVAILABLE' and o.status = 'LOST' then s.status is distinct from 'UNDONE'
          when n.status = 'AVAILABLE' then s.status is distinct from 'UNDONE' and not exists (
            select from replica_checks c where c.replica_id = n.id and c.status = 'GOOD'
              and c.id = (select max(id) from replica_checks x where x.replica_id = n.id))
          when n.status = 'LOST' then n.incident_id is distinct from o.incident_id or not exists (
            select from replica_checks c where c.replica_id = n.id and c.status in ('BAD', 'FAILED')
              and c.id = (select max(id) from replica_checks x where x.replica_id = n.id))
          else n.incident_id is distinct from o.incident_id end as is_strange
      from before_rows o left join after_rows n using (id)
      left join incidents s on s.id = coalesce(n.incident_id, o.incident_id)
      left join incident_items i on n.status = 'LOST' and o.status = 'AVAILABLE'
        and i.incident_id = n.incident_id and i.file_id = n.file_id and i.replica_id = n.id and i.status = 'HIT') w
    $sql$ into seen;
  if seen.strange is not null then
    perform refuse('ILLEGAL_TRANSITION', seen.strange || ' is not a step of its life',
      'an incident that is reported loses it; read and found good, or its incident undone, it is there again');
  end if;
  if seen.staged > 0 then
    execute $sql$
      insert into replica_checks (replica_id, file_id, incident_id, is_restage)
      select n.id, n.file_id, current_recovery(), current_recovery() is not null and f.confirmed_copies > 0
      from after_rows n join before_rows o using (id) join files f on f.id = n.file_id
      where n.status = 'STAGING' and o.status <> 'STAGING' order by n.id on conflict do nothing $sql$;
  end if;
  if seen.told > 0 then
    execute $sql$
      insert into events (kind, file_id, incident_id, from_state, to_state, facts)
      select 'REPLICA_STATUS', n.file_id, o.incident_id, o.status, n.status, jsonb_strip_nulls(jsonb_build_object(
        'replicaId', n.id, 'path', n.path, 'evidence', c.evidence,
        'errorCode', case when n.status = 'LOST' then c.last_error_code end))
      from after_rows n join before_rows o using (id)
      left join incidents s on s.id = o.incident_id
      left join lateral (select * from replica_checks c where c.replica_id = n.id order by c.id desc limit 1) c
        on n.status <> 'STAGING'
      where n.status <> o.status and o.status not in ('AVAILABLE', 'EVICTED')
        and not (n.status = 'AVAILABLE' and s.status is not distinct from 'UNDONE') order by n.id $sql$;
  end if;
  -- A pool knows what an incident took from it, and what is there again.
  if exists (select from pools) then
    execute $sql$
      update pool_copies c set status = case n.status when 'LOST' then 'LOST' else 'ONLINE' end
      from after_rows n join before_rows o using (id)
      where c.replica_id = n.id and n.status <> o.status
        and ((n.status = 'LOST' and c.status = 'ONLINE') or (n.status = 'AVAILABLE' and c.status = 'LOST')) $sql$;
  end if;
  return null;
end
$$;

-- A copy in a pool is ONLINE as its replica is AVAILABLE, looked at when the transaction commits.
create function pool_copy_is_told() returns trigger language plpgsql as $$
declare
  copy pool_copies;
  there replicas;
begin
  select * into copy from pool_copies where id = new.id;
  select * into there from replicas where id = copy.replica_id;
  if copy.status = 'ONLINE' and (there.status is distinct from 'AVAILABLE' or there.file_id <> copy.file_id
     or there.path <> copy.path) or (copy.status in ('EVICTED', 'LOST') and there.status = 'AVAILABLE') then
    perform refuse('ILLEGAL_TRANSITION', format('copy %s in a pool is %s, and its replica is %s', copy.id, copy.status,
      coalesce(there.status, 'not there')));
  end if;
  return null;
end
$$;
create constraint trigger pool_copy_is_told after update on pool_copies
  deferrable initially deferred for each row when (new.status <> old.status and new.status in ('ONLINE', 'LOST', 'EVICTED'))
  execute function pool_copy_is_told();
alter table pool_copies enable always trigger pool_copy_is_told;

do $$
declare
  name text;
begin
  foreach name in array array['replicas_added()', 'replicas_changed()', 'pool_copy_is_told()'] loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
