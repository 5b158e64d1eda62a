import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { SweepbookError, systemCode } from '../errors.ts';
import { commandSettings } from './command.ts';
import type { ConfirmLevel } from './contract.ts';
import { directorySettings } from './directory.ts';
import { hpssSettings } from './hpss.ts';
import { poolSettings, type PoolSettings } from './pool-settings.ts';
import { s3Settings } from './s3-settings.ts';
import { tapeRestSettings } from './tape-rest.ts';
import { webdavSettings } from './webdav-settings.ts';
import { xrootdSettings } from './xrootd-settings.ts';

/** A store of the store file, in the form of its kind. */
const storeSettings = z.discriminatedUnion('kind', [
  directorySettings,
  xrootdSettings,
  s3Settings,
  hpssSettings,
  commandSettings,
  tapeRestSettings,
  webdavSettings,
]);
export type StoreSettingsOfFile = z.infer<typeof storeSettings>;

/** A store as the tables keep it: no address of a secret, and nothing that only the driver needs. */
export interface ConfiguredStore {
  readonly name: string;
  readonly kind: string;
  /** Where it lies, for people. */
  readonly root: string;
  readonly urlPrefix: string | null;
  readonly isDefault: boolean;
  readonly concurrency: number;
  readonly attemptLimit: number;
  /** Milliseconds; null = as long as the server says. */
  readonly retryFirstMs: number | null;
  readonly retryLongestMs: number;
  readonly retryFactor: number;
  readonly tapeHours: number;
  readonly confirmLevel: ConfirmLevel;
  /** Files may lie on tape alone. */
  readonly hasTape: boolean;
  /** They must be asked for before they can be read. */
  readonly needsRecall: boolean;
}

/** What the tables keep of a store of the store file. */
export function massStoreOf(settings: StoreSettingsOfFile): ConfiguredStore {
  const { firstSeconds, longestSeconds, factor, tapeHours } = settings.retry;
  return {
    name: settings.name,
    kind: settings.kind,
    root: placeOf(settings),
    urlPrefix: settings.accessUrlPrefix ?? null,
    isDefault: settings.default,
    concurrency: settings.concurrency,
    attemptLimit: settings.attempts,
    retryFirstMs: firstSeconds === undefined ? null : Math.ceil(firstSeconds * 1000),
    retryLongestMs: Math.ceil(longestSeconds * 1000),
    retryFactor: factor,
    tapeHours,
    confirmLevel: settings.confirm,
    hasTape: hasTape(settings),
    needsRecall: settings.kind === 'tape-rest',
  };
}

function hasTape(settings: StoreSettingsOfFile): boolean {
  if (settings.kind === 'command') return settings.commands.tape !== undefined;
  return settings.kind === 'hpss' || settings.kind === 'tape-rest';
}

/** Where a store lies, as a person would say it. */
function placeOf(settings: StoreSettingsOfFile): string {
  switch (settings.kind) {
    case 'xrootd':
      return `${settings.url}/${settings.root}`;
    case 's3':
      return `s3://${settings.bucket}/${settings.prefix}`;
    case 'directory':
    case 'command':
    case 'hpss':
    case 'tape-rest':
    case 'webdav':
      return settings.root;
  }
}

const bytes = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** New files that fit owe a confirmed copy in each of these stores; the first policy that fits counts. */
const policy = z
  .strictObject({
    kind: z.enum(['RUN_FILE', 'MERGED_FILE']).optional(),
    minBytes: bytes.optional(),
    maxBytes: bytes.optional(),
    stores: z.array(z.string()).min(1).max(8),
  })
  .refine(({ minBytes = 1, maxBytes = minBytes }) => minBytes <= maxBytes, 'no size fits it');
export type PolicyOfFile = z.infer<typeof policy>;

const storeFile = z.strictObject({
  stores: z.array(storeSettings).min(1).max(100),
  policies: z.array(policy).max(50).default([]),
  pools: z.array(poolSettings).max(50).default([]),
});

export interface StoreFile {
  readonly stores: readonly StoreSettingsOfFile[];
  readonly policies: readonly PolicyOfFile[];
  readonly pools: readonly PoolSettings[];
}

/** The levels that a store can give; another one could never be confirmed. */
function levelsOf(settings: StoreSettingsOfFile): readonly ConfirmLevel[] {
  switch (settings.kind) {
    case 'directory':
    case 's3':
      return ['READ_BACK'];
    case 'xrootd':
    case 'webdav':
      return settings.checksum === 'none' ? ['READ_BACK'] : ['COPIED', 'READ_BACK'];
    case 'hpss':
    case 'tape-rest':
      return ['COPIED', 'READ_BACK', 'ARCHIVED'];
    case 'command': {
      const { checksum, tape } = settings.commands;
      if (!checksum) return ['READ_BACK'];
      return ['COPIED', 'READ_BACK', ...(tape ? (['ARCHIVED'] as const) : [])];
    }
  }
}

const mostFileBytes = 1024 * 1024;

/**
 * The stores and backup policies of a store file (YAML), and its pools. BAD_USER_INPUT names the line, the field and what was expected; a secret that
 * stands in the file itself is not taken.
 */
export function readStoreFile(path: string): StoreFile {
  const refuse = (why: string) =>
    new SweepbookError('BAD_USER_INPUT', `store file ${path}: ${why}`, { path });
  const text = readText(path);
  if (text.length > mostFileBytes) throw refuse('it has more than 1 MiB');
  const lines = new LineCounter();
  // No anchors: nothing in a store file is so long that it must be shared.
  const document = parseDocument(text, { lineCounter: lines, maxAliasCount: 0 } as never);
  const [noYaml] = document.errors;
  if (noYaml) throw refuse(noYaml.message);
  const read = storeFile.safeParse(document.toJS({ maxAliasCount: 0 }));
  if (!read.success) {
    const told = read.error.issues.slice(0, 20).map((issue) => {
      const node = document.getIn(issue.path.slice(0, -1), true) as
        | { range?: [number] }
        | undefined;
      const at = node?.range ? `line ${lines.linePos(node.range[0]).line}, ` : '';
      const given: unknown = document.getIn(issue.path);
      // A text might be a secret.
      const value = typeof given === 'number' ? ` (it is ${given})` : '';
      return `${at}${issue.path.join('.') || 'the file'}: ${issue.message}${value}`;
    });
    throw refuse(told.join('; '));
  }
  const { stores, policies, pools } = read.data;
  const names = new Set<string>();
  for (const store of stores) {
    const { name } = store;
    if (names.has(name)) throw refuse(`two stores are called ${name}`);
    names.add(name);
    const levels = levelsOf(store);
    if (levels.includes(store.confirm)) continue;
    throw refuse(
      `store ${name} cannot give ${store.confirm}: a store of the kind ${store.kind}, set like this, gives ${levels.join(', ')}`,
    );
  }
  if (stores.filter((store) => store.default).length > 1) {
    throw refuse('more than one store is the default one');
  }
  for (const [index, { stores: named }] of policies.entries()) {
    const why = named.find((name, at) => !names.has(name) || named.indexOf(name) !== at);
    if (why === undefined) continue;
    throw refuse(`policies.${index}: ${why} is no store of this file, or is there twice`);
  }
  const fault = faultOfPools(pools);
  if (fault !== undefined) throw refuse(fault);
  return { stores, policies, pools };
}

/** Two pools in one place would evict each other's copies. */
function faultOfPools(pools: readonly PoolSettings[]): string | undefined {
  for (const [index, pool] of pools.entries()) {
    for (const other of pools.slice(0, index)) {
      if (pool.name === other.name) return `two pools are called ${pool.name}`;
      const paths = [`${pool.path}/`, `${other.path}/`] as const;
      if (paths[0].startsWith(paths[1]) || paths[1].startsWith(paths[0])) {
        return `pools ${other.name} and ${pool.name} lie in each other's folders`;
      }
      const volumes = [pool, other].map(
        ({ name, site, volume }) => `${site ?? ''} ${volume ?? name}`,
      );
      if (volumes[0] === volumes[1]) return `pools ${other.name} and ${pool.name} are one volume`;
    }
    if (pool.pinHours > pool.mostPinHours) {
      return `pool ${pool.name}: pinHours is more than mostPinHours`;
    }
  }
  return undefined;
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
