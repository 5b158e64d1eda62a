import type { Check } from './invariants-of-contents.ts';

/** Files, per incident and dataset, that count against the dataset now; from the items alone. */
const open = `
  select i.incident_id, df.dataset_id,
    count(distinct i.file_id) filter (where i.is_lost) as lost,
    count(distinct i.file_id) filter (where i.is_unbacked) - count(distinct i.file_id) filter (where i.is_unbacked and i.is_lost)
      as unbacked
  from incident_items i join dataset_files df on df.file_id = i.file_id
  where i.is_lost or i.is_unbacked group by 1, 2`;
const confirmed = `exists (select from backup_records b where b.file_id = i.file_id and b.status = 'CONFIRMED')`;

/** Incidents, their items, replicas and marks, beside each other. */
export const incidentChecks: readonly Check[] = [
  {
    invariant: 'incidents',
    sql: `
      select format('replica %s is %s of incident %s, whose items say %s', p.id, p.status,
        coalesce(p.incident_id::text, 'none'), coalesce(i.status, 'nothing'))
      from replicas p left join incident_items i on i.incident_id = p.incident_id and i.replica_id = p.id
      where p.incident_id is not null and (i.incident_id is null or p.status = 'AVAILABLE'
        or i.file_id <> p.file_id or i.status = 'UNDONE')`,
  },
  {
    invariant: 'incidents',
    sql: `
      select format('replica %s is AVAILABLE, and item %s of incident %s says HIT', p.id, i.ordinal, i.incident_id)
      from incident_items i join replicas p on p.id = i.replica_id
      where i.status = 'HIT' and p.status = 'AVAILABLE'`,
  },
  {
    invariant: 'incidents',
    sql: `
      select format('replica %s is LOST, and nobody reported or read it', p.id) from replicas p
      where p.status = 'LOST' and p.incident_id is null
        and not exists (select from replica_checks c where c.replica_id = p.id and c.status in ('BAD', 'FAILED'))`,
  },
  {
    invariant: 'incidents',
    sql: `
      select format('item %s of incident %s is %s, and nothing holds file %s that was read since', i.ordinal,
        i.incident_id, i.status, i.file_id)
      from incident_items i join incidents s on s.id = i.incident_id
      where i.status = 'RESTORED' and not exists (
        select from replica_checks c join files f on f.id = c.file_id
        where c.file_id = i.file_id and c.status = 'GOOD' and c.finished_at >= s.reported_at
          and c.read_size_bytes = f.size_bytes and c.read_adler32 = f.adler32
          and (f.sha256 is null or c.read_sha256 = f.sha256))
        and not exists (select from pool_copies c where c.replica_id = i.replica_id and c.online_at >= s.reported_at)
        and not exists (select from events e where e.file_id = i.file_id and e.kind = 'BACKUP_STATUS'
          and e.to_state = 'CONFIRMED' and e.occurred_at >= s.reported_at)`,
  },
  {
    invariant: 'incidents',
    sql: `
      select format('item %s of incident %s is lost, and file %s has a confirmed backup', i.ordinal, i.incident_id, i.file_id)
      from incident_items i
      where (i.is_lost or i.is_unbacked) and ${confirmed} and exists (
        select from dataset_files df where df.file_id = i.file_id)`,
  },
  {
    invariant: 'incidents',
    sql: `
      with counted as (
        select incident_id, count(*) as n, count(*) filter (where finding = 'SAFE') as safe,
          count(*) filter (where finding = 'RECOVERABLE') as recoverable,
          count(*) filter (where finding = 'LOST') as lost,
          count(*) filter (where status = 'HIT' and (finding <> 'SAFE' or backup_id is not null)) as open,
          count(*) filter (where is_lost) as still, count(*) filter (where status = 'RESTORED') as restored, count(replica_id) as replicas
        from incident_items group by 1)
      select format('incident %s counts %s and has %s', s.id, (s.item_count, s.safe_count, s.recoverable_count,
        s.lost_count, s.open_count, s.still_lost_count, s.restored_count, s.replica_count),
        (c.n, c.safe, c.recoverable, c.lost, c.open, c.still, c.restored, c.replicas))
      from incidents s left join counted c on c.incident_id = s.id
      where (s.item_count, s.safe_count, s.recoverable_count, s.lost_count, s.open_count, s.still_lost_count,
        s.restored_count, s.replica_count)
        is distinct from (c.n, c.safe, c.recoverable, c.lost, c.open, c.still, c.restored, c.replicas)`,
  },
  {
    invariant: 'incidents',
    sql: `
      with open as (${open})
      select format('dataset %s of incident %s counts %s lost, %s unbacked and has %s, %s', x.dataset_id, x.incident_id,
        x.lost_count, x.unbacked_count, coalesce(o.lost, 0), coalesce(o.unbacked, 0))
      from incident_datasets x left join open o on o.incident_id = x.incident_id and o.dataset_id = x.dataset_id
      where (x.lost_count, x.unbacked_count) is distinct from (coalesce(o.lost, 0), coalesce(o.unbacked, 0))
      union all
      select format('dataset %s holds files of incident %s, which does not know it', o.dataset_id, o.incident_id)
      from open o where not exists (select from incident_datasets x
        where x.incident_id = o.incident_id and x.dataset_id = o.dataset_id)`,
  },
  {
    invariant: 'incidents',
    sql: `
      with open as (${open})
      select format('dataset %s (%s) lost %s files in incident %s and carries no mark of it', d.name, d.status,
        o.lost, o.incident_id)
      from open o join datasets d on d.id = o.dataset_id
      where o.lost > 0 and not exists (select from bad_marks m where m.dataset_id = o.dataset_id
          and m.incident_id = o.incident_id and m.cleared_at is null)
      union all
      select format('dataset %s carries a mark of incident %s and lost nothing', m.dataset_id, m.incident_id)
      from bad_marks m join datasets d on d.id = m.dataset_id
      left join open o on o.incident_id = m.incident_id and o.dataset_id = m.dataset_id
      where m.incident_id is not null and m.cleared_at is null and coalesce(o.lost, 0) = 0`,
  },
  {
    invariant: 'incidents',
    sql: `
      select format('check %s is GOOD, and read something else than %s', c.id, f.lfn)
      from replica_checks c join files f on f.id = c.file_id
      where c.status = 'GOOD' and (c.read_size_bytes = f.size_bytes and c.read_adler32 = f.adler32
        and (f.sha256 is null or c.read_sha256 = f.sha256) and c.evidence ->> 'answer' <> ''
        and c.answered_attempt = c.attempt) is not true`,
  },
  {
    invariant: 'visibility',
    sql: `
      select format('dataset %s is available, and nothing holds %s', d.name, f.lfn)
      from datasets d join dataset_files df on df.dataset_id = d.id join files f on f.id = df.file_id
      where d.is_available and exists (select from incident_items i where i.file_id = f.id)
        and not exists (select from replicas p where p.file_id = f.id and p.status = 'AVAILABLE')
        and not exists (select from backup_records b where b.file_id = f.id and b.status = 'CONFIRMED')`,
  },
];
