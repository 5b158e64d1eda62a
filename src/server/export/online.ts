import type { Means } from '../../api/context.ts';
import { listMassStores } from '../../backups/mass-stores.service.ts';
import type {
  ExportRow,
  ListFilter,
  ListedDataset,
} from '../../datasets/datasets-export.queries.ts';
import { filesOutOfReach, type Reached } from '../../datasets/export-online.queries.ts';
import { SweepbookError } from '../../errors.ts';
import { openAccessUrls } from '../../pools/access-urls.ts';
import { onlineCopies } from '../../pools/locality.queries.ts';
import { protocolOf, type AccessProtocol } from '../../pools/pools.rules.ts';
import { listPools } from '../../pools/pools.service.ts';

/** The pools and stores whose files are opened by this protocol. */
async function reachedBy({ db, stores }: Means, protocol: AccessProtocol): Promise<Reached> {
  const pools = (await listPools(db.fork())).filter(
    (pool) => pool.isConfigured && pool.urls[protocol] !== undefined,
  );
  const rows = (await listMassStores(db)).filter(
    (row) =>
      row.isConfigured && !row.hasTape && protocolOf(stores.of(row).accessUrl('x')) === protocol,
  );
  return { pools: pools.map((pool) => pool.id), stores: rows.map((row) => row.id) };
}

/** Refuses a list of which files have no copy on disk that the protocol reaches, while it can still be said (NOT_ONLINE). */
export async function demandOnline(
  means: Means,
  name: string,
  datasets: readonly ListedDataset[],
  filter: ListFilter,
  protocol: AccessProtocol,
): Promise<void> {
  const ids = datasets.map((dataset) => dataset.id);
  const reached = await reachedBy(means, protocol);
  const { count, first } = await filesOutOfReach(means.db, ids, filter, reached);
  if (count === 0) return;
  throw new SweepbookError(
    'NOT_ONLINE',
    `${count} files of ${name} have no copy on disk that ${protocol} reaches, ${first[0]} for one: stage them, or ask without protocol`,
    { name, protocol, count, first },
  );
}

/** Gives the files of a page the URL of a copy that is online by a protocol; null = evicted since it was looked. */
export async function openUrls(
  { db, stores }: Means,
  protocol: AccessProtocol,
): Promise<(page: readonly ExportRow[]) => Promise<Map<number, string>>> {
  const urlsOf = await openAccessUrls(db, stores);
  return async (page) => {
    const found = new Map<number, string>();
    const copies = await onlineCopies(
      db.fork(),
      page.map((row) => row.fileId),
    );
    for (const copy of copies) {
      const url = urlsOf(copy).find((row) => row.protocol === protocol)?.url;
      if (url !== undefined && !found.has(copy.fileId)) found.set(copy.fileId, url);
    }
    return found;
  };
}
