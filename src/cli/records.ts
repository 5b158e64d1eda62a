import type { Client } from './client.ts';
import { inCalls } from './register.ts';

/** How far the backup of a file is. */
export interface FileRecord {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly store: string;
  readonly status: string;
  readonly storeKey: string | null;
  readonly storedSizeBytes: number | null;
  readonly storedAdler32: string | null;
  readonly storedSha256: string | null;
  readonly confirmedAt: string | null;
  readonly updatedAt: string;
  readonly failureCount: number;
  readonly lastErrorCode: string | null;
  readonly lastError: string | null;
}

const query = `query Backups($lfns: [String!]!, $count: Int!) {
  files(filter: { lfn: { in: $lfns } }, first: $count) {
    nodes {
      lfn sizeBytes owedStores
      backups {
        store status storeKey storedSizeBytes storedAdler32 storedSha256
        confirmedAt updatedAt failureCount lastErrorCode lastError
      }
    }
  }
}`;

interface Answer {
  readonly files: {
    readonly nodes: readonly {
      readonly lfn: string;
      readonly sizeBytes: number;
      readonly owedStores: readonly string[];
      readonly backups: readonly Omit<FileRecord, 'lfn' | 'sizeBytes'>[];
    }[];
  };
}

/** So many files are asked about in one call. */
export const recordsPerCall = 100;

/** Where copies are looked for: in this store; of a file that a policy binds, in those of the policy. */
export interface Wanted {
  readonly store: string | undefined;
  /** The policy of a file says more than `store`. */
  readonly byPolicy: boolean;
}

/** The copies of a file that somebody waits for, as far as there are records of them. */
export interface FileCopies {
  readonly lfn: string;
  readonly copies: readonly FileRecord[];
  /** So many are waited for. */
  readonly owed: number;
}

/** The copies of each file; where no store is named and no policy binds it, its best one. */
export async function readRecords(
  client: Client,
  lfns: readonly string[],
  { store, byPolicy }: Wanted,
): Promise<FileCopies[]> {
  const found: FileCopies[] = [];
  for (const call of inCalls(lfns, recordsPerCall)) {
    const { files } = await client.call<Answer>(query, { lfns: call, count: call.length });
    for (const { lfn, sizeBytes, owedStores, backups } of files.nodes) {
      const named = store === undefined ? [] : [store];
      const stores = byPolicy && owedStores.length > 0 ? owedStores : named;
      const records = backups.map((backup) => ({ lfn, sizeBytes, ...backup }));
      const copies =
        stores.length === 0
          ? bestOf(records)
          : records.filter((record) => stores.includes(record.store));
      found.push({ lfn, copies, owed: Math.max(1, stores.length) });
    }
  }
  return found;
}

function bestOf(records: readonly FileRecord[]): FileRecord[] {
  const best =
    records.find((record) => record.status === 'CONFIRMED') ??
    records.toSorted((a, b) => b.updatedAt.localeCompare(a.updatedAt))[0];
  return best === undefined ? [] : [best];
}

/** The confirmation as it is printed: what the store answered, not what we hoped for. */
export function confirmationLine(record: FileRecord): string {
  const checksums = [
    record.storedAdler32 === null ? '' : `adler32:${record.storedAdler32}`,
    record.storedSha256 === null ? '' : `sha256:${record.storedSha256}`,
  ];
  return [
    'confirmed',
    record.lfn,
    `${record.storedSizeBytes} bytes`,
    ...checksums.filter((text) => text !== ''),
    `${record.store}:${record.storeKey}`,
  ].join('  ');
}
