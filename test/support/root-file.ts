import { deflateSync, zstdCompressSync } from 'node:zlib';

/**
 * ROOT files with trees that hold nothing but their number of entries. They describe their classes themselves, as all
 * ROOT files do, with the few members that are written here.
 */
export interface RootTree {
  readonly name: string;
  readonly entries: number;
  readonly cycle?: number;
  /** An RNTuple, with its entries in two groups of clusters, and not a TTree. */
  readonly isTuple?: boolean;
  readonly packed?: 'zlib' | 'zstd';
}

export interface RootFolder {
  readonly trees?: readonly RootTree[];
  readonly folders?: Readonly<Record<string, RootFolder>>;
}

const u8 = (value: number) => Buffer.from([value]);
const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const text = (value: string) => Buffer.concat([u8(Buffer.byteLength(value)), Buffer.from(value)]);
const all = (...parts: readonly Buffer[]) => Buffer.concat(parts);

/** An object of a version, behind the count of its bytes. */
const counted = (version: number, ...members: readonly Buffer[]) => {
  const body = all(u16(version), ...members);
  return all(u32(0x4000_0000 + body.length), body);
};
/** An object whose class is told before it. */
const any = (name: string, object: Buffer) => {
  const body = all(u32(0xffff_ffff), Buffer.from(`${name}\0`), object);
  return all(u32(0x4000_0000 + body.length), body);
};
const plainObject = all(u16(1), u32(0), u32(0));
const named = (name: string) => counted(1, plainObject, text(name), text(''));

const kLong64 = 16;
/** Those behind the first are zero: a description that packing makes shorter. */
const treeMembers = ['fEntries', ...Array.from({ length: 40 }, (_, at) => `fSpare${at}`)];
const tupleMembers = [
  'fSeekHeader',
  'fNBytesHeader',
  'fLenHeader',
  'fSeekFooter',
  'fNBytesFooter',
  'fLenFooter',
];

function classInfo(name: string, version: number, members: readonly string[]): Buffer {
  const elements = members.map((member) => {
    const facts = [kLong64, 8, 0, 0, 0, 0, 0, 0, 0].map(u32);
    const element = counted(4, named(member), ...facts, text('Long64_t'));
    return any('TStreamerBasicType', counted(2, element));
  });
  const list = counted(3, plainObject, text(''), u32(elements.length), u32(0), ...elements);
  const info = counted(9, named(name), u32(1), u32(version), any('TObjArray', list));
  return any('TStreamerInfo', info);
}

const classes = counted(
  5,
  plainObject,
  text(''),
  u32(2),
  classInfo('TTree', 20, treeMembers),
  text(''),
  classInfo('ROOT::RNTuple', 2, tupleMembers),
  text(''),
);

function packedAs(bytes: Buffer, how: RootTree['packed']): Buffer {
  if (how === undefined) return bytes;
  const packed = how === 'zlib' ? deflateSync(bytes) : zstdCompressSync(bytes);
  const size = (value: number) => Buffer.from([value & 255, (value >> 8) & 255, value >> 16]);
  const head = how === 'zlib' ? all(Buffer.from('ZL'), u8(8)) : all(Buffer.from('ZS'), u8(1));
  return all(head, size(packed.length), size(bytes.length), packed);
}

/** The parts of an RNTuple that are little-endian: an envelope with its frames. */
const little = (bytes: number, value: bigint) => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigInt64LE(BigInt.asIntN(64, value));
  return buffer.subarray(0, bytes);
};
const le32 = (value: number) => little(4, BigInt(value));
const le64 = (value: number) => little(8, BigInt(value));
const frame = (items: readonly Buffer[]) => {
  const body = all(le32(items.length), ...items);
  return all(le64(-(8 + body.length)), body);
};
const record = (...parts: readonly Buffer[]) => {
  const body = all(...parts);
  return all(le64(8 + body.length), body);
};
const envelope = (type: number, body: Buffer) =>
  all(little(8, (BigInt(16 + body.length) << 16n) + BigInt(type)), body, le64(0));
const schema = all(frame([]), frame([]), frame([]), frame([]));

class RootWriter {
  private readonly parts: Buffer[] = [];
  private end = 100;

  /** Puts bytes at the end; where they are. */
  private put(bytes: Buffer): number {
    const at = this.end;
    this.parts.push(bytes);
    this.end += bytes.length;
    return at;
  }

  private head(className: string, name: string, cycle: number, size: number, packed = size) {
    const strings = all(text(className), text(name), text(''));
    const keyLength = 26 + strings.length;
    const bytes = all(
      u32(keyLength + packed),
      u16(4),
      u32(size),
      u32(0),
      u16(keyLength),
      u16(cycle),
      u32(this.end),
      u32(100),
      strings,
    );
    return { bytes, keyLength };
  }

  private object(className: string, name: string, bytes: Buffer, tree?: RootTree): Buffer {
    const body = packedAs(bytes, tree?.packed);
    const { bytes: key } = this.head(className, name, tree?.cycle ?? 1, bytes.length, body.length);
    this.put(all(key, body));
    return key;
  }

  private tree(tree: RootTree): Buffer {
    if (!tree.isTuple) {
      return this.object(
        'TTree',
        tree.name,
        counted(20, u64(tree.entries), Buffer.alloc(40 * 8)),
        tree,
      );
    }
    const header = envelope(1, all(le64(0), le32(0), le32(0), le32(0), schema));
    const half = Math.floor(tree.entries / 2);
    const groups = [
      [0, half],
      [half, tree.entries - half],
    ].map(([first = 0, span = 0]) =>
      record(le64(first), le64(span), le32(1), le64(8), le32(8), le64(100)),
    );
    const extension = record(schema);
    const footer = envelope(2, all(le64(0), le64(0), extension, frame(groups)));
    const places = [header, footer].flatMap((part) => [this.put(part), part.length, part.length]);
    return this.object('ROOT::RNTuple', tree.name, counted(2, ...places.map(u64)), tree);
  }

  private folder({ trees = [], folders = {} }: RootFolder, nameBytes: number): Buffer {
    const keys = trees.map((tree) => this.tree(tree));
    for (const [name, inner] of Object.entries(folders)) {
      keys.push(this.object('TDirectoryFile', name, this.folder(inner, 0)));
    }
    const list = all(u32(keys.length), ...keys);
    const { bytes } = this.head('TDirectoryFile', '', 1, list.length);
    const whole = all(bytes, list);
    const at = this.put(whole);
    return all(u16(5), u32(0), u32(0), ...[whole.length, nameBytes, 100, 0, at].map(u32));
  }

  file(content: RootFolder): Buffer {
    const { bytes: key } = this.head('TFile', 'test.root', 1, 60);
    const title = all(text('test.root'), text(''));
    const nameBytes = key.length + title.length;
    // The room of the first folder comes first, and is written when the others are.
    this.put(Buffer.alloc(300));
    const top = this.folder(content, nameBytes);
    const { bytes: infoKey } = this.head('TList', 'StreamerInfo', 1, classes.length);
    const infoBytes = all(infoKey, classes);
    const infoAt = this.put(infoBytes);
    const numbers = [62_400, 100, this.end, this.end, 0, 0, nameBytes].map(u32);
    const start = [u8(4), u32(0), u32(infoAt), u32(infoBytes.length)];
    const head = all(Buffer.from('root'), ...numbers, ...start);
    const first = all(key, title, top);
    this.parts[0] = all(first, Buffer.alloc(300 - first.length));
    return all(head, Buffer.alloc(100 - head.length), ...this.parts);
  }
}

/** The bytes of a ROOT file. */
export function rootFile(...trees: readonly RootTree[]): Buffer {
  return rootFileOf({ trees });
}

export function rootFileOf(content: RootFolder): Buffer {
  return new RootWriter().file(content);
}
