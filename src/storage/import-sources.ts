import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { SweepbookError } from '../errors.ts';
import { readYamlFile } from '../yaml-file.ts';
import { readPublicKey, readSigner, type KnownKey, type Signer } from './ed25519.ts';
import { secret, type Secret } from './secrets.ts';

/** An address below which files may be read, with the token that is sent there and nowhere else. */
export interface ReadableFrom {
  readonly prefix: string;
  readonly token: Secret | undefined;
  /** Of an XRootD door: it may send readers on to whatever server it likes. */
  readonly redirects: boolean;
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

/** The native tools that read root:// addresses. */
export interface XrootdClient {
  readonly xrdcp: string;
  readonly xrdfs: string;
}

/** Where imports come from and go to. */
export interface ImportSettings {
  /** Folder of this host where what is fetched is put. */
  readonly area: string;
  /** The volume that it is, in incidents and in lists of replicas. */
  readonly volume: string;
  readonly xrootd: XrootdClient;
  readonly sources: ReadonlyMap<string, ImportSource>;
}

const address = z
  .string()
  .regex(/^https?:\/\/[^/?#@\s]+(\/[^?#\s]*)?$/, 'an http(s) address without user and query');
const prefix = z
  .string()
  .regex(
    /^((https?|x?roots?):\/\/[^/?#@\s]+\/[^?#\s]*|\/[^\0\n]*)$/,
    'http(s)://host/…, root(s)://host/… or an absolute folder',
  );

const importFile = z.strictObject({
  area: z.string().startsWith('/'),
  volume: z.string().min(1).max(255).default('imports'),
  /** The native tools, if they are not in PATH. */
  xrdcp: z.string().min(1).default('xrdcp'),
  xrdfs: z.string().min(1).default('xrdfs'),
  sources: z
    .array(
      z.strictObject({
        site: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
        server: address.optional(),
        token: secret.optional(),
        keys: z.array(z.string().min(1)).max(20).default([]),
        read: z
          .array(
            z.union([
              prefix,
              z.strictObject({
                from: prefix,
                token: secret.optional(),
                redirects: z.boolean().default(false),
              }),
            ]),
          )
          .max(100)
          .default([]),
      }),
    )
    .max(1000),
});

/** The import file (YAML): from where, to where. BAD_USER_INPUT names the field; keys are read once, tokens each time. */
function readImportFile(path: string): ImportSettings {
  const file = { path, what: 'import file', setting: 'SWEEPBOOK_IMPORT_FROM' };
  const { value, refuse } = readYamlFile(file, importFile);
  const { area, volume, xrdcp, xrdfs } = value;
  const sources = new Map<string, ImportSource>();
  for (const source of value.sources) {
    if (sources.has(source.site)) throw refuse(`two sources are called ${source.site}`);
    sources.set(source.site, {
      site: source.site,
      server: source.server?.replace(/\/(graphql)?\/?$/, ''),
      token: source.token,
      keys: source.keys.map((key) => readPublicKey(resolve(dirname(path), key))),
      read: source.read.map((from) =>
        typeof from === 'string'
          ? { prefix: from, token: undefined, redirects: false }
          : { prefix: from.from, token: from.token, redirects: from.redirects },
      ),
    });
  }
  return { area: resolve(area), volume, xrootd: { xrdcp, xrdfs }, sources };
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
  readonly redirects: boolean;
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
 * An address as it is compared. XRootD takes names as they are written: such an address is kept so, and one that could
 * be read in two ways is none.
 */
function addressOf(url: string): { readonly asked: URL; readonly place: string } | undefined {
  if (!URL.canParse(url)) return undefined;
  const root = /^x?(roots?:\/\/)([^/]+?)(?::1094)?(\/.*)$/s.exec(url);
  if (!root) {
    const asked = new URL(url);
    return /^https?:$/.test(asked.protocol) ? { asked, place: asked.href } : undefined;
  }
  const [, scheme = '', host = '', path = ''] = root;
  if (/[\p{Cc}?#\\]/u.test(url) || /\/\.\.?(\/|$)/.test(path)) return undefined;
  return { asked: new URL(scheme + host + path), place: url.replace(/^x/, '') };
}

/**
 * Whether a source lets us read there: same scheme and host, and below the path that is named, by whole segments.
 * Manifests and redirects are strangers; whatever is not named is not touched. undefined = it is not.
 */
export function readableAt(source: ImportSource, url: string): Readable | undefined {
  const path = pathOf(url);
  const wanted = path === undefined ? addressOf(url) : undefined;
  for (const { prefix: from, token, redirects } of source.read) {
    if (path !== undefined) {
      if (!from.startsWith('/') || path.includes('\0')) continue;
      const root = resolve(from);
      const place = resolve(path);
      if (place.startsWith(root === '/' ? '/' : `${root}/`))
        return { place, kind: 'path', root, token, redirects };
      continue;
    }
    const allowed = from.startsWith('/') ? undefined : addressOf(from)?.asked;
    if (!wanted || !allowed) continue;
    const { asked, place } = wanted;
    const isThere =
      asked.protocol === allowed.protocol &&
      asked.host === allowed.host &&
      asked.username === '' &&
      asked.password === '' &&
      // An escaped "/" or "." may become one behind the door.
      !/%(2f|2e|5c|00)/i.test(asked.pathname) &&
      !/\/\.\.?(\/|$)/.test(asked.pathname) &&
      asked.pathname.startsWith(allowed.pathname.replace(/\/?$/, '/'));
    if (!isThere) continue;
    const kind = /^roots?:$/.test(asked.protocol) ? 'root' : 'http';
    return { place, kind, root: '', token, redirects };
  }
  return undefined;
}
