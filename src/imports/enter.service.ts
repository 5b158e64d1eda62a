import type { Db } from '../database/orm.ts';
import { changedRows, firstRow, rows, sql } from '../database/sql.ts';
import { moveDataset } from '../datasets/datasets.service.ts';
import { SweepbookError } from '../errors.ts';
import { incomingBecomeReplicas } from '../files/incoming-copies.service.ts';
import { compareFiles, compareRuns, runDiffers, runGrows } from './compare.queries.ts';
import type { Origin } from './imports.queries.ts';

/** An import whose files are all here and safe; its row is locked. */
export interface Entering {
  readonly id: number;
  readonly datasetName: string;
  readonly sourceSite: string;
  readonly origin: Origin;
  readonly storeId: number;
  readonly fileCount: number;
  readonly requestedBy: string;
}

/**
 * Enters an import: its runs, what its files hold of them, their copies on disk, and the dataset, closed. Until this
 * transaction commits nobody but production sees any of it; a handful of statements, however many files.
 * DUPLICATE when something contradicts by now.
 */
export async function enterInTransaction(tx: Db, entering: Entering): Promise<void> {
  const { id, requestedBy } = entering;
  await rows(
    tx,
    sql`select set_config('sweepbook.actor', ${requestedBy}, true), set_config('work_mem', '128MB', true),
      set_config('jit', 'off', true)`,
  );
  await enterRuns(tx, id);
  const { findings, conflicts } = await compareFiles(tx, id);
  if (findings.conflictCount > 0) {
    throw new SweepbookError('DUPLICATE', conflicts[0]?.what ?? 'a file is something else here', {
      first: conflicts,
    });
  }
  await rows(
    tx,
    sql`insert into file_runs (file_id, run_id, event_count)
      select x.file_id, r.id, coalesce(t."eventCount", case when jsonb_array_length(x.runs) = 1 then x.event_count end)
      from import_files x cross join lateral jsonb_to_recordset(x.runs) as t (source text, number integer, "eventCount" bigint)
      join runs r on r.source = t.source and r.number = t.number
      where x.import_id = ${id} order by x.file_id, r.id on conflict do nothing`,
  );
  const datasetId = await makeDataset(tx, entering);
  await incomingBecomeReplicas(
    tx,
    sql`select x.file_id from import_files x where x.import_id = ${id}`,
  );
  await rows(
    tx,
    sql`select refresh_runs(array(select r.id from import_runs s join runs r on r.source = s.source and r.number = s.number
      where s.import_id = ${id}))`,
  );
  await takeVerdicts(tx, entering);
  await changedRows(
    tx,
    sql`update imports set status = 'ENTERED', dataset_id = ${datasetId}, last_error = null, last_error_code = null
      where id = ${id}`,
  );
}

/** What is not known of a run is filled in; what contradicts is refused, since someone may have used it. */
async function enterRuns(tx: Db, id: number): Promise<void> {
  await rows(
    tx,
    sql`insert into runs (source, number, started_at, ended_at, event_count, luminosity, conditions)
      select source, number, started_at, ended_at, event_count, luminosity, conditions from import_runs
      where import_id = ${id} order by source, number on conflict (source, number) do nothing`,
  );
  await rows(
    tx,
    sql`select 1 from runs r join import_runs s on s.source = r.source and s.number = r.number
      where s.import_id = ${id} order by r.id for no key update of r`,
  );
  const { findings, conflicts } = await compareRuns(tx, id);
  if (findings.conflictCount > 0) {
    throw new SweepbookError('DUPLICATE', conflicts[0]?.what ?? 'a run is something else here', {
      first: conflicts,
    });
  }
  await rows(
    tx,
    sql`update runs r set started_at = coalesce(r.started_at, s.started_at), ended_at = coalesce(r.ended_at, s.ended_at),
        event_count = coalesce(r.event_count, s.event_count), luminosity = coalesce(r.luminosity, s.luminosity),
        conditions = coalesce(r.conditions, s.conditions)
      from import_runs s where s.import_id = ${id} and s.source = r.source and s.number = r.number
        and ${runGrows} and not ${runDiffers}`,
  );
}

async function makeDataset(
  tx: Db,
  { id, datasetName, origin, requestedBy }: Entering,
): Promise<number> {
  const { stream, release, treeName, description } = origin.dataset;
  const made = await firstRow(
    tx,
    sql<{ id: number; version: number }>`
    insert into datasets (name, kind, owner, stream, release, tree_name, description)
    values (${datasetName}, 'IMPORT', ${requestedBy}, ${stream}, ${release}, ${treeName}, ${description})
    on conflict (name) do nothing returning id, version`,
  );
  if (!made) {
    throw new SweepbookError(
      'DUPLICATE',
      `the name ${datasetName} has been taken meanwhile: cancel the import, and import under another name`,
      { dataset: datasetName },
    );
  }
  await rows(
    tx,
    sql`insert into dataset_files (dataset_id, file_id, lfn)
      select ${made.id}::bigint, file_id, lfn from import_files where import_id = ${id} order by file_id`,
  );
  const dataset = {
    ...made,
    name: datasetName,
    sealed: false,
    backupWaived: false,
    fileCount: 0,
    confirmedCount: 0,
  };
  await moveDataset(tx, { ...dataset, status: 'OPEN' }, 'BACKED_UP');
  await moveDataset(tx, { ...dataset, status: 'BACKED_UP' }, 'CLOSED');
  return made.id;
}

/** What DQM of the other site said counts here as long as DQM of this site has said nothing. */
async function takeVerdicts(tx: Db, { id, sourceSite, requestedBy }: Entering): Promise<void> {
  await rows(
    tx,
    sql`update runs r set verdict = s.verdict, verdict_by = ${requestedBy}, verdict_at = clock_timestamp(),
        verdict_comment = left('at ' || ${sourceSite}::text || coalesce(': ' || s.verdict_comment, ''), 2000)
      from import_runs s where s.import_id = ${id} and s.source = r.source and s.number = r.number
        and s.verdict is not null and r.verdict is null and r.production_status = 'AVAILABLE'`,
  );
}
