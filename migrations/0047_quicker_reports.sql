-- A crash of a million copies is written in fewer looks at them: that each item was a copy that was there is seen
-- where the copies become LOST, which meets items and copies anyway, and counted there for the incident.

-- Replicas that became LOST with it.
alter table incidents add column replica_count bigint not null default 0;
alter table incidents disable trigger user;
update incidents set replica_count = item_count where what = 'REPLICAS';
alter table incidents enable always trigger incidents_guard, enable always trigger incidents_kept,
  enable always trigger incident_opened, enable always trigger incident_moved;
alter table incidents add check (replica_count <= item_count);

-- Last copies come first, so the files come in three runs: half a page is left for the second and the third.
alter index incident_items_by_file set (fillfactor = 50);

create or replace function incidents_guard() returns trigger language plpgsql as $$
declare
  counted text[] := array['open_count', 'still_lost_count', 'restored_count', 'item_count', 'safe_count',
    'recoverable_count', 'lost_count', 'replica_count'];
  moving text[] := array['status', 'recovery_volume_id', 'path_from', 'path_to', 'fed_ordinal', 'closed_at',
    'closed_by', 'closing_reason', 'version'];
begin
  if tg_op = 'INSERT' then
    if new.status <> 'OPEN' or new.fed_ordinal <> 0 or (new.item_count, new.safe_count, new.recoverable_count,
       new.lost_count, new.open_count, new.still_lost_count, new.restored_count, new.replica_count)
         <> (0, 0, 0, 0, 0, 0, 0, 0) then
      perform refuse('ILLEGAL_TRANSITION', 'an incident starts OPEN and without items');
    end if;
    return new;
  end if;
  if to_jsonb(new) - moving - counted is distinct from to_jsonb(old) - moving - counted then
    perform refuse('ILLEGAL_TRANSITION', format('incident %s: what was reported never changes', old.id));
  end if;
  if pg_trigger_depth() < 2 and (to_jsonb(new) - moving) is distinct from (to_jsonb(old) - moving) then
    perform refuse('ILLEGAL_TRANSITION', format('the counts of incident %s are kept by the database', old.id));
  end if;
  if new.status <> old.status then
    if not exists (select from lifecycle
                   where noun = 'incident' and from_state = old.status and to_state = new.status) then
      perform refuse('ILLEGAL_TRANSITION',
        format('incident %s: %s to %s is not a step of its life', old.id, old.status, new.status));
    end if;
    if new.status = 'UNDONE' and old.what = 'BACKUPS' then
      perform refuse('ILLEGAL_TRANSITION', format('incident %s: a store is not believed without being asked', old.id),
        'each copy is asked for again and read; what is there is confirmed, and the marks go with it');
    end if;
    if new.status in ('CLOSED', 'UNDONE') then
      new.closed_at := clock_timestamp();
      new.closed_by := current_actor();
      new.closing_reason := current_reason();
      if new.closing_reason is null then
        perform refuse('BAD_USER_INPUT', format('incident %s: closing needs a reason', old.id));
      end if;
    else
      new.closed_at := null;
      new.closed_by := null;
      new.closing_reason := null;
    end if;
  elsif (new.closed_at, new.closed_by, new.closing_reason) is distinct from
        (old.closed_at, old.closed_by, old.closing_reason) then
    perform refuse('ILLEGAL_TRANSITION', format('incident %s: who closed it, when and why stays', old.id));
  end if;
  new.version := old.version + 1;
  return new;
end
$$;

create or replace function incident_opened() returns trigger language plpgsql as $$
declare
  i incidents;
begin
  select * into i from incidents where id = new.id;
  if i.item_count = 0 then
    perform refuse('BAD_USER_INPUT', format('incident %s has hit nothing', i.id));
  end if;
  if i.what = 'REPLICAS' and i.replica_count <> i.item_count then
    perform refuse('ILLEGAL_TRANSITION', format('incident %s has %s items and lost %s copies', i.id, i.item_count,
      i.replica_count), 'an item is a copy that was there and that the same transaction makes LOST');
  end if;
  insert into events (kind, incident_id, to_state, reason, facts)
  values ('INCIDENT_STATUS', i.id, 'OPEN', i.reason, jsonb_build_object('what', i.what, 'itemCount', i.item_count,
    'safeCount', i.safe_count, 'recoverableCount', i.recoverable_count, 'lostCount', i.lost_count));
  return null;
end
$$;

create or replace function incident_items_added() returns trigger language plpgsql as $$
declare
  strange text;
begin
  -- execute, here and below: planned anew for as many rows as there are.
  execute $sql$
    select format('item %s of incident %s', a.ordinal, a.incident_id)
    from added a
    left join incidents i on i.id = a.incident_id and i.xmin = pg_current_xact_id()::xid
    where i.id is null or a.status <> 'HIT' or a.is_lost <> (a.finding = 'LOST')
      or a.is_unbacked <> (a.backup_id is not null and a.finding <> 'SAFE')
      or case i.what when 'REPLICAS' then a.replica_id is null else a.backup_id is null end
    -- Ordered, so that the plan is made for all rows: none is expected, and all are looked at.
    order by 1 limit 1 $sql$ into strange;
  if strange is null and exists (select from added where backup_id is not null) then
    execute $sql$
      select format('item %s of incident %s', a.ordinal, a.incident_id) from added a
      left join backup_records b on b.id = a.backup_id and b.file_id = a.file_id and b.status = 'CONFIRMED'
      where a.backup_id is not null and b.id is null order by 1 limit 1 $sql$ into strange;
  end if;
  if strange is not null then
    perform refuse('ILLEGAL_TRANSITION', strange || ' is no copy that was there',
      'report the loss with reportStorageLoss');
  end if;
  execute $sql$
    update incidents i set item_count = i.item_count + t.n, safe_count = i.safe_count + t.safe,
      recoverable_count = i.recoverable_count + t.recoverable, lost_count = i.lost_count + t.lost,
      open_count = i.open_count + t.open, still_lost_count = i.still_lost_count + t.lost
    from (select incident_id, count(*) as n, count(*) filter (where finding = 'SAFE') as safe,
            count(*) filter (where finding = 'RECOVERABLE') as recoverable,
            count(*) filter (where finding = 'LOST') as lost,
            count(*) filter (where finding <> 'SAFE' or backup_id is not null) as open
          from added group by incident_id) t
    where i.id = t.incident_id $sql$;
  return null;
end
$$;

create or replace function replicas_changed() returns trigger language plpgsql as $$
declare
  seen record;
  strange text;
  is_staged boolean := false;
  is_told boolean := false;
begin
  -- One look at all rows: a loss and its undoing need no other.
  for seen in execute $sql$
    select w.incident_id, min(w.what) filter (where w.is_strange) as strange, bool_or(w.is_staged) as is_staged,
      bool_or(w.is_told) as is_told, count(*) filter (where w.is_hit) as hits
    from (
      select 'replica ' || o.id || ': ' || o.status || ' to ' || n.status as what,
        coalesce(n.incident_id, o.incident_id) as incident_id, i.replica_id is not null as is_hit,
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
    group by w.incident_id $sql$
  loop
    strange := least(strange, seen.strange);
    is_staged := is_staged or seen.is_staged;
    is_told := is_told or seen.is_told;
    if seen.hits > 0 then
      update incidents set replica_count = replica_count + seen.hits where id = seen.incident_id;
    end if;
  end loop;
  if strange is not null then
    perform refuse('ILLEGAL_TRANSITION', strange || ' is not a step of its life',
      'an incident that is reported loses it; read and found good, or its incident undone, it is there again');
  end if;
  if is_staged then
    execute $sql$
      insert into replica_checks (replica_id, file_id, incident_id, is_restage)
      select n.id, n.file_id, current_recovery(), current_recovery() is not null and f.confirmed_copies > 0
      from after_rows n join before_rows o using (id) join files f on f.id = n.file_id
      where n.status = 'STAGING' and o.status <> 'STAGING' order by n.id on conflict do nothing $sql$;
  end if;
  if is_told then
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

do $$
declare
  name text;
begin
  foreach name in array array['incidents_guard()', 'incident_opened()', 'incident_items_added()', 'replicas_changed()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
