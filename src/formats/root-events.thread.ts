import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import type { Directory, Key, RootFile } from 'jsroot/io';
import type { Tuple } from 'jsroot/rntuple';
import { messageOf } from '../errors.ts';

/** Reads ROOT files in a thread of its own: what a broken file makes of the reader ends with the thread. */
export interface RootTask {
  readonly path: string;
  /** Its name, with the folders in the file: "Events", "ntuples/hits"; undefined = the only one. */
  readonly tree: string | undefined;
}

export type RootAnswer =
  | { readonly outcome: 'COUNTED'; readonly tree: string; readonly events: number }
  /** None or several fit: which there are. */
  | { readonly outcome: 'UNCLEAR'; readonly trees: readonly string[] }
  | { readonly outcome: 'BROKEN'; readonly why: string }
  | { readonly outcome: 'NO_READER'; readonly why: string };

interface Tree {
  readonly name: string;
  /** As the reader knows it. */
  readonly place: string;
  readonly key: Key;
}

const treeClasses = new Set(['TTree', 'TNtuple', 'TNtupleD']);
const tupleClasses = new Set(['ROOT::RNTuple', 'ROOT::Experimental::RNTuple']);
const isTree = ({ fClassName }: Key) => treeClasses.has(fClassName) || tupleClasses.has(fClassName);
const isFolder = ({ fClassName }: Key) =>
  fClassName === 'TDirectoryFile' || fClassName === 'TDirectory';

const deepest = 8;
/** What describes a tree is far smaller; more is a broken number in the file. */
const mostBytes = 512 * 1024 * 1024;

/** Number of entries of a tree (TTree or RNTuple) of a file. Never throws for what is in the file. */
export async function countEntries({ path, tree }: RootTask): Promise<RootAnswer> {
  // The thread's own: what the reader says goes nowhere, what is wrong is answered.
  for (const name of ['log', 'info', 'warn', 'error'] as const) console[name] = () => undefined;
  let reader;
  try {
    reader = await loadReader();
  } catch (error) {
    return { outcome: 'NO_READER', why: messageOf(error) };
  }
  const fd = openSync(path, 'r');
  try {
    const file = await reader.open(fd);
    if (file === false) return { outcome: 'BROKEN', why: 'it cannot be opened' };
    const trees = new Map<string, Tree>();
    for await (const found of treesOf(file, file, tree)) {
      // A tree is written several times while it grows: the last one counts.
      const before = trees.get(found.name);
      if (!before || found.key.fCycle > before.key.fCycle) trees.set(found.name, found);
    }
    const [only, ...more] = trees.values();
    if (only && more.length === 0) {
      return { outcome: 'COUNTED', tree: only.name, events: await entriesOf(file, only, reader) };
    }
    if (tree === undefined) return { outcome: 'UNCLEAR', trees: [...trees.keys()] };
    const all = new Set<string>();
    for await (const { name } of treesOf(file, file, undefined)) all.add(name);
    return { outcome: 'UNCLEAR', trees: [...all] };
  } catch (error) {
    return {
      outcome: 'BROKEN',
      why: messageOf(error)
        .replace(/\0|\s+/g, ' ')
        .slice(0, 200),
    };
  } finally {
    closeSync(fd);
  }
}

/** A folder in a file. */
const top = { name: '', place: '', depth: 0 };

/** The trees of a folder and below; with `wanted` only the one of this name. */
async function* treesOf(
  file: RootFile,
  { fKeys }: Directory,
  wanted: string | undefined,
  folder = top,
): AsyncGenerator<Tree> {
  const folders = new Map<string, typeof top & { readonly cycle: number }>();
  for (const key of fKeys) {
    const name = folder.name + (key.fRealName ?? key.fName);
    const place = folder.place + key.fName;
    if (isTree(key) && (wanted === undefined || wanted === name)) yield { name, place, key };
    const leads = wanted === undefined || wanted.startsWith(`${name}/`);
    if (!isFolder(key) || !leads || folder.depth === deepest) continue;
    folders.set(place, {
      name: `${name}/`,
      place: `${place}/`,
      depth: folder.depth + 1,
      cycle: key.fCycle,
    });
  }
  for (const [place, inner] of folders) {
    const directory = (await file.readObject(`${place};${inner.cycle}`)) as Directory;
    yield* treesOf(file, directory, wanted, inner);
  }
}

async function entriesOf(
  file: RootFile,
  { name, place, key }: Tree,
  reader: Reader,
): Promise<number> {
  const object = await file.readObject(`${place};${key.fCycle}`);
  const events = tupleClasses.has(key.fClassName)
    ? await tupleEntries(object as Tuple, reader)
    : Number((object as { fEntries?: number }).fEntries);
  if (Number.isSafeInteger(events) && events >= 0) return events;
  throw new Error(`the number of entries of ${name} cannot be read`);
}

/** Those of all its groups of clusters; one without any has no entries. */
async function tupleEntries(tuple: Tuple, reader: Reader): Promise<number> {
  await reader.readTuple(tuple);
  const groups = tuple.builder?.clusterGroups;
  return groups ? groups.reduce((sum, { entrySpan }) => sum + Number(entrySpan), 0) : Number.NaN;
}

interface Reader {
  open(fd: number): Promise<RootFile | false>;
  /** Completes what is known of an RNTuple. */
  readTuple(tuple: Tuple): Promise<unknown>;
}

async function loadReader(): Promise<Reader> {
  const { internals } = await import('jsroot/core');
  const { FileProxy, openFile } = await import('jsroot/io');
  const { readHeaderFooter } = await import('jsroot/rntuple');
  // Node unpacks it itself; the package that jsroot would take is large.
  // eslint-disable-next-line no-underscore-dangle
  internals._ZstdStream = { decompress: (packed) => zstdDecompressSync(packed) };
  class LocalFile extends FileProxy {
    private readonly fd: number;

    constructor(fd: number) {
      super();
      this.fd = fd;
    }

    override async openFile(): Promise<boolean> {
      return true;
    }

    override getFileName(): string {
      return 'the file';
    }

    override getFileSize(): number {
      return fstatSync(this.fd).size;
    }

    override async readBuffer(position: number, length: number): Promise<DataView> {
      const left = this.getFileSize() - position;
      if (!(position >= 0 && left > 0 && length > 0)) throw new Error('it points behind its end');
      if (length > mostBytes) throw new Error(`a part of ${length} bytes is no description`);
      const bytes = Buffer.alloc(Math.min(length, left));
      const count = readSync(this.fd, bytes, 0, bytes.length, position);
      return new DataView(bytes.buffer, bytes.byteOffset, count);
    }
  }
  return { open: (fd) => openFile(new LocalFile(fd)), readTuple: readHeaderFooter };
}
