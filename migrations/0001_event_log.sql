-- The log stands first, because every later table writes its changes of state into it.

create table meta (
  singleton boolean primary key default true check (singleton),
  -- Part of every event cursor: a database made anew must refuse the cursors of the old one.
  epoch text not null default substr(md5(gen_random_uuid()::text), 1, 8)
);
insert into meta default values;

-- The life cycles, as the triggers read them. The same tables stand in src/*/**.rules.ts; a test holds them together.
-- from_state '' is creation.
create table lifecycle (
  noun text not null,
  from_state text not null,
  to_state text not null,
  primary key (noun, from_state, to_state)
);

-- Who acts, for whom and why, comes with the transaction: select set_config('sweepbook.actor', …, true).
create function current_actor() returns text language sql stable as $$
  select coalesce(nullif(current_setting('sweepbook.actor', true), ''), 'sql:' || session_user)
$$;
create function current_reason() returns text language sql stable as $$
  select nullif(btrim(current_setting('sweepbook.reason', true)), '')
$$;

-- A refusal of the database: SQLSTATE SW001, the code of docs/errors.md in the constraint field.
create function refuse(code text, message text, hint text default '') returns void language plpgsql as $$
begin
  raise exception using errcode = 'SW001', constraint = code, message = message, hint = hint;
end
$$;

create function refuse_any_change() returns trigger language plpgsql as $$
begin
  perform refuse('ILLEGAL_TRANSITION', format('%s of %s is never done', tg_op, tg_table_name),
    'rows of this table are kept for good');
  return null;
end
$$;

create table events (
  id bigint generated always as identity primary key,
  -- With id the place in the log: readers stay below pg_snapshot_xmin(), so that a late commit is never skipped.
  xid xid8 not null default pg_current_xact_id(),
  occurred_at timestamptz not null default clock_timestamp(),
  kind text not null check (kind in (
    'RUN_STATUS', 'RUN_VERDICT', 'FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS', 'DATASET_STATUS',
    'DATASET_SEALED', 'DATASET_UNSEALED', 'DATASET_FILES_ADDED', 'DATASET_FILES_REMOVED',
    'DATASET_MARKED_BAD', 'DATASET_CLEARED')),
  actor text not null default current_actor(),
  reason text default current_reason(),
  dataset_id bigint,
  file_id bigint,
  run_id bigint,
  backup_id bigint,
  from_state text,
  to_state text,
  facts jsonb not null default '{}'
);
create index events_by_place on events (xid, id);
create index events_by_dataset on events (dataset_id, xid, id) where dataset_id is not null;
create index events_by_file on events (file_id, xid, id) where file_id is not null;
create index events_by_run on events (run_id, xid, id) where run_id is not null;

-- I4: a line of the log is written by the trigger of the change it tells, and by nobody else.
create function events_only_from_triggers() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 2 then
    perform refuse('ILLEGAL_TRANSITION', 'an event is written by the change that it tells, not by hand');
  end if;
  return null;
end
$$;
create trigger events_insert before insert on events for each statement execute function events_only_from_triggers();
create trigger events_kept before update or delete or truncate on events
  for each statement execute function refuse_any_change();
-- A transaction can wait for a younger one and then write of the same thing. Its own number would place that line
-- before what it follows, so the line takes the place of the younger one; no reader is past it while we run.
-- No sequential scan: the plan is kept, and may have been made when the log was short.
create function events_in_order() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  new.xid := greatest(new.xid,
    (select xid from events where dataset_id = new.dataset_id order by xid desc limit 1),
    (select xid from events where file_id = new.file_id order by xid desc limit 1),
    (select xid from events where run_id = new.run_id order by xid desc limit 1));
  return new;
end
$$;
create trigger events_in_order before insert on events
  for each row when (new.kind <> 'FILE_REGISTERED') execute function events_in_order();
alter table events enable always trigger events_insert, enable always trigger events_kept,
  enable always trigger events_in_order;
