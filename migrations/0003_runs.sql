-- Runs, and the two things that are said of them: production is done (the database says it), DQM's verdict.

insert into lifecycle (noun, from_state, to_state) values
  ('run', '', 'IN_PRODUCTION'),
  ('run', 'IN_PRODUCTION', 'AVAILABLE');

create table runs (
  id bigint generated always as identity primary key,
  source text not null check (source in ('DATA', 'SIMULATION')),
  number integer not null check (number > 0),
  started_at timestamptz,
  ended_at timestamptz,
  event_count bigint check (event_count between 0 and 9007199254740991),
  -- 1/pb
  luminosity double precision check (luminosity >= 0 and luminosity < 'infinity'),
  conditions text,
  expected_streams text[] not null default '{}',
  production_status text not null default 'IN_PRODUCTION' check (production_status in ('IN_PRODUCTION', 'AVAILABLE')),
  available_at timestamptz,
  verdict text check (verdict in ('GOOD', 'BAD')),
  verdict_comment text,
  verdict_by text,
  verdict_at timestamptz,
  version integer not null default 1,
  created_at timestamptz not null default now(),
  created_by text not null default current_actor(),
  unique (source, number),
  check (ended_at >= started_at),
  check ((production_status = 'AVAILABLE') = (available_at is not null)),
  check ((verdict is null) = (verdict_at is null))
);
create index runs_available on runs (available_at, id) where production_status = 'AVAILABLE';

create function runs_guard() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    if new.production_status <> 'IN_PRODUCTION' then
      perform refuse('ILLEGAL_TRANSITION', 'a run starts IN_PRODUCTION');
    end if;
    return new;
  end if;
  if (new.id, new.source, new.number, new.created_at, new.created_by)
     is distinct from (old.id, old.source, old.number, old.created_at, old.created_by) then
    perform refuse('ILLEGAL_TRANSITION', format('the identity of run %s %s never changes', old.source, old.number));
  end if;
  if new.production_status <> old.production_status then
    if not exists (select from lifecycle
                   where noun = 'run' and from_state = old.production_status and to_state = new.production_status) then
      perform refuse('ILLEGAL_TRANSITION',
        format('run %s: %s to %s is not a step of its life', old.number, old.production_status, new.production_status));
    end if;
    if not exists (select from done_runs(array[old.id])) then
      perform refuse('FILES_NOT_BACKED_UP', format('run %s is still in production', old.number),
        'it becomes AVAILABLE by itself when it has ended, all its run files are merged and all merged files are backed up');
    end if;
    new.available_at := clock_timestamp();
  elsif new.available_at is distinct from old.available_at then
    perform refuse('ILLEGAL_TRANSITION', format('run %s: the time when it became AVAILABLE stays', old.number));
  end if;
  new.version := old.version + 1;
  return new;
end
$$;
create trigger runs_guard before insert or update on runs for each row execute function runs_guard();
create trigger runs_kept before delete or truncate on runs for each statement execute function refuse_any_change();
alter table runs enable always trigger runs_guard, enable always trigger runs_kept;

create function runs_registered() returns trigger language plpgsql as $$
begin
  insert into events (kind, run_id, to_state) select 'RUN_STATUS', id, production_status from added order by id;
  return null;
end
$$;
create trigger runs_registered after insert on runs
  referencing new table as added for each statement execute function runs_registered();

create function runs_changed() returns trigger language plpgsql as $$
declare
  touched bigint[];
begin
  -- execute: planned anew for as many rows as there are. A kept plan for one row takes minutes for ten thousand.
  execute $sql$
    insert into events (kind, run_id, from_state, to_state)
    select 'RUN_STATUS', n.id, o.production_status, n.production_status
    from after_rows n join before_rows o using (id)
    where n.production_status <> o.production_status order by n.id $sql$;

  execute $sql$
    insert into events (kind, run_id, from_state, to_state, reason)
    select 'RUN_VERDICT', n.id, o.verdict, n.verdict, n.verdict_comment
    from after_rows n join before_rows o using (id)
    where (n.verdict, n.verdict_comment) is distinct from (o.verdict, o.verdict_comment) order by n.id $sql$;

  execute $sql$
    select array_agg(n.id) from after_rows n join before_rows o using (id)
    where n.production_status = 'IN_PRODUCTION'
      and (n.ended_at, n.expected_streams) is distinct from (o.ended_at, o.expected_streams) $sql$ into touched;
  if touched is not null then
    perform refresh_runs(touched);
  end if;
  return null;
end
$$;
create trigger runs_changed after update on runs
  referencing old table as before_rows new table as after_rows for each statement execute function runs_changed();
alter table runs enable always trigger runs_registered, enable always trigger runs_changed;
