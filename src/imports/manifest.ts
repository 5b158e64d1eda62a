import { z } from 'zod';
import { timeOf } from '../api/scalars.ts';
import { isLine } from '../text.ts';

/** What may be sent. A line of a merged file of ten thousand runs has half a megabyte. */
export const manifestLimits = {
  lineBytes: 1024 * 1024,
  /** Unpacked. A million files with a few runs each are 400 MB. */
  bytes: 4 * 1024 ** 3,
  packedBytes: 1024 ** 3,
  files: 5_000_000,
  runs: 1_000_000,
} as const;

export const manifestVersion = 1;

const count = z.int().min(0);
/** One printable line. */
const text = (most: number) =>
  z.string().min(1).max(most).refine(isLine, 'printable characters only, on one line');
const prose = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    .refine((words) => words.isWellFormed() && !words.includes('\0'), 'well-formed text');
const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`));
const time = z.iso
  .datetime()
  .refine((moment) => timeOf(moment) !== undefined, 'a time of the years 0001 to 9999');
const source = z.enum(['DATA', 'SIMULATION']);
const runNumber = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);

const head = z
  .strictObject({
    sweepbook: z.literal('manifest').describe('What this is.'),
    version: z.literal(manifestVersion),
    site: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
      .describe('Name of the site that wrote it.'),
    exportedAt: time,
    cursor: text(500).describe('Place in the log of that site when it was written.'),
    dataset: z.strictObject({
      id: text(100).describe('Its id at its site.'),
      name: text(200),
      kind: z.enum(['PR', 'SP', 'SKIM', 'IMPORT', 'USER']),
      owner: text(128),
      stream: text(200).nullable(),
      release: text(200).nullable(),
      treeName: text(200).nullable(),
      description: prose(10_000).nullable(),
      backupWaived: z.boolean().describe('Its files are not backed up at its site.'),
      fileCount: count.min(1),
      sizeBytes: count,
      eventCount: count.describe('Of the files whose count is known.'),
      runCount: count,
      luminosity: z.number().min(0).nullable().describe('1/pb'),
      closedAt: time,
      origins: z
        .array(z.strictObject({ site: text(64), dataset: text(200), exportedAt: time }))
        .max(20)
        .describe(
          'Where it came from, if it was imported there itself, the site that made it first.',
        ),
    }),
  })
  .describe('The first line.');

const run = z
  .strictObject({
    run: z.strictObject({
      source,
      number: runNumber,
      startedAt: time.nullable(),
      endedAt: time.nullable(),
      eventCount: count.nullable(),
      luminosity: z.number().min(0).nullable().describe('1/pb'),
      conditions: text(200).nullable(),
      verdict: z.enum(['GOOD', 'BAD']).nullable().describe('What DQM of that site says of it.'),
      verdictComment: prose(2000).nullable(),
    }),
  })
  .describe('A run that its files hold; by source and number, each once.');

const file = z
  .strictObject({
    file: z.strictObject({
      lfn: text(1024),
      kind: z.enum(['MERGED_FILE', 'RUN_FILE']).describe('Only merged files are imported.'),
      sizeBytes: count.min(1),
      adler32: hex(8),
      sha256: hex(64).nullable(),
      eventCount: count.nullable(),
      stream: text(200).nullable(),
      release: text(200).nullable(),
      site: text(64).describe('The site that made it.'),
      runs: z
        .array(z.strictObject({ source, number: runNumber, eventCount: count.nullable() }))
        .max(20_000),
      mergedFrom: count.describe('Run files that were merged into it.'),
      parents: z.strictObject({
        count,
        first: z.array(text(1024)).max(20).describe('LFNs of what it was derived from.'),
      }),
      urls: z
        .array(text(4096))
        .max(20)
        .describe('Where it can be read, the best first: http(s), root, or a path.'),
    }),
  })
  .describe('A file, in the byte order of the LFNs, each once.');

const end = z
  .strictObject({
    end: z.strictObject({
      runs: count,
      files: count,
      sha256: hex(64).describe('Of all bytes before this line.'),
      signature: z
        .strictObject({
          algorithm: z.literal('ed25519'),
          keyId: hex(16).describe('Beginning of the SHA-256 of the public key (SPKI, DER).'),
          value: z.string().regex(/^[A-Za-z0-9+/]{86}==$/),
        })
        .nullable()
        .describe('Of the text "sweepbook manifest 1 " and the digest.'),
    }),
  })
  .describe('The last line. A manifest without it has been cut off.');

export const manifestLine = z.union([head, run, file, end]);
/** The form of each kind of line, by the field that tells it. */
export const lineForms = { sweepbook: head, run, file, end } as const;

export type ManifestHead = z.infer<typeof head>;
export type ManifestRun = z.infer<typeof run>['run'];
export type ManifestFile = z.infer<typeof file>['file'];
export type ManifestEnd = z.infer<typeof end>['end'];

/** The JSON schema of one line: docs/manifest.schema.json. */
export function manifestSchema(): string {
  const schema = z.toJSONSchema(manifestLine, { target: 'draft-2020-12' });
  return `${JSON.stringify({ title: 'A line of a Sweepbook manifest', ...schema }, undefined, 2)}\n`;
}
