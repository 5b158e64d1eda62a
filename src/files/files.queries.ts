import type { Viewer } from '../access/policy.ts';
import { visibleFile } from '../access/visibility.ts';
import type { Late } from '../database/late.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { readPage, type Page, type PageArguments, type PageQuery } from '../database/page.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import type { FileKind, ReplicaStatus } from './files.rules.ts';

export interface FileRow {
  readonly id: number;
  readonly lfn: string;
  readonly kind: FileKind;
  readonly site: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly createdAt: Date;
  readonly createdBy: string;
  readonly isBackedUp: boolean;
}

/** Over the aliases f (files) and s (sites). */
export const fileColumns = sql`f.id, f.lfn, f.kind, s.name as site, f.stream, f.release, f.size_bytes as "sizeBytes",
  f.adler32, f.sha256, f.event_count as "eventCount", f.created_at as "createdAt", f.created_by as "createdBy",
  f.confirmed_copies > 0 as "isBackedUp"`;
// A left join is left out by PostgreSQL when nothing of it is asked for.
export const fileTables = sql`files f left join sites s on s.id = f.site_id`;

export async function filesByIds(
  db: Db,
  viewer: Viewer,
  ids: readonly number[],
): Promise<FileRow[]> {
  return rows(
    db,
    sql<FileRow>`select ${fileColumns} from ${fileTables}
      where f.id = any (${ids}::bigint[]) and ${visibleFile(viewer)}`,
  );
}

/** The file of this LFN, if the viewer may see it: condition on files f. */
export const fileIsNamed = (viewer: Viewer, lfn: string | Late): RawBuilder<unknown> =>
  sql`f.lfn = ${lfn} and ${visibleFile(viewer)}`;

export async function findFile(db: Db, viewer: Viewer, lfn: string): Promise<FileRow | undefined> {
  const found = await rows(
    db,
    sql<FileRow>`select ${fileColumns} from ${fileTables}
      where ${fileIsNamed(viewer, lfn.replaceAll('\0', ''))}`,
  );
  return found[0];
}

export interface FileConditions {
  readonly lfn?: NameConditions | null | undefined;
  readonly kind?: FileKind | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  readonly isBackedUp?: boolean | null | undefined;
}

export function fileConditions(filter: FileConditions): RawBuilder<unknown> {
  return allOf([
    nameIs(sql`f.lfn`, filter.lfn),
    filter.kind ? sql`f.kind = ${filter.kind}` : undefined,
    filter.stream ? sql`f.stream = ${filter.stream}` : undefined,
    filter.release ? sql`f.release = ${filter.release}` : undefined,
    filter.isBackedUp == null ? undefined : sql`(f.confirmed_copies > 0) = ${filter.isBackedUp}`,
  ]);
}

/** Name of the order by LFN, whatever list of files it is: their cursors are of one kind. */
export const filesOrder = 'files:lfn';

/** Files by LFN, as far as the viewer may see them; `of` narrows them to what belongs to something. */
export function filesPage(
  viewer: Viewer,
  filter: FileConditions,
  of?: RawBuilder<unknown>,
): PageQuery {
  return {
    order: filesOrder,
    keys: [{ sql: sql`f.lfn`, type: 'text' }],
    select: fileColumns,
    from: fileTables,
    where: allOf([of, fileConditions(filter), visibleFile(viewer)]),
  };
}

export async function listFiles(
  db: Db,
  viewer: Viewer,
  filter: FileConditions,
  page: PageArguments,
  of?: RawBuilder<unknown>,
): Promise<Page<FileRow>> {
  return readPage<FileRow>(db, filesPage(viewer, filter, of), page);
}

/** The run files that went into a file: condition on files f. `id` is a number or a column. */
export const inputsOfFile = (id: unknown): RawBuilder<unknown> =>
  sql`f.id in (select mi.input_file_id from merge_inputs mi join merges m on m.id = mi.merge_id
    where m.output_file_id = ${id})`;

/** The runs that a file holds data of: condition on runs r. `id` is a number or a column. */
export const runsOfFile = (id: unknown): RawBuilder<unknown> =>
  sql`(r.id in (select run_id from file_runs where file_id = ${id})
    or r.id = (select run_id from files where id = ${id}))`;

export interface ReplicaRow {
  readonly fileId: number;
  readonly volume: string;
  readonly path: string;
  readonly status: ReplicaStatus;
  readonly createdAt: Date;
}

/** Over the aliases p (replicas) and v (volumes). */
export const replicaColumns = sql`v.name as volume, p.path, p.status, p.created_at as "createdAt"`;
export const replicaTables = sql`replicas p join volumes v on v.id = p.volume_id`;

export async function replicasOf(db: Db, fileIds: readonly number[]): Promise<ReplicaRow[]> {
  return rows(
    db,
    sql<ReplicaRow>`select p.file_id as "fileId", ${replicaColumns} from ${replicaTables} where p.file_id = any (${fileIds}::bigint[]) order by p.id`,
  );
}

/** For each input the merged file that it went into. */
export async function mergedInto(
  db: Db,
  fileIds: readonly number[],
): Promise<{ inputId: number; outputId: number }[]> {
  return rows(
    db,
    sql<{ inputId: number; outputId: number }>`
    select mi.input_file_id as "inputId", m.output_file_id as "outputId"
    from merge_inputs mi join merges m on m.id = mi.merge_id where mi.input_file_id = any (${fileIds}::bigint[])`,
  );
}
