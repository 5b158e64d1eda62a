import { requestOwed } from '../backups/owed-copies.service.ts';
import type { JobQueue } from '../database/jobs.ts';
import type { Db } from '../database/orm.ts';
import { changedRows, rows, sql } from '../database/sql.ts';
import type { ImportSource } from '../storage/import-sources.ts';
import { hasCopy } from './compare.queries.ts';
import type { ManifestEnd, ManifestHead } from './manifest.ts';

/** A manifest that is whole, from a site that this one imports from. */
export interface CheckedManifest {
  readonly path: string;
  readonly head: ManifestHead;
  readonly end: ManifestEnd;
  readonly source: ImportSource;
  readonly signedBy: string | null;
}

export interface Accepting {
  readonly id: number;
  readonly name: string;
  readonly storeId: number;
  readonly manifest: CheckedManifest;
}

/** What was received becomes an import. Files that are here already are not fetched; those without backup get one. */
export async function acceptInTransaction(
  tx: Db,
  jobs: JobQueue,
  { id, name, storeId, manifest }: Accepting,
): Promise<void> {
  const { head, end, signedBy } = manifest;
  const { site, exportedAt, cursor, dataset } = head;
  await rows(
    tx,
    sql`insert into imports (id, dataset_name, source_site, origin, manifest_sha256, signed_by, store_id, file_count,
        size_bytes, event_count, run_count)
      values (${id}, ${name}, ${site}, ${JSON.stringify({ site, exportedAt, cursor, dataset })}::jsonb, ${end.sha256},
        ${signedBy}, ${storeId}, ${dataset.fileCount}, ${dataset.sizeBytes}, ${dataset.eventCount}, ${dataset.runCount})`,
  );
  await rows(
    tx,
    sql`insert into sites (name) select distinct site from import_files where import_id = ${id} order by 1
      on conflict do nothing`,
  );
  await rows(
    tx,
    sql`update import_files s set file_id = f.id,
        status = case when f.missing_copies = 0 then 'SAFE' else 'BACKING_UP' end
      from files f where s.import_id = ${id} and f.lfn = s.lfn and ${hasCopy}`,
  );
  await requestBackups(tx, jobs, id, storeId);
}

/** Asks for the backups of files that are here and have none. */
async function requestBackups(tx: Db, jobs: JobQueue, id: number, storeId: number): Promise<void> {
  const unsafe = await rows(
    tx,
    sql<{
      id: number;
    }>`select file_id as id from import_files where import_id = ${id} and status = 'BACKING_UP'`,
  );
  await requestOwed(
    tx,
    jobs,
    unsafe.map((row) => row.id),
    storeId,
  );
}

/**
 * The manifest of an import that is under way was sent again: files that are not here yet are read where the new one
 * says, what FAILED is tried again. Says whether that changed anything.
 */
export async function takeOverAddresses(tx: Db, id: number, receivedId: number): Promise<boolean> {
  const moved = await changedRows(
    tx,
    sql`update import_files s set urls = n.urls
      from import_files n where s.import_id = ${id} and n.import_id = ${receivedId} and n.lfn = s.lfn
        and s.status in ('WAITING', 'FAILED') and n.urls <> s.urls and cardinality(n.urls) > 0 returning s.id`,
  );
  return (await retryInTransaction(tx, id)) || moved > 0;
}

/** What FAILED, and what waits for its next attempt, is tried now. */
export async function retryInTransaction(tx: Db, id: number): Promise<boolean> {
  const again = await changedRows(
    tx,
    sql`update import_files set status = 'WAITING', failure_count = 0, silent_since = null, next_attempt_at = now()
      where import_id = ${id} and (status = 'FAILED' or (status = 'WAITING' and next_attempt_at > now()
        and exists (select from imports i where i.id = ${id} and i.status = 'RUNNING'))) returning id`,
  );
  const revived = await changedRows(
    tx,
    sql`update imports set status = 'RUNNING', last_error = null, last_error_code = null
      where id = ${id} and status = 'FAILED' returning id`,
  );
  return again + revived > 0;
}
