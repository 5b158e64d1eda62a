import { z } from 'zod';
import { badInput, messageOf, SweepbookError } from '../errors.ts';
import {
  mostKeysPerQuestion,
  type Expected,
  type MassStore,
  type PutOptions,
  type Recalling,
  type Residency,
  type ResidencyAnswer,
  type StoreAnswer,
  type StoredFile,
  type StoreFeatures,
  type StoreState,
  type TemporaryFile,
} from './contract.ts';
import {
  demandTemporary,
  incoming,
  isTemporary,
  ownerOf,
  temporaryKey,
  uploadKey,
} from './incoming.ts';
import { secret } from './secrets.ts';
import { commonSettings } from './store-settings.ts';
import { parsed, pathsOf, problemOf, TapeRestRecall } from './tape-rest-recall.ts';
import { WebDav } from './webdav.ts';

/** A store behind a WebDAV door with a WLCG tape REST API v1, in the store file. */
export const tapeRestSettings = z.strictObject({
  ...commonSettings,
  kind: z.literal('tape-rest'),
  /** The collection that is the root of the store. */
  root: z
    .url({ protocol: /^https?$/ })
    .transform((url) => url.replace(/\/+$/, ''))
    .describe('https://door.site:443/path'),
  token: secret.optional(),
});
export type TapeRestSettings = z.infer<typeof tapeRestSettings>;

const features: StoreFeatures = {
  says: ['adler32'],
  hasTape: true,
  takesUploads: true,
  publishCopies: false,
};
const discoveryMs = 600_000;

/**
 * The six words of the API, and those of dCache. Only a word of this list counts, and only for the path that we
 * asked about: NONE and UNAVAILABLE say nothing.
 */
const residencyOfWord: Readonly<Record<string, Residency>> = {
  DISK: 'DISK',
  ONLINE: 'DISK',
  TAPE: 'TAPE',
  NEARLINE: 'TAPE',
  DISK_AND_TAPE: 'DISK_AND_TAPE',
  ONLINE_AND_NEARLINE: 'DISK_AND_TAPE',
  LOST: 'LOST',
  NONE: 'UNKNOWN',
  UNAVAILABLE: 'UNKNOWN',
};

const discovery = z.object({
  endpoints: z.array(z.object({ uri: z.url({ protocol: /^https?$/ }), version: z.string() })),
});
const archiveInfo = z.array(
  z.object({ path: z.string(), locality: z.string().optional(), error: z.string().optional() }),
);

/**
 * CTA, dCache or StoRM: files go in by WebDAV; size and adler32 are the door's word (HEAD, Want-Digest), tape is the
 * word of the tape REST API (archiveinfo). One question about tape, one source: xattrs and `xrdfs stat` are not asked.
 */
export class TapeRestStore implements MassStore {
  readonly kind = 'tape-rest';
  readonly name: string;
  readonly features = features;
  private readonly settings: TapeRestSettings;
  readonly recalling: Recalling;
  private readonly dav: WebDav;
  private api: { readonly uri: string; readonly readAt: number } | undefined;

  constructor(settings: TapeRestSettings) {
    this.name = settings.name;
    this.settings = settings;
    this.dav = new WebDav({ ...settings, url: settings.root });
    this.recalling = new TapeRestRecall(this.dav, settings.root, (options) =>
      this.endpoint(options),
    );
  }

  async prepare(): Promise<void> {
    await this.dav.makeFolders(incoming, {});
  }

  async probe(): Promise<StoreState> {
    try {
      await this.dav.listFolder(incoming, {});
      return { isUp: true, detail: `${this.settings.root}, tape by ${await this.endpoint({})}` };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  finalKey(lfn: string): string {
    return lfn.slice(1);
  }

  readonly temporaryKey = temporaryKey;
  readonly uploadKey = uploadKey;
  readonly isTemporary = isTemporary;

  placeOf(key: string): string {
    return this.dav.urlOf(key);
  }

  accessUrl(key: string): string {
    return (
      (this.settings.accessUrlPrefix ?? `${this.settings.root}/`) +
      key.split('/').map(encodeURIComponent).join('/')
    );
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    demandTemporary(key);
    // CTA never archives an empty file.
    if (expected.sizeBytes === 0) throw badInput('sizeBytes', 0, 'tape takes no empty files');
    await this.dav.remove(key);
    await this.dav.put(source, key, expected, options);
  }

  async says(key: string, _expected: Expected, options: PutOptions = {}): Promise<StoreAnswer> {
    return this.dav.head(key, options);
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    return this.dav.readBack(key, options);
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    await this.dav.fetch(key, target, expected, options);
  }

  async publish(key: string, finalKey: string): Promise<void> {
    demandTemporary(key);
    await this.dav.move(key, finalKey);
  }

  async sizeOf(key: string): Promise<number | undefined> {
    return this.dav.sizeOf(key, {});
  }

  async removeTemporary(key: string): Promise<void> {
    demandTemporary(key);
    await this.dav.remove(key);
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    const files = await this.dav.listFolder(incoming, {});
    return files.flatMap(({ key, changedAt }): TemporaryFile[] => {
      const owner = ownerOf(key);
      if (!owner) return [];
      // Without a time it is taken for new: it stays.
      return [{ key, ...owner, changedAt: changedAt ?? new Date() }];
    });
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    const folders = [''];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      for (const entry of await this.dav.listFolder(folder, options)) {
        if (!entry.key.endsWith('/')) yield entry;
        else if (entry.key !== `${incoming}/`) folders.push(entry.key.slice(0, -1));
      }
    }
  }

  async keyOf(place: string): Promise<string> {
    const root = `${this.settings.root}/`;
    const wayOut = `the URL or path of a file below ${root}`;
    if (place.length > 4096 || /[\0\n\r]/.test(place))
      throw badInput('path', place.slice(0, 100), wayOut);
    const key = place.startsWith(root)
      ? decodeURIComponent(place.slice(root.length))
      : place.replace(/^\/+/, '');
    const parts = key.split('/');
    if (parts.some((part) => part === '' || part === '.' || part === '..')) {
      throw badInput('path', place, wayOut);
    }
    if ((await this.sizeOf(key)) === undefined) {
      throw badInput('path', place, `no such file in store ${this.name}`);
    }
    return key;
  }

  /**
   * POST archiveinfo. Order and completeness are not promised: an answer counts for the path that it names, once;
   * two answers for one path that differ say nothing.
   */
  async residencyOf(
    keys: readonly string[],
    options: PutOptions = {},
  ): Promise<Map<string, ResidencyAnswer>> {
    const asked = keys.slice(0, mostKeysPerQuestion);
    const byPath = pathsOf(this.settings.root, asked);
    const url = `${(await this.endpoint(options)).replace(/\/+$/, '')}/archiveinfo`;
    const askedAt = new Date().toISOString();
    const answer = await this.dav.ask({
      method: 'POST',
      url,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ paths: [...byPath.keys()] }),
      signal: options.signal,
    });
    const entries = readEntries(answer.status === 200 && !answer.isCut ? answer.text : undefined);
    if (!entries) throw this.dav.refused('POST archiveinfo', '', answer, problemOf(answer.text));
    const found = new Map<string, ResidencyAnswer>();
    const contradicted = new Set<string>();
    for (const entry of entries) {
      const key = byPath.get(entry.path);
      if (key === undefined) continue;
      const evidence = this.dav.evidence(`POST ${url} ${entry.path}`, askedAt, entry);
      // A missing file must not carry a locality; one that carries both says nothing certain.
      const residency =
        entry.error === undefined
          ? (residencyOfWord[entry.locality ?? ''] ?? 'UNKNOWN')
          : 'UNKNOWN';
      const before = found.get(key);
      if (before && (before.residency !== residency || before.refusal !== entry.error)) {
        contradicted.add(key);
      }
      found.set(key, { residency, refusal: entry.error?.slice(0, 500), evidence });
    }
    for (const key of contradicted) found.delete(key);
    return found;
  }

  /** Where the API is, by the well-known address of the door; asked again every ten minutes. */
  private async endpoint(options: PutOptions): Promise<string> {
    if (this.api && Date.now() - this.api.readAt < discoveryMs) return this.api.uri;
    const url = new URL('/.well-known/wlcg-tape-rest-api', this.settings.root).href;
    const answer = await this.dav.ask({ method: 'GET', url, signal: options.signal });
    const read = discovery.safeParse(answer.status === 200 ? parsed(answer.text) : undefined);
    const uri = read.data?.endpoints.find((endpoint) => endpoint.version === 'v1')?.uri;
    if (uri === undefined) {
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${this.name}: ${url} names no tape REST API v1 (HTTP ${answer.status})`,
        { store: this.name },
      );
    }
    this.api = { uri, readAt: Date.now() };
    return uri;
  }
}

function readEntries(text: string | undefined): z.infer<typeof archiveInfo> | undefined {
  return text === undefined ? undefined : archiveInfo.safeParse(parsed(text)).data;
}
