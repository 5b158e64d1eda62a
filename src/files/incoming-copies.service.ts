import type { Db } from '../database/orm.ts';
import { rows, sql, type RawBuilder } from '../database/sql.ts';

/** Where a file lies on disk that has just come. */
export interface IncomingCopy {
  readonly path: string;
  readonly volume: string;
  readonly site: string;
}

/** The copy waits for its backup, and counts for nothing until its dataset is there. */
export async function keepIncoming(
  tx: Db,
  fileId: number,
  { path, volume, site }: IncomingCopy,
): Promise<void> {
  await rows(tx, sql`insert into sites (name) values (${site}) on conflict do nothing`);
  await rows(
    tx,
    sql`insert into volumes (site_id, name) select id, ${volume} from sites where name = ${site} on conflict do nothing`,
  );
  await rows(
    tx,
    sql`insert into incoming_copies (file_id, volume_id, path)
      select ${fileId}::bigint, v.id, ${path} from volumes v join sites s on s.id = v.site_id
      where s.name = ${site} and v.name = ${volume}
      on conflict (file_id) do update set volume_id = excluded.volume_id, path = excluded.path,
        brought_at = excluded.brought_at`,
  );
}

/**
 * Copies on disk become replicas. One that lies where a loss was reported since it came, and one of a file that was
 * lost, is read before it counts. `fileIds`: a statement that selects them.
 */
export async function incomingBecomeReplicas(tx: Db, fileIds: RawBuilder<unknown>): Promise<void> {
  await rows(
    tx,
    sql`with kept as (
        delete from incoming_copies c where c.file_id in (${fileIds})
        returning c.file_id, c.volume_id, c.path, c.brought_at)
      insert into replicas (file_id, volume_id, path, status)
      select k.file_id, k.volume_id, k.path, case when exists (
          select from incident_items t where t.file_id = k.file_id and t.is_lost)
        or exists (select from incidents s where s.reported_at > k.brought_at and s.what = 'REPLICAS'
          and s.status <> 'UNDONE' and (s.scope ->> 'volume' = v.name or exists (
            select from incident_items t join replicas p on p.id = t.replica_id
            where t.incident_id = s.id and t.ordinal = 1 and p.volume_id = k.volume_id)))
        then 'STAGING' else 'AVAILABLE' end
      from kept k join volumes v on v.id = k.volume_id order by k.file_id
      on conflict (file_id, volume_id, path) do nothing`,
  );
}
