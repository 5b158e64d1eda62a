import { SweepbookError } from '../errors.ts';
import type {
  MassStore,
  ResidencyAnswer,
  StoreAnswer,
  StoredFile,
  StoreFeatures,
  StoreSettings,
  StoreState,
  TemporaryFile,
} from './contract.ts';

/**
 * A store that the tables know and that this host does not know how to reach: it is down, and says why. Jobs may
 * still reach what lies in it.
 */
export class AwayStore implements MassStore {
  readonly name: string;
  readonly kind: string;
  readonly features: StoreFeatures = {
    says: [],
    hasTape: false,
    takesUploads: false,
    publishCopies: false,
  };

  constructor(
    private readonly settings: StoreSettings,
    private readonly why: string,
  ) {
    this.name = settings.name;
    this.kind = settings.kind;
  }

  async probe(): Promise<StoreState> {
    return { isUp: false, detail: this.away().message };
  }

  finalKey(lfn: string): string {
    return lfn.slice(1);
  }

  placeOf(key: string): string {
    return `${this.settings.root.replace(/\/+$/, '')}/${key}`;
  }

  accessUrl(key: string): string {
    const { urlPrefix } = this.settings;
    return urlPrefix == null ? this.placeOf(key) : urlPrefix + key;
  }

  async prepare(): Promise<void> {
    throw this.away();
  }

  async put(): Promise<void> {
    throw this.away();
  }

  async says(): Promise<StoreAnswer> {
    throw this.away();
  }

  async ask(): Promise<StoreAnswer> {
    throw this.away();
  }

  async residencyOf(): Promise<Map<string, ResidencyAnswer>> {
    throw this.away();
  }

  list(): AsyncIterable<StoredFile> {
    throw this.away();
  }

  async fetch(): Promise<void> {
    throw this.away();
  }

  async publish(): Promise<void> {
    throw this.away();
  }

  async sizeOf(): Promise<number | undefined> {
    throw this.away();
  }

  async removeTemporary(): Promise<void> {
    throw this.away();
  }

  async remove(): Promise<void> {
    throw this.away();
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    throw this.away();
  }

  async keyOf(): Promise<string> {
    throw this.away();
  }

  private away(): SweepbookError {
    return new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.name} (${this.kind}) cannot be reached from here: it ${this.why}; name it in the store file (SWEEPBOOK_STORES) of this host`,
      { store: this.name, kind: this.kind },
    );
  }
}
