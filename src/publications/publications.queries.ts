import { may, type Viewer } from '../access/policy.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { PublicationStatus } from './publications.rules.ts';

export interface PublicationRow {
  readonly id: number;
  readonly status: PublicationStatus;
  readonly datasetName: string;
  readonly requestedBy: string;
  readonly group: string | null;
  readonly description: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly treeName: string | null;
  readonly store: string;
  readonly mergeTool: 'TAR' | 'COMMAND';
  readonly compositeBytes: number;
  readonly fileCount: number;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly finishedAt: Date | null;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
  readonly datasetId: number | null;
}

const columns = sql`p.id, p.status, p.dataset_name as "datasetName", p.requested_by as "requestedBy",
  p.charged_group as "group", p.description, p.stream, p.release, p.tree_name as "treeName", m.name as store,
  p.merge_tool as "mergeTool", p.wanted_bytes as "compositeBytes", p.file_count as "fileCount",
  p.size_bytes as "sizeBytes", p.event_count as "eventCount", p.requested_at as "requestedAt",
  p.decided_by as "decidedBy", p.decided_at as "decidedAt", p.finished_at as "finishedAt",
  p.last_error_code as "lastErrorCode", p.last_error as "lastError", p.dataset_id as "datasetId"`;
const tables = sql`publications p join mass_stores m on m.id = p.store_id`;

/** Its owner and operators see a publication, nobody else; what came of it is a dataset like others. */
const visiblePublication = (viewer: Viewer): RawBuilder<unknown> => {
  if (may(viewer, 'readPublications')) return sql`true`;
  return may(viewer, 'readPublications', viewer.principal)
    ? sql`p.requested_by = ${viewer.principal}`
    : sql`false`;
};

export async function publicationsByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<PublicationRow[]> {
  return rows(
    db,
    sql<PublicationRow>`select ${columns} from ${tables}
      where p.id = any (${ids}::bigint[]) and ${visiblePublication(viewer)}`,
  );
}

export interface PublicationConditions {
  readonly status?: readonly PublicationStatus[] | null | undefined;
  readonly dataset?: string | null | undefined;
  readonly requestedBy?: string | null | undefined;
}

/** Publications, the last one first. */
export async function listPublications(
  db: Db,
  viewer: Viewer,
  filter: PublicationConditions,
  page: PageArguments,
): Promise<Page<PublicationRow>> {
  return readPage<PublicationRow>(
    db,
    {
      order: 'publications:id',
      keys: [{ sql: sql`p.id`, type: 'bigint', descending: true }],
      select: columns,
      from: tables,
      where: allOf([
        visiblePublication(viewer),
        filter.status ? sql`p.status = any (${filter.status}::text[])` : undefined,
        filter.dataset == null ? undefined : sql`p.dataset_name = ${filter.dataset}`,
        filter.requestedBy == null ? undefined : sql`p.requested_by = ${filter.requestedBy}`,
      ]),
    },
    page,
  );
}

/** How far it is; counts are files. */
export interface ProgressRow {
  readonly publicationId: number;
  readonly checked: number;
  readonly faulty: number;
  readonly merged: number;
  readonly compositeCount: number;
  readonly made: number;
  readonly safe: number;
  readonly doneBytes: number;
}

export async function progressOfPublications(
  db: Db,
  ids: readonly number[],
): Promise<ProgressRow[]> {
  return rows(
    db,
    sql<ProgressRow>`
    select p.id as "publicationId", f.checked, f.faulty, f.merged, c.planned as "compositeCount", c.made, c.safe,
      case when p.status in ('REQUESTED', 'AWAITING_APPROVAL', 'FAILED', 'WITHDRAWN') then 0
        when p.status = 'CHECKING' then greatest(f.checked_bytes, p.done_bytes)
        when p.status = 'MERGING' then least(greatest(c.made_bytes, p.done_bytes), p.size_bytes)
        when p.status = 'BACKING_UP' then c.safe_bytes else p.size_bytes end as "doneBytes"
    from unnest(${ids}::bigint[]) as t (id) join publications p on p.id = t.id
    left join lateral (
      select count(*) filter (where x.size_bytes is not null or x.fault is not null) as checked,
        count(*) filter (where x.fault is not null) as faulty, coalesce(sum(x.size_bytes), 0)::bigint as checked_bytes,
        count(*) filter (where x.composite in (
          select k.number from publication_composites k where k.publication_id = p.id and k.path is not null)) as merged
      from publication_files x where x.publication_id = p.id) f on true
    left join lateral (
      select count(*) as planned, count(*) filter (where k.path is not null) as made,
        count(*) filter (where g.missing_copies = 0) as safe,
        coalesce(sum(k.input_bytes) filter (where k.path is not null), 0)::bigint as made_bytes,
        coalesce(sum(k.input_bytes) filter (where g.missing_copies = 0), 0)::bigint as safe_bytes
      from publication_composites k left join files g on g.id = k.file_id where k.publication_id = p.id) c on true`,
  );
}

export interface PublicationFileRow {
  readonly id: number;
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number | null;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly faultCode: string | null;
  readonly fault: string | null;
  readonly compositeLfn: string | null;
  readonly memberOffset: number | null;
}

/** The files of a publication, in their order; the caller has looked whether it may be seen. */
export async function listPublicationFiles(
  db: Db,
  publicationId: number,
  isFaulty: boolean | null | undefined,
  page: PageArguments,
): Promise<Page<PublicationFileRow>> {
  return readPage<PublicationFileRow>(
    db,
    {
      order: `publication-files:${publicationId}`,
      keys: [{ sql: sql`x.id`, type: 'bigint' }],
      select: sql`x.id, x.path, x.name, x.size_bytes as "sizeBytes", x.sha256, x.event_count as "eventCount",
        x.fault_code as "faultCode", x.fault, c.lfn as "compositeLfn", x.member_offset as "memberOffset"`,
      from: sql`publication_files x left join publication_composites c
        on c.publication_id = x.publication_id and c.number = x.composite`,
      where: allOf([
        sql`x.publication_id = ${publicationId}`,
        isFaulty == null ? undefined : sql`(x.fault is not null) = ${isFaulty}`,
      ]),
    },
    page,
  );
}

export interface CompositeRow {
  readonly number: number;
  readonly lfn: string;
  readonly fileCount: number;
  readonly sizeBytes: number | null;
  readonly adler32: string | null;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly isSafe: boolean;
}

/** The composite files of a publication; the caller has looked whether it may be seen. */
export async function listComposites(
  db: Db,
  publicationId: number,
  page: PageArguments,
): Promise<Page<CompositeRow>> {
  return readPage<CompositeRow>(
    db,
    {
      order: `publication-composites:${publicationId}`,
      keys: [{ sql: sql`c.number`, type: 'bigint' }],
      select: sql`c.number, c.lfn, c.file_count as "fileCount", c.size_bytes as "sizeBytes", c.adler32, c.sha256,
        c.event_count as "eventCount", coalesce(f.missing_copies = 0, false) as "isSafe"`,
      from: sql`publication_composites c left join files f on f.id = c.file_id`,
      where: sql`c.publication_id = ${publicationId}`,
    },
    page,
  );
}
