import type { Db } from '../database/orm.ts';
import { firstRow, rows, sql } from '../database/sql.ts';

/** Something in a manifest that contradicts what is known here, or cannot be done. */
export interface Conflict {
  readonly line: number;
  readonly code: string;
  readonly what: string;
}

/** Conflicts that are told; the rest is counted. */
export const mostConflictsTold = 20;

export interface FileFindings {
  /** Not known here, or known without any copy that is safe: to be fetched. */
  readonly newCount: number;
  readonly newBytes: number;
  /** Here with the same content and a confirmed backup, or with a copy on disk that is backed up first. */
  readonly hereCount: number;
  readonly conflictCount: number;
}

/** A staged file s that is registered as f: the same content? */
const isSame = sql`(f.kind = 'MERGED_FILE' and f.size_bytes = s.size_bytes and f.adler32 = s.adler32
  and (f.sha256 is null or s.sha256 is null or f.sha256 = s.sha256)
  and (f.event_count is null or s.event_count is null or f.event_count = s.event_count))`;

/** Runs of f that s does not tell alike; of a file whose runs nobody has told here there are none. */
const otherRuns = sql`(exists (select from file_runs fr where fr.file_id = f.id) and exists (
  select from (select r.source, r.number, fr.event_count from file_runs fr join runs r on r.id = fr.run_id
    where fr.file_id = f.id) a
  full join jsonb_to_recordset(s.runs) as b (source text, number integer, "eventCount" bigint)
    on b.source = a.source and b.number = a.number
  where a.number is null or b.number is null or a.event_count <> b."eventCount"))`;

/** A copy of f that a backup can be made of, here. */
export const hasCopy = sql`(f.confirmed_copies > 0
  or exists (select from replicas p where p.file_id = f.id and p.status = 'AVAILABLE')
  or exists (select from incoming_copies c where c.file_id = f.id))`;

export async function compareFiles(
  tx: Db,
  importId: number,
): Promise<{ findings: FileFindings; conflicts: Conflict[] }> {
  const findings = await firstRow(
    tx,
    sql<FileFindings>`
    select count(*) filter (where not is_other and not is_here and not is_lost) as "newCount",
      coalesce(sum(size_bytes) filter (where not is_other and not is_here and not is_lost), 0)::bigint as "newBytes",
      count(*) filter (where not is_other and is_here) as "hereCount",
      count(*) filter (where is_other or is_lost) as "conflictCount"
    from (
      select s.size_bytes, f.id is not null and (not ${isSame} or ${otherRuns}) as is_other,
        coalesce(f.id is not null and ${hasCopy}, false) as is_here,
        cardinality(s.urls) = 0 and not coalesce(${hasCopy}, false) as is_lost
      from import_files s left join files f on f.lfn = s.lfn where s.import_id = ${importId}) t`,
  );
  const conflicts = await rows(
    tx,
    sql<Conflict>`
    select line, code, what from (
      select s.line, 'DUPLICATE' as code, s.lfn || case
        when not ${isSame} then ' is registered here with another content: ' || concat_ws(', ',
          case when f.kind <> 'MERGED_FILE' then 'a run file' end,
          case when f.size_bytes <> s.size_bytes then f.size_bytes || ' bytes, not ' || s.size_bytes end,
          case when f.adler32 <> s.adler32 then 'adler32 ' || f.adler32 || ', not ' || s.adler32 end,
          case when f.sha256 <> s.sha256 then 'another sha256' end,
          case when f.event_count <> s.event_count then f.event_count || ' events, not ' || s.event_count end)
        else ' is registered here with other runs, or other events of them' end as what
      from import_files s join files f on f.lfn = s.lfn
      where s.import_id = ${importId} and (not ${isSame} or ${otherRuns})
      union all
      select s.line, 'SOURCE_NOT_ALLOWED', s.lfn || ' is nowhere that this site may read: name an address of its source in SWEEPBOOK_IMPORT_FROM'
      from import_files s left join files f on f.lfn = s.lfn
      where s.import_id = ${importId} and cardinality(s.urls) = 0 and not coalesce(${hasCopy}, false)) t
    order by line limit ${mostConflictsTold}`,
  );
  return {
    findings: findings ?? { newCount: 0, newBytes: 0, hereCount: 0, conflictCount: 0 },
    conflicts,
  };
}

export interface RunFindings {
  readonly newCount: number;
  readonly hereCount: number;
  /** Known here, and the manifest tells more of them. */
  readonly filledCount: number;
  readonly conflictCount: number;
  /** DQM of this site says otherwise; its word stays. */
  readonly otherVerdictCount: number;
}

/** A run s of a manifest and r as it is known here: what both tell, and tell otherwise. */
export const runDiffers = sql`(r.started_at <> s.started_at or r.ended_at <> s.ended_at or r.event_count <> s.event_count
  or r.luminosity <> s.luminosity or r.conditions <> s.conditions) is true`;
export const runGrows = sql`(r.started_at is null and s.started_at is not null or r.ended_at is null and s.ended_at is not null
  or r.event_count is null and s.event_count is not null or r.luminosity is null and s.luminosity is not null
  or r.conditions is null and s.conditions is not null)`;

export async function compareRuns(
  tx: Db,
  importId: number,
): Promise<{ findings: RunFindings; conflicts: Conflict[] }> {
  const tables = sql`import_runs s left join runs r on r.source = s.source and r.number = s.number
    where s.import_id = ${importId}`;
  const findings = await firstRow(
    tx,
    sql<RunFindings>`
    select count(*) filter (where r.id is null) as "newCount",
      count(*) filter (where r.id is not null and not ${runDiffers} and not ${runGrows}) as "hereCount",
      count(*) filter (where r.id is not null and not ${runDiffers} and ${runGrows}) as "filledCount",
      count(*) filter (where r.id is not null and ${runDiffers}) as "conflictCount",
      count(*) filter (where r.verdict <> s.verdict) as "otherVerdictCount"
    from ${tables}`,
  );
  const conflicts = await rows(
    tx,
    sql<Conflict>`
    select s.line, 'DUPLICATE' as code, 'run ' || s.number || ' is registered here otherwise: ' || concat_ws(', ',
      case when r.started_at <> s.started_at then 'start ' || r.started_at || ', not ' || s.started_at end,
      case when r.ended_at <> s.ended_at then 'end ' || r.ended_at || ', not ' || s.ended_at end,
      case when r.event_count <> s.event_count then r.event_count || ' events, not ' || s.event_count end,
      case when r.luminosity <> s.luminosity then r.luminosity || '/pb, not ' || s.luminosity end,
      case when r.conditions <> s.conditions then r.conditions || ', not ' || s.conditions end) as what
    from ${tables} and ${runDiffers} order by s.line limit ${mostConflictsTold}`,
  );
  const none = {
    newCount: 0,
    hereCount: 0,
    filledCount: 0,
    conflictCount: 0,
    otherVerdictCount: 0,
  };
  return { findings: findings ?? none, conflicts };
}

export interface SameName {
  /** The unfinished import of this name, if there is one. */
  readonly importId: number | null;
  readonly importSite: string | null;
  readonly datasetId: number | null;
  /** The import that entered that dataset. */
  readonly enteredBy: number | null;
  readonly isSame: boolean;
}

/** What has the name of the dataset here already, and whether it has the same files. */
export async function findSameName(tx: Db, importId: number, name: string): Promise<SameName> {
  const found = await firstRow(
    tx,
    sql<Omit<SameName, 'isSame'> & { status: string | null }>`
    select i.id as "importId", i.source_site as "importSite", d.id as "datasetId", d.status, e.id as "enteredBy"
    from (select ${name}::text as name) n
    left join imports i on i.dataset_name = n.name and i.status in ('RUNNING', 'FAILED')
    left join datasets d on d.name = n.name left join imports e on e.dataset_id = d.id`,
  );
  if (!found)
    return { importId: null, importSite: null, datasetId: null, enteredBy: null, isSame: true };
  const { status, ...same } = found;
  const known =
    same.datasetId !== null
      ? sql`select f.lfn, f.size_bytes, f.adler32 from dataset_files df join files f on f.id = df.file_id
          where df.dataset_id = ${same.datasetId}`
      : sql`select lfn, size_bytes, adler32 from import_files where import_id = ${same.importId}`;
  if (same.datasetId === null && same.importId === null) return { ...same, isSame: true };
  const difference = await firstRow(
    tx,
    sql`select 1 from (${known}) a full join (
        select lfn, size_bytes, adler32 from import_files where import_id = ${importId}) b using (lfn)
      where (a.size_bytes, a.adler32) is distinct from (b.size_bytes, b.adler32) limit 1`,
  );
  return { ...same, isSame: difference === undefined && (status === null || status === 'CLOSED') };
}
