import { listMassStores } from '../backups/mass-stores.service.ts';
import type { UnwantedCopy } from '../backups/unwanted-copies.service.ts';
import type { Db } from '../database/orm.ts';
import type { MassStore } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';

/** Stores that can remove a file, by their number. */
export type RemovingStores = ReadonlyMap<number, MassStore>;

/** A store that is away from here, for one, is asked again so much later. */
export const removeAgainMs = 60_000;

export async function removingStores(db: Db, stores: OpenStores): Promise<RemovingStores> {
  const rows = (await listMassStores(db)).filter((row) => row.isConfigured);
  const opened = rows.map((row) => [row.id, stores.of(row)] as const);
  return new Map(opened.filter(([, store]) => store.remove !== undefined));
}

/** Their bytes; what is gone already is gone. */
export async function removeCopies(
  stores: RemovingStores,
  copies: readonly UnwantedCopy[],
): Promise<void> {
  for (const { storeId, key } of copies) await stores.get(storeId)?.remove?.(key);
}
