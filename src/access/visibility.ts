import { sql, type RawBuilder } from '../database/sql.ts';
import { may, type Viewer } from './policy.ts';

/** What decides whether somebody sees a dataset. `isAvailable` is computed by the database: CLOSED and not bad. */
export interface Seen {
  readonly isAvailable: boolean;
  readonly owner: string;
}

/** The one rule: everybody sees what is available; the unfinished and the bad only who has the right. */
export function seesDataset(viewer: Viewer, dataset: Seen): boolean {
  return dataset.isAvailable || may(viewer, 'readUnfinished', dataset.owner);
}

/** The same rule as SQL, over a row of `datasets` under the alias d. */
export function visibleDataset(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readUnfinished')) return sql<boolean>`true`;
  if (may(viewer, 'readUnfinished', viewer.principal)) {
    return sql<boolean>`(d.is_available or d.owner = ${viewer.principal})`;
  }
  return sql<boolean>`d.is_available`;
}

/** A file (alias f) is seen through a dataset that is seen; production sees all. */
export function visibleFile(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readProduction')) return sql<boolean>`true`;
  return sql<boolean>`(exists (
      select from dataset_files df join datasets d on d.id = df.dataset_id
      where df.file_id = f.id and ${visibleDataset(viewer)})
    or (${may(viewer, 'readRunStatus')} and f.confirmed_copies > 0 and exists (
      select from file_runs fr join runs r on r.id = fr.run_id
      where fr.file_id = f.id and r.production_status = 'AVAILABLE')))`;
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

/**
 * A line of the log (alias e, its dataset d): the dataset's lines with the dataset, AVAILABLE runs, containers for
 * everybody, the rest for production.
 */
export function visibleEvent(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readProduction')) return sql<boolean>`true`;
  return sql<boolean>`((e.dataset_id is not null and ${visibleDataset(viewer)})
    or (e.kind in ('RUN_STATUS', 'RUN_VERDICT') and exists (
      select from runs r where r.id = e.run_id and r.production_status = 'AVAILABLE'))
    or e.container_id is not null)`;
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
}
export function seesEvent(viewer: Viewer, event: SeenEvent): boolean {
  if (may(viewer, 'readProduction')) return true;
  if (event.dataset !== undefined) return seesDataset(viewer, event.dataset);
  if (event.isOfContainer) return true;
  return (event.kind === 'RUN_STATUS' || event.kind === 'RUN_VERDICT') && event.runIsAvailable;
}
