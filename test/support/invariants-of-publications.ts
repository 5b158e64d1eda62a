import type { Check } from './invariants-of-contents.ts';

/** Publications, their composite files, and what was published, beside each other. */
export const publicationChecks: readonly Check[] = [
  {
    invariant: 'publications',
    sql: `
      select format('publication %s is PUBLISHED, and dataset %s is %s', p.id, p.dataset_id, coalesce(d.status, 'not there'))
      from publications p left join datasets d on d.id = p.dataset_id
      where p.status = 'PUBLISHED' and d.status is distinct from 'CLOSED'`,
  },
  {
    // Before its dataset is there nobody but its owner and operators may see anything of it.
    invariant: 'publications',
    sql: `
      select format('publication %s is %s, and its %s is in a dataset', p.id, p.status, c.lfn)
      from publications p join publication_composites c on c.publication_id = p.id
      where p.status <> 'PUBLISHED' and exists (select from dataset_files df where df.file_id = c.file_id)`,
  },
  {
    invariant: 'publications',
    sql: `
      select format('%s of publication %s has %s events, %s went in', c.lfn, c.publication_id,
        coalesce(c.event_count::text, 'unknown'), coalesce(i.events::text, 'unknown'))
      from publication_composites c cross join lateral (
        select case when bool_and(f.event_count is not null) then sum(f.event_count) end as events
        from publication_files f where f.publication_id = c.publication_id and f.composite = c.number) i
      where c.file_id is not null and c.event_count is distinct from i.events`,
  },
  {
    invariant: 'publications',
    sql: `
      select format('%s of publication %s is registered with another content', c.lfn, c.publication_id)
      from publication_composites c left join files f on f.id = c.file_id
      where c.file_id is not null and (f.lfn = c.lfn and f.size_bytes = c.size_bytes and f.adler32 = c.adler32
        and f.sha256 = c.sha256) is not true`,
  },
];
