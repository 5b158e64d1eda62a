import type { Viewer } from '../access/policy.ts';
import { visibleDataset, visibleRunFacts } from '../access/visibility.ts';
import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';
import type { ManifestRun } from './manifest.ts';

/** What tells whether anything that a manifest says has changed while it was read. */
export async function stateOf(db: Db, viewer: Viewer, datasetId: number): Promise<string> {
  const found = await firstRow(
    db.fork(),
    sql<{ state: string }>`
    select concat_ws(' ', d.version, (
      select concat_ws(' ', count(*), sum(r.version)) from dataset_runs x join runs r on r.id = x.run_id
      where x.dataset_id = d.id)) as state
    from datasets d where d.id = ${datasetId} and d.is_available and ${visibleDataset(viewer)}`,
  );
  return found?.state ?? '';
}

const pageSize = 1000;

/** A time as manifests have it. */
const asTime = (what: ReturnType<typeof sql>) =>
  sql`to_char(${what} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** The runs of a dataset by source and number, page by page; of one in production only what the viewer may know. */
export async function* manifestRuns(
  db: Db,
  viewer: Viewer,
  datasetId: number,
): AsyncGenerator<ManifestRun[], void, void> {
  const isTold = visibleRunFacts(viewer, sql`r.production_status`);
  for (let [source, number] = ['', 0]; ;) {
    const page: ManifestRun[] = await rows(
      db.fork(),
      sql<ManifestRun>`
      select k.source, k.number, ${asTime(sql`r.started_at`)} as "startedAt", ${asTime(sql`r.ended_at`)} as "endedAt",
        r.event_count as "eventCount", r.luminosity, r.conditions, r.verdict, r.verdict_comment as "verdictComment"
      from dataset_runs x join runs k on k.id = x.run_id
      left join lateral (select r.* from runs r where r.id = k.id and ${isTold}) r on true
      where x.dataset_id = ${datasetId} and (x.source, x.number) > (${source}, ${number}::integer)
      order by x.source, x.number limit ${pageSize}`,
    );
    const last = page.at(-1);
    if (!last) return;
    yield page;
    ({ source, number } = last);
  }
}

export interface ManifestFileRow {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly stream: string | null;
  readonly release: string | null;
  readonly site: string;
  readonly runs: { source: 'DATA' | 'SIMULATION'; number: number; eventCount: number | null }[];
  readonly mergedFrom: number;
  readonly parentCount: number;
  readonly parents: string[];
  readonly copies: { storeId: number; key: string }[];
  readonly paths: string[];
}

/** The files of a dataset by LFN, page by page: no transaction is held between pages. */
export async function* manifestFiles(
  db: Db,
  datasetId: number,
): AsyncGenerator<ManifestFileRow[], void, void> {
  const read = (after: string) =>
    rows(
      db.fork(),
      sql<ManifestFileRow>`
      with page as materialized (
        select lfn, file_id from dataset_files where dataset_id = ${datasetId} and lfn > ${after} order by lfn limit ${pageSize})
      select page.lfn, f.size_bytes as "sizeBytes", f.adler32, f.sha256, f.event_count as "eventCount", f.stream, f.release,
        s.name as site,
        (select coalesce(jsonb_agg(jsonb_build_object('source', r.source, 'number', r.number, 'eventCount', fr.event_count)
           order by r.source, r.number), '[]')
         from file_runs fr cross join lateral (select * from runs r where r.id = fr.run_id limit 1) r
         where fr.file_id = f.id) as runs,
        (select count(*) from merges m join merge_inputs i on i.merge_id = m.id where m.output_file_id = f.id) as "mergedFrom",
        (select count(*) from file_parents p where p.file_id = f.id) as "parentCount",
        array(select p.lfn from file_parents fp join files p on p.id = fp.parent_id where fp.file_id = f.id
          order by p.id limit 20) as parents,
        (select coalesce(jsonb_agg(jsonb_build_object('storeId', b.store_id, 'key', b.store_key) order by b.id), '[]')
         from backup_records b where b.file_id = f.id and b.status = 'CONFIRMED') as copies,
        array(select p.path from replicas p where p.file_id = f.id and p.status = 'AVAILABLE' and f.confirmed_copies = 0
          order by p.id limit 5) as paths
      -- Looked up line by line: joined otherwise, all files would be read for a page.
      from page cross join lateral (select f.* from files f where f.id = page.file_id limit 1) f
      join sites s on s.id = f.site_id order by page.lfn`,
    );
  let coming: Promise<ManifestFileRow[]> | undefined = read('');
  while (coming !== undefined) {
    const page: ManifestFileRow[] = await coming;
    const last = page.at(-1);
    if (!last) return;
    // Read ahead while the last one is used.
    coming = read(last.lfn);
    // Awaited above, unless the reader has gone.
    coming.catch(() => undefined);
    yield page;
  }
}
