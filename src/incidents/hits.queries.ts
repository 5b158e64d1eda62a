import type { Db } from '../database/orm.ts';
import { allOf, firstRow, rows, sql, type RawBuilder } from '../database/sql.ts';
import { badInput, SweepbookError } from '../errors.ts';
import type { Finding, LossScope } from './incidents.rules.ts';

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

/** Findings by rank, as they are written in SQL: last copies first. */
const ranked: readonly Finding[] = ['LOST', 'RECOVERABLE', 'SAFE'];
const rank = (finding: Finding) => sql.lit(ranked.indexOf(finding));

export const isLost = (alias: RawBuilder<unknown>) => sql`${alias}.rank = ${rank('LOST')}`;
export const isSafe = (alias: RawBuilder<unknown>) => sql`${alias}.rank = ${rank('SAFE')}`;
export const isRecoverable = (alias: RawBuilder<unknown>) =>
  sql`${alias}.rank = ${rank('RECOVERABLE')}`;
/** The name of the finding with this rank. */
export const findingOfRank = (value: RawBuilder<unknown>) =>
  sql`(array[${sql.join(ranked.map((finding) => sql.lit(finding)))}])[${value} + 1]`;

/** What was hit, as SQL. */
export interface Hits {
  /** One row a copy: file_id, replica_id, backup_id. */
  readonly copies: RawBuilder<unknown>;
  /**
   * One row a file, in the order of the files, so that they meet what belongs to files in one pass and nothing need
   * hash a million: file_id, rank of the finding, copies, is_backup, and size_bytes and run_id of the file.
   */
  readonly files: RawBuilder<unknown>;
}

/** Hits of a scope; `rank` = what the loss of its copies means for the file f (findingOf, as SQL). */
export interface ScopeHits extends Hits {
  readonly rank: RawBuilder<unknown>;
}

/**
 * The copies that a scope hits, each with what its loss means. One statement for preview and report, so that they say
 * the same. What a loss means depends on the file alone, not on which of its copies is looked at.
 */
export function hitsOf(scope: LossScope, places: Places, until: Date | string): ScopeHits {
  return places.storeId === undefined
    ? replicaHits(scope, places, until)
    : backupHits(scope, places, until);
}

function backupHits(scope: LossScope, places: Places, until: Date | string): ScopeHits {
  const copies = sql`
    select b.file_id, null::bigint as replica_id, b.id as backup_id from backup_records b
    where b.status = 'CONFIRMED' and ${backupsOfScope(scope, places, until)}`;
  const found = sql`case when f.confirmed_copies > 1 then ${rank('SAFE')}
    when exists (select from replicas q where q.file_id = f.id and q.status = 'AVAILABLE') then ${rank('RECOVERABLE')}
    else ${rank('LOST')} end`;
  return { copies, rank: found, files: filesOf(copies, found, true) };
}

function replicaHits(scope: LossScope, places: Places, until: Date | string): ScopeHits {
  const isHit = (alias: RawBuilder<unknown>) => replicasOfScope(alias, scope, places, until);
  const copies = sql`
    select p.file_id, p.id as replica_id, null::bigint as backup_id from replicas p
    where p.status = 'AVAILABLE' and ${isHit(sql`p`)}`;
  const found = sql`case when exists (select from replicas q
      where q.file_id = f.id and q.status = 'AVAILABLE' and not ${isHit(sql`q`)}) then ${rank('SAFE')}
    when f.confirmed_copies > 0 then ${rank('RECOVERABLE')} else ${rank('LOST')} end`;
  return { copies, rank: found, files: filesOf(copies, found, false) };
}

const filesOf = (copies: RawBuilder<unknown>, found: RawBuilder<unknown>, isBackup: boolean) => sql`
  select c.file_id, ${found} as rank, c.copies, ${sql.lit(isBackup)} as is_backup, f.size_bytes, f.run_id
  from (select h.file_id, count(*)::integer as copies from (${copies}) h group by h.file_id order by h.file_id) c
  join files f on f.id = c.file_id order by c.file_id`;

/** The hits as items of an incident, but for its id: last copies first. */
export const itemsOf = ({ copies, rank: found }: ScopeHits): RawBuilder<unknown> => sql`
  select row_number() over (order by h.rank, h.file_id, h.replica_id, h.backup_id) as ordinal,
    h.file_id, h.replica_id, h.backup_id, ${findingOfRank(sql`h.rank`)} as finding, ${isLost(sql`h`)} as is_lost,
    h.backup_id is not null and not ${isSafe(sql`h`)} as is_unbacked
  -- "offset 0": what a loss means is found out once for each copy, not wherever it is named.
  from (select c.*, ${found} as rank from (${copies}) c join files f on f.id = c.file_id offset 0) h`;

/** What an incident has hit, as it was found then. */
export const hitsOfIncident = (incidentId: number): Hits => ({
  copies: sql`select file_id, replica_id, backup_id from incident_items where incident_id = ${incidentId}::bigint`,
  files: sql`
    select c.file_id, c.rank, c.copies, c.is_backup, f.size_bytes, f.run_id
    from (select i.file_id, count(*)::integer as copies, bool_or(i.backup_id is not null) as is_backup,
        min(array_position(array[${sql.join(ranked.map((finding) => sql.lit(finding)))}], i.finding)) - 1 as rank
      from incident_items i where i.incident_id = ${incidentId}::bigint group by i.file_id order by i.file_id) c
    join files f on f.id = c.file_id order by c.file_id`,
});

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
