import type { Db } from '../database/orm.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { badInput, SweepbookError } from '../errors.ts';
import type { LossScope } from './incidents.rules.ts';

/** The places that a scope names, looked up. */
export interface Places {
  readonly volumeIds?: readonly number[];
  readonly storeId?: number;
  /** Checked and found bad. */
  readonly replicaIds?: readonly number[];
}

/** Looks up what a scope names: a name that nobody knows is NOT_FOUND, never "nothing was hit". */
export async function findPlaces(db: Db, scope: LossScope): Promise<Places> {
  const { volume, site, massStore } = scope;
  if (massStore != null) {
    const store = await firstRow(
      db,
      sql<{ id: number }>`select id from mass_stores where name = ${massStore}`,
    );
    if (!store) throw unknown('massStore', massStore, 'look at "store list"');
    return { storeId: store.id };
  }
  if (site != null) {
    const known = await firstRow(db, sql`select id from sites where name = ${site}`);
    if (!known) throw unknown('site', site, 'names are case-sensitive');
  }
  if (volume == null) {
    const { paths, lfns } = scope;
    if (lfns != null || (paths != null && site == null)) return {};
    const ofSite = await rows(
      db,
      sql<{
        id: number;
      }>`select v.id from volumes v join sites s on s.id = v.site_id where s.name = ${site}`,
    );
    return { volumeIds: ofSite.map((row) => row.id) };
  }
  const found = await rows(
    db,
    sql<{ id: number; site: string }>`
    select v.id, s.name as site from volumes v join sites s on s.id = v.site_id
    where v.name = ${volume} and ${site == null ? sql`true` : sql`s.name = ${site}`} order by s.name`,
  );
  if (found.length > 1) {
    const sites = found.map((row) => row.site).join(', ');
    throw badInput('site', null, `volume ${volume} is at ${sites}: say which`);
  }
  if (!found[0]) throw unknown('volume', volume, 'no replica was ever registered on it');
  return { volumeIds: [found[0].id] };
}

/** The sites that a scope may hit: every one, where it names no place. */
export async function sitesOf(db: Db, { volumeIds, storeId }: Places): Promise<string[]> {
  const found = await rows(
    db,
    sql<{ name: string }>`select name from sites where ${
      storeId !== undefined
        ? sql`id = (select site_id from mass_stores where id = ${storeId})`
        : volumeIds
          ? sql`id in (select site_id from volumes where id = any (${volumeIds}::integer[]))`
          : sql`true`
    }`,
  );
  return found.map((row) => row.name);
}

function unknown(field: string, name: string, wayOut: string): SweepbookError {
  return new SweepbookError('NOT_FOUND', `${field} ${name} is not known here: ${wayOut}`, {
    field,
    value: name,
  });
}

const escapeLike = (text: string) => text.replace(/[\\%_]/g, (sign) => `\\${sign}`);

/** Which replicas a scope means, as a condition on the alias p, whatever their state. */
export function replicasOfScope(
  alias: RawBuilder<unknown>,
  scope: LossScope,
  places: Places,
  until: Date | string,
): RawBuilder<unknown> {
  const { pathPrefix, paths, lfns, since } = scope;
  return allOf([
    places.replicaIds && sql`${alias}.id = any (${places.replicaIds}::bigint[])`,
    places.volumeIds && sql`${alias}.volume_id = any (${places.volumeIds}::integer[])`,
    pathPrefix == null ? undefined : sql`${alias}.path like ${`${escapeLike(pathPrefix)}%`}`,
    paths == null
      ? undefined
      : sql`${alias}.path = any (${paths}::text[]) and ${alias}.volume_id in (select id from volumes)`,
    lfns == null
      ? undefined
      : sql`${alias}.file_id in (select id from files where lfn = any (${lfns}::text[]))`,
    since == null ? undefined : sql`${alias}.created_at >= ${since}`,
    sql`${alias}.created_at <= ${until}::timestamptz`,
  ]);
}

/** Which backup records a scope means, as a condition on b. */
function backupsOfScope(scope: LossScope, places: Places, until: Date | string) {
  const { pathPrefix, paths, lfns, since } = scope;
  return allOf([
    sql`b.store_id = ${places.storeId}`,
    pathPrefix == null ? undefined : sql`b.store_key like ${`${escapeLike(pathPrefix)}%`}`,
    paths == null ? undefined : sql`b.store_key = any (${paths}::text[])`,
    lfns == null
      ? undefined
      : sql`b.file_id in (select id from files where lfn = any (${lfns}::text[]))`,
    since == null ? undefined : sql`b.confirmed_at >= ${since}`,
    sql`b.confirmed_at <= ${until}::timestamptz`,
  ]);
}

/**
 * The copies that a scope hits, each with what its loss means (findingOf, as SQL): columns file_id,
 * replica_id, backup_id, finding, and size_bytes and run_id of the file. One statement for preview and report, so that
 * they say the same. In the order of the files, so that those of one file stand together and nothing need hash a million.
 */
export function hitsOf(
  scope: LossScope,
  places: Places,
  until: Date | string,
): RawBuilder<unknown> {
  if (places.storeId !== undefined) {
    return sql`
      select b.file_id, null::bigint as replica_id, b.id as backup_id, f.size_bytes, f.run_id,
        case when f.confirmed_copies > 1 then 'SAFE'
          when exists (select from replicas q where q.file_id = b.file_id and q.status = 'AVAILABLE') then 'RECOVERABLE'
          else 'LOST' end as finding
      from backup_records b join files f on f.id = b.file_id
      where b.status = 'CONFIRMED' and ${backupsOfScope(scope, places, until)} order by b.file_id`;
  }
  const isHit = (alias: RawBuilder<unknown>) => replicasOfScope(alias, scope, places, until);
  return sql`
    select p.file_id, p.id as replica_id, null::bigint as backup_id, f.size_bytes, f.run_id,
      case when exists (select from replicas q
          where q.file_id = p.file_id and q.status = 'AVAILABLE' and not ${isHit(sql`q`)}) then 'SAFE'
        when f.confirmed_copies > 0 then 'RECOVERABLE'
        else 'LOST' end as finding
    from replicas p join files f on f.id = p.file_id
    where p.status = 'AVAILABLE' and ${isHit(sql`p`)} order by p.file_id`;
}

/** Copies of the scope that are lost already: how many, and by which incident the last of them. */
export async function lostBefore(
  db: Db,
  scope: LossScope,
  places: Places,
  until: Date | string,
): Promise<{ count: number; incidentId: number | null }> {
  const row = await firstRow(
    db,
    places.storeId === undefined
      ? sql<{ count: number; incidentId: number | null }>`
        select count(*) as count, max(p.incident_id) as "incidentId" from replicas p
        where p.status not in ('AVAILABLE', 'EVICTED') and ${replicasOfScope(sql`p`, scope, places, until)}
          -- Most volumes crash for the first time: then no copy need be looked at.
          and (select exists (select from incidents where what = 'REPLICAS' and status <> 'UNDONE'))`
      : sql<{ count: number; incidentId: number | null }>`
        select count(distinct b.id) as count, max(i.incident_id) as "incidentId"
        from backup_records b join incident_items i on i.file_id = b.file_id and i.backup_id = b.id and i.status = 'HIT'
        where b.status <> 'CONFIRMED' and b.confirmed_at is not null and ${backupsOfScope(scope, places, until)}`,
  );
  return { count: row?.count ?? 0, incidentId: row?.incidentId ?? null };
}

export interface UnknownNames {
  readonly count: number;
  /** The first of them. */
  readonly names: readonly string[];
}

const mostUnknown = 100;

/** Names of a list that stand for no copy at all: told, never passed over. */
export async function unknownNames(
  db: Db,
  scope: LossScope,
  places: Places,
): Promise<UnknownNames> {
  const list = scope.paths ?? scope.lfns;
  if (list == null) return { count: 0, names: [] };
  const names = [...new Set(list)];
  const copies =
    places.storeId === undefined
      ? sql`replicas c`
      : sql`(select file_id, store_key as path, null::integer as volume_id from backup_records
          where store_id = ${places.storeId} and store_key is not null) c`;
  const known =
    scope.paths == null
      ? sql`exists (select from files f join ${copies} on c.file_id = f.id where f.lfn = t.name)`
      : sql`exists (select from ${copies} where c.path = t.name and ${
          places.storeId !== undefined
            ? sql`true`
            : places.volumeIds
              ? sql`c.volume_id = any (${places.volumeIds}::integer[])`
              : sql`c.volume_id in (select id from volumes)`
        })`;
  const row = await firstRow(
    db,
    sql<{ count: number; names: string[] | null }>`
    select count(*) as count, (array_agg(name order by name))[1:${sql.lit(mostUnknown)}] as names
    from unnest(${names}::text[]) as t (name) where not ${known}`,
  );
  return { count: row?.count ?? 0, names: row?.names ?? [] };
}
