import { SweepbookError } from '../errors.ts';
import type { MassStore, StoreSettings } from './contract.ts';
import { DirectoryStore } from './directory.ts';
import type { StoreSettingsOfFile } from './store-file.ts';
import { TapeRestStore } from './tape-rest.ts';

/** The driver of a store; one kind, one file. */
function openMassStore(row: StoreSettings, settings: StoreSettingsOfFile | undefined): MassStore {
  switch (settings?.kind) {
    case 'directory':
      return new DirectoryStore({ ...settings, urlPrefix: settings.accessUrlPrefix });
    case 'tape-rest':
      return new TapeRestStore(settings);
    case undefined:
      // The folder of the first start stands in no file.
      if (row.kind === 'directory') return new DirectoryStore(row);
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${row.name}: how to reach a store of the kind ${row.kind} is not known here: name the store file in SWEEPBOOK_STORES`,
        { store: row.name, kind: row.kind },
      );
  }
}

/** The drivers of the stores, made once each. */
export class OpenStores {
  private readonly open = new Map<number, MassStore>();
  private readonly configured: ReadonlyMap<string, StoreSettingsOfFile>;

  constructor(configured: readonly StoreSettingsOfFile[] = []) {
    this.configured = new Map(configured.map((store) => [store.name, store]));
  }

  of(settings: StoreSettings & { readonly id: number }): MassStore {
    const known = this.open.get(settings.id);
    if (known) return known;
    const made = openMassStore(settings, this.configured.get(settings.name));
    this.open.set(settings.id, made);
    return made;
  }
  /** By row number: what stands before a plain key in the access URLs of the stores that were used so far. */
  accessUrlPrefixes(): Record<number, string> {
    const found: Record<number, string> = {};
    for (const [id, { accessUrlPrefix }] of this.open) {
      if (accessUrlPrefix !== undefined) found[id] = accessUrlPrefix;
    }
    return found;
  }
}
