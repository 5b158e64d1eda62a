-- Tokens that allow less than their roles, that are good for some sites only, and that follow each other; and who came
-- with a JWT of an issuer that is trusted.

alter table tokens
  -- Names of actions, or read; null = all that the roles allow.
  add column scopes text[] check (cardinality(scopes) between 1 and 100),
  -- Null = every site.
  add column sites text[] check (cardinality(sites) between 1 and 100),
  add column replaces bigint references tokens on delete set null,
  add column last_used_from text check (length(last_used_from) <= 64);
create index tokens_by_principal on tokens (principal);

-- What a token allows, and to whom, is said once. It ends earlier, never later, and what has ended stays so.
create function tokens_guard() returns trigger language plpgsql as $$
declare
  moving text[] := array['expires_at', 'revoked_at', 'last_used_at', 'last_used_from', 'replaces'];
begin
  if to_jsonb(new) - moving is distinct from to_jsonb(old) - moving then
    perform refuse('ILLEGAL_TRANSITION', format('token %s: what it allows never changes', old.prefix), 'make another one');
  end if;
  if old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at then
    perform refuse('ILLEGAL_TRANSITION', format('token %s is revoked for good', old.prefix), 'make another one');
  end if;
  if coalesce(new.expires_at, 'infinity') > coalesce(old.expires_at, 'infinity') then
    perform refuse('ILLEGAL_TRANSITION', format('token %s: its end is never put off', old.prefix), 'make another one');
  end if;
  -- A new number of what it follows is a lie; that it is gone is not.
  if new.replaces is not null and new.replaces is distinct from old.replaces then
    perform refuse('ILLEGAL_TRANSITION', format('token %s: which one it replaces never changes', old.prefix));
  end if;
  return new;
end
$$;
create trigger tokens_guard before update on tokens for each row execute function tokens_guard();
alter table tokens enable always trigger tokens_guard;

-- Who came with a JWT: what he was allowed when he was last seen, and whether he is kept out.
create table identities (
  id bigint generated always as identity primary key,
  principal text not null unique check (length(principal) between 1 and 128 and principal !~ '[[:cntrl:]]'),
  issuer text not null check (length(issuer) <= 1000),
  subject text not null check (length(subject) <= 1000),
  roles text[] not null check (
    roles <@ array['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN']),
  groups text[] not null default '{}',
  -- By role, where one is good for some sites only.
  sites jsonb,
  first_seen_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  last_seen_from text check (length(last_seen_from) <= 64),
  blocked_at timestamptz,
  blocked_by text,
  blocked_reason text check (length(blocked_reason) between 1 and 2000),
  unique (issuer, subject),
  check ((blocked_at is null) = (blocked_by is null)),
  check ((blocked_at is null) = (blocked_reason is null))
);

create function identities_guard() returns trigger language plpgsql as $$
begin
  if (new.principal, new.issuer, new.subject, new.first_seen_at)
     is distinct from (old.principal, old.issuer, old.subject, old.first_seen_at) then
    perform refuse('ILLEGAL_TRANSITION', format('%s: who somebody is never changes', old.principal));
  end if;
  return new;
end
$$;
create trigger identities_guard before update on identities for each row execute function identities_guard();
create trigger identities_kept before delete or truncate on identities
  for each statement execute function refuse_any_change();
alter table identities enable always trigger identities_guard, enable always trigger identities_kept;

do $$
declare
  name text;
begin
  foreach name in array array['tokens_guard()', 'identities_guard()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
