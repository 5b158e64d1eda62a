import { z } from 'zod';
import { commonSettings } from './store-settings.ts';

/** An XRootD store in the store file. */
export const xrootdSettings = z.strictObject({
  ...commonSettings,
  kind: z.literal('xrootd'),
  /** Server or redirector. */
  url: z
    .string()
    .regex(/^x?roots?:\/\/[A-Za-z0-9.[\]:@_-]+$/, 'root://host:port, without a path')
    .transform((url) => url.replace(/^x/, '')),
  /** Absolute path of its folder on the server; made by "store prepare". */
  root: z
    .string()
    .regex(/^(\/[^/?\p{Cc}]+)+$/u, 'an absolute path without "?", as /store')
    .refine((root) => !root.split('/').some((part) => part === '.' || part === '..'), 'no "."'),
  /** What the server computes itself; none = it has no xrootd.chksum, and only its bytes can confirm. */
  checksum: z.enum(['adler32', 'none']).default('adler32'),
  /** A file with a bearer token (WLCG), read by the tools when they start. */
  tokenFile: z.string().min(1).optional(),
  /** The native tools, if they are not in PATH. */
  xrdfs: z.string().min(1).default('xrdfs'),
  xrdcp: z.string().min(1).default('xrdcp'),
});
export type XrootdSettings = z.infer<typeof xrootdSettings>;
