import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  UploadPartCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import { createAdler32 } from 'hash-wasm';
import { messageOf, SweepbookError } from '../errors.ts';
import type { Expected, PutOptions } from './contract.ts';
import { changed } from './copy-file.ts';
import type { S3Bucket } from './s3-bucket.ts';

const chunkBytes = 1024 * 1024;
const mostParts = 10_000;

interface Part {
  readonly body: Buffer;
  /** What the store checks this part by. */
  readonly sums: { ContentMD5?: string; ChecksumSHA256?: string };
}

/**
 * Sends an open file: in one piece, or in parts. Each part goes with a checksum that the store compares, and what
 * was read is compared with what was registered before the store is told that this is all. Nothing is left behind
 * when it fails, if the store can still be reached.
 */
export async function upload(
  bucket: S3Bucket,
  from: FileHandle,
  source: string,
  key: string,
  expected: Expected,
  options: PutOptions,
  moved: (bytes: number) => void,
): Promise<void> {
  const { sizeBytes } = expected;
  const partBytes = Math.max(bucket.settings.partBytes, Math.ceil(sizeBytes / mostParts));
  const reader = await SourceReader.open(from, source, bucket.settings.checksums);
  const deadlineMs = bucket.settings.askSeconds * 1000 + partDeadlineMs(bucket, partBytes);
  if (sizeBytes <= partBytes) {
    const { body, sums } = await reader.read(sizeBytes, options);
    reader.demandRegistered(expected);
    await bucket.ask(
      options,
      (call) =>
        bucket.client.send(new PutObjectCommand({ ...bucket.at(key), Body: body, ...sums }), call),
      deadlineMs,
    );
    return moved(sizeBytes);
  }
  const { UploadId } = await bucket.ask(options, (call) =>
    bucket.client.send(
      new CreateMultipartUploadCommand({
        ...bucket.at(key),
        ...(bucket.settings.checksums === 'aws' ? { ChecksumAlgorithm: 'SHA256' } : {}),
      }),
      call,
    ),
  );
  if (!UploadId) throw bucket.fault(new Error('it began no upload'));
  try {
    const done = await uploadParts(
      bucket,
      reader,
      { key, UploadId, sizeBytes, partBytes, deadlineMs },
      options,
      moved,
    );
    reader.demandRegistered(expected);
    await bucket.ask(
      options,
      (call) =>
        bucket.client.send(
          new CompleteMultipartUploadCommand({
            ...bucket.at(key),
            UploadId,
            MultipartUpload: { Parts: done },
          }),
          call,
        ),
      deadlineMs,
    );
  } catch (error) {
    await bucket.abortUpload(key, UploadId).catch(() => undefined);
    throw error;
  }
}

async function uploadParts(
  bucket: S3Bucket,
  reader: SourceReader,
  to: {
    readonly key: string;
    readonly UploadId: string;
    readonly sizeBytes: number;
    readonly partBytes: number;
    readonly deadlineMs: number;
  },
  options: PutOptions,
  moved: (bytes: number) => void,
): Promise<CompletedPart[]> {
  const { key, UploadId, sizeBytes, partBytes, deadlineMs } = to;
  const done: CompletedPart[] = [];
  for (let at = 0; at < sizeBytes; at += partBytes) {
    const { body, sums } = await reader.read(Math.min(partBytes, sizeBytes - at), options);
    const PartNumber = done.length + 1;
    const { ETag } = await bucket.ask(
      options,
      (call) =>
        bucket.client.send(
          new UploadPartCommand({ ...bucket.at(key), UploadId, PartNumber, Body: body, ...sums }),
          call,
        ),
      deadlineMs,
    );
    if (!ETag) throw bucket.fault(new Error(`it did not say that it has part ${PartNumber}`));
    const { ChecksumSHA256 } = sums;
    done.push({ PartNumber, ETag, ...(ChecksumSHA256 ? { ChecksumSHA256 } : {}) });
    moved(at + body.length);
  }
  return done;
}

/** How long one part may be on its way. */
export function partDeadlineMs(bucket: S3Bucket, bytes: number): number {
  return Math.ceil((bytes / bucket.settings.leastBytesPerSecond) * 1000);
}

/** Reads a source from its beginning, part by part, and hashes all of it on the way. */
class SourceReader {
  private sizeBytes = 0;
  private readonly sha256 = createHash('sha256');

  private constructor(
    private readonly from: FileHandle,
    private readonly source: string,
    private readonly checksums: 'content-md5' | 'aws',
    private readonly adler32: Awaited<ReturnType<typeof createAdler32>>,
  ) {}

  static async open(
    from: FileHandle,
    source: string,
    checksums: 'content-md5' | 'aws',
  ): Promise<SourceReader> {
    return new SourceReader(from, source, checksums, await createAdler32());
  }

  async read(bytes: number, { signal }: PutOptions): Promise<Part> {
    const body = Buffer.allocUnsafe(bytes);
    const ofPart = createHash(this.checksums === 'aws' ? 'sha256' : 'md5');
    for (let at = 0; at < bytes;) {
      signal?.throwIfAborted();
      // Chunk by chunk, so that other work gets its turn between them.
      const wanted = Math.min(chunkBytes, bytes - at);
      const { bytesRead } = await this.from
        .read(body, at, wanted, this.sizeBytes)
        .catch((error: unknown) => {
          throw new SweepbookError(
            'SOURCE_UNREADABLE',
            `${this.source} cannot be read here (${messageOf(error)}): check its disk`,
            { path: this.source },
            { cause: error },
          );
        });
      if (bytesRead === 0) {
        throw changed(this.source, `it ended after ${this.sizeBytes} bytes`);
      }
      const chunk = body.subarray(at, at + bytesRead);
      for (const sum of [this.adler32, this.sha256, ofPart]) sum.update(chunk);
      at += bytesRead;
      this.sizeBytes += bytesRead;
    }
    const sum = ofPart.digest('base64');
    return {
      body,
      sums: this.checksums === 'aws' ? { ChecksumSHA256: sum } : { ContentMD5: sum },
    };
  }

  /** Once all has been read. */
  demandRegistered(expected: Expected): void {
    const adler32 = this.adler32.digest('hex');
    if (adler32 !== expected.adler32) {
      throw changed(this.source, `its adler32 is ${adler32}, registered is ${expected.adler32}`);
    }
    const sha256 = this.sha256.digest('hex');
    if (expected.sha256 !== null && sha256 !== expected.sha256) {
      throw changed(this.source, `its sha256 is ${sha256}, registered is ${expected.sha256}`);
    }
  }
}
