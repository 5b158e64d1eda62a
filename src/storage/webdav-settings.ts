import { z } from 'zod';
import { secret } from './secrets.ts';
import { commonSettings } from './store-settings.ts';

/** What every store behind a WebDAV door has in the store file. */
export const doorSettings = {
  ...commonSettings,
  /** The collection that is the root of the store. */
  root: z
    .url({ protocol: /^https?$/ })
    .transform((url) => url.replace(/\/+$/, ''))
    .describe('https://door.site:443/path'),
  token: secret.optional(),
};

/** A WebDAV door in the store file. */
export const webdavSettings = z.strictObject({
  ...doorSettings,
  kind: z.literal('webdav'),
  /** What the door computes itself; none = it knows no Want-Digest, and only its bytes can confirm. */
  checksum: z.enum(['adler32', 'none']).default('adler32'),
});
export type WebDavSettings = z.infer<typeof webdavSettings>;
