/** What is told of the runs of a file: nothing, their numbers, or all that adds up. */
export type RunDetail = 'none' | 'numbers' | 'facts';

/** A run of a file that fits the filter. */
export interface RunFact {
  readonly source: string;
  readonly number: number;
  readonly events: number | null;
  /** 1/pb */
  readonly luminosity: number | null;
  readonly conditions: string | null;
}

/** What is known of a file, wherever from. */
export interface FileFacts {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly eventCount: number | null;
  /** null = it was not read. */
  readonly adler32: string | null;
  readonly sha256: string | null;
  /** When it came into the dataset; null = not asked for. */
  readonly addedAt: Date | null;
  /** Numbers of its runs, in order; null = not asked for. */
  readonly runs: number[] | null;
  /** Those that fit the filter; null = there is none. */
  readonly fittingRuns: number[] | null;
  readonly runFacts: RunFact[] | null;
}

/** A file as lists tell it. */
export interface ExportFile extends FileFacts {
  /** What a job opens; null = no copy of it is known, as happens before a dataset is published. */
  readonly url: string | null;
  /** Number of its chunk, from 1; undefined = the list is not split. */
  readonly chunk?: number | undefined;
}

/** What a list names: the copy to open, or the file's own name while there is none. */
export const placeOf = ({ url, lfn }: ExportFile) => url ?? lfn;

/** What is known of a list before its first file. */
export interface ListFacts {
  /** Of the dataset or container. */
  readonly name: string;
  /** Of a dataset; containers have none. */
  readonly kind: string | null;
  readonly status: string | null;
  readonly stream: string | null;
  readonly release: string | null;
  readonly treeName: string | null;
  /** Events of all its files, whatever of them is listed. */
  readonly eventCount: number;
}

/** What has been listed, when the last file is out. */
export interface ListTotals {
  readonly files: number;
  /** Of the files whose count is known. */
  readonly events: number;
  /** Each run once, 1/pb; null when no run says, or the format does not ask. */
  readonly luminosity: number | null;
  /** undefined = the list is not split. */
  readonly chunks: number | undefined;
}

/** Writes one list; made anew for each. */
export interface Writer {
  head(): string;
  file(file: ExportFile): string;
  /** Says how many there were, so that a list that was cut off is noticed. */
  tail(totals: ListTotals): string;
}

export interface Format {
  readonly contentType: string;
  /** What is read of the runs of each file. */
  readonly detail: RunDetail;
  /** What of the bytes it tells, so that nothing else need be read. */
  readonly tells: { readonly events: boolean; readonly checksums: boolean };
  /** A stream of it can hold several chunks; of other formats one chunk is one document. */
  readonly holdsChunks: boolean;
  readonly needsTree: boolean;
  /** How names must end for its reader. */
  readonly ending?: string;
  writer(list: ListFacts): Writer;
}

/** Adds up the luminosity of runs, each once. */
export class Luminosity {
  private readonly seen = new Set<string>();
  private sum: number | null = null;

  add(runs: readonly RunFact[]): void {
    for (const { source, number, luminosity } of runs) {
      const key = `${source} ${number}`;
      if (this.seen.has(key)) continue;
      this.seen.add(key);
      if (luminosity !== null) this.sum = (this.sum ?? 0) + luminosity;
    }
  }

  get value(): number | null {
    return this.sum;
  }
}
