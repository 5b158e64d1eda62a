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
  type StoreFeatures,
  type StoreState,
} from './contract.ts';
import { incoming } from './incoming.ts';
import { parsed, pathsOf, problemOf, TapeRestRecall } from './tape-rest-recall.ts';
import { doorSettings } from './webdav-settings.ts';
import { DavStore } from './webdav-store.ts';

/** A store behind a WebDAV door with a WLCG tape REST API v1, in the store file. */
export const tapeRestSettings = z.strictObject({ ...doorSettings, kind: z.literal('tape-rest') });
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
export class TapeRestStore extends DavStore implements MassStore {
  readonly kind = 'tape-rest';
  readonly features = features;
  private readonly settings: TapeRestSettings;
  readonly recalling: Recalling;
  private api: { readonly uri: string; readonly readAt: number } | undefined;

  constructor(settings: TapeRestSettings) {
    super(settings);
    this.settings = settings;
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

  override async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    // CTA never archives an empty file.
    if (expected.sizeBytes === 0) throw badInput('sizeBytes', 0, 'tape takes no empty files');
    await super.put(source, key, expected, options);
  }

  /** There is no marker: it would go to tape. */
  protected async demandMounted(): Promise<void> {}

  protected demandName(): void {}

  /** Not for certain: what is on tape alone is not read for this. */
  protected async isSame(): Promise<boolean> {
    return false;
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
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
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
