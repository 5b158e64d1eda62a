import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  UploadPartCopyCommand,
  type CompletedPart,
} from '@aws-sdk/client-s3';
import { SweepbookError } from '../errors.ts';
import type { StoreAnswer } from './contract.ts';
import { keyTaken } from './key-taken.ts';
import type { S3Bucket } from './s3-bucket.ts';
import { partDeadlineMs } from './s3-upload.ts';

/**
 * Copies a temporary object to its final key, inside the store, and removes it. Only AWS refuses by itself to replace
 * what is there; elsewhere it is looked at right before.
 */
export async function publishS3(
  bucket: S3Bucket,
  ask: (key: string) => Promise<StoreAnswer>,
  temporary: string,
  finalKey: string,
): Promise<void> {
  const [here, there] = await Promise.all([bucket.head(temporary), bucket.head(finalKey)]);
  if (there.isPresent) {
    if (here.isPresent && (await isSame(ask, temporary, finalKey))) return bucket.remove(temporary);
    throw keyTaken(bucket.store, finalKey, 'another object is there');
  }
  if (here.sizeBytes === undefined) {
    throw notPublished(bucket, finalKey, `nothing lies at ${bucket.urlOf(temporary)}`);
  }
  try {
    await copy(bucket, temporary, finalKey, here.sizeBytes);
  } catch (error) {
    if (error instanceof SweepbookError && error.facts['status'] === 412) {
      throw keyTaken(bucket.store, finalKey, 'another object came there', error);
    }
    throw error;
  }
  const copied = await bucket.head(finalKey);
  if (copied.sizeBytes !== here.sizeBytes) {
    throw notPublished(bucket, finalKey, 'the store said that it copied it, and it is not there');
  }
  await bucket.remove(temporary);
}

async function isSame(
  ask: (key: string) => Promise<StoreAnswer>,
  temporary: string,
  finalKey: string,
): Promise<boolean> {
  const [ours, other] = [await ask(temporary), await ask(finalKey)];
  return (
    ours.sha256 !== undefined && ours.sha256 === other.sha256 && ours.sizeBytes === other.sizeBytes
  );
}

async function copy(
  bucket: S3Bucket,
  temporary: string,
  finalKey: string,
  sizeBytes: number,
): Promise<void> {
  const { copyPartBytes, checksums, askSeconds } = bucket.settings;
  const onlyNew = checksums === 'aws' ? { IfNoneMatch: '*' } : {};
  const from = bucket.objectOf(temporary).split('/').map(encodeURIComponent).join('/');
  const CopySource = `${bucket.bucket}/${from}`;
  const deadlineOf = (bytes: number) => askSeconds * 1000 + partDeadlineMs(bucket, bytes);
  if (sizeBytes <= copyPartBytes) {
    await bucket.ask(
      {},
      (call) =>
        bucket.client.send(
          new CopyObjectCommand({ ...bucket.at(finalKey), CopySource, ...onlyNew }),
          call,
        ),
      deadlineOf(sizeBytes),
    );
    return;
  }
  const { UploadId } = await bucket.ask({}, (call) =>
    bucket.client.send(new CreateMultipartUploadCommand(bucket.at(finalKey)), call),
  );
  if (!UploadId) throw bucket.fault(new Error('it began no upload'));
  try {
    const Parts: CompletedPart[] = [];
    for (let at = 0; at < sizeBytes; at += copyPartBytes) {
      const end = Math.min(at + copyPartBytes, sizeBytes) - 1;
      const PartNumber = Parts.length + 1;
      const part = { ...bucket.at(finalKey), UploadId, PartNumber, CopySource };
      const { CopyPartResult } = await bucket.ask(
        {},
        (call) =>
          bucket.client.send(
            new UploadPartCopyCommand({ ...part, CopySourceRange: `bytes=${at}-${end}` }),
            call,
          ),
        deadlineOf(copyPartBytes),
      );
      const ETag = CopyPartResult?.ETag;
      if (!ETag) throw bucket.fault(new Error(`it did not say that it copied part ${PartNumber}`));
      Parts.push({ PartNumber, ETag });
    }
    await bucket.ask(
      {},
      (call) =>
        bucket.client.send(
          new CompleteMultipartUploadCommand({
            ...bucket.at(finalKey),
            UploadId,
            MultipartUpload: { Parts },
            ...onlyNew,
          }),
          call,
        ),
      deadlineOf(copyPartBytes),
    );
  } catch (error) {
    await bucket.abortUpload(finalKey, UploadId).catch(() => undefined);
    throw error;
  }
}

function notPublished(bucket: S3Bucket, finalKey: string, why: string): SweepbookError {
  return new SweepbookError(
    'STORE_UNAVAILABLE',
    `store ${bucket.store}: ${finalKey} was not published: ${why}`,
    { store: bucket.store, key: finalKey },
  );
}
