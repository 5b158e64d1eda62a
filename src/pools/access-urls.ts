import { listMassStores } from '../backups/mass-stores.service.ts';
import type { Db } from '../database/orm.ts';
import type { OpenStores } from '../storage/open.ts';
import type { OnlineCopy } from './locality.queries.ts';
import { accessProtocols, poolUrl, protocolOf, type AccessProtocol } from './pools.rules.ts';
import { listPools } from './pools.service.ts';

/** What a job opens. */
export interface AccessUrlRow {
  /** null = one that is not in the list. */
  readonly protocol: AccessProtocol | null;
  readonly url: string;
  /** Name of the pool or of the mass store. */
  readonly place: string;
}

/** Makes the URLs of copies that are online; pools and stores as they are now. */
export async function openAccessUrls(db: Db, stores: OpenStores) {
  const pools = new Map((await listPools(db.fork())).map((pool) => [pool.id, pool]));
  const massStores = new Map((await listMassStores(db)).map((row) => [row.id, row]));
  return ({ poolId, storeId, place }: OnlineCopy): AccessUrlRow[] => {
    const pool = poolId === null ? undefined : pools.get(poolId);
    if (pool) {
      return accessProtocols.flatMap((protocol) => {
        const template = pool.urls[protocol];
        if (template === undefined) return [];
        return [{ protocol, url: poolUrl(template, protocol, place), place: pool.name }];
      });
    }
    const store = storeId === null ? undefined : massStores.get(storeId);
    if (!store) return [];
    const url = stores.of(store).accessUrl(place);
    return [{ protocol: protocolOf(url) ?? null, url, place: store.name }];
  };
}
