import type { Check } from './invariants-of-contents.ts';

/** Pools, what lies in them, and who wants it. */
export const poolChecks: readonly Check[] = [
  {
    invariant: 'pools',
    sql: `
      select format('pool %s counts %s bytes and holds %s', p.name, p.used_bytes, c.bytes)
      from pools p cross join lateral (select coalesce(sum(f.size_bytes), 0) as bytes from pool_copies c
        join files f on f.id = c.file_id
        where c.pool_id = p.id and c.status in ('COPYING', 'ONLINE', 'EVICTING')) c where c.bytes <> p.used_bytes`,
  },
  {
    invariant: 'pools',
    sql: `
      select format('copy %s in a pool is %s, and its replica is %s', c.id, c.status, coalesce(r.status, 'nothing'))
      from pool_copies c left join replicas r on r.id = c.replica_id and r.path = c.path and r.file_id = c.file_id
      where (c.status = 'ONLINE' and r.status is distinct from 'AVAILABLE')
        or (c.status in ('EVICTING', 'EVICTED') and r.status is distinct from 'EVICTED')`,
  },
  {
    invariant: 'pools',
    sql: `
      select format('copy %s in a pool is ONLINE, and something else than %s was read', c.id, f.lfn)
      from pool_copies c join files f on f.id = c.file_id
      where c.status = 'ONLINE' and (c.read_size_bytes = f.size_bytes and c.read_adler32 = f.adler32
        and (f.sha256 is null or c.read_sha256 = f.sha256) and c.evidence ->> 'answer' <> '') is not true`,
  },
  {
    invariant: 'pools',
    sql: `
      select format('stage request %s is of %s files and has %s', r.id, r.file_count, count(i.copy_id))
      from stage_requests r left join stage_items i on i.request_id = r.id
      group by r.id having count(i.copy_id) <> r.file_count`,
  },
  {
    invariant: 'pools',
    sql: `
      select format('stage request %s pins copy %s until %s, and the copy is pinned until %s', i.request_id, c.id,
        i.pinned_until, c.pinned_until)
      from stage_items i join pool_copies c on c.id = i.copy_id
      where i.released_at is null and i.pinned_until > c.pinned_until and c.status = 'ONLINE'`,
  },
];
