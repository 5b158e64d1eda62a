import { z } from 'zod';
import { secret } from './secrets.ts';
import { commonSettings } from './store-settings.ts';

const MiB = 1024 * 1024;

/** A bucket of an S3 store in the store file. */
export const s3Settings = z.strictObject({
  ...commonSettings,
  kind: z.literal('s3'),
  endpoint: z.url({ protocol: /^https?$/, error: 'https://host:port' }),
  region: z.string().min(1).default('us-east-1'),
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'the name of a bucket'),
  /** Stands before every key. */
  prefix: z
    .string()
    .regex(/^([^/\p{Cc}]+\/)*$/u, 'empty, or folders that end in "/"')
    .refine((prefix) => Buffer.byteLength(prefix) <= 200, 'at most 200 bytes')
    .default(''),
  /** https://host/bucket instead of https://bucket.host: what all but AWS want. */
  forcePathStyle: z.boolean().default(true),
  accessKey: secret,
  secretKey: secret,
  /**
   * What a store checks a body by as it comes in: content-md5 is known to all; "aws" sends x-amz-checksum-sha256,
   * which others take and do not look at, and publishes with If-None-Match.
   */
  checksums: z.enum(['content-md5', 'aws']).default('content-md5'),
  /** A bigger file is sent in parts of this size, each held in memory. */
  partBytes: z
    .number()
    .int()
    .min(5 * MiB)
    .max(1024 * MiB)
    .default(16 * MiB),
  /** A bigger one is published by copying parts; AWS copies at most 5 GiB at once. */
  copyPartBytes: z
    .number()
    .int()
    .min(5 * MiB)
    .max(5120 * MiB)
    .default(1024 * MiB),
});
export type S3Settings = z.infer<typeof s3Settings>;
