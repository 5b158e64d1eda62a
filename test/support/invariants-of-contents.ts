/** One question to the tables: a select of one column of text, a row for each finding. */
export interface Check {
  readonly invariant: string;
  readonly sql: string;
  readonly values?: unknown[];
}

/** What the store answered is what was registered. */
const equalToRegistered = `
  b.stored_size_bytes = f.size_bytes and b.stored_adler32 = f.adler32
  and (f.sha256 is null or b.stored_sha256 = f.sha256
    or b.stored_sha256 is null and b.confirm_level in ('COPIED', 'ARCHIVED'))`;
const safeFiles = `
  select distinct b.file_id from backup_records b join files f on f.id = b.file_id
  where b.status = 'CONFIRMED' and ${equalToRegistered}`;
/** Those that have all that their policy asks for. */
const completeFiles = `
  select f.id as file_id from files f left join backup_policies p on p.id = f.policy_id
  join backup_records b on b.file_id = f.id and b.status = 'CONFIRMED' and b.store_id = any (coalesce(p.store_ids, array[b.store_id]))
  group by f.id, p.store_ids having count(*) >= coalesce(cardinality(p.store_ids), 1)`;
const standingMarks = `
  select dataset_id, count(*) as n from bad_marks where cleared_at is null group by dataset_id`;

/** I1, I3, I5, I7, counts and sweeps: what the rows say beside each other. */
export const contentChecks: readonly Check[] = [
  {
    invariant: 'I1',
    sql: `
      with safe as (${safeFiles}), listed as (
        select df.dataset_id, count(*) as n, count(*) filter (where s.file_id is null
          -- A store lost it in an incident, and a disk still holds it.
          and not (exists (select from incident_items i where i.file_id = df.file_id and i.is_unbacked)
            and exists (select from replicas p where p.file_id = df.file_id and p.status = 'AVAILABLE'))) as unsafe
        from dataset_files df left join safe s using (file_id) group by df.dataset_id)
      select format('dataset %s is %s with %s files, %s without a confirmed backup', d.name, d.status,
        coalesce(l.n, 0), coalesce(l.unsafe, 0))
      from datasets d left join listed l on l.dataset_id = d.id
      where d.status <> 'OPEN' and (l.n is null or (
        not d.backup_waived and l.unsafe > 0
        and not exists (select from bad_marks m where m.dataset_id = d.id and m.cleared_at is null)))`,
  },
  {
    invariant: 'I1',
    sql: `
      select format('backup %s is CONFIRMED, but the store holds something else than %s', b.id, f.lfn)
      from backup_records b left join files f on f.id = b.file_id
      where b.status = 'CONFIRMED' and (${equalToRegistered}) is not true`,
  },
  {
    invariant: 'I1',
    sql: `
      select format('dataset %s holds file %s, which is no registered merged file', df.dataset_id, df.file_id)
      from dataset_files df left join files f on f.id = df.file_id left join datasets d on d.id = df.dataset_id
      where f.kind is distinct from 'MERGED_FILE' or d.id is null`,
  },
  {
    invariant: 'I1',
    sql: `
      select format('dataset %s lists file %s as %s', df.dataset_id, f.lfn, df.lfn)
      from dataset_files df join files f on f.id = df.file_id where df.lfn <> f.lfn`,
  },
  {
    invariant: 'visibility',
    sql: `
      select format('dataset %s is %s with %s standing bad marks and shown as %s', d.name, d.status,
        coalesce(m.n, 0), case when d.is_available then 'available' else 'not available' end)
      from datasets d left join (${standingMarks}) m on m.dataset_id = d.id
      where d.is_available <> (d.status = 'CLOSED' and m.n is null)`,
  },
  {
    invariant: 'I3',
    sql: `
      select format('backup %s is CONFIRMED without evidence: %s', id, coalesce(evidence::text, 'none'))
      from backup_records
      where status = 'CONFIRMED' and (evidence ->> 'asked' <> '' and evidence ->> 'answer' <> ''
        and evidence ->> 'askedAt' ~ '^\\d{4}-\\d\\d-\\d\\dT' and store_key <> '') is not true`,
  },
  {
    invariant: 'I3',
    sql: `
      select format('backup %s: the answer of the store does not say what is recorded: %s', b.id,
        b.evidence ->> 'answer')
      from backup_records b join mass_stores s on s.id = b.store_id
      where b.status = 'CONFIRMED' and s.kind = 'directory' and (
        b.evidence ->> 'answer' ~ ('"sizeBytes" *: *' || b.stored_size_bytes || ' *[,}]')
        and b.evidence ->> 'answer' ~ ('"adler32" *: *"' || b.stored_adler32 || '"')
        and (b.stored_sha256 is null or b.evidence ->> 'answer' ~ ('"sha256" *: *"' || b.stored_sha256 || '"'))
        ) is not true`,
  },
  {
    invariant: 'I3',
    sql: `
      select format('backup %s is CONFIRMED, and does not say what that covers', id)
      from backup_records where status = 'CONFIRMED' and confirm_level is null`,
  },
  {
    invariant: 'I5',
    sql: `
      select format('backup %s is %s at attempt %s, answered by attempt %s', id, status, attempt,
        coalesce(answered_attempt::text, 'none'))
      from backup_records
      where status in ('COPIED', 'CONFIRMED') and answered_attempt is distinct from attempt`,
  },
  {
    invariant: 'I7',
    sql: `
      select format('run file %s is in %s merged files', input_file_id, count(*))
      from merge_inputs group by input_file_id having count(*) > 1`,
  },
  {
    invariant: 'I7',
    sql: `
      select format('merge %s of %s: %s inputs (%s of them no run files) hold %s events, it holds %s', m.id,
        coalesce(o.lfn, 'nothing'), count(mi.input_file_id),
        count(mi.input_file_id) filter (where i.kind is distinct from 'RUN_FILE'),
        coalesce(sum(i.event_count)::text, 'uncounted'), coalesce(o.event_count::text, 'uncounted'))
      from merges m left join files o on o.id = m.output_file_id
      left join merge_inputs mi on mi.merge_id = m.id left join files i on i.id = mi.input_file_id
      group by m.id, o.id
      having o.kind is distinct from 'MERGED_FILE' or count(mi.input_file_id) = 0
        or bool_or(i.kind is distinct from 'RUN_FILE') or bool_or(i.event_count is null)
        or sum(i.event_count) is distinct from o.event_count`,
  },
  {
    invariant: 'I7',
    sql: `
      select format('merge %s has an input of run %s, which %s does not name', m.id, i.run_id, o.lfn)
      from merges m join files o on o.id = m.output_file_id
      join merge_inputs mi on mi.merge_id = m.id join files i on i.id = mi.input_file_id
      where not exists (select from file_runs fr where fr.file_id = o.id and fr.run_id = i.run_id)
      union all
      select format('merge input %s belongs to no merge', mi.input_file_id)
      from merge_inputs mi where not exists (select from merges m where m.id = mi.merge_id)`,
  },
  {
    invariant: 'counts',
    sql: `
      select format('file %s counts %s confirmed copies and has %s', f.lfn, f.confirmed_copies, coalesce(b.n, 0))
      from files f left join (
        select file_id, count(*) as n from backup_records where status = 'CONFIRMED' group by file_id) b
        on b.file_id = f.id
      where f.confirmed_copies <> coalesce(b.n, 0)`,
  },
  {
    invariant: 'counts',
    sql: `
      select format('file %s counts %s missing copies and misses %s', f.lfn, f.missing_copies, t.n)
      from files f left join backup_policies p on p.id = f.policy_id cross join lateral (
        select case when p.id is null
          then (not exists (select from backup_records b where b.file_id = f.id and b.status = 'CONFIRMED'))::int
          else (select count(*) from unnest(p.store_ids) w (id) where not exists (
            select from backup_records b where b.file_id = f.id and b.store_id = w.id and b.status = 'CONFIRMED')) end as n) t
      where f.missing_copies <> t.n`,
  },
  {
    invariant: 'counts',
    sql: `
      with listed as (
        select df.dataset_id, count(*) as files, sum(f.size_bytes) as bytes,
          sum(coalesce(f.event_count, 0)) as events, count(b.file_id) as confirmed
        from dataset_files df left join files f on f.id = df.file_id
        left join (${completeFiles}) b on b.file_id = df.file_id
        group by df.dataset_id), truth as (
        select d.id, coalesce(l.files, 0) as files, coalesce(l.confirmed, 0) as confirmed,
          coalesce(l.bytes, 0) as bytes, coalesce(l.events, 0) as events, coalesce(m.n, 0) as marks
        from datasets d left join listed l on l.dataset_id = d.id
        left join (${standingMarks}) m on m.dataset_id = d.id)
      select format('dataset %s counts files, confirmed, bytes, events, bad marks as %s and has %s', d.name,
        (d.file_count, d.confirmed_count, d.size_bytes, d.event_count, d.bad_mark_count),
        (t.files, t.confirmed, t.bytes, t.events, t.marks))
      from datasets d join truth t using (id)
      where (d.file_count, d.confirmed_count, d.size_bytes, d.event_count, d.bad_mark_count::bigint)
        is distinct from (t.files, t.confirmed, t.bytes, t.events, t.marks)`,
  },
  {
    invariant: 'counts',
    sql: `
      select format('dataset %s calls file %s by the name %s', df.dataset_id, f.lfn, coalesce(df.lfn, 'none'))
      from dataset_files df join files f on f.id = df.file_id where df.lfn is distinct from f.lfn`,
  },
  {
    invariant: 'counts',
    sql: `
      with truth as (
        select df.dataset_id, r.source, r.number, r.id as run_id, count(*) as files,
          coalesce(sum(fr.event_count), 0) as events, sum(f.size_bytes) as bytes
        from dataset_files df join files f on f.id = df.file_id join file_runs fr on fr.file_id = f.id
        join runs r on r.id = fr.run_id group by df.dataset_id, r.id)
      select format('dataset %s counts files, events, bytes of run %s as %s and has %s',
        coalesce(x.dataset_id, t.dataset_id), coalesce(x.number, t.number),
        case when x.number is null then 'nothing' else (x.file_count, x.event_count, x.size_bytes)::text end,
        case when t.number is null then 'nothing' else (t.files, t.events, t.bytes)::text end)
      from dataset_runs x full join truth t
        on (t.dataset_id, t.source, t.number, t.run_id) = (x.dataset_id, x.source, x.number, x.run_id)
      where (x.file_count, x.event_count::numeric, x.size_bytes::numeric) is distinct from (t.files, t.events, t.bytes)`,
  },
  {
    invariant: 'counts',
    sql: `
      with held as (
        select distinct df.dataset_id, fr.run_id from dataset_files df join file_runs fr on fr.file_id = df.file_id),
      truth as (
        select h.dataset_id, count(*) as runs, coalesce(sum(r.luminosity::numeric), 0) as luminosity,
          count(r.luminosity) as telling, min(r.number) as first_run, max(r.number) as last_run
        from held h join runs r on r.id = h.run_id group by h.dataset_id)
      select format('dataset %s counts runs, luminosity, runs that say it, first and last run as %s and has %s', d.name,
        (d.run_count, d.luminosity, d.luminosity_run_count, d.first_run, d.last_run),
        (coalesce(t.runs, 0), coalesce(t.luminosity, 0), coalesce(t.telling, 0), t.first_run, t.last_run))
      from datasets d left join truth t on t.dataset_id = d.id
      where (d.run_count, d.luminosity, d.luminosity_run_count, d.first_run, d.last_run) is distinct from
        (coalesce(t.runs, 0), coalesce(t.luminosity, 0), coalesce(t.telling, 0), t.first_run, t.last_run)`,
  },
  {
    invariant: 'I7',
    sql: `
      select format('merged file %s is said to hold %s events of run %s, its inputs hold %s', m.output_file_id,
        fr.event_count, i.run_id, i.events)
      from merges m
      join lateral (select f.run_id, sum(f.event_count) as events from merge_inputs mi join files f on f.id = mi.input_file_id
        where mi.merge_id = m.id group by f.run_id) i on true
      join file_runs fr on fr.file_id = m.output_file_id and fr.run_id = i.run_id
      where fr.event_count <> i.events`,
  },
  {
    invariant: 'parentage',
    sql: `
      with recursive up (id, ancestor) as (
        select file_id, parent_id from file_parents
        union select up.id, p.parent_id from up join file_parents p on p.file_id = up.ancestor)
      select format('file %s is its own ancestor', id) from up where id = ancestor
      union all
      select format('file %s is derived from file %s, which is not registered', p.file_id, p.parent_id)
      from file_parents p left join files f on f.id = p.parent_id where f.id is null`,
  },
  {
    invariant: 'runs',
    sql: `
      select format('run %s %s is %s, available since %s', source, number, production_status,
        coalesce(available_at::text, 'never'))
      from runs where (production_status = 'AVAILABLE') <> (available_at is not null)`,
  },
  {
    invariant: 'runs',
    sql: `
      with parts as (
        select run_id, stream, id in (select input_file_id from merge_inputs) as done, false as is_merged
        from files where run_id is not null
        union all
        select fr.run_id, m.stream, m.id in (
          select file_id from backup_records where status = 'CONFIRMED'), true
        from file_runs fr join files m on m.id = fr.file_id)
      select format('run %s %s is IN_PRODUCTION although everything is done', r.source, r.number)
      from runs r join parts p on p.run_id = r.id
      where r.production_status = 'IN_PRODUCTION' and r.ended_at is not null
      group by r.id
      having bool_and(p.done) and bool_or(p.is_merged)
        and r.expected_streams <@ array_agg(p.stream)`,
  },
  {
    invariant: 'suspicions',
    sql: `
      select format('suspicion %s is %s without having been read', id, state)
      from suspicions where state in ('CHECKED_GOOD', 'BAD')
        and (checked_at is null or coalesce(evidence ->> 'answer', '') = '')
      union all
      select format('suspicion %s is BAD, and its backup is still CONFIRMED', s.id)
      from suspicions s join backup_records b on b.id = s.backup_id
      where s.state = 'BAD' and b.status = 'CONFIRMED' and b.confirmed_at < s.checked_at
      union all
      select format('suspicion %s counts %s jobs and keeps the reports of %s', s.id, s.job_count, count(r.id))
      from suspicions s left join read_failures r on r.suspicion_id = s.id
      group by s.id having s.job_count <> count(r.id)`,
  },
  {
    invariant: 'sweeps',
    sql: `
      select format('sweep %s ended CLOSED, and dataset %s is %s', s.id, d.name, d.status)
      from sweeps s join datasets d on d.id = s.dataset_id where s.outcome = 'CLOSED' and d.status <> 'CLOSED'
      union all
      select format('sweep %s is under way, and dataset %s is %s and %s', s.id, d.name, d.status,
        case when d.sealed then 'sealed' else 'not sealed' end)
      from sweeps s join datasets d on d.id = s.dataset_id
      where s.finished_at is null and (d.status <> 'OPEN' or not d.sealed)
      union all
      select format('dataset %s is sealed, and %s sweeps are under way', d.name, count(s.id))
      from datasets d left join sweeps s on s.dataset_id = d.id and s.finished_at is null
      where d.sealed group by d.id having count(s.id) <> 1`,
  },
  {
    invariant: 'sweeps',
    sql: `
      select format('dataset %s is sealed and complete, and nobody closed it', d.name)
      from datasets d join dataset_files df on df.dataset_id = d.id
      left join (select distinct file_id from backup_records where status = 'CONFIRMED') b
        on b.file_id = df.file_id
      where d.sealed and d.status = 'OPEN' group by d.id having count(b.file_id) = count(*)`,
  },
  {
    invariant: 'totals',
    sql: `
      with truth as (
        select f.site_id, f.kind, f.stream, f.release, case
            when s.is_shown and b.file_id is null then 'PUBLISHED_WITHOUT_BACKUP'
            when s.is_shown then 'PUBLISHED' when b.file_id is not null then 'BACKED_UP' else 'REGISTERED' end as status,
          f.size_bytes, coalesce(f.event_count, 0) as events
        from files f
        left join (select distinct file_id from backup_records where status = 'CONFIRMED') b on b.file_id = f.id
        left join (
          select distinct df.file_id, true as is_shown from dataset_files df join datasets d on d.id = df.dataset_id
          left join (${standingMarks}) m on m.dataset_id = d.id
          where d.status = 'CLOSED' and m.n is null) s on s.file_id = f.id), counted as (
        select site_id, kind, stream, release, status, count(*) as files, sum(events) as events,
          sum(size_bytes) as bytes
        from truth group by site_id, kind, stream, release, status)
      select format('%s %s of stream %s, release %s, site %s: the totals say %s, there are %s', coalesce(t.status, c.status),
        coalesce(t.kind, c.kind), coalesce(t.stream, c.stream), coalesce(t.release, c.release),
        coalesce(t.site_id, c.site_id), (t.files, t.events, t.bytes), (c.files, c.events, c.bytes))
      from (
        select site_id, kind, stream, release, status, sum(files) as files, sum(events) as events, sum(bytes) as bytes
        from file_status_parts group by site_id, kind, stream, release, status having sum(files) <> 0) t
      full join counted c
        on (t.site_id, t.kind, t.status, coalesce(t.stream, ''), coalesce(t.release, ''))
         = (c.site_id, c.kind, c.status, coalesce(c.stream, ''), coalesce(c.release, ''))
      where (t.files, t.events, t.bytes) is distinct from (c.files, c.events, c.bytes)`,
  },
  {
    invariant: 'totals',
    sql: `
      with told as (
        select store_id, kind, sum(files) as files, sum(events) as events, sum(bytes) as bytes
        from (select store_id, kind, files, events, bytes from file_totals
              union all select store_id, kind, files, events, bytes from file_total_changes) t
        where store_id is not null group by store_id, kind having sum(files) <> 0), counted as (
        select b.store_id, f.kind, count(*) as files, sum(coalesce(f.event_count, 0)) as events,
          sum(f.size_bytes) as bytes
        from backup_records b join files f on f.id = b.file_id where b.status = 'CONFIRMED' group by b.store_id, f.kind)
      select format('store %s holds %s confirmed %s, and the totals say %s', coalesce(t.store_id, c.store_id),
        (c.files, c.events, c.bytes), coalesce(t.kind, c.kind), (t.files, t.events, t.bytes))
      from told t full join counted c on (t.store_id, t.kind) = (c.store_id, c.kind)
      where (t.files, t.events, t.bytes) is distinct from (c.files, c.events, c.bytes)`,
  },
];
