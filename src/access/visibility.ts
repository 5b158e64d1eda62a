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
  const throughDataset = sql<boolean>`exists (
      select from dataset_files df join datasets d on d.id = df.dataset_id
      where df.file_id = f.id and ${visibleDataset(viewer)})`;
  if (!may(viewer, 'readRunStatus')) return throughDataset;
  return sql<boolean>`(${throughDataset} or (f.confirmed_copies > 0 and exists (
      select from file_runs fr join runs r on r.id = fr.run_id
      where fr.file_id = f.id and r.production_status = 'AVAILABLE')))`;
}

/** A file of a dataset that is at hand (alias d): seen through it, so there is no need to look for another one. */
export function visibleThroughDataset(viewer: Viewer): RawBuilder<boolean> {
  return visibleDataset(viewer);
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

/** A line of the log (alias e, its dataset d): the dataset's lines with the dataset, AVAILABLE runs, the rest for production. */
export function visibleEvent(viewer: Viewer): RawBuilder<boolean> {
  if (may(viewer, 'readProduction')) return sql<boolean>`true`;
  return sql<boolean>`((e.dataset_id is not null and ${visibleDataset(viewer)})
    or (e.kind in ('RUN_STATUS', 'RUN_VERDICT') and exists (
      select from runs r where r.id = e.run_id and r.production_status = 'AVAILABLE')))`;
}

/** The same for an event that is at hand. */
export interface SeenEvent {
  readonly kind: string;
  readonly dataset: Seen | undefined;
  readonly runIsAvailable: boolean;
}
export function seesEvent(viewer: Viewer, event: SeenEvent): boolean {
  if (may(viewer, 'readProduction')) return true;
  if (event.dataset !== undefined) return seesDataset(viewer, event.dataset);
  return (event.kind === 'RUN_STATUS' || event.kind === 'RUN_VERDICT') && event.runIsAvailable;
}
