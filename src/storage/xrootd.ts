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
import { hashStream } from './hash-stream.ts';
import {
  demandStoredKey,
  demandTemporary,
  incoming,
  marker,
  markerText,
  ownerOf,
} from './incoming.ts';
import { copyIn, copyOut, watchedCopy } from './xrootd-copy.ts';
import { publishXrootd } from './xrootd-publish.ts';
import { faultOf, XrootdServer } from './xrootd-server.ts';
import type { XrootdSettings } from './xrootd-settings.ts';
import { evidenceOf, failureOf, isFile, isWholeFile, parseAdler32 } from './xrootd-tools.ts';

/**
 * A mass store behind an XRootD server, by its native tools. A copy goes in with --posc and our adler32, so that a
 * broken or a different one leaves nothing. What the server says of a checksum may be its memory: it keeps it by the
 * file's time in whole seconds. Only ask() reads the bytes.
 */
export class XrootdStore implements MassStore {
  readonly kind = 'xrootd';
  readonly features: StoreFeatures;
  readonly name: string;
  private readonly server: XrootdServer;

  constructor(private readonly settings: XrootdSettings) {
    this.name = settings.name;
    this.server = new XrootdServer(settings);
    this.features = {
      says: settings.checksum === 'none' ? [] : ['adler32'],
      hasTape: false,
      takesUploads: true,
      publishCopies: false,
    };
  }

  async prepare(): Promise<void> {
    await this.server.create(marker, markerText);
  }

  async probe(): Promise<StoreState> {
    try {
      await this.server.demandMounted();
      const free = await this.server.freeBytes();
      return {
        isUp: true,
        detail: `XRootD ${this.server.urlOf('')}`,
        ...(free === undefined ? {} : { freeBytes: free }),
      };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  finalKey(lfn: string): string {
    const fault = faultOf(lfn);
    if (fault === undefined) return lfn.slice(1);
    throw badInput(
      'lfn',
      lfn,
      `${fault} in store ${this.name} (XRootD): choose another LFN or store`,
    );
  }

  placeOf(key: string): string {
    return this.server.urlOf(key);
  }

  accessUrl(key: string): string {
    const { accessUrlPrefix } = this.settings;
    return accessUrlPrefix === undefined ? this.server.urlOf(key) : accessUrlPrefix + key;
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    demandTemporary(key);
    await Promise.all([this.server.demandMounted(options), this.server.remove(key, options)]);
    await copyIn(this.server, source, key, expected, options);
  }

  async says(key: string, expected: Expected, options: PutOptions = {}): Promise<StoreAnswer> {
    const { stat, answer } = await this.server.stat(key, options);
    if (!stat || !isFile(stat)) {
      if (!stat) await this.server.demandMounted(options);
      return { isPresent: false, evidence: evidenceOf([answer]) };
    }
    // Still being written, or not on its disk: what else it says is of another time.
    if (!isWholeFile(stat)) return { isPresent: true, evidence: evidenceOf([answer]) };
    const { sizeBytes } = stat;
    if (this.settings.checksum === 'none') {
      return { isPresent: true, sizeBytes, evidence: evidenceOf([answer]) };
    }
    // It may have to read the whole file first.
    const sum = await this.server.checksum(
      key,
      this.server.deadlineMs(expected.sizeBytes),
      options,
    );
    const adler32 = sum.code === 0 && !sum.isCut ? parseAdler32(sum.stdout) : undefined;
    if (sum.code !== 0 && sum.serverCode === undefined) throw failureOf(this.server.tools, sum);
    return {
      isPresent: true,
      sizeBytes,
      ...(adler32 === undefined ? {} : { adler32 }),
      evidence: evidenceOf([answer, sum]),
    };
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    const before = await this.server.stat(key, options);
    if (!before.stat || !isFile(before.stat)) {
      if (!before.stat) await this.server.demandMounted(options);
      return { isPresent: false, evidence: evidenceOf([before.answer]) };
    }
    if (!isWholeFile(before.stat)) {
      return { isPresent: true, evidence: evidenceOf([before.answer]) };
    }
    const { sizeBytes } = before.stat;
    let moved = 0;
    let sums: Awaited<ReturnType<typeof hashStream>> | undefined;
    const read = await watchedCopy(
      this.server,
      sizeBytes,
      options,
      () => moved,
      (signal) =>
        this.server.copy([this.server.urlOf(key), '-'], {
          signal,
          deadlineMs: this.server.deadlineMs(sizeBytes),
          onOutput: async (output) => {
            sums = await hashStream(output, (bytes) => (moved = bytes));
          },
        }),
    );
    if (read.code !== 0 && read.serverCode === undefined) {
      throw failureOf(this.server.tools, read);
    }
    const after = await this.server.stat(key, options);
    const isSame =
      after.stat?.modified === before.stat.modified && after.stat.sizeBytes === sizeBytes;
    const asked = [before.answer, read, after.answer];
    // An error of the server, half of it, or written to meanwhile: then it has said nothing of the bytes.
    if (read.code !== 0 || !isSame || sums?.sizeBytes !== sizeBytes) {
      return { isPresent: true, evidence: evidenceOf(asked, { readBack: sums, isSame }) };
    }
    return { isPresent: true, ...sums, evidence: evidenceOf(asked, { readBack: sums }) };
  }

  async residencyOf(): Promise<Map<string, ResidencyAnswer>> {
    return new Map();
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    await this.server.demandMounted(options);
    yield* this.filesBelow('', options);
    // Unmounted meanwhile, it would look empty from there on.
    await this.server.demandMounted(options);
  }

  /** Folder by folder: "ls -R" passes over a folder that it may not read, and says that all is well. */
  private async *filesBelow(folder: string, options: PutOptions): AsyncGenerator<StoredFile> {
    const entries = await this.server.list(folder, options);
    if (!entries) throw this.server.listingBroken(folder, 'it went away while it was listed');
    for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      options.signal?.throwIfAborted();
      const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (key === incoming || key === marker) continue;
      if (entry.isFolder) {
        yield* this.filesBelow(key, options);
      } else if ((await this.server.reservedFor(key, entry.sizeBytes, options)) === undefined) {
        yield { key, sizeBytes: entry.sizeBytes, changedAt: entry.changedAt };
      }
    }
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    const size = await this.sizeOf(key);
    if (size === undefined) {
      throw new SweepbookError('SOURCE_UNREADABLE', `store ${this.name} does not have ${key}`, {
        store: this.name,
        key,
      });
    }
    await copyOut(this.server, key, size, target, expected, options);
  }

  async publish(temporary: string, finalKey: string): Promise<void> {
    demandTemporary(temporary);
    await publishXrootd(this.server, (key) => this.ask(key), temporary, finalKey);
  }

  async sizeOf(key: string): Promise<number | undefined> {
    const { stat } = await this.server.stat(key);
    if (!stat) await this.server.demandMounted();
    if (!stat) return undefined;
    const holder = await this.server.reservedFor(key, stat.sizeBytes);
    return holder === undefined ? stat.sizeBytes : undefined;
  }

  async removeTemporary(key: string): Promise<void> {
    demandTemporary(key);
    await this.server.remove(key);
  }

  async remove(key: string): Promise<void> {
    demandStoredKey(key);
    if ((await this.sizeOf(key)) !== undefined) await this.server.remove(key);
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    await this.server.demandMounted();
    const found: TemporaryFile[] = [];
    for (const { name, isFolder, changedAt } of (await this.server.list(incoming)) ?? []) {
      const key = `${incoming}/${name}`;
      const owner = ownerOf(key);
      if (owner && !isFolder) found.push({ key, ...owner, changedAt });
    }
    return found;
  }

  async keyOf(place: string): Promise<string> {
    const outside = (wayOut: string) => badInput('path', place, wayOut);
    if (place === '' || Buffer.byteLength(place) > 4096) {
      throw outside('the URL or path of the file in the store, at most 4096 bytes');
    }
    const fault = faultOf(place.replaceAll(/(^|\/)\.{1,2}(?=\/|$)/g, '$1'));
    if (fault !== undefined) throw outside(fault);
    const none = () => outside(`no such file in store ${this.name}`);
    const key = this.server.keyBelowRoot(place.replace(/^x(?=roots?:)/, ''));
    if (key === undefined || (key.startsWith('.') && !ownerOf(key))) throw none();
    const { stat } = await this.server.stat(key);
    if (!stat) await this.server.demandMounted();
    if (!stat || !isFile(stat)) throw none();
    return key;
  }
}
