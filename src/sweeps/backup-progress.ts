import { notPrivate, visibleDataset } from '../access/visibility.ts';
import type { Context } from '../api/context.ts';
import type { CopiedBytes } from '../api/progress-feed.ts';
import type { BackupStatus } from '../backups/backups.rules.ts';
import { allOf, rows, sql } from '../database/sql.ts';
import { currentPlace } from '../events/events.queries.ts';

export interface ProgressFilter {
  readonly dataset?: string | null | undefined;
  readonly lfn?: string | null | undefined;
}

export interface ProgressRow {
  readonly backupId: number;
  readonly lfn: string;
  readonly store: string;
  readonly status: BackupStatus;
  readonly attempt: number;
  readonly sizeBytes: number;
  readonly copiedBytes: number;
  readonly error: string | null;
  readonly occurredAt: Date;
}

const mostAtStart = 1000;
/** Records kept in mind for one reader; beyond that all are looked up again. */
const mostKnown = 20_000;

function progressRows(
  { db, viewer }: Pick<Context, 'db' | 'viewer'>,
  filter: ProgressFilter,
  ids?: readonly number[],
): Promise<ProgressRow[]> {
  return rows(
    db.fork(),
    sql<ProgressRow>`
    select b.id as "backupId", f.lfn, m.name as store, b.status, b.attempt, f.size_bytes as "sizeBytes",
      case when b.status in ('COPIED', 'CONFIRMED') then f.size_bytes else 0 end as "copiedBytes",
      case when b.status not in ('COPIED', 'CONFIRMED') then b.last_error end as error, b.updated_at as "occurredAt"
    from backup_records b join files f on f.id = b.file_id join mass_stores m on m.id = b.store_id
    where ${allOf([
      ids ? sql`b.id = any (${ids}::bigint[])` : sql`b.status not in ('CONFIRMED', 'LOST')`,
      notPrivate(viewer),
      filter.lfn == null ? undefined : sql`f.lfn = ${filter.lfn}`,
      filter.dataset == null
        ? undefined
        : sql`exists (select from dataset_files df join datasets d on d.id = df.dataset_id
            where df.file_id = f.id and d.name = ${filter.dataset} and ${visibleDataset(viewer)})`,
    ])}
    order by b.id limit ${mostAtStart}`,
  );
}

/**
 * How backups come along: first one item for each that is not finished, then each change of
 * state, and bytes while a worker copies. Bytes are for the eye; nothing depends on them.
 */
export async function* followBackups(
  context: Context,
  filter: ProgressFilter,
  signal: AbortSignal,
): AsyncGenerator<ProgressRow, void, void> {
  const { means } = context;
  const known = new Map<number, ProgressRow | undefined>();
  const waiting = new Map<number, number | undefined>();
  let wakeUp: () => void = () => undefined;
  const tell = (backupId: number, bytes?: number) => {
    waiting.set(backupId, bytes);
    wakeUp();
  };
  const stopListening = means.progress.listen(({ backupId, attempt, bytes }: CopiedBytes) => {
    const row = known.get(backupId);
    if (row === undefined && known.has(backupId)) return;
    if (row === undefined || row.attempt !== attempt || row.status !== 'COPYING') tell(backupId);
    else tell(backupId, bytes);
  });
  // The place first, then the present state: what happens in between is told, perhaps twice.
  const place = await currentPlace(context.db.fork());
  const lines = means.feed.follow(place, (event) => event.kind === 'BACKUP_STATUS', signal);
  // Reads on its own, so that bytes come through while no state changes.
  const reading = (async () => {
    for await (const event of lines) if (event.backupId !== null) tell(event.backupId);
  })().finally(() => wakeUp());
  reading.catch(() => undefined);
  try {
    for (const row of await progressRows(context, filter)) {
      known.set(row.backupId, row);
      yield row;
    }
    while (!signal.aborted) {
      const batch = [...waiting];
      waiting.clear();
      if (known.size > mostKnown) known.clear();
      if (batch.length === 0) {
        await new Promise<void>((resolve) => {
          wakeUp = resolve;
          signal.addEventListener('abort', () => resolve(), { once: true });
          if (signal.aborted || waiting.size > 0) resolve();
        });
        continue;
      }
      yield* present(context, filter, known, batch);
    }
  } finally {
    stopListening();
  }
}

async function* present(
  context: Context,
  filter: ProgressFilter,
  known: Map<number, ProgressRow | undefined>,
  batch: readonly (readonly [number, number | undefined])[],
): AsyncGenerator<ProgressRow, void, void> {
  const toRead = batch.filter(([, bytes]) => bytes === undefined).map(([id]) => id);
  const fresh = toRead.length === 0 ? [] : await progressRows(context, filter, toRead);
  for (const id of toRead) known.set(id, undefined);
  for (const row of fresh) {
    known.set(row.backupId, row);
    yield row;
  }
  for (const [id, bytes] of batch) {
    const row = known.get(id);
    if (bytes === undefined || row === undefined) continue;
    yield { ...row, copiedBytes: bytes, occurredAt: new Date() };
  }
}
