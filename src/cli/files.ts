import type { Command } from 'commander';
import { addNoun, addVerb, runs, type Context } from './command.ts';
import { CliError, exitCode } from './exit-codes.ts';
import { addFileListCommand } from './file-list.ts';
import { addSuspicionCommands } from './suspicions.ts';
import { humanBytes } from './table.ts';

export function addFileCommands(program: Command): void {
  const noun = addNoun(program, 'file', 'files, each known by its logical name (LFN)');
  addFileListCommand(noun);
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
  readonly runs: Related<{ readonly number: number }>;
  readonly inputs: Related<{ readonly lfn: string }>;
  readonly mergedInto: { readonly lfn: string } | null;
  readonly parents: Related<{ readonly lfn: string }>;
  readonly children: Related<{ readonly lfn: string }>;
}

interface Related<Row> {
  readonly totalCount: number;
  readonly nodes: readonly Row[];
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
    runs(first: 20) { totalCount nodes { number source } }
    inputs(first: 20) { totalCount nodes { lfn } }
    mergedInto { lfn }
    parents(first: 20) { totalCount nodes { lfn } }
    children(first: 20) { totalCount nodes { lfn } }
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
    runs: some(file.runs, (run) => String(run.number)),
    'merged from': some(file.inputs, (input) => input.lfn),
    'merged into': file.mergedInto?.lfn,
    'derived from': some(file.parents, (parent) => parent.lfn),
    'made of it': some(file.children, (child) => child.lfn),
    datasets: file.datasets.nodes.map(({ name, status }) => `${name} (${status})`).join(', '),
  });
}

/** The first ones, and how many more there are. */
function some<Row>({ totalCount, nodes }: Related<Row>, name: (row: Row) => string): string {
  const left = totalCount - nodes.length;
  return nodes.map(name).join(', ') + (left > 0 ? `, and ${left} more` : '');
}

/** One fact for each text: "backup", "backup 2" … */
function numbered(name: string, texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text, at) => [at === 0 ? name : `${name} ${at + 1}`, text] as const),
  );
}
