import type { Readable } from 'node:stream';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { badInput, messageOf, SweepbookError, systemCode } from '../errors.ts';
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
import { intoNewFile, withSource } from './copy-file.ts';
import { hashStream } from './hash-stream.ts';
import {
  demandStoredKey,
  demandTemporary,
  incoming,
  isTemporary,
  marker,
  markerText,
  ownerOf,
} from './incoming.ts';
import { evidenceOf, S3Bucket } from './s3-bucket.ts';
import { publishS3 } from './s3-publish.ts';
import type { S3Settings } from './s3-settings.ts';
import { partDeadlineMs, upload } from './s3-upload.ts';
import { watched } from './stall-watch.ts';
import { copyDeadlineMs } from './store-settings.ts';

/**
 * A mass store in a bucket. What S3 says of an object is its size and an ETag; an ETag is the MD5 of the bytes only
 * for some objects of some stores, and never one of the checksums that are registered. So says() tells the size and
 * nothing else, COPIED is not to be had, and what confirms is ask(): the bytes come back and are hashed here.
 * Each part is sent with a checksum that the store compares, so a broken transfer is noticed at once.
 */
export class S3Store implements MassStore {
  readonly kind = 's3';
  readonly features: StoreFeatures = {
    says: [],
    hasTape: false,
    takesUploads: true,
    publishCopies: true,
  };
  readonly name: string;
  private readonly bucket: S3Bucket;

  constructor(
    private readonly settings: S3Settings,
    pageSize?: number,
  ) {
    this.name = settings.name;
    this.bucket = new S3Bucket(settings, pageSize);
  }

  /** Marks the bucket as a store; the bucket itself is the site's business. */
  async prepare(): Promise<void> {
    const object = { ...this.bucket.at(marker), Body: markerText };
    await this.bucket.ask({}, (call) =>
      this.bucket.client.send(new PutObjectCommand(object), call),
    );
  }

  async probe(): Promise<StoreState> {
    try {
      await this.bucket.demandMarker();
      return { isUp: true, detail: `bucket ${this.bucket.bucket} at ${this.settings.endpoint}` };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  finalKey(lfn: string): string {
    const key = lfn.slice(1);
    this.bucket.objectOf(key);
    return key;
  }

  placeOf(key: string): string {
    return this.bucket.urlOf(key);
  }

  accessUrl(key: string): string {
    const { accessUrlPrefix } = this.settings;
    if (accessUrlPrefix === undefined) return this.bucket.urlOf(key);
    const isEncoded = /^https?:/i.test(accessUrlPrefix);
    return accessUrlPrefix + (isEncoded ? key.split('/').map(encodeURIComponent).join('/') : key);
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    demandTemporary(key);
    await this.bucket.demandMarker(options);
    let moved = 0;
    await withSource(source, expected.sizeBytes, (from) =>
      this.watch(
        expected.sizeBytes,
        options,
        () => moved,
        (signal) =>
          upload(this.bucket, from, source, key, expected, { signal }, (bytes) => (moved = bytes)),
      ),
    );
  }

  async says(key: string, _expected: Expected, options: PutOptions = {}): Promise<StoreAnswer> {
    const { isPresent, sizeBytes, evidence } = await this.bucket.head(key, options);
    return { isPresent, evidence, ...(sizeBytes === undefined ? {} : { sizeBytes }) };
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    const askedAt = new Date();
    const evidence = (told: unknown) => evidenceOf(`GET ${this.bucket.urlOf(key)}`, told, askedAt);
    const got = await this.bucket.get(key, options);
    if (got === undefined)
      return { isPresent: false, evidence: evidence({ found: 'no such object' }) };
    if (got === 'archived') {
      return { isPresent: true, evidence: evidence({ found: 'archived: restore it to read it' }) };
    }
    const { ContentLength: size, ETag, VersionId, LastModified } = got;
    let moved = 0;
    const sums = await this.read(
      got.Body as Readable,
      size,
      options,
      () => moved,
      (body) => hashStream(body, (bytes) => (moved = bytes)),
    );
    const facts = { size, ETag, VersionId, LastModified, readBack: sums };
    if (sums.sizeBytes !== size) return { isPresent: true, evidence: evidence(facts) };
    return { isPresent: true, ...sums, evidence: evidence(facts) };
  }

  async residencyOf(): Promise<Map<string, ResidencyAnswer>> {
    return new Map();
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    await this.bucket.demandMarker(options);
    for await (const file of this.bucket.objects('', options)) {
      options.signal?.throwIfAborted();
      // A key that ends so is how some clients mark a folder.
      if (file.key === marker || isTemporary(file.key) || file.key.endsWith('/')) continue;
      yield file;
    }
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    await intoNewFile(target, async (to) => {
      const got = await this.bucket.get(key, options);
      if (got === undefined || got === 'archived') {
        throw new SweepbookError(
          'SOURCE_UNREADABLE',
          `store ${this.name}: ${key} ${got ? 'is archived: restore it first' : 'is not there'}`,
          { store: this.name, key },
        );
      }
      if (got.ContentLength !== expected.sizeBytes) {
        (got.Body as Readable).destroy();
        throw this.another(key, got.ContentLength, expected);
      }
      let moved = 0;
      await this.read(
        got.Body as Readable,
        expected.sizeBytes,
        options,
        () => moved,
        async (body) => {
          for await (const chunk of body) {
            await to.writeFile(chunk as Uint8Array);
            moved += (chunk as Uint8Array).length;
          }
        },
      );
      if (moved !== expected.sizeBytes) throw this.another(key, moved, expected);
    });
  }

  /** Reads a body to its end, within its time. Errors of a local disk go up as they are. */
  private async read<T>(
    body: Readable,
    sizeBytes: number | undefined,
    options: PutOptions,
    moved: () => number,
    work: (body: Readable) => Promise<T>,
  ): Promise<T> {
    return this.watch(sizeBytes ?? Infinity, options, moved, async (signal) => {
      const off = () => body.destroy(new Error('broken off'));
      signal.addEventListener('abort', off);
      if (signal.aborted) off();
      try {
        return await work(body);
      } catch (error) {
        signal.throwIfAborted();
        if (['ENOSPC', 'EDQUOT', 'EIO', 'EROFS'].includes(systemCode(error) ?? '')) throw error;
        throw this.bucket.fault(error);
      } finally {
        signal.removeEventListener('abort', off);
        body.destroy();
      }
    });
  }

  private another(key: string, size: number | undefined, expected: Expected): SweepbookError {
    return new SweepbookError(
      'SOURCE_CHANGED',
      `store ${this.name}: ${key} has ${size} bytes, registered are ${expected.sizeBytes}`,
      { store: this.name, key },
    );
  }

  async publish(temporary: string, finalKey: string): Promise<void> {
    demandTemporary(temporary);
    await publishS3(this.bucket, (key) => this.ask(key), temporary, finalKey);
  }

  async sizeOf(key: string): Promise<number | undefined> {
    const { isPresent, sizeBytes } = await this.bucket.head(key);
    // There, without a size: nothing that could be right.
    return isPresent ? (sizeBytes ?? -1) : undefined;
  }

  async removeTemporary(key: string): Promise<void> {
    demandTemporary(key);
    for await (const begun of this.bucket.uploads(key)) {
      if (begun.key === key) await this.bucket.abortUpload(key, begun.uploadId);
    }
    await this.bucket.remove(key);
  }

  async remove(key: string): Promise<void> {
    demandStoredKey(key);
    await this.bucket.demandMarker();
    await this.bucket.remove(key);
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    await this.bucket.demandMarker();
    const found = new Map<string, TemporaryFile>();
    const add = (key: string, changedAt: Date) => {
      const owner = ownerOf(key);
      if (owner) found.set(key, { key, ...owner, changedAt });
    };
    for await (const { key, begunAt } of this.bucket.uploads(`${incoming}/`)) add(key, begunAt);
    for await (const { key, changedAt } of this.bucket.objects(`${incoming}/`, {})) {
      add(key, changedAt ?? new Date());
    }
    return [...found.values()];
  }

  async keyOf(place: string): Promise<string> {
    const outside = (wayOut: string) => badInput('path', place, wayOut);
    const ours = this.bucket.urlOf('');
    const key = place.startsWith(ours) ? place.slice(ours.length) : place;
    if (key === '' || /\p{Cc}/u.test(key) || Buffer.byteLength(key) > 1024) {
      throw outside('the key or s3:// URL of an object in the store, at most 1024 bytes');
    }
    const isPlain = key.split('/').every((part) => !['', '.', '..', 's3:'].includes(part));
    const isHidden = key.startsWith('.') && !ownerOf(key);
    if (!isPlain || isHidden || (await this.sizeOf(key)) === undefined) {
      throw outside(`no such object in store ${this.name}`);
    }
    return key;
  }

  private watch<T>(
    sizeBytes: number,
    options: PutOptions,
    moved: () => number,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { askSeconds, partBytes } = this.settings;
    const late = AbortSignal.timeout(copyDeadlineMs(Math.min(sizeBytes, 5e12), this.settings));
    const stallMs = askSeconds * 1000 + partDeadlineMs(this.bucket, partBytes);
    return watched({ store: this.name, sizeBytes, stallMs, options, moved }, async (signal) => {
      try {
        return await work(AbortSignal.any([signal, late]));
      } catch (error) {
        signal.throwIfAborted();
        if (!late.aborted) throw error;
        throw this.bucket.fault(error, 'the copy took longer than it may');
      }
    });
  }
}
