import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';

export interface MirrorRow {
  readonly containerId: number;
  readonly site: string;
  readonly container: string;
  readonly isFollowed: boolean;
  readonly heardAt: Date;
  readonly hereCount: number;
  readonly memberCount: number | null;
}

/** Which of these containers mirror one of another site, and how much of it is here. */
export async function mirrorRows(db: Db, containerIds: readonly number[]): Promise<MirrorRow[]> {
  return rows(
    db,
    sql<MirrorRow>`
    select m.container_id as "containerId", m.site, m.name as container, m.rule_id is not null as "isFollowed",
      m.heard_at as "heardAt", here.n as "hereCount",
      case when m.rule_id is not null then here.n + (
        select count(*) from followed_datasets f left join imports i on i.id = f.import_id
        where f.rule_id = m.rule_id
          and not exists (select from followed_departures g where g.rule_id = f.rule_id and g.name = f.name)
          and not exists (
            select from container_datasets c where c.container_id = m.container_id and c.dataset_id = i.dataset_id))
      end as "memberCount"
    from mirrored_containers m
    cross join lateral (select count(*) as n from container_datasets c where c.container_id = m.container_id) here
    where m.container_id = any (${containerIds}::bigint[])`,
  );
}
