import { resolve } from 'node:path';
import { z } from 'zod';

const count = (least: number, most: number) => z.number().int().min(least).max(most);
const units: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  PB: 1e15,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
  PIB: 2 ** 50,
};

/** "500 GB", "2.5TiB", or a number of bytes. */
const bytes = z
  .union([
    z.number(),
    z
      .string()
      .regex(
        /^\d{1,9}(\.\d{1,3})?\s*[KMGTP]?i?B$/i,
        'a size, as "500 GB", "2.5 TiB", or a number of bytes',
      )
      .transform((text) => {
        const unit = text.replace(/^[\d.\s]+/, '').toUpperCase();
        return Math.floor(Number.parseFloat(text) * (units[unit] ?? Number.NaN));
      }),
  ])
  .pipe(count(1, Number.MAX_SAFE_INTEGER));

const template = (scheme: RegExp, example: string) =>
  z
    .string()
    .max(1000)
    .regex(scheme, `begins like ${example}`)
    // eslint-disable-next-line no-control-regex
    .regex(/^[^\s\u0000-\u001f]*$/, 'no spaces')
    .optional();

/** A volume of this site that holds copies for reading, in the store file. */
export const poolSettings = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'letters, digits, ".", "_" and "-", at most 64'),
  /** Of this site, if not given. */
  site: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    .optional(),
  /** As it stands in incidents and lists of replicas; the name of the pool, if not given. */
  volume: z.string().min(1).max(255).optional(),
  /** Its folder, where workers that stage have it mounted. */
  path: z
    .string()
    .max(1024)
    .regex(/^\/[^\0\n]*[^/\0\n]/, 'an absolute path')
    .transform((path) => resolve(path)),
  /** What a job opens, by protocol; {path} stands for the path below the pool, or it comes at the end. */
  urls: z
    .strictObject({
      root: template(/^x?root:\/\/[^/]+\/\//, 'root://host:1094//path'),
      https: template(/^https:\/\/[^/]+/, 'https://host/path'),
      http: template(/^http:\/\/[^/]+/, 'http://host/path'),
      file: template(/^file:\/\/\//, 'file:///path'),
    })
    .refine((urls) => Object.values(urls).some(Boolean), 'at least one protocol'),
  sizeLimit: bytes,
  /** Who may stage into it. */
  roles: z
    .array(z.enum(['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN']))
    .min(1)
    .default(['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN']),
  pinHours: count(1, 87_600).default(24),
  mostPinHours: count(1, 87_600).default(720),
  /** Files that one principal may want in it at once. */
  filesPerPrincipal: count(1, 10_000_000).default(100_000),
  /** Copies that one worker makes into it at once. */
  concurrency: count(1, 64).default(4),
});
export type PoolSettings = z.infer<typeof poolSettings>;
