import { constants, type Stats } from 'node:fs';
import {
  access,
  chmod,
  link,
  mkdir,
  readdir,
  realpath,
  rename,
  rm,
  statfs,
  writeFile,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, isAbsolute, join, normalize, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import { badInput, messageOf, SweepbookError, systemCode } from '../errors.ts';
import type {
  Expected,
  MassStore,
  PutOptions,
  StoreAnswer,
  ResidencyAnswer,
  StoredFile,
  StoreFeatures,
  StoreSettings,
  StoreState,
  TemporaryFile,
} from './contract.ts';
import { copyFile, syncFolder } from './copy-file.ts';
import { filesBelow } from './files-below.ts';
import {
  demandStoredKey,
  demandTemporary,
  incoming,
  marker,
  markerText,
  ownerOf,
} from './incoming.ts';
import { keyTaken } from './key-taken.ts';
import { readBack, statOf } from './read-back.ts';
import { commonSettings } from './store-settings.ts';

/** A directory store in the store file. */
export const directorySettings = z.strictObject({
  ...commonSettings,
  kind: z.literal('directory'),
  root: z.string().regex(/^\//, 'the absolute path of its folder'),
});

/** Makes the folder of a store, at the first start only. */
export async function prepareDirectoryStore(root: string): Promise<void> {
  await mkdir(join(root, incoming), { recursive: true });
  await writeFile(join(root, marker), markerText, { flag: 'a' });
}

const features: StoreFeatures = {
  says: [],
  hasTape: false,
  takesUploads: true,
  publishCopies: false,
};

/** A mass store in a folder tree: the key is the path below the root. */
export class DirectoryStore implements MassStore {
  readonly kind = 'directory';
  readonly features = features;
  readonly name: string;
  private readonly root: string;
  private readonly urlPrefix: string | null;

  constructor(settings: StoreSettings) {
    this.name = settings.name;
    this.root = resolve(settings.root);
    this.urlPrefix = settings.urlPrefix ?? null;
  }

  async prepare(): Promise<void> {
    await prepareDirectoryStore(this.root);
  }

  async probe(): Promise<StoreState> {
    try {
      await this.demandMounted();
      await access(join(this.root, incoming), constants.W_OK);
      const { bavail, bsize } = await statfs(this.root);
      return { isUp: true, detail: `folder ${this.root}`, freeBytes: bavail * bsize };
    } catch (error) {
      return { isUp: false, detail: messageOf(error) };
    }
  }

  finalKey(lfn: string): string {
    return lfn.slice(1);
  }

  placeOf(key: string): string {
    return join(this.root, key);
  }

  accessUrl(key: string): string {
    if (this.urlPrefix === null) return join(this.root, key);
    const prefix = this.accessUrlPrefix;
    if (prefix !== undefined) return prefix + key;
    return this.urlPrefix + key.split('/').map(encodeURIComponent).join('/');
  }

  get accessUrlPrefix(): string | undefined {
    if (this.urlPrefix === null) return join(this.root, '/');
    // XRootD and plain paths take names as they are; what is a URL by RFC 3986 does not.
    return /^(https?|davs?|file):/i.test(this.urlPrefix) ? undefined : this.urlPrefix;
  }

  async put(
    source: string,
    key: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    await this.demandMounted();
    const target = this.temporaryPath(key);
    const { bavail, bsize } = await statfs(this.root);
    if (bavail * bsize < expected.sizeBytes) {
      throw new SweepbookError(
        'NO_SPACE',
        `store ${this.name} has ${bavail * bsize} bytes free, the file has ${expected.sizeBytes}: make room in ${this.root}`,
        { store: this.name, freeBytes: bavail * bsize, sizeBytes: expected.sizeBytes },
      );
    }
    await mkdir(dirname(target), { recursive: true });
    await rm(target, { force: true });
    try {
      await copyFile(source, target, expected.sizeBytes, options);
    } catch (error) {
      await rm(target, { force: true }).catch(() => undefined);
      throw error instanceof SweepbookError || options.signal?.aborted
        ? error
        : this.unavailable(error);
    }
  }

  /** A file system keeps no checksums: it can only say the size. */
  async says(key: string): Promise<StoreAnswer> {
    await this.demandMounted();
    const path = join(this.root, key);
    const stat = await this.statOf(path);
    const evidence = {
      asked: `stat ${path}`,
      answer: JSON.stringify(
        stat ? { isFile: stat.isFile(), size: stat.size } : { found: 'no such file' },
      ),
      askedAt: new Date().toISOString(),
      host: hostname(),
    };
    return stat?.isFile()
      ? { isPresent: true, sizeBytes: stat.size, evidence }
      : { isPresent: false, evidence };
  }

  async residencyOf(): Promise<Map<string, ResidencyAnswer>> {
    return new Map();
  }

  async *list(options: PutOptions = {}): AsyncGenerator<StoredFile> {
    await this.demandMounted();
    yield* filesBelow(this.root, [incoming, marker], options);
    // Unmounted meanwhile, it would look empty from there on.
    await this.demandMounted();
  }

  async ask(key: string, options: PutOptions = {}): Promise<StoreAnswer> {
    await this.demandMounted();
    try {
      return await readBack(join(this.root, key), options);
    } catch (error) {
      options.signal?.throwIfAborted();
      throw this.unavailable(error);
    }
  }

  async fetch(
    key: string,
    target: string,
    expected: Expected,
    options: PutOptions = {},
  ): Promise<void> {
    await this.demandMounted();
    await copyFile(join(this.root, key), target, expected.sizeBytes, options);
  }

  async publish(key: string, finalKey: string): Promise<void> {
    await this.demandMounted();
    const from = this.temporaryPath(key);
    const to = join(this.root, finalKey);
    try {
      await mkdir(dirname(to), { recursive: true });
      await this.demandInside(dirname(to));
      // Nobody changes by accident what has been confirmed; a file of another account we cannot protect.
      await chmod(from, 0o444).catch(() => undefined);
      await this.linkOrRename(from, to);
      await syncFolder(dirname(to));
      await rm(from, { force: true });
    } catch (error) {
      if (error instanceof SweepbookError) throw error;
      if (['ENOTDIR', 'EISDIR', 'EEXIST'].includes(systemCode(error) ?? '')) {
        throw keyTaken(
          this.name,
          finalKey,
          'a file stands where a folder is needed, or the other way round',
        );
      }
      throw this.unavailable(error);
    }
  }

  /** link() never replaces anything, whatever two workers do at once. */
  private async linkOrRename(from: string, to: string): Promise<void> {
    try {
      return await link(from, to);
    } catch (error) {
      const code = systemCode(error);
      const there = await this.statOf(to);
      if (code === 'EEXIST' || (code === 'ENOENT' && there)) {
        const here = await this.statOf(from);
        // Linked before, and died before the temporary name was gone.
        if (here && there && here.ino === there.ino && here.dev === there.dev) return;
        throw keyTaken(this.name, relative(this.root, to), 'another file is there', error);
      }
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code ?? '') || there)
        throw error;
    }
    // A file system without hard links.
    await rename(from, to);
  }

  async sizeOf(key: string): Promise<number | undefined> {
    await this.demandMounted();
    return (await this.statOf(join(this.root, key)))?.size;
  }

  async removeTemporary(key: string): Promise<void> {
    await rm(this.temporaryPath(key), { force: true });
  }

  async remove(key: string): Promise<void> {
    const path = join(this.root, demandStoredKey(key));
    await this.demandMounted();
    if (!(await this.statOf(path))?.isFile()) return;
    await this.demandInside(dirname(path)).then(() => rm(path, { force: true }));
  }

  async listTemporary(): Promise<TemporaryFile[]> {
    await this.demandMounted();
    const names = await readdir(join(this.root, incoming));
    const found = await Promise.all(
      names.map(async (name): Promise<TemporaryFile | undefined> => {
        const owner = ownerOf(`${incoming}/${name}`);
        const stat = owner && (await this.statOf(join(this.root, incoming, name)));
        if (!owner || !stat) return undefined;
        return { key: `${incoming}/${name}`, ...owner, changedAt: stat.mtime };
      }),
    );
    return found.filter((file) => file !== undefined);
  }

  async keyOf(place: string): Promise<string> {
    const outside = (wayOut: string) => badInput('path', place, wayOut);
    if (place === '' || place.includes('\0') || Buffer.byteLength(place) > 4096) {
      throw outside('the path of the file in the store, at most 4096 bytes');
    }
    if (/[\n\r]/.test(place)) throw outside('no line breaks: lists of files have one name a line');
    await this.demandMounted();
    const path = normalize(isAbsolute(place) ? place : join(this.root, place));
    const folder = await realpath(dirname(path)).catch(() => undefined);
    const root = await realpath(this.root);
    if (folder === undefined || (folder !== root && !folder.startsWith(root + sep))) {
      // The same words for "not there" and "elsewhere": a stranger learns nothing of this host's files.
      throw outside(`no such file in store ${this.name}`);
    }
    const key = relative(root, join(folder, basename(path)));
    const stat = await this.statOf(join(root, key));
    if (!stat?.isFile()) throw outside(`no such file in store ${this.name}`);
    if (key.startsWith('.') && !ownerOf(key)) throw outside(`no such file in store ${this.name}`);
    return key;
  }

  private temporaryPath(key: string): string {
    demandTemporary(key);
    return join(this.root, key);
  }

  private async statOf(path: string): Promise<Stats | undefined> {
    try {
      return await statOf(path);
    } catch (error) {
      throw this.unavailable(error);
    }
  }

  private async demandMounted(): Promise<void> {
    try {
      await access(join(this.root, marker));
    } catch (error) {
      throw new SweepbookError(
        'STORE_UNAVAILABLE',
        `store ${this.name} is not there: ${join(this.root, marker)} cannot be seen (${systemCode(error)}); is it mounted?`,
        { store: this.name },
        { cause: error },
      );
    }
  }

  private async demandInside(folder: string): Promise<void> {
    const [root, real] = await Promise.all([realpath(this.root), realpath(folder)]);
    if (real === root || real.startsWith(root + sep)) return;
    throw new SweepbookError(
      'STORE_UNAVAILABLE',
      `store ${this.name}: ${folder} leads out of the store through a symbolic link`,
      { store: this.name },
    );
  }

  private unavailable(error: unknown): SweepbookError {
    const isFull = ['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '');
    return new SweepbookError(
      isFull ? 'NO_SPACE' : 'STORE_UNAVAILABLE',
      isFull
        ? `store ${this.name} is full: make room in ${this.root}`
        : `store ${this.name} does not work: ${messageOf(error)}`,
      { store: this.name },
      { cause: error },
    );
  }
}
