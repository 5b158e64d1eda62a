-- Who did what, from where, by which token, and what was refused. Apart from the event log, which tells what became of
-- runs, files and datasets: this tells of people. Lines are only ever added; each goes when its time is over.

create table audit_trail (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- Nobody removes it before; null = it is kept for good.
  kept_until timestamptz,
  request_id text check (length(request_id) <= 100),
  principal text not null check (length(principal) between 1 and 200),
  roles text[] not null default '{}',
  -- By what he was known: an API token, or a JWT of an issuer.
  token_prefix text,
  issuer text,
  subject text,
  jti text,
  address text,
  kind text not null check (kind in ('QUERY', 'MUTATION', 'SUBSCRIPTION', 'REQUEST', 'CONNECTION')),
  -- As the client calls its operation.
  operation text check (length(operation) <= 200),
  -- The root field, or method and route.
  field text not null check (length(field) <= 300),
  outcome text not null check (outcome in ('DONE', 'REFUSED')),
  code text check (length(code) <= 100),
  -- The same within a second is one line: refusals, and reads.
  times integer not null default 1 check (times > 0),
  check ((outcome = 'REFUSED') = (code is not null)),
  check (token_prefix is null or issuer is null)
);
create index audit_trail_by_principal on audit_trail (principal, id);
create index audit_trail_by_field on audit_trail (field, id);
create index audit_trail_refused on audit_trail (id) where outcome = 'REFUSED';
create index audit_trail_by_time on audit_trail (at);
create index audit_trail_ends on audit_trail (kept_until) where kept_until is not null;

-- A line tells of now: those that are written together may be a minute old.
create function audit_trail_is_of_now() returns trigger language plpgsql as $$
begin
  new.at := least(greatest(new.at, clock_timestamp() - interval '1 minute'), clock_timestamp());
  return new;
end
$$;
create trigger audit_trail_is_of_now before insert on audit_trail
  for each row execute function audit_trail_is_of_now();

create function audit_trail_kept() returns trigger language plpgsql as $$
begin
  if old.kept_until is null or old.kept_until > clock_timestamp() then
    perform refuse('ILLEGAL_TRANSITION', format('line %s of the audit trail is kept until %s', old.id,
      coalesce(old.kept_until::text, 'the end')), 'nobody removes it before');
  end if;
  return old;
end
$$;
create trigger audit_trail_kept before delete on audit_trail for each row execute function audit_trail_kept();
create trigger audit_trail_never_changed before update or truncate on audit_trail
  for each statement execute function refuse_any_change();
alter table audit_trail enable always trigger audit_trail_is_of_now, enable always trigger audit_trail_kept,
  enable always trigger audit_trail_never_changed;

do $$
declare
  name text;
begin
  foreach name in array array['audit_trail_is_of_now()', 'audit_trail_kept()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
