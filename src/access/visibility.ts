import { sql, type RawBuilder } from '../database/sql.ts';
import { groupsOfToken, isGroupOf } from './groups.queries.ts';
import { may, type Viewer } from './policy.ts';

/** What decides whether somebody sees a dataset. `isAvailable` is computed by the database: CLOSED and not bad. */
export interface Seen {
  readonly isAvailable: boolean;
  readonly owner: string;
  /** With whom it is shared (`sharedWith`); nobody while it is bad. */
  readonly sharedWith: readonly string[];
}

/**
 * The one rule: everybody sees what is available; the unfinished and the bad only who has the right; the unfinished also
 * with whom its owner shares it.
 */
export function seesDataset(viewer: Viewer, dataset: Seen): boolean {
  return (
    dataset.isAvailable ||
    may(viewer, 'readUnfinished', dataset.owner) ||
    (maySeeShared(viewer) &&
      dataset.sharedWith.some(
        (one) =>
          one === `user ${viewer.principal}` ||
          groupsOfToken(viewer).some((group) => one === `group ${group}`),
      ))
  );
}

/** Who can own something, something can be shared with. */
const maySeeShared = (viewer: Viewer) => may(viewer, 'readUnfinished', viewer.principal);

/** With whom a dataset (alias d) is shared now, as `Seen` has it: users, members of groups, and groups. */
export const sharedWith = sql<
  string[]
>`case when d.bad_mark_count = 0 and not d.is_available then array(
    select lower(x.kind) || ' ' || x.name from dataset_shares x where x.dataset_id = d.id
    union select 'user ' || gm.principal from dataset_shares x join group_members gm on gm.group_name = x.name
    where x.dataset_id = d.id and x.kind = 'GROUP') else '{}' end`;

/** The same for one viewer: datasets (alias d) that are shared with him. Looked up once for a statement, so that indexes are used. */
const isSharedWith = (viewer: Viewer) => sql`(d.bad_mark_count = 0 and d.id = any (array(
    select x.dataset_id from dataset_shares x where (x.kind = 'USER' and x.name = ${viewer.principal})
      or (x.kind = 'GROUP' and ${isGroupOf(viewer, sql`x.name`)}))))`;

/** The same rule as SQL, over a row of `datasets` under the alias d. */
export function visibleDataset(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readUnfinished')) return sql<boolean>`true`;
  if (may(viewer, 'readUnfinished', viewer.principal)) {
    return sql<boolean>`(d.is_available or d.owner = ${viewer.principal} or ${isSharedWith(viewer)})`;
  }
  return sql<boolean>`d.is_available`;
}

/** Composite files (pc.file_id) of publications of others that are not published. */
const compositesOfOthers = (viewer: Viewer) => sql`publication_composites pc
  join publications pp on pp.id = pc.publication_id and pp.status <> 'PUBLISHED' and pp.requested_by <> ${viewer.principal}`;

/**
 * Composite files (alias f) of publications that are not published are their owners' and operators' alone, production or
 * not; undefined = the viewer sees those of everybody.
 */
export function notPrivate(
  viewer: Viewer,
  fileId: RawBuilder<unknown> = sql`f.id`,
): RawBuilder<boolean> | undefined {
  if (may(viewer, 'readPublications')) return undefined;
  return sql<boolean>`not exists (select from ${compositesOfOthers(viewer)} where pc.file_id = ${fileId})`;
}

/** The same files as rows (id), for sums that are kept over all files; undefined = none is hidden from the viewer. */
export function privateFiles(viewer: Viewer): RawBuilder<unknown> | undefined {
  if (may(viewer, 'readPublications')) return undefined;
  return sql`(select pc.file_id as id from ${compositesOfOthers(viewer)} where pc.file_id is not null)`;
}

/**
 * The ways to see a file (alias f): through a dataset that is seen; for DQM also as the backed up file of an
 * AVAILABLE run. None = all are seen. What is seen so is merged. Each way stands alone, so that it can be walked
 * from either side: few files that are seen are found from their datasets, many by their names.
 */
export function waysToSeeFile(viewer: Viewer): RawBuilder<boolean>[] {
  if (may(viewer, 'readProduction')) return [];
  const ways = [
    sql<boolean>`exists (select from dataset_files vdf join datasets d on d.id = vdf.dataset_id
      where vdf.file_id = f.id and ${visibleDataset(viewer)})`,
  ];
  if (may(viewer, 'readRunStatus')) {
    ways.push(sql<boolean>`(f.confirmed_copies > 0 and exists (
      select from file_runs vfr join runs vr on vr.id = vfr.run_id
      where vfr.file_id = f.id and vr.production_status = 'AVAILABLE'))`);
  }
  return ways;
}

/** The same as one condition, for files that are at hand. */
export function visibleFile(viewer: Viewer): RawBuilder<boolean> {
  const ways = waysToSeeFile(viewer);
  return ways.length === 0
    ? (notPrivate(viewer) ?? sql<boolean>`true`)
    : sql<boolean>`(f.kind = 'MERGED_FILE' and (${sql.join(ways, sql` or `)}))`;
}

/** A run (alias r): production and DQM know of every run, others of those that are AVAILABLE. */
export function visibleRun(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readRunStatus')) return sql<boolean>`true`;
  return sql<boolean>`r.production_status = 'AVAILABLE'`;
}

/** Whether the facts of a run in production are hidden: DQM learns only that it is in production. */
export function seesRunFacts(viewer: Viewer, productionStatus: string): boolean {
  return productionStatus === 'AVAILABLE' || may(viewer, 'readProduction');
}

/** The same rule as SQL, over a column that holds the production status. */
export function visibleRunFacts(
  viewer: Viewer,
  productionStatus: RawBuilder<unknown>,
): RawBuilder<boolean> {
  if (may(viewer, 'readProduction')) return sql<boolean>`true`;
  return sql<boolean>`${productionStatus} = 'AVAILABLE'`;
}

/**
 * A line of the log (alias e, its dataset d): the dataset's lines with the dataset, AVAILABLE runs, containers for
 * everybody, the rest for production.
 */
export function visibleEvent(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readProduction')) return productionEvent(viewer);
  // First the predicate of the index events_for_all: most of the log tells of single files and backups.
  return sql<boolean>`(e.kind not in ('FILE_REGISTERED', 'MERGE_RECORDED', 'BACKUP_STATUS',
    'INCIDENT_STATUS', 'REPLICA_STATUS', 'IMPORT_STATUS', 'POOL_COPY_STATUS', 'PUBLICATION_STATUS') and (
    (e.dataset_id is not null and ${visibleDataset(viewer)})
    or e.container_id is not null
    or (e.kind in ('RUN_STATUS', 'RUN_VERDICT') and (
      select r.production_status = 'AVAILABLE' from runs r where r.id = e.run_id)) is true))`;
}

/** Production sees the whole log, but for what users are about to publish. */
function productionEvent(viewer: Viewer): RawBuilder<boolean> {
  const notOfPrivate = notPrivate(viewer, sql`e.file_id`);
  if (notOfPrivate === undefined) return sql<boolean>`true`;
  return sql<boolean>`(e.kind <> 'PUBLICATION_STATUS' and ${notOfPrivate})`;
}

/** An incident (alias i): production sees all of it, an owner his part, if his datasets were hit. */
export function visibleIncident(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readIncidents')) return sql<boolean>`true`;
  if (!may(viewer, 'readIncidents', viewer.principal)) return sql<boolean>`false`;
  return sql<boolean>`(exists (select from incident_datasets x join datasets d on d.id = x.dataset_id
    where x.incident_id = i.id and d.owner = ${viewer.principal}))`;
}

/** The same for an event that is at hand. */
export interface SeenEvent {
  readonly kind: string;
  readonly dataset: Seen | undefined;
  readonly runIsAvailable: boolean;
  readonly isOfContainer: boolean;
  /** Owner of the publication that it tells of, or whose file; null = it tells of none, or of one that is published. */
  readonly privateOwner: string | null;
}
export function seesEvent(viewer: Viewer, event: SeenEvent): boolean {
  if (event.privateOwner !== null && !may(viewer, 'readPublications', event.privateOwner))
    return false;
  if (may(viewer, 'readProduction')) return true;
  if (event.dataset !== undefined) return seesDataset(viewer, event.dataset);
  if (event.isOfContainer) return true;
  return (event.kind === 'RUN_STATUS' || event.kind === 'RUN_VERDICT') && event.runIsAvailable;
}
