import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { messageOf, SweepbookError, systemCode } from '../errors.ts';
import { readPublicKey, readSigner, type KnownKey, type Signer } from './ed25519.ts';
import { secret, type Secret } from './secrets.ts';

/** An address below which files may be read, with the token that is sent there and nowhere else. */
export interface ReadableFrom {
  readonly prefix: string;
  readonly token: Secret | undefined;
}

/** A site that this one imports from. */
export interface ImportSource {
  readonly site: string;
  /** Address of its Sweepbook; undefined = manifests come by hand. */
  readonly server: string | undefined;
  readonly token: Secret | undefined;
  /** One of them must have signed; none = signatures are not asked for. */
  readonly keys: readonly KnownKey[];
  readonly read: readonly ReadableFrom[];
}

/** Where imports come from and go to. */
export interface ImportSettings {
  /** Folder of this host where what is fetched is put. */
  readonly area: string;
  /** The volume that it is, in incidents and in lists of replicas. */
  readonly volume: string;
  readonly sources: ReadonlyMap<string, ImportSource>;
}

const address = z
  .string()
  .regex(/^https?:\/\/[^/?#@\s]+(\/[^?#\s]*)?$/, 'an http(s) address without user and query');
const prefix = z
  .string()
  .regex(
    /^(https?:\/\/[^/?#@\s]+\/[^?#\s]*|root:\/\/[^/?#@\s]+\/[^?#\s]*|\/[^\0\n]*)$/,
    'http(s)://host/…, root://host/… or an absolute folder',
  );

const importFile = z.strictObject({
  area: z.string().startsWith('/'),
  volume: z.string().min(1).max(255).default('imports'),
  sources: z
    .array(
      z.strictObject({
        site: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
        server: address.optional(),
        token: secret.optional(),
        keys: z.array(z.string().min(1)).max(20).default([]),
        read: z
          .array(z.union([prefix, z.strictObject({ from: prefix, token: secret.optional() })]))
          .max(100)
          .default([]),
      }),
    )
    .max(1000),
});

const mostFileBytes = 1024 * 1024;

/** The import file (YAML): from where, to where. BAD_USER_INPUT names the field; keys are read once, tokens each time. */
function readImportFile(path: string): ImportSettings {
  const refuse = (why: string) =>
    new SweepbookError('BAD_USER_INPUT', `import file ${path}: ${why}`, { path });
  const given = importFile.safeParse(parsed(path, refuse));
  if (!given.success) {
    const faults = given.error.issues.slice(0, 20);
    throw refuse(
      faults.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`).join('; '),
    );
  }
  const { area, volume } = given.data;
  const sources = new Map<string, ImportSource>();
  for (const source of given.data.sources) {
    if (sources.has(source.site)) throw refuse(`two sources are called ${source.site}`);
    sources.set(source.site, {
      site: source.site,
      server: source.server?.replace(/\/(graphql)?\/?$/, ''),
      token: source.token,
      keys: source.keys.map((key) => readPublicKey(resolve(dirname(path), key))),
      read: source.read.map((from) =>
        typeof from === 'string'
          ? { prefix: from, token: undefined }
          : { prefix: from.from, token: from.token },
      ),
    });
  }
  return { area: resolve(area), volume, sources };
}

function parsed(path: string, refuse: (why: string) => SweepbookError): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new SweepbookError(
      'NOT_FOUND',
      `import file ${path} cannot be read (${systemCode(error)}): look at SWEEPBOOK_IMPORT_FROM`,
      { path },
      { cause: error },
    );
  }
  if (text.length > mostFileBytes) throw refuse('it has more than 1 MiB');
  const document = parseDocument(text);
  const fault = document.errors[0];
  if (fault) throw refuse(fault.message);
  try {
    return document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw refuse(messageOf(error));
  }
}

/** What this process knows of other sites. */
export interface Foreign {
  readonly imports: ImportSettings | undefined;
  /** What manifests are signed with. */
  readonly signer: Signer | undefined;
}

/** Reads the import file and the key that manifests are signed with, where they are set. */
export function readForeign(config: {
  readonly importFrom: string | undefined;
  readonly manifestKey: string | undefined;
}): Foreign {
  const { importFrom, manifestKey } = config;
  return {
    imports: importFrom === undefined ? undefined : readImportFile(importFrom),
    signer: manifestKey === undefined ? undefined : readSigner(manifestKey),
  };
}

/** The source of this name; SOURCE_NOT_ALLOWED when this site imports nothing from there. */
export function sourceOf(settings: ImportSettings | undefined, site: string): ImportSource {
  const source = settings?.sources.get(site);
  if (source) return source;
  throw new SweepbookError(
    'SOURCE_NOT_ALLOWED',
    settings === undefined
      ? 'this server imports nothing: an operator names its sources in SWEEPBOOK_IMPORT_FROM'
      : `this server imports nothing from site ${site}: an operator names its sources in SWEEPBOOK_IMPORT_FROM`,
    { site },
  );
}

/** A place that may be read: where, how, and with which token. */
export interface Readable {
  readonly place: string;
  readonly kind: 'http' | 'root' | 'path';
  /** For a path: the folder that it must really lie in. */
  readonly root: string;
  readonly token: Secret | undefined;
}

/** A path, or what a file: address names; undefined = another kind of address. */
function pathOf(url: string): string | undefined {
  if (url.startsWith('/')) return url;
  const named = URL.canParse(url) ? new URL(url) : undefined;
  if (named?.protocol !== 'file:' || !['', 'localhost'].includes(named.hostname)) return undefined;
  try {
    return decodeURIComponent(named.pathname);
  } catch {
    return undefined;
  }
}

/**
 * Whether a source lets us read there: same scheme and host, and below the path that is named, by whole segments.
 * Manifests and redirects are strangers; whatever is not named is not touched. undefined = it is not.
 */
export function readableAt(source: ImportSource, url: string): Readable | undefined {
  const path = pathOf(url);
  for (const { prefix: from, token } of source.read) {
    if (path !== undefined) {
      if (!from.startsWith('/') || path.includes('\0')) continue;
      const root = resolve(from);
      const place = resolve(path);
      if (place.startsWith(root === '/' ? '/' : `${root}/`))
        return { place, kind: 'path', root, token };
      continue;
    }
    if (from.startsWith('/') || !URL.canParse(url)) continue;
    const wanted = new URL(url);
    const allowed = new URL(from);
    const isThere =
      wanted.protocol === allowed.protocol &&
      wanted.host === allowed.host &&
      wanted.username === '' &&
      wanted.password === '' &&
      // An escaped "/" or "." may become one behind the door.
      !/%(2f|2e|5c|00)/i.test(wanted.pathname) &&
      !/\/\.\.?(\/|$)/.test(wanted.pathname) &&
      wanted.pathname.startsWith(allowed.pathname.replace(/\/?$/, '/'));
    if (!isThere) continue;
    const kind = wanted.protocol === 'root:' ? 'root' : 'http';
    return { place: wanted.href, kind, root: '', token };
  }
  return undefined;
}
