import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { addSuspicionCommands } from './suspicions.ts';
import { humanBytes } from './table.ts';

export function addFileCommands(program: Command): void {
  const noun = addNoun(program, 'file', 'files, each known by its logical name (LFN)');
  runs<object, [string]>(addVerb(noun, 'show <lfn>', 'all about one file'), showFile);
  addSuspicionCommands(noun);
}

interface FileDetails {
  readonly lfn: string;
  readonly kind: string;
  readonly site: string;
  readonly stream: string | null;
  readonly release: string | null;
  readonly sizeBytes: number;
  readonly adler32: string;
  readonly sha256: string | null;
  readonly eventCount: number | null;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly isBackedUp: boolean;
  readonly accessUrl: string | null;
  readonly replicas: readonly { volume: string; path: string; status: string }[];
  readonly backups: readonly {
    store: string;
    status: string;
    storeKey: string | null;
    confirmedAt: string | null;
    failureCount: number;
    lastError: string | null;
  }[];
  readonly datasets: { readonly nodes: readonly { name: string; status: string }[] };
}

const query = `query File($lfn: String!) {
  file(lfn: $lfn) {
    lfn kind site stream release sizeBytes adler32 sha256 eventCount createdAt createdBy isBackedUp accessUrl
    replicas { volume path status createdAt }
    backups {
      store status storeKey storedSizeBytes storedAdler32 storedSha256
      requestedBy requestedAt confirmedAt attempt failureCount nextAttemptAt lastErrorCode lastError
    }
    datasets(first: 100) { nodes { name status } }
  }
}`;

async function showFile({ client, output }: Context, _options: object, lfn: string): Promise<void> {
  const { file } = await client.call<{ file: FileDetails | null }>(query, { lfn });
  if (file === null) {
    throw new CliError(
      exitCode.notFound,
      `file ${lfn}: there is none that you may see`,
      'NOT_FOUND',
    );
  }
  const backups = file.backups.map(({ store, status, storeKey, confirmedAt, ...failure }) => {
    const trouble =
      failure.lastError === null
        ? ''
        : ` after ${failure.failureCount} failed attempts: ${failure.lastError}`;
    return `${status} ${store}:${storeKey ?? ''} ${confirmedAt ?? ''}`.trim() + trouble;
  });
  const replicas = file.replicas.map((copy) => `${copy.status} ${copy.volume}:${copy.path}`);
  await output.object(file, {
    lfn: file.lfn,
    kind: file.kind,
    site: file.site,
    stream: file.stream,
    release: file.release,
    size: `${file.sizeBytes} bytes (${humanBytes(file.sizeBytes)})`,
    adler32: file.adler32,
    sha256: file.sha256,
    events: file.eventCount?.toString(),
    registered: `${file.createdAt} by ${file.createdBy}`,
    'backed up': file.isBackedUp ? 'yes' : 'no',
    'access URL': file.accessUrl,
    ...numbered('backup', backups),
    ...numbered('replica', replicas),
    datasets: file.datasets.nodes.map(({ name, status }) => `${name} (${status})`).join(', '),
  });
}

/** One fact for each text: "backup", "backup 2" … */
function numbered(name: string, texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text, at) => [at === 0 ? name : `${name} ${at + 1}`, text] as const),
  );
}
