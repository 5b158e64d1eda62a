import type { Check } from './invariants-of-contents.ts';

/** Imports, their files, and what they entered, beside each other. */
export const importChecks: readonly Check[] = [
  {
    invariant: 'imports',
    sql: `
      select format('import %s is %s and tells of %s files, its manifest has %s', i.id, i.status, i.file_count, count(x.id))
      from imports i left join import_files x on x.import_id = i.id group by i.id having count(x.id) <> i.file_count`,
  },
  {
    invariant: 'imports',
    sql: `
      select format('import %s is ENTERED, and dataset %s is %s', i.id, i.dataset_id, coalesce(d.status, 'not there'))
      from imports i left join datasets d on d.id = i.dataset_id
      where i.status = 'ENTERED' and d.status is distinct from 'CLOSED'
      union all
      select format('import %s is ENTERED, and %s is in one of manifest and dataset only', i.id, coalesce(x.lfn, f.lfn))
      from imports i
      cross join lateral (
        select x.lfn as told, df.lfn as listed from (select lfn from import_files where import_id = i.id) x
        full join (select lfn from dataset_files where dataset_id = i.dataset_id) df on df.lfn = x.lfn) both_sides
      left join import_files x on x.import_id = i.id and x.lfn = told left join files f on f.lfn = listed
      where i.status = 'ENTERED' and (told is null or listed is null)`,
  },
  {
    invariant: 'imports',
    sql: `
      select format('import %s is ENTERED, and %s is registered with another content', i.id, x.lfn)
      from imports i join import_files x on x.import_id = i.id left join files f on f.id = x.file_id
      where i.status = 'ENTERED' and (f.lfn = x.lfn and f.size_bytes = x.size_bytes and f.adler32 = x.adler32) is not true
      union all
      select format('import %s is ENTERED, and of %s runs are missing', i.id, x.lfn)
      from imports i join import_files x on x.import_id = i.id
      where i.status = 'ENTERED' and exists (
        select from jsonb_to_recordset(x.runs) as t (source text, number integer) where not exists (
          select from file_runs fr join runs r on r.id = fr.run_id
          where fr.file_id = x.file_id and r.source = t.source and r.number = t.number))`,
  },
  {
    // Before its dataset is there nobody but production may see anything of it.
    invariant: 'imports',
    sql: `
      select format('import %s is %s, and %s, which it brought, has runs and is in no dataset', i.id, i.status, x.lfn)
      from imports i join import_files x on x.import_id = i.id
      where i.status <> 'ENTERED' and x.fetched_at is not null
        and exists (select from file_runs fr where fr.file_id = x.file_id)
        and not exists (select from dataset_files df where df.file_id = x.file_id)`,
  },
  {
    invariant: 'imports',
    sql: `
      select format('container %s mirrors that of %s, and lists dataset %s, which rule %s has not brought',
        m.container_id, m.site, c.dataset_id, m.rule_id)
      from mirrored_containers m join container_datasets c using (container_id)
      where m.rule_id is not null and not exists (
        select from followed_datasets f join imports i on i.id = f.import_id
        where f.rule_id = m.rule_id and i.status = 'ENTERED' and i.dataset_id = c.dataset_id)`,
  },
  {
    invariant: 'imports',
    sql: `
      select format('the copy of file %s waits for an import, and none is under way', c.file_id)
      from incoming_copies c where not exists (
        select from import_files x join imports i on i.id = x.import_id
        where x.file_id = c.file_id and (i.status in ('RUNNING', 'FAILED') or x.is_brought))
        and not exists (select from publication_composites k where k.file_id = c.file_id)
      union all
      select format('the copy of file %s is entered and still waits', c.file_id)
      from incoming_copies c join replicas p on p.file_id = c.file_id and p.volume_id = c.volume_id and p.path = c.path
      where p.status = 'AVAILABLE'`,
  },
  {
    invariant: 'imports',
    sql: `
      select format('%s is %s of import %s, and has no confirmed backup', x.lfn, x.status, i.id)
      from imports i join import_files x on x.import_id = i.id
      where x.status = 'SAFE' and i.status = 'RUNNING' and not exists (
        select from events e where e.file_id = x.file_id and e.kind = 'BACKUP_STATUS' and e.to_state = 'CONFIRMED')`,
  },
];
