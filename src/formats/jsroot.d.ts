/** The few parts of jsroot that are used; it brings no types for them. */
declare module 'jsroot/core' {
  export const internals: {
    /** What unpacks zstd; set = jsroot loads no package for it. */
    _ZstdStream?: { decompress(packed: Uint8Array): Uint8Array };
  };
}

declare module 'jsroot/io' {
  export interface Key {
    /** Without the quotes that are in it. */
    readonly fName: string;
    /** With them, if there are any. */
    readonly fRealName?: string;
    readonly fClassName: string;
    readonly fCycle: number;
  }

  export interface Directory {
    readonly fKeys: readonly Key[];
  }

  export interface RootFile extends Directory {
    readObject(name: string): Promise<unknown>;
  }

  /** Where the bytes come from. */
  export class FileProxy {
    openFile(): Promise<boolean>;
    getFileName(): string;
    getFileSize(): number;
    readBuffer(position: number, length: number): Promise<DataView>;
    closeFile(): void;
  }

  export function openFile(proxy: FileProxy): Promise<RootFile | false>;
}

declare module 'jsroot/rntuple' {
  export interface Tuple {
    builder?: { readonly clusterGroups?: readonly { readonly entrySpan: bigint | number }[] };
  }

  export function readHeaderFooter(tuple: Tuple): Promise<unknown>;
}
