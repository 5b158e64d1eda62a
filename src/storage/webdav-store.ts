import { badInput, messageOf, SweepbookError } from '../errors.ts';
import type {
  Expected,
  MassStore,
  PutOptions,
  ResidencyAnswer,
  StoreAnswer,
  StoredFile,
  StoreFeatures,
  StoreState,
  TemporaryFile,
} from './contract.ts';
import {
  demandStoredKey,
  demandTemporary,
  incoming,
  marker,
  markerText,
  ownerOf,
} from './incoming.ts';
import { WebDav, type DavSettings } from './webdav.ts';
import { isPlain, publishDav } from './webdav-publish.ts';
import type { WebDavSettings } from './webdav-settings.ts';

/** What all doors have in common: files go in, are asked about, are read and listed by WebDAV. */
export abstract class DavStore {
  readonly name: string;
  protected readonly dav: WebDav;
  private readonly root: string;
  private readonly urlPrefix: string | undefined;

  constructor(
    settings: Omit<DavSettings, 'url'> & { root: string; accessUrlPrefix?: string | undefined },
  ) {
    this.name = settings.name;
    this.root = settings.root;
    this.urlPrefix = settings.accessUrlPrefix;
    this.dav = new WebDav({ ...settings, url: settings.root });
  }

  /** Throws when this is not the store, but the place where it should be mounted. */
  protected abstract demandMounted(options?: PutOptions): Promise<void>;
  /** Throws when the store cannot hold a file of this name. */
  protected abstract demandName(key: string, field: string): void;
  /** Whether the same file lies under both keys, for certain. */
  protected abstract isSame(temporary: string, finalKey: string): Promise<boolean>;

  finalKey(lfn: string): string {
    this.demandName(lfn, 'lfn');
    return lfn.slice(1);
  }

  placeOf(key: string): string {
    return this.dav.urlOf(key);
  }

  accessUrl(key: string): string {
    if (this.urlPrefix === undefined) return this.dav.urlOf(key);
    const isEncoded = /^https?:/i.test(this.urlPrefix);
    return this.urlPrefix + (isEncoded ? key.split('/').map(encodeURIComponent).join('/') : key);
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    demandTemporary(key);
    await Promise.all([this.demandMounted(options), this.dav.remove(key)]);
    await this.dav.put(source, key, expected, options);
  }

  async says(key: string, _expected: Expected, options: PutOptions = {}): Promise<StoreAnswer> {
    return this.believed(await this.dav.head(key, options), options);
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    return this.believed(await this.dav.readBack(key, options), options);
  }

  private async believed(answer: StoreAnswer, options: PutOptions): Promise<StoreAnswer> {
    if (!answer.isPresent) await this.demandMounted(options);
    return answer;
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    await this.dav.fetch(key, target, expected, options);
  }

  async publish(temporary: string, finalKey: string): Promise<void> {
    demandTemporary(temporary);
    this.demandName(finalKey, 'lfn');
    const isSame = (...keys: [string, string]) => this.isSame(...keys);
    await publishDav(this.dav, isSame, temporary, finalKey);
  }

  async sizeOf(key: string): Promise<number | undefined> {
    this.demandName(key, 'key');
    const size = await this.dav.sizeOf(key, {});
    if (size === undefined) await this.demandMounted();
    return size;
  }

  async removeTemporary(key: string): Promise<void> {
    demandTemporary(key);
    await this.dav.remove(key);
  }

  /** DELETE of a folder would take all that is in it. */
  async remove(key: string): Promise<void> {
    demandStoredKey(key);
    await this.demandMounted();
    if ((await this.sizeOf(key)) !== undefined) await this.dav.remove(key);
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    await this.demandMounted();
    const files = (await this.dav.listFolder(incoming, {})) ?? [];
    return files.flatMap(({ key, changedAt }): TemporaryFile[] => {
      const owner = ownerOf(key);
      if (!owner) return [];
      // Without a time it is taken for new: it stays.
      return [{ key, ...owner, changedAt: changedAt ?? new Date() }];
    });
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    await this.demandMounted(options);
    const folders = [''];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const entries = await this.dav.listFolder(folder, options);
      if (!entries && folder !== '')
        throw this.unavailable(`${folder} went away while it was listed`);
      for (const entry of entries ?? []) {
        if (entry.key === `${incoming}/` || entry.key === marker) continue;
        if (entry.key.endsWith('/')) folders.push(entry.key.slice(0, -1));
        else yield entry;
      }
    }
    // Unmounted meanwhile, it would look empty from there on.
    await this.demandMounted(options);
  }

  async keyOf(place: string): Promise<string> {
    const root = `${this.root}/`;
    const wayOut = `the URL or path of a file below ${root}`;
    if (place.length > 4096 || /[\0\n\r]/.test(place))
      throw badInput('path', place.slice(0, 100), wayOut);
    const key = place.startsWith(root)
      ? decoded(place.slice(root.length))
      : place.replace(/^\/+/, '');
    const parts = key?.split('/') ?? [''];
    if (key === undefined || parts.some((part) => part === '' || part === '.' || part === '..')) {
      throw badInput('path', place, wayOut);
    }
    const isOurs = key.startsWith('.') && !ownerOf(key);
    if (isOurs || (await this.sizeOf(key)) === undefined) {
      throw badInput('path', place, `no such file in store ${this.name}`);
    }
    return key;
  }

  protected unavailable(why: string): SweepbookError {
    return new SweepbookError('STORE_UNAVAILABLE', `store ${this.name}: ${why}`, {
      store: this.name,
    });
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/**
 * The HTTP door of XRootD, dCache, EOS, StoRM, or Apache. Its word for size and adler32 may be its memory: XRootD keeps
 * sums by the file's time in whole seconds. Only ask() reads the bytes.
 */
export class WebDavStore extends DavStore implements MassStore {
  readonly kind = 'webdav';
  readonly features: StoreFeatures;

  constructor(private readonly door: WebDavSettings) {
    super(door);
    this.features = {
      says: door.checksum === 'none' ? [] : ['adler32'],
      hasTape: false,
      takesUploads: true,
      publishCopies: false,
    };
  }

  async prepare(): Promise<void> {
    if (!(await this.dav.stat('', {}))) await this.dav.makeFolder('', {});
    await this.dav.makeFolders(incoming, {});
    if ((await this.dav.sizeOf(marker, {})) !== undefined) return;
    const answer = await this.dav.ask({
      method: 'PUT',
      url: this.dav.urlOf(marker),
      body: markerText,
    });
    if (![200, 201, 204].includes(answer.status)) throw this.dav.refused('PUT', marker, answer);
  }

  async probe(): Promise<StoreState> {
    try {
      await this.demandMounted();
      return { isUp: true, detail: `WebDAV ${this.door.root}` };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  async residencyOf(): Promise<Map<string, ResidencyAnswer>> {
    return new Map();
  }

  protected async demandMounted(options: PutOptions = {}): Promise<void> {
    if ((await this.dav.sizeOf(marker, options)) !== undefined) return;
    throw this.unavailable(
      `${this.dav.urlOf(marker)} is missing: is the disk behind the door mounted?`,
    );
  }

  protected demandName(key: string, field: string): void {
    if (isPlain(key) && key.split('/').every((part) => part.length < 255)) return;
    throw badInput(
      field,
      key,
      `letters, digits and -._~!$&'()*+,;=:@, at most 254 between slashes, in store ${this.name} (WebDAV): not all doors take others for what they are`,
    );
  }

  protected async isSame(temporary: string, finalKey: string): Promise<boolean> {
    const [ours, other] = [await this.ask(temporary), await this.ask(finalKey)];
    return ours.sha256 !== undefined && ours.sha256 === other.sha256;
  }
}
