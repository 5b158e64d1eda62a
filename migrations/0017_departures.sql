-- Members of a followed container that have left it at its site. Without a foreign key to the rules: their table is
-- younger than this one; a rule takes its lines along when it ends.
create table followed_departures (
  rule_id bigint not null,
  name text not null,
  -- When, and why, as its site tells it; found missing from the list: when that was, and null.
  left_at timestamptz not null,
  reason text check (length(reason) <= 2000),
  primary key (rule_id, name)
);
