import { hostname } from 'node:os';
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
  S3ServiceException,
  type GetObjectCommandOutput,
} from '@aws-sdk/client-s3';
import { badInput, messageOf, SweepbookError } from '../errors.ts';
import type { Evidence, PutOptions, StoredFile } from './contract.ts';
import { marker } from './incoming.ts';
import type { S3Settings } from './s3-settings.ts';
import { readSecret } from './secrets.ts';

const mostKeyBytes = 1024;
/** Credentials are read again after this time, so that they can be renewed. */
const credentialsMs = 300_000;

/** The single questions to a bucket; by key, behind the prefix of the store. */
export class S3Bucket {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
  readonly store: string;

  constructor(
    readonly settings: S3Settings,
    private readonly pageSize = 1000,
  ) {
    const { name, endpoint, region, forcePathStyle, accessKey, secretKey, askSeconds } = settings;
    this.store = name;
    this.bucket = settings.bucket;
    this.prefix = settings.prefix;
    this.client = new S3Client({
      endpoint,
      region,
      forcePathStyle,
      credentials: async () => ({
        accessKeyId: readSecret(name, 'access key', accessKey),
        secretAccessKey: readSecret(name, 'secret key', secretKey),
        expiration: new Date(Date.now() + credentialsMs),
      }),
      maxAttempts: 2,
      // Else it frames the body in a way that others than AWS refuse, or store as it comes.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { connectionTimeout: askSeconds * 1000 },
    });
  }

  /** The name of an object in the bucket. */
  objectOf(key: string): string {
    const object = this.prefix + key;
    if (/\p{Cc}/u.test(key) || Buffer.byteLength(object) > mostKeyBytes) {
      const wayOut = `no control characters, at most ${mostKeyBytes} bytes with the prefix`;
      throw badInput('key', key, `${wayOut}, in store ${this.store} (S3)`);
    }
    return object;
  }

  /** Where in the bucket: what every question begins with. */
  at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: this.objectOf(key) };
  }

  urlOf(key: string): string {
    return `s3://${this.bucket}/${this.objectOf(key)}`;
  }

  /** One question with its own deadline; what goes wrong comes out as an error of ours. */
  async call<T>(
    options: PutOptions,
    work: (call: { abortSignal: AbortSignal }) => Promise<T>,
    deadlineMs = this.settings.askSeconds * 1000,
  ): Promise<T> {
    const late = AbortSignal.timeout(deadlineMs);
    const abortSignal = options.signal ? AbortSignal.any([options.signal, late]) : late;
    try {
      return await work({ abortSignal });
    } catch (error) {
      options.signal?.throwIfAborted();
      throw late.aborted ? this.fault(error, `it did not answer in ${deadlineMs / 1000} s`) : error;
    }
  }

  /** What an error of the SDK means for the caller. */
  fault(error: unknown, why = messageOf(error)): SweepbookError {
    if (error instanceof SweepbookError) return error;
    const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
    const name = error instanceof Error ? error.name : '';
    const facts = { store: this.store, status, name };
    if (status === 507 || status === 413 || /quota|StorageFull|InsufficientStorage/i.test(name)) {
      return new SweepbookError(
        'NO_SPACE',
        `store ${this.store} is full (${name}): make room in bucket ${this.bucket}`,
        facts,
        { cause: error },
      );
    }
    if (/^(BadDigest|InvalidDigest|XAmzContent\w+Mismatch)$/.test(name)) {
      return new SweepbookError(
        'NOT_CONFIRMED',
        `store ${this.store} got other bytes than were sent (${name})`,
        facts,
        { cause: error },
      );
    }
    return new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.store} does not work: ${`${name} ${why}`.trim().slice(0, 300)}`,
      facts,
      { cause: error },
    );
  }

  /** Size of an object; undefined = the store says that there is none. */
  async head(
    key: string,
    options: PutOptions = {},
  ): Promise<{ sizeBytes: number | undefined; isPresent: boolean; evidence: Evidence }> {
    const asked = `HEAD ${this.urlOf(key)}`;
    try {
      const answer = await this.call(options, (call) =>
        this.client.send(new HeadObjectCommand(this.at(key)), call),
      );
      const { ContentLength: size, ETag, LastModified, VersionId, StorageClass } = answer;
      const sizeBytes = Number.isSafeInteger(size) ? size : undefined;
      const told = { size, ETag, LastModified, VersionId, StorageClass };
      return { isPresent: true, sizeBytes, evidence: evidenceOf(asked, told) };
    } catch (error) {
      if (!isAbsent(error)) throw this.faultUnlessOff(error, options);
      // A HEAD cannot tell a missing object from a missing bucket.
      if (key !== marker) await this.demandMarker(options);
      return {
        isPresent: false,
        sizeBytes: undefined,
        evidence: evidenceOf(asked, { found: 'no such object' }),
      };
    }
  }

  /** That something is not there counts only of a bucket that is ours. */
  async demandMarker(options: PutOptions = {}): Promise<void> {
    if ((await this.head(marker, options)).isPresent) return;
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.store} is not there: ${this.urlOf(marker)} is missing; is it the right bucket, and was the store prepared?`,
      { store: this.store },
    );
  }

  /** The object with its bytes yet to come; undefined = there is none. */
  async get(
    key: string,
    options: PutOptions,
  ): Promise<GetObjectCommandOutput | 'archived' | undefined> {
    try {
      return await this.call(options, async ({ abortSignal }) => {
        // The deadline is for the beginning of the answer only.
        const stop = new AbortController();
        const off = () => stop.abort();
        abortSignal.addEventListener('abort', off);
        try {
          const call = { abortSignal: stop.signal };
          return await this.client.send(new GetObjectCommand(this.at(key)), call);
        } finally {
          abortSignal.removeEventListener('abort', off);
        }
      });
    } catch (error) {
      if (error instanceof Error && error.name === 'InvalidObjectState') return 'archived';
      if (!isAbsent(error)) throw this.faultUnlessOff(error, options);
      await this.demandMarker(options);
      return undefined;
    }
  }

  faultUnlessOff(error: unknown, { signal }: PutOptions): unknown {
    return signal?.aborted ? signal.reason : this.fault(error);
  }

  /** Objects whose keys begin so, in pages; an answer that is no page ends it with an error. */
  async *objects(begin: string, options: PutOptions): AsyncGenerator<StoredFile> {
    let token: string | undefined;
    do {
      const page = await this.ask(options, (call) =>
        this.client.send(
          new ListObjectsV2Command({
            Bucket: this.bucket,
            Prefix: this.prefix + begin,
            ContinuationToken: token,
            MaxKeys: this.pageSize,
            EncodingType: 'url',
          }),
          call,
        ),
      );
      const { IsTruncated, NextContinuationToken, Contents = [] } = page;
      token = IsTruncated ? NextContinuationToken : undefined;
      if (typeof IsTruncated !== 'boolean' || (IsTruncated && token === undefined)) {
        throw this.listingBroken('a page does not say whether it is the last');
      }
      for (const { Key, Size, LastModified } of Contents) {
        const object = decoded(Key, page.EncodingType);
        if (object?.startsWith(this.prefix + begin) !== true || !Number.isSafeInteger(Size)) {
          throw this.listingBroken(`it has the entry ${JSON.stringify({ Key, Size })}`);
        }
        yield {
          key: object.slice(this.prefix.length),
          sizeBytes: Size ?? 0,
          changedAt: LastModified,
        };
      }
    } while (token !== undefined);
  }

  /** Uploads in parts that were begun and not ended. */
  async *uploads(
    begin: string,
    options: PutOptions = {},
  ): AsyncGenerator<{ key: string; uploadId: string; begunAt: Date }> {
    let next: { KeyMarker: string | undefined; UploadIdMarker: string | undefined } | undefined;
    do {
      const page = await this.ask(options, (call) =>
        this.client.send(
          new ListMultipartUploadsCommand({
            Bucket: this.bucket,
            Prefix: this.prefix + begin,
            MaxUploads: this.pageSize,
            ...next,
          }),
          call,
        ),
      );
      for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
        if (Key?.startsWith(this.prefix + begin) !== true || UploadId === undefined) continue;
        const key = Key.slice(this.prefix.length);
        yield { key, uploadId: UploadId, begunAt: Initiated ?? new Date() };
      }
      next = page.IsTruncated
        ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
        : undefined;
      if (next && next.KeyMarker === undefined) {
        throw this.listingBroken('a page of uploads does not say where the next begins');
      }
    } while (next);
  }

  async remove(key: string, options: PutOptions = {}): Promise<void> {
    await this.ask(options, (call) =>
      this.client.send(new DeleteObjectCommand(this.at(key)), call),
    );
  }

  async abortUpload(key: string, uploadId: string): Promise<void> {
    try {
      await this.call({}, (call) =>
        this.client.send(
          new AbortMultipartUploadCommand({ ...this.at(key), UploadId: uploadId }),
          call,
        ),
      );
    } catch (error) {
      if (!isAbsent(error)) throw this.fault(error);
    }
  }

  /** A question to which every error is a fault of the store. */
  async ask<T>(
    options: PutOptions,
    work: (call: { abortSignal: AbortSignal }) => Promise<T>,
    deadlineMs?: number,
  ): Promise<T> {
    try {
      return await this.call(options, work, deadlineMs);
    } catch (error) {
      throw this.faultUnlessOff(error, options);
    }
  }

  private listingBroken(why: string): SweepbookError {
    return new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.store}: bucket ${this.bucket} cannot be listed (${why}); a listing with a hole is none`,
      { store: this.store },
    );
  }
}

export function evidenceOf(asked: string, answer: unknown, askedAt = new Date()): Evidence {
  return {
    asked,
    answer: JSON.stringify(answer),
    askedAt: askedAt.toISOString(),
    host: hostname(),
  };
}

function isAbsent(error: unknown): boolean {
  return (
    error instanceof Error && ['NoSuchKey', 'NotFound', 'NoSuchUpload', '404'].includes(error.name)
  );
}

function decoded(key: string | undefined, encoding: string | undefined): string | undefined {
  if (encoding !== 'url' || key === undefined) return key;
  try {
    return decodeURIComponent(key.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
