import type { Db } from '../database/orm.ts';
import { rows, sql } from '../database/sql.ts';
import { inTransaction } from '../database/transaction.ts';
import { messageOf } from '../errors.ts';
import { prepareDirectoryStore } from '../storage/directory.ts';
import type { OpenStores } from '../storage/open.ts';
import { massStoreOf, type StoreFile } from '../storage/store-file.ts';
import {
  listMassStores,
  prepareDefaultStore,
  takeOverStores,
  type DefaultStore,
  type MassStoreRow,
} from './mass-stores.service.ts';
import { takeOverPolicies } from './policies.service.ts';

/** What a start found: stores that are new or have other settings, and those that cannot be prepared yet. */
export interface PreparedStores {
  readonly changed: readonly string[];
  readonly waiting: readonly { readonly store: string; readonly why: string }[];
}

/**
 * The stores of this site, at each start: those of the store file, or one folder. The root of a store is made when
 * the store is new, and never again: an empty mount point must not become a store.
 */
export async function prepareStores(
  db: Db,
  stores: OpenStores,
  folder: DefaultStore,
  { stores: ofFile, policies }: StoreFile,
): Promise<PreparedStores> {
  if (ofFile.length === 0) {
    await takeOverPolicies(db, []);
    const { store, isNew } = await prepareDefaultStore(db, folder);
    if (isNew) await prepareDirectoryStore(store.root);
    return { changed: isNew ? [store.name] : [], waiting: [] };
  }
  const taken = await takeOverStores(db, folder.site, ofFile.map(massStoreOf));
  const isOther = await takeOverPolicies(db, policies);
  const waiting = [];
  for (const row of await listMassStores(db)) {
    const why = await prepareStore(db, stores, row);
    if (why !== undefined) waiting.push({ store: row.name, why });
  }
  const changed = taken.map((store) => store.name);
  return { changed: isOther ? [...changed, 'backup policies'] : changed, waiting };
}

/** Makes the root of a store that has none yet; returns why it could not, to be tried again. */
export async function prepareStore(
  db: Db,
  stores: OpenStores,
  row: MassStoreRow,
): Promise<string | undefined> {
  if (row.isPrepared || !row.isConfigured) return undefined;
  try {
    await stores.of(row).prepare();
  } catch (error) {
    return messageOf(error);
  }
  await inTransaction(db, { principal: 'store file' }, (tx) =>
    rows(tx, sql`update mass_stores set is_prepared = true where id = ${row.id}`),
  );
  return undefined;
}
