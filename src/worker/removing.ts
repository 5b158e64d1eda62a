import { listMassStores } from '../backups/mass-stores.service.ts';
import type { UnwantedCopy } from '../backups/unwanted-copies.service.ts';
import type { Db } from '../database/orm.ts';
import type { MassStore } from '../storage/contract.ts';
import type { OpenStores } from '../storage/open.ts';

/** The stores of the store file, by their number: what was taken out of it cannot be asked. */
export type RemovingStores = ReadonlyMap<number, MassStore>;

/** A store that is away from here, for one, is asked again so much later. */
export const removeAgainMs = 60_000;

export async function removingStores(db: Db, stores: OpenStores): Promise<RemovingStores> {
  const rows = (await listMassStores(db)).filter((row) => row.isConfigured);
  return new Map(rows.map((row) => [row.id, stores.of(row)]));
}

/** Their bytes; what is gone already is gone. */
export async function removeCopies(
  stores: RemovingStores,
  copies: readonly UnwantedCopy[],
): Promise<void> {
  for (const { storeId, key } of copies) await stores.get(storeId)?.remove(key);
}
