import { createReadStream, existsSync } from 'node:fs';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { Command } from 'commander';
import { packingOf } from '../formats/packed.ts';
import type { Refusal } from './client.ts';
import { addVerb, runs, wordsOf, type Context } from './command.ts';
import { CliError, exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { importFields, stateText, type ImportRow } from './import-facts.ts';
import { watchImport } from './import-watch.ts';
import { addRuleCommands } from './import-rules.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { counted, humanBytes } from './table.ts';

const statuses = ['RUNNING', 'ENTERED', 'FAILED', 'CANCELLED'];

export function addImportCommands(program: Command): void {
  const noun = addVerb(
    program,
    'import [manifest]',
    'import a dataset of another site: by its manifest ("-" = standard input), or from its server',
  )
    .enablePositionalOptions()
    .option('--from <site>', 'ask the server of this site (its name or address) for the manifest')
    .option('--dataset <name>', 'with --from: the dataset there')
    .option('--name <name>', 'its name here, if not the same')
    .option('--store <name>', 'mass store to back up in; the default one if not given')
    .option('--dry-run', 'say what is new, here already, and what contradicts; write nothing')
    .option('--no-wait', 'do not wait for the end');
  runs<ImportOptions, [string | undefined]>(noun, importManifest);
  const list = addVerb(noun, 'list', 'all imports, the last one first')
    .option('--status <statuses>', `${statuses.join(', ')} or all`, wordsOf(statuses))
    .option('--site <name>', 'those from this site');
  runs<ListImportsOptions>(addListOptions(list), listImports);
  const show = addVerb(noun, 'show <import>', 'all about one import, by its number')
    .option('--files', 'its files')
    .option('--failed', 'its files that FAILED or wait for another attempt, with the reason');
  runs<ShowOptions, [string]>(addListOptions(show), showImport);
  runs<object, [string]>(
    addVerb(noun, 'watch <import>', 'follow an import to its end'),
    async (context, _options, id) => {
      const found = await findImport(context, id);
      return watchImport(context, found.number, found.sizeBytes);
    },
  );
  const cancel = addVerb(
    noun,
    'cancel <import>',
    'call it off; what it alone brought is removed',
  ).option('--reason <text>', 'why; it stays in the history');
  runs<{ reason?: string }, [string]>(cancel, cancelImport);
  runs<object, [string]>(
    addVerb(noun, 'retry <import>', 'try again what FAILED, and at once what waits'),
    retryImport,
  );
  addRuleCommands(noun);
}

interface ImportOptions {
  readonly from?: string;
  readonly dataset?: string;
  readonly name?: string;
  readonly store?: string;
  readonly dryRun?: boolean;
  readonly wait: boolean;
}

interface Received {
  readonly outcome: string;
  readonly changed: boolean;
  readonly import: number | null;
  readonly dataset: string;
  readonly site: string;
  readonly files: { newCount: number; newBytes: number; hereCount: number };
  readonly runs: {
    newCount: number;
    hereCount: number;
    filledCount: number;
    otherVerdictCount: number;
  };
  readonly conflictCount: number;
  readonly conflicts: readonly { line: number; code: string; what: string }[];
}

async function importManifest(
  context: Context,
  options: ImportOptions,
  manifest: string | undefined,
): Promise<ExitCode> {
  const { output } = context;
  const isByHand = manifest !== undefined;
  if (isByHand === (options.from !== undefined)) {
    throw wrongUsage('name a manifest, or a site with --from');
  }
  if ((options.from !== undefined) !== (options.dataset !== undefined)) {
    throw wrongUsage('--from SITE and --dataset NAME go together');
  }
  const received = await send(context, options, manifest);
  if (output.json) await output.result(received, '');
  for (const line of textOf(received, options.dryRun === true)) await output.say(line);
  if (options.dryRun) return received.conflictCount > 0 ? exitCode.refused : exitCode.done;
  if (received.outcome === 'IDENTICAL' || received.import === null || !options.wait)
    return exitCode.done;
  return watchImport(
    context,
    received.import,
    (await findImport(context, String(received.import))).sizeBytes,
  );
}

async function send(
  { client }: Context,
  { from, dataset, name, store, dryRun }: ImportOptions,
  manifest: string | undefined,
): Promise<Received> {
  const query = new URLSearchParams({ dryRun: String(dryRun === true) });
  for (const [field, value] of Object.entries({ from, dataset, name, store })) {
    if (value !== undefined) query.set(field, value);
  }
  const response = await client.fetch(`/imports?${query}`, {
    method: 'POST',
    ...(manifest === undefined
      ? {}
      : {
          headers: { 'content-type': 'application/gzip' },
          body: Readable.toWeb(await bodyOf(manifest)) as never,
          duplex: 'half',
        }),
  } as never);
  const answer = await client.json<Received & Partial<Refusal>>(response);
  if (answer.code !== undefined) {
    throw client.refusal({ code: answer.code, message: answer.message ?? answer.code });
  }
  if (!response.ok) throw client.strange(response);
  return answer;
}

/** Packed on its way, if it is not yet. */
async function bodyOf(manifest: string): Promise<Readable> {
  if (manifest !== '-' && !existsSync(manifest)) {
    throw new CliError(exitCode.notFound, `manifest ${manifest}: no such file`);
  }
  const source = manifest === '-' ? process.stdin : createReadStream(manifest);
  const pieces = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const first = await pieces.next();
  const all = Readable.from(joined(first, pieces), { objectMode: false });
  if (!first.done && packingOf(first.value)) return all;
  const packed = createGzip({ level: 3 });
  all.once('error', (error: Error) => packed.destroy(error));
  return all.pipe(packed);
}

async function* joined(
  first: IteratorResult<Buffer>,
  rest: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer> {
  for (let piece = first; !piece.done; piece = await rest.next()) yield piece.value;
}

function textOf(received: Received, isDry: boolean): string[] {
  const { outcome, dataset, site, files, runs: known, conflicts, conflictCount } = received;
  const what = {
    NEW: `${isDry ? 'would import' : `import ${received.import}:`} ${dataset} from ${site}`,
    RESUMED: `import ${received.import} of ${dataset} is under way${received.changed ? ': trying again what failed' : ''}`,
    IDENTICAL: `${dataset} is here already, with the same files`,
    CONFLICT: `${dataset} cannot be imported: ${counted(conflictCount, 'contradiction')}`,
  }[outcome];
  return [
    what ?? outcome,
    `files: ${files.newCount} new (${humanBytes(files.newBytes)}), ${files.hereCount} here already`,
    `runs:  ${known.newCount} new, ${known.hereCount} here already, ${known.filledCount} with more known of them`,
    ...(known.otherVerdictCount > 0
      ? [`       ${known.otherVerdictCount} with another verdict here, which stays`]
      : []),
    ...conflicts.map(({ line, code, what: fault }) => `line ${line}: ${code}: ${fault}`),
    ...(conflictCount > conflicts.length ? [`and ${conflictCount - conflicts.length} more`] : []),
  ];
}

interface ListImportsOptions extends ListOptions {
  readonly status?: string[];
  readonly site?: string;
}

const listQuery = `query Imports($filter: ImportFilter, $first: Int, $after: String) {
  imports(filter: $filter, first: $first, after: $after) { nodes { ${importFields} } ${pageFields} }
}`;

async function listImports(
  { client, output }: Context,
  options: ListImportsOptions,
): Promise<void> {
  const filter = { status: options.status, site: options.site };
  const found = paged<{ imports: Connection<ImportRow> }, ImportRow>(
    client,
    listQuery,
    { filter },
    (data) => data.imports,
    options,
  );
  await output.list(found, [
    { title: 'IMPORT', value: (row) => row.number, align: 'right' },
    { title: 'STATUS', value: (row) => row.status },
    { title: 'DATASET', value: (row) => row.datasetName },
    { title: 'FROM', value: (row) => row.sourceSite },
    { title: 'ASKED', value: (row) => row.requestedAt },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'FILES', value: ({ progress }) => stateText(progress) },
  ]);
}

const findQuery = `query Import($id: ID!) { import(id: $id) { ${importFields} } }`;

async function findImport({ client }: Context, id: string): Promise<ImportRow> {
  const { import: found } = await client.call<{ import: ImportRow | null }>(findQuery, { id });
  if (found) return found;
  throw new CliError(exitCode.notFound, `no import ${id}: look at "import list"`);
}

interface ShowOptions extends ListOptions {
  readonly files?: boolean;
  readonly failed?: boolean;
}

async function showImport(context: Context, options: ShowOptions, id: string): Promise<void> {
  if (options.files || options.failed) return showFiles(context, options, id);
  const found = await findImport(context, id);
  const { progress, fileCount, sizeBytes, runCount } = found;
  await context.output.object(found, {
    import: String(found.number),
    status: found.status,
    dataset: found.datasetName,
    from: found.sourceSite,
    size: `${counted(fileCount, 'file')}, ${humanBytes(sizeBytes)}, ${counted(runCount, 'run')}`,
    files: stateText(progress),
    store: found.store,
    'asked for': `${found.requestedAt} by ${found.requestedBy}`,
    finished: found.finishedAt,
    manifest: `sha256:${found.manifestSha256}`,
    'signed by': found.signedBy,
    error: found.lastError ?? progress.lastError,
  });
}

interface FileRow {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly status: string;
  readonly fetchedBytes: number;
  readonly attempts: number;
  readonly nextAttemptAt: string | null;
  readonly lastError: string | null;
}

const filesQuery = `query ImportFiles($id: ID!, $status: [ImportFileStatus!], $first: Int, $after: String) {
  import(id: $id) { files(status: $status, first: $first, after: $after) {
    nodes { lfn sizeBytes status line urls fetchedFrom fetchedBytes attempts nextAttemptAt lastErrorCode lastError }
    ${pageFields} } }
}`;

async function showFiles(context: Context, options: ShowOptions, id: string): Promise<void> {
  const { client, output } = context;
  await findImport(context, id);
  const status = options.failed ? ['FAILED', 'WAITING'] : null;
  const found = paged<{ import: { files: Connection<FileRow> } }, FileRow>(
    client,
    filesQuery,
    { id, status },
    (data) => data.import.files,
    options,
  );
  await output.list(found, [
    { title: 'STATUS', value: (file) => file.status },
    { title: 'LFN', value: (file) => file.lfn },
    { title: 'HERE', value: (file) => humanBytes(file.fetchedBytes), align: 'right' },
    { title: 'SIZE', value: (file) => humanBytes(file.sizeBytes), align: 'right' },
    { title: 'ATTEMPTS', value: (file) => file.attempts, align: 'right' },
    { title: 'NEXT', value: (file) => file.nextAttemptAt },
    { title: 'ERROR', value: (file) => file.lastError },
  ]);
}

const changed = `changed import { ${importFields} }`;
const cancelQuery = `mutation CancelImport($input: CancelImportInput!) { cancelImport(input: $input) { ${changed} } }`;
const retryQuery = `mutation RetryImport($import: ID!) { retryImport(import: $import) { ${changed} } }`;

async function cancelImport(
  { client, output }: Context,
  { reason }: { reason?: string },
  id: string,
): Promise<void> {
  const { cancelImport: done } = await client.call<{ cancelImport: { changed: boolean } }>(
    cancelQuery,
    {
      input: { import: id, reason },
    },
  );
  await output.result(
    done,
    done.changed ? `import ${id} is called off` : `import ${id} was called off already`,
  );
}

async function retryImport(
  { client, output }: Context,
  _options: object,
  id: string,
): Promise<void> {
  const { retryImport: done } = await client.call<{ retryImport: { changed: boolean } }>(
    retryQuery,
    {
      import: id,
    },
  );
  await output.result(
    done,
    done.changed ? `import ${id} is tried again` : `import ${id}: nothing to try again`,
  );
}
