import { demand, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { demandReason, expectVersion } from './datasets.rules.ts';
import { lockDataset, type DatasetChange, type LockedDataset } from './datasets.service.ts';
import { SweepbookError } from '../errors.ts';

export interface BadMarkChange {
  readonly dataset: string;
  readonly reason: string;
  readonly expectedVersion?: number | null | undefined;
}

/** Takes a dataset out of users’ sight, with the reason; one that somebody marked already keeps that mark. */
export async function markDatasetBad(
  db: Db,
  viewer: Viewer,
  input: BadMarkChange,
): Promise<DatasetChange> {
  const reason = demandReason(input.reason);
  return inTransaction(db, { principal: viewer.principal, reason }, async (tx) => {
    demand(viewer, 'markBad');
    const dataset = await lockDataset(tx, viewer, input.dataset);
    if (dataset.badMarkCount > 0 && (await isMarkedByHand(tx, dataset.id))) {
      return { datasetId: dataset.id, changed: false, changedCount: 0 };
    }
    expectVersion(dataset, input.expectedVersion);
    await rows(
      tx,
      sql`insert into bad_marks (dataset_id, reason) values (${dataset.id}, ${reason})`,
    );
    return { datasetId: dataset.id, changed: true, changedCount: 1 };
  });
}

/**
 * Takes the bad marks off, with the reason; refused while a closed dataset has files without a backup. Marks of
 * incidents stay: they go with the loss.
 */
export async function clearDatasetBad(
  db: Db,
  viewer: Viewer,
  input: BadMarkChange,
): Promise<DatasetChange> {
  const reason = demandReason(input.reason);
  return inTransaction(db, { principal: viewer.principal, reason }, async (tx) => {
    demand(viewer, 'clearBad');
    const dataset = await lockDataset(tx, viewer, input.dataset);
    if (dataset.badMarkCount === 0) {
      return { datasetId: dataset.id, changed: false, changedCount: 0 };
    }
    expectVersion(dataset, input.expectedVersion);
    const changedCount = await changedRows(
      tx,
      sql`update bad_marks set cleared_at = clock_timestamp(), cleared_by = ${viewer.principal},
          cleared_reason = ${reason}
        where dataset_id = ${dataset.id} and cleared_at is null and incident_id is null returning id`,
    );
    if (changedCount === 0) throw await heldByIncident(tx, dataset);
    return { datasetId: dataset.id, changed: true, changedCount };
  });
}

/** Marks of incidents and of other sites go by themselves, and what somebody said here must not go with them. */
async function isMarkedByHand(tx: Db, datasetId: number): Promise<boolean> {
  const found = await rows(
    tx,
    sql`select from bad_marks m where m.dataset_id = ${datasetId} and m.cleared_at is null and m.incident_id is null
      and not exists (select from followed_datasets f where f.bad_mark_id = m.id) limit 1`,
  );
  return found.length > 0;
}

async function heldByIncident(tx: Db, dataset: LockedDataset): Promise<SweepbookError> {
  const [mark] = await rows(
    tx,
    sql<{ incident: number; reason: string }>`
    select incident_id as incident, reason from bad_marks
    where dataset_id = ${dataset.id} and cleared_at is null order by id limit 1`,
  );
  return new SweepbookError(
    'DATASET_BAD',
    `dataset ${dataset.name} is marked bad by ${mark?.reason}; such a mark goes when the files are good again: ` +
      'recover the incident, or undo it if it was a mistake',
    { dataset: dataset.name, incident: mark?.incident },
  );
}
