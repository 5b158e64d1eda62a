import type { Check } from './invariants-of-contents.ts';

/** Runs of what is listed now, from the files alone. */
const listedRuns = `
  select m.container_id, fr.run_id, count(distinct m.dataset_id) as n
  from container_memberships m join dataset_files df on df.dataset_id = m.dataset_id
  join file_runs fr on fr.file_id = df.file_id
  where m.removed_id is null group by m.container_id, fr.run_id`;

/** Containers: the periods are the truth; lists, totals, lines of history and of the log are held against them. */
export const containerChecks: readonly Check[] = [
  {
    invariant: 'containers',
    sql: `
      with datasets_of as (
        select container_id, count(*) as n from container_memberships where removed_id is null group by 1),
      files_of as (
        select x.container_id, count(*) as n, sum(f.size_bytes) as bytes, sum(coalesce(f.event_count, 0)) as events
        from (select distinct m.container_id, df.file_id
              from container_memberships m join dataset_files df on df.dataset_id = m.dataset_id
              where m.removed_id is null) x
        join files f on f.id = x.file_id group by 1),
      runs_of as (
        select l.container_id, count(r.luminosity) as known, coalesce(sum(r.luminosity::numeric), 0) as luminosity
        from (${listedRuns}) l join runs r on r.id = l.run_id group by 1),
      waiting as (select container_id, count(*) as n from container_datasets where suspended group by 1),
      truth as (
        select c.id, coalesce(d.n, 0) as datasets, coalesce(f.n, 0) as files, coalesce(f.bytes, 0) as bytes,
          coalesce(f.events, 0) as events, coalesce(r.luminosity, 0) as luminosity, coalesce(r.known, 0) as known,
          coalesce(w.n, 0) as waiting
        from containers c left join datasets_of d on d.container_id = c.id left join files_of f on f.container_id = c.id
        left join runs_of r on r.container_id = c.id left join waiting w on w.container_id = c.id)
      select format('container %s counts datasets, files, bytes, events, luminosity, its runs, suspended as %s and has %s',
        c.name,
        (c.dataset_count, c.file_count, c.size_bytes, c.event_count, c.luminosity, c.luminosity_run_count, c.suspended_count),
        (t.datasets, t.files, t.bytes, t.events, t.luminosity, t.known, t.waiting))
      from containers c join truth t using (id)
      where (c.dataset_count, c.file_count, c.size_bytes, c.event_count, c.luminosity, c.luminosity_run_count, c.suspended_count)
        is distinct from (t.datasets, t.files, t.bytes, t.events, t.luminosity, t.known, t.waiting)`,
  },
  {
    invariant: 'containers',
    sql: `
      select format('container %s, dataset %s: %s periods go on, and it is %s', container_id, dataset_id, periods,
        case when listed = 0 then 'not listed' when waiting then 'suspended' else 'listed' end)
      from (
        select container_id, dataset_id, sum(period) as periods, sum(entry) as listed, bool_or(waits) as waiting
        from (
          select container_id, dataset_id, 1 as period, 0 as entry, false as waits
          from container_memberships where removed_id is null
          union all select container_id, dataset_id, 0, 1, suspended from container_datasets) x
        group by 1, 2) y
      where periods <> case when listed = 0 or waiting then 0 else 1 end`,
  },
  {
    invariant: 'containers',
    sql: `
      select format('container %s lists dataset %s, which is %s with %s bad marks', cd.container_id,
        coalesce(d.name, 'nothing'), coalesce(d.status, 'nowhere'), count(b.id))
      from container_datasets cd left join datasets d on d.id = cd.dataset_id
      left join bad_marks b on b.dataset_id = d.id and b.cleared_at is null
      group by cd.container_id, cd.dataset_id, cd.suspended, d.id
      having d.status is distinct from 'CLOSED' or cd.suspended <> (count(b.id) > 0)`,
  },
  {
    invariant: 'containers',
    sql: `
      select format('container %s, dataset %s: a period begins at %s, before the one before ended', container_id,
        dataset_id, added_id)
      from (
        select *, lag(coalesce(removed_id, 9223372036854775807)) over (
          partition by container_id, dataset_id order by added_id) as ended from container_memberships) m
      where ended > added_id`,
  },
  {
    invariant: 'containers',
    sql: `
      with ends as (
        select container_id, added_xid as xid, added_id as id, 1 as came, 0 as went from container_memberships
        union all
        select container_id, removed_xid, removed_id, 0, 1 from container_memberships where removed_id is not null),
      told as (select container_id, xid, id, sum(came) as came, sum(went) as went from ends group by 1, 2, 3)
      select format('container %s, change %s: tells of %s and %s, and %s came and %s left',
        coalesce(h.container_id, t.container_id), coalesce(h.event_id, t.id), h.added_count, h.removed_count,
        coalesce(t.came, 0), coalesce(t.went, 0))
      from container_changes h full join told t
        on t.container_id = h.container_id and t.xid = h.xid and t.id = h.event_id
      where (h.added_count, h.removed_count) is distinct from (coalesce(t.came, 0)::bigint, coalesce(t.went, 0)::bigint)`,
  },
  {
    invariant: 'containers',
    sql: `
      select format('container %s, change %s: it had %s, %s came, %s are said to be there', container_id, event_id,
        before, moved, after)
      from (
        select container_id, event_id, (dataset_count, file_count, size_bytes, event_count) as after,
          (added_count - removed_count, file_count_change, size_bytes_change, event_count_change) as moved,
          (lag(dataset_count, 1, 0::bigint) over w, lag(file_count, 1, 0::bigint) over w,
           lag(size_bytes, 1, 0::bigint) over w, lag(event_count, 1, 0::bigint) over w) as before,
          (lag(dataset_count, 1, 0::bigint) over w + added_count - removed_count,
           lag(file_count, 1, 0::bigint) over w + file_count_change,
           lag(size_bytes, 1, 0::bigint) over w + size_bytes_change,
           lag(event_count, 1, 0::bigint) over w + event_count_change) as wanted
        from container_changes window w as (partition by container_id order by event_id)) h
      where after <> wanted
      union all
      select format('container %s has %s, and its history ends with %s', c.name,
        (c.dataset_count, c.file_count, c.size_bytes, c.event_count, c.changed_at, c.version),
        (h.dataset_count, h.file_count, h.size_bytes, h.event_count, h.occurred_at, h.n + 1))
      from containers c join (
        select distinct on (container_id) *, count(*) over (partition by container_id) as n
        from container_changes order by container_id, event_id desc) h on h.container_id = c.id
      where (c.dataset_count, c.file_count, c.size_bytes, c.event_count, c.changed_at, c.version::bigint)
        <> (h.dataset_count, h.file_count, h.size_bytes, h.event_count, h.occurred_at, h.n + 1)`,
  },
  {
    invariant: 'I4',
    sql: `
      select format('container change %s: the history says %s, the log says %s', coalesce(h.event_id, e.id),
        (h.container_id, h.xid, h.occurred_at, h.actor, h.reason), (e.container_id, e.xid, e.occurred_at, e.actor, e.reason))
      from container_changes h
      full join (select * from events where kind = 'CONTAINER_CHANGED') e on e.id = h.event_id
      where (h.container_id, h.xid, h.occurred_at, h.actor, h.reason)
        is distinct from (e.container_id, e.xid, e.occurred_at, e.actor, e.reason)
      union all
      select format('container %s was created %s times', coalesce(c.name, e.container_id::text), coalesce(e.n, 0))
      from containers c full join (
        select container_id, count(*) as n from events where kind = 'CONTAINER_CREATED' group by 1) e on e.container_id = c.id
      where c.id is null or e.n is distinct from 1`,
  },
  {
    // The changes of a container are made one after the other: place, number and time go the same way.
    invariant: 'I4',
    sql: `
      select format('container %s: event %s is read, or dated, before event %s, which was written earlier', container_id, id, earlier)
      from (
        select container_id, id, xid, occurred_at, kind, lag(id) over w as earlier, lag(xid) over w as earlier_xid,
          lag(occurred_at) over w as earlier_at, lag(kind) over w as earlier_kind
        from events where container_id is not null window w as (partition by container_id order by id)) e
      where xid < earlier_xid
        or (occurred_at < earlier_at and kind = 'CONTAINER_CHANGED' and earlier_kind = 'CONTAINER_CHANGED')`,
  },
  {
    invariant: 'counts',
    sql: `
      select format('container %s, run %s: counted in %s datasets and is in %s, with luminosity %s and it is %s',
        coalesce(cr.container_id, l.container_id), coalesce(cr.run_id, l.run_id), coalesce(cr.dataset_count, 0),
        coalesce(l.n, 0), coalesce(cr.luminosity::text, 'none'), coalesce(r.luminosity::text, 'none'))
      from container_runs cr full join (${listedRuns}) l using (container_id, run_id)
      left join runs r on r.id = run_id
      where (cr.dataset_count, cr.luminosity) is distinct from (l.n, r.luminosity::numeric)`,
  },
];
