import type { Db } from '../database/orm.ts';
import { prepareDirectoryStore } from '../storage/directory.ts';
import { massStoreOf, type StoreSettingsOfFile } from '../storage/store-file.ts';
import { prepareDefaultStore, takeOverStores, type DefaultStore } from './mass-stores.service.ts';

/**
 * The stores of this site, at each start: those of the store file, or one folder. The folder of a directory store is
 * made when the store is new, and never again: an empty mount point must not become a store. Returns what changed.
 */
export async function prepareStores(
  db: Db,
  folder: DefaultStore,
  ofFile: readonly StoreSettingsOfFile[],
): Promise<string[]> {
  if (ofFile.length === 0) {
    const { store, isNew } = await prepareDefaultStore(db, folder);
    if (isNew) await prepareDirectoryStore(store.root);
    return isNew ? [store.name] : [];
  }
  const taken = await takeOverStores(db, folder.site, ofFile.map(massStoreOf));
  const isNew = new Set(taken.filter((store) => store.isNew).map((store) => store.name));
  for (const { kind, name, root } of ofFile) {
    if (kind === 'directory' && isNew.has(name)) await prepareDirectoryStore(root);
  }
  return taken.map((store) => store.name);
}
