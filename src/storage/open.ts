import { SweepbookError } from '../errors.ts';
import type { MassStore, StoreSettings } from './contract.ts';
import { DirectoryStore } from './directory.ts';
import { S3Store } from './s3.ts';
import type { StoreSettingsOfFile } from './store-file.ts';
import { XrootdStore } from './xrootd.ts';

/** The driver of a store as the store file has it; one kind, one driver. */
function openMassStore(settings: StoreSettingsOfFile): MassStore {
  switch (settings.kind) {
    case 'directory':
      return new DirectoryStore({ ...settings, urlPrefix: settings.accessUrlPrefix });
    case 'xrootd':
      return new XrootdStore(settings);
    case 's3':
      return new S3Store(settings);
  }
}

/** The drivers of the stores, made once each; how to reach one stands in the store file. */
export class OpenStores {
  private readonly open = new Map<number, MassStore>();
  private readonly ofFile: ReadonlyMap<string, StoreSettingsOfFile>;

  constructor(storesOfFile: readonly StoreSettingsOfFile[] = []) {
    this.ofFile = new Map(storesOfFile.map((store) => [store.name, store]));
  }

  of(settings: StoreSettings & { readonly id: number }): MassStore {
    const known = this.open.get(settings.id);
    if (known) return known;
    const made = this.make(settings);
    this.open.set(settings.id, made);
    return made;
  }

  private make(row: StoreSettings): MassStore {
    const found = this.ofFile.get(row.name);
    if (found?.kind === row.kind) return openMassStore(found);
    // A folder needs no more than the table knows.
    if (!found && row.kind === 'directory') return new DirectoryStore(row);
    const why = found ? `is of the kind ${found.kind} there` : 'is not in it';
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${row.name} (${row.kind}) cannot be reached from here: it ${why}; name it in the store file (SWEEPBOOK_STORES) of this host`,
      { store: row.name, kind: row.kind },
    );
  }
}
