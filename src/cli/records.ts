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
      lfn sizeBytes
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
      readonly backups: readonly Omit<FileRecord, 'lfn' | 'sizeBytes'>[];
    }[];
  };
}

/** So many files are asked about in one call. */
export const recordsPerCall = 100;

/** The backup of each file in this store; without a store its best one. Files without any are left out. */
export async function readRecords(
  client: Client,
  lfns: readonly string[],
  store: string | undefined,
): Promise<FileRecord[]> {
  const records: FileRecord[] = [];
  for (const call of inCalls(lfns, recordsPerCall)) {
    const { files } = await client.call<Answer>(query, { lfns: call, count: call.length });
    for (const { lfn, sizeBytes, backups } of files.nodes) {
      const fitting = backups.filter((backup) => store === undefined || backup.store === store);
      const best =
        fitting.find((backup) => backup.status === 'CONFIRMED') ??
        fitting.toSorted((a, b) => b.updatedAt.localeCompare(a.updatedAt))[0];
      if (best !== undefined) records.push({ lfn, sizeBytes, ...best });
    }
  }
  return records;
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
