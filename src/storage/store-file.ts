import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { SweepbookError, systemCode } from '../errors.ts';
import { directorySettings } from './directory.ts';
import { s3Settings } from './s3-settings.ts';
import { xrootdSettings } from './xrootd-settings.ts';

/** A store of the store file, in the form of its kind. */
const storeSettings = z.discriminatedUnion('kind', [directorySettings, xrootdSettings, s3Settings]);
export type StoreSettingsOfFile = z.infer<typeof storeSettings>;

const storeFile = z.strictObject({ stores: z.array(storeSettings).min(1).max(100) });

const mostFileBytes = 1024 * 1024;

/**
 * The stores of a store file (YAML). BAD_USER_INPUT names the line, the field and what was expected; a secret that
 * stands in the file itself is not taken.
 */
export function readStoreFile(path: string): readonly StoreSettingsOfFile[] {
  const refuse = (why: string) =>
    new SweepbookError('BAD_USER_INPUT', `store file ${path}: ${why}`, { path });
  const text = readText(path);
  if (text.length > mostFileBytes) throw refuse('it has more than 1 MiB');
  const lines = new LineCounter();
  // No anchors: nothing in a store file is so long that it must be shared.
  const document = parseDocument(text, { lineCounter: lines, maxAliasCount: 0 } as never);
  const fault = document.errors[0];
  if (fault) throw refuse(fault.message);
  const read = storeFile.safeParse(document.toJS({ maxAliasCount: 0 }));
  if (!read.success) {
    const told = read.error.issues.slice(0, 20).map((issue) => {
      const node = document.getIn(issue.path.slice(0, -1), true) as
        | { range?: [number] }
        | undefined;
      const at = node?.range ? `line ${lines.linePos(node.range[0]).line}, ` : '';
      return `${at}${issue.path.join('.') || 'the file'}: ${issue.message}`;
    });
    throw refuse(told.join('; '));
  }
  const { stores } = read.data;
  const names = new Set<string>();
  for (const { name } of stores) {
    if (names.has(name)) throw refuse(`two stores are called ${name}`);
    names.add(name);
  }
  if (stores.filter((store) => store.default).length > 1) {
    throw refuse('more than one store is the default one');
  }
  return stores;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new SweepbookError(
      'NOT_FOUND',
      `store file ${path} cannot be read (${systemCode(error)}): look at SWEEPBOOK_STORES`,
      { path },
      { cause: error },
    );
  }
}
