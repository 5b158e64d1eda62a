import { SweepbookError } from '../errors.ts';
import type { MassStore, StoreSettings } from './contract.ts';
import { DirectoryStore } from './directory.ts';

/** The driver of a store; one kind, one file. */
function openMassStore(settings: StoreSettings): MassStore {
  switch (settings.kind) {
    case 'directory':
      return new DirectoryStore(settings);
    default:
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${settings.name}: this program has no driver for the kind ${settings.kind}`,
        { store: settings.name, kind: settings.kind },
      );
  }
}

/** The drivers of the stores, made once each. */
export class OpenStores {
  private readonly open = new Map<number, MassStore>();

  of(settings: StoreSettings & { readonly id: number }): MassStore {
    const known = this.open.get(settings.id);
    if (known) return known;
    const made = openMassStore(settings);
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
