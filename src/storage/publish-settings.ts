import { resolve } from 'node:path';
import { z } from 'zod';
import { SweepbookError } from '../errors.ts';
import { readYamlFile } from '../yaml-file.ts';

const units = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15 } as const;

/** 500 MB, 1.5 TB, or a number of bytes. */
const bytes = z.union([z.number(), z.string()]).transform((given, context) => {
  const parts = /^(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|PB)?$/.exec(String(given).trim());
  const value = Math.round(Number(parts?.[1]) * units[(parts?.[2] ?? 'B') as keyof typeof units]);
  if (parts && Number.isSafeInteger(value) && value > 0) return value;
  context.addIssue({ code: 'custom', message: 'a size such as 500 MB, from 1 to 2^53−1 bytes' });
  return z.NEVER;
});

const argv = z.array(z.string().min(1).max(1000)).min(1).max(50);
const within = (list: readonly string[], ...words: string[]) =>
  words.every((word) => list.some((part) => part.includes(word)));
const folder = z.string().regex(/^\/[^\0\n]*$/, 'an absolute folder');

const quota = z.strictObject({
  files: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).default(100_000),
  bytes: bytes.default(10e12),
  running: z.number().int().min(1).max(10_000).default(5),
});
/** What somebody may have published, or be about to; for want of an answer of the operators. */
export type Quota = Readonly<z.infer<typeof quota>>;
const noWords = { files: 100_000, bytes: 10e12, running: 5 };

const publishFile = z.strictObject({
  /** Where composite files are written; one file system for all workers that publish. */
  area: folder,
  volume: z.string().min(1).max(255).default('publications'),
  /** Users' files lie below these; {user} stands for who asks. */
  roots: z.array(folder).min(1).max(100),
  /** Of the logical names of composite files. */
  lfnPrefix: z
    .string()
    .regex(/^(\/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,8}$/, 'a folder such as /user')
    .default('/user'),
  /** Unset = tar archives. */
  merge: z
    .strictObject({
      argv: argv.refine(
        (list) => list.includes('{inputs}') && within(list, '{output}'),
        'one word is "{inputs}", and "{output}" stands in another',
      ),
      extension: z.string().regex(/^\.[A-Za-z0-9]{1,10}$/, 'such as .root'),
      seconds: z.number().int().min(1).max(604_800).default(21_600),
    })
    .optional(),
  /** How events are counted; what is not counted so has those that the user tells. */
  countEvents: z
    .strictObject({
      /** Prints the number of events of {file}, and nothing else. Unset = ROOT files tell theirs. */
      argv: argv
        .refine((list) => within(list, '{file}'), '"{file}" stands in one of the words')
        .optional(),
      /** The tree of ROOT files that counts, where the user names none. */
      tree: z.string().min(1).max(1000).optional(),
      seconds: z.number().int().min(1).max(86_400).default(600),
    })
    .refine(
      ({ argv: words, tree }) => words === undefined || tree === undefined,
      'argv or tree: a command counts in its own way',
    )
    .default({ seconds: 600 }),
  compositeBytes: bytes.default(10e9),
  approval: z.boolean().default(false),
  quota: z
    .strictObject({ user: quota.default(noWords), group: quota.default(noWords) })
    .default({ user: noWords, group: noWords }),
});

/** What users may publish from here, and how it is merged. */
export type PublishSettings = Readonly<z.infer<typeof publishFile>>;

/** The publish file (YAML). BAD_USER_INPUT names the field, NOT_FOUND the setting. */
export function readPublishFile(path: string): PublishSettings {
  const file = { path, what: 'publish file', setting: 'SWEEPBOOK_PUBLISH' };
  const { value } = readYamlFile(file, publishFile);
  return { ...value, area: resolve(value.area) };
}

/** The settings; SOURCE_NOT_ALLOWED when this server publishes nothing. */
export function demandPublishing(settings: PublishSettings | undefined): PublishSettings {
  if (settings) return settings;
  throw new SweepbookError(
    'SOURCE_NOT_ALLOWED',
    'nothing can be published here: an operator says in SWEEPBOOK_PUBLISH from where, and how it is merged',
  );
}

/** The folders that this user may publish from. A name that would lead elsewhere has none of its own. */
export function rootsOf({ roots }: PublishSettings, user: string): string[] {
  const isPlain = /^[A-Za-z0-9_][A-Za-z0-9._@+-]*$/.test(user);
  return roots.flatMap((root) => {
    if (!root.includes('{user}')) return [resolve(root)];
    return isPlain ? [resolve(root.replaceAll('{user}', user))] : [];
  });
}

/** By its name alone: whether a path lies below one of these. What it really is, the worker looks at. */
export const liesBelow = (roots: readonly string[], path: string): boolean =>
  roots.some((root) => resolve(path).startsWith(root === '/' ? '/' : `${root}/`));
