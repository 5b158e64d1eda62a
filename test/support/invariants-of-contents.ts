/** One question to the tables: a select of one column of text, a row for each finding. */
export interface Check {
  readonly invariant: string;
  readonly sql: string;
  readonly values?: unknown[];
}

/** What the store answered is what was registered. */
const equalToRegistered = `
  b.stored_size_bytes = f.size_bytes and b.stored_adler32 = f.adler32
  and (f.sha256 is null or b.stored_sha256 = f.sha256)`;
const safeFiles = `
  select distinct b.file_id from backup_records b join files f on f.id = b.file_id
  where b.status = 'CONFIRMED' and ${equalToRegistered}`;
const standingMarks = `
  select dataset_id, count(*) as n from bad_marks where cleared_at is null group by dataset_id`;

/** I1, I3, I5, I7, counts and sweeps: what the rows say beside each other. */
export const contentChecks: readonly Check[] = [
  {
    invariant: 'I1',
    sql: `
      with safe as (${safeFiles}), listed as (
        select df.dataset_id, count(*) as n, count(*) filter (where s.file_id is null) as unsafe
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
      with listed as (
        select df.dataset_id, count(*) as files, sum(f.size_bytes) as bytes,
          sum(coalesce(f.event_count, 0)) as events, count(b.file_id) as confirmed
        from dataset_files df left join files f on f.id = df.file_id
        left join (select distinct file_id from backup_records where status = 'CONFIRMED') b
          on b.file_id = df.file_id
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
];
