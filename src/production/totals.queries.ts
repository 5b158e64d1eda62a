import { demand, may, type Viewer } from '../access/policy.ts';
import { privateFiles } from '../access/visibility.ts';
import { nameIs, type NameConditions } from '../database/name-filter.ts';
import type { Db } from '../database/orm.ts';
import { allOf, rows, sql, type RawBuilder } from '../database/sql.ts';
import { badInput } from '../errors.ts';
import type { FileKind } from '../files/files.rules.ts';

/** Where a file stands; each has one of them. The view file_status_parts says the same. */
export const fileStatuses = [
  'REGISTERED',
  'BACKED_UP',
  'PUBLISHED',
  'PUBLISHED_WITHOUT_BACKUP',
] as const;
export type FileStatus = (typeof fileStatuses)[number];

export const totalsKeys = ['SITE', 'STREAM', 'KIND', 'STATUS', 'RELEASE', 'STORE'] as const;
export type TotalsKey = (typeof totalsKeys)[number];

export interface TotalsConditions {
  readonly site?: NameConditions | null | undefined;
  readonly stream?: NameConditions | null | undefined;
  readonly release?: NameConditions | null | undefined;
  readonly kind?: FileKind | null | undefined;
  readonly status?: readonly FileStatus[] | null | undefined;
  readonly store?: string | null | undefined;
}

export interface TotalsRow {
  readonly site: string | null;
  readonly stream: string | null;
  readonly kind: FileKind | null;
  readonly status: FileStatus | null;
  readonly release: string | null;
  readonly store: string | null;
  readonly fileCount: number;
  readonly eventCount: number;
  readonly sizeBytes: number;
}

const columns: Record<TotalsKey, { readonly sql: RawBuilder<unknown>; readonly as: string }> = {
  SITE: { sql: sql`s.name`, as: 'site' },
  STREAM: { sql: sql`t.stream`, as: 'stream' },
  KIND: { sql: sql`t.kind`, as: 'kind' },
  STATUS: { sql: sql`t.status`, as: 'status' },
  RELEASE: { sql: sql`t.release`, as: 'release' },
  STORE: { sql: sql`m.name`, as: 'store' },
};

/** What only production may ask: the others' totals are those of published files. */
const published: readonly FileStatus[] = ['PUBLISHED', 'PUBLISHED_WITHOUT_BACKUP'];

const none: RawBuilder<unknown> = sql`null`;

/**
 * Files, events and bytes, grouped; never a row of files is counted. By store: confirmed copies, so
 * that a file in two stores counts in each. Who may not see production gets what is published.
 */
export async function readTotals(
  db: Db,
  viewer: Viewer,
  by: readonly TotalsKey[],
  filter: TotalsConditions,
  most: number,
): Promise<TotalsRow[]> {
  const keys = totalsKeys.filter((key) => by.includes(key));
  const asksForStores = keys.includes('STORE') || filter.store != null;
  const seesAll = may(viewer, 'readProduction');
  if (asksForStores) checkStores(viewer, keys, filter);
  const source = sourceOf(
    // What is published is private no more.
    seesAll ? privateFiles(viewer) : undefined,
    asksForStores,
    !seesAll || keys.includes('STATUS') || filter.status != null,
  );
  const grouped = keys.map((key) => columns[key].sql);
  const found = await rows(
    db,
    sql<TotalsRow>`
    select ${sql.join(totalsKeys.map((key) => sql`${keys.includes(key) ? columns[key].sql : none} as ${sql.ref(columns[key].as)}`))},
      coalesce(sum(t.files), 0) as "fileCount", coalesce(sum(t.events), 0) as "eventCount",
      coalesce(sum(t.bytes), 0) as "sizeBytes"
    from ${source} join sites s on s.id = t.site_id
    where ${allOf([
      nameIs(sql`s.name`, filter.site),
      nameIs(sql`t.stream`, filter.stream),
      nameIs(sql`t.release`, filter.release),
      filter.kind ? sql`t.kind = ${filter.kind}` : undefined,
      filter.status ? sql`t.status = any (${filter.status}::text[])` : undefined,
      seesAll ? undefined : sql`t.status = any (${published}::text[])`,
      filter.store ? sql`m.name = ${filter.store}` : undefined,
    ])}
    ${grouped.length === 0 ? sql`` : sql`group by ${sql.join(grouped)} having sum(t.files) <> 0 order by ${sql.join(grouped)}`}
    limit ${most + 1}`,
  );
  if (found.length > most) {
    throw badInput('by', by, `more than ${most} lines: filter, group by less, or raise first`);
  }
  return found;
}

/** Copies by store, files by status, or the plain sums of all files; less those that are hidden from the viewer. */
function sourceOf(
  hidden: RawBuilder<unknown> | undefined,
  asksForStores: boolean,
  asksForStatus: boolean,
): RawBuilder<unknown> {
  const part = (table: string) =>
    sql`select store_id, site_id, kind, stream, release, null::text as status, files, events, bytes
      from ${sql.table(table)} where store_id is ${asksForStores ? sql`not null` : sql`null`}`;
  const all =
    !asksForStores && asksForStatus
      ? sql`select null::integer as store_id, site_id, kind, stream, release, status, files, events, bytes
          from file_status_parts`
      : sql`${part('file_totals')} union all ${part('file_total_changes')}`;
  const parts = hidden
    ? sql`(${all} union all ${lessHidden(hidden, asksForStores)}) t`
    : sql`(${all}) t`;
  return asksForStores ? sql`${parts} join mass_stores m on m.id = t.store_id` : parts;
}

/** What is to be taken off; few files, each where it stands, and in each store that has it. */
function lessHidden(hidden: RawBuilder<unknown>, asksForStores: boolean): RawBuilder<unknown> {
  const store = asksForStores ? sql`b.store_id` : sql`null::integer`;
  const copies = asksForStores
    ? sql`join backup_records b on b.file_id = f.id and b.status = 'CONFIRMED'`
    : sql``;
  return sql`select ${store}, f.site_id, f.kind, f.stream, f.release,
      case when f.confirmed_copies > 0 then 'BACKED_UP' else 'REGISTERED' end, -1, -coalesce(f.event_count, 0), -f.size_bytes
    from ${hidden} h join files f on f.id = h.id ${copies}
    where not exists (select from dataset_files df join datasets d on d.id = df.dataset_id
      where df.file_id = f.id and d.is_available)`;
}

/** What lies in which store is for production (FORBIDDEN); a copy has no status (BAD_USER_INPUT). */
function checkStores(viewer: Viewer, keys: readonly TotalsKey[], filter: TotalsConditions): void {
  demand(viewer, 'readProduction');
  if (keys.includes('STATUS') || filter.status) {
    throw badInput(
      'by',
      keys,
      'STORE counts confirmed copies, and a copy has no status: ask for stores and status apart',
    );
  }
}
