import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import { addVerb, repeated, runs, wholeNumber, wordOf, type Context } from './command.ts';
import { datasetKinds, noDataset } from './dataset-facts.ts';
import { CliError, exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { paged, pageFields, type Connection } from './pages.ts';
import { inCalls } from './register.ts';
import { unreadable } from './source-files.ts';
import { followSweep, readSweep, startSweep } from './sweep-follow.ts';
import { counted } from './table.ts';

/** The commands that change a dataset. */
export function addChangeCommands(noun: Command): void {
  addCreate(noun);
  for (const [verb, what] of [
    ['add', 'add registered files'],
    ['remove', 'take files out'],
  ] as const) {
    const command = addVerb(noun, `${verb} <name> [lfn...]`, `${what}, while the dataset is OPEN`)
      .option('--files-from <file>', 'LFNs, one a line; - = standard input')
      .option('--expect-version <number>', 'refuse if it changed since', wholeNumber);
    runs<FilesOptions, [string, string[]]>(command, changeFiles(verb));
  }
  const sweep = transition(noun, 'sweep', 'all the way in the background: back up, close')
    .option('--store <name>', 'mass store; the default one if not given')
    .option('--timeout <seconds>', 'stop waiting after so long (exit 5)', wholeNumber)
    .option('--no-wait', 'do not wait for the end');
  runs<SweepOptions, [string]>(sweep, sweepDataset);
  const backedUp = transition(noun, 'mark-backed-up', 'every file has a confirmed backup');
  runs<TransitionOptions, [string]>(backedUp, change('markDatasetBackedUp', 'Transition'));
  const close = transition(noun, 'close', 'publish; it never changes again').option(
    '--yes',
    'do not ask',
  );
  runs<TransitionOptions, [string]>(close, closeDataset);
  const reopen = transition(noun, 'reopen', 'back to OPEN, or call a sweep off', true);
  runs<TransitionOptions, [string]>(reopen, change('reopenDataset', 'Transition'));
  const bad = transition(noun, 'mark-bad', 'hide it from users, for a reason', true);
  runs<TransitionOptions, [string]>(bad, change('markDatasetBad', 'Mark'));
  const clear = transition(noun, 'clear-bad', 'take the bad mark off', true);
  runs<TransitionOptions, [string]>(clear, change('clearDatasetBad', 'Mark'));
}

function transition(noun: Command, verb: string, what: string, needsReason = false): Command {
  const command = addVerb(noun, `${verb} <name>`, what).option(
    '--expect-version <number>',
    'refuse if it changed since',
    wholeNumber,
  );
  return needsReason
    ? command.requiredOption('--reason <text>', 'why; it stays in the history')
    : command.option('--reason <text>', 'why; it stays in the history');
}

interface TransitionOptions {
  readonly reason?: string;
  readonly expectVersion?: number;
  readonly yes?: boolean;
}

interface Changed {
  readonly changed: boolean;
  readonly changedCount: number;
  readonly dataset: {
    readonly name: string;
    readonly status: string;
    readonly version: number;
    readonly fileCount: number;
    readonly sizeBytes: number;
    readonly badMark: { readonly reason: string } | null;
  };
}

const changedFields =
  'changed changedCount dataset { name status version fileCount sizeBytes badMark { reason } }';
const inputTypes = { Transition: 'DatasetTransitionInput!', Mark: 'BadMarkInput!' } as const;

/** The work of a command that is one mutation. */
function change(mutation: string, input: keyof typeof inputTypes) {
  const query = `mutation Change($input: ${inputTypes[input]}) {
    ${mutation}(input: $input) { ${changedFields} }
  }`;
  return async (
    { client, output }: Context,
    { reason, expectVersion }: TransitionOptions,
    dataset: string,
  ): Promise<void> => {
    const answer = await client.call<Record<string, Changed>>(query, {
      input: { dataset, reason, expectedVersion: expectVersion },
    });
    const result = answer[mutation];
    if (result === undefined) throw noDataset(dataset);
    await output.result(result, describeChange(result));
  };
}

function describeChange({ changed, dataset }: Changed): string {
  const bad = dataset.badMark === null ? '' : `, bad: ${dataset.badMark.reason}`;
  const state = `${dataset.status}${bad}: ${counted(dataset.fileCount, 'file')}, ${dataset.sizeBytes} bytes`;
  return `${dataset.name} is ${changed ? '' : 'already '}${state}`;
}

async function closeDataset(
  context: Context,
  options: TransitionOptions,
  name: string,
): Promise<ExitCode> {
  const { output, signal } = context;
  const isAtTerminal = process.stdin.isTTY && process.stderr.isTTY;
  if (isAtTerminal && !options.yes && !output.json) {
    const prompt = createInterface({ input: process.stdin, output: process.stderr });
    const question = `close ${name}? It is published and never changes again [y/N] `;
    prompt.on('SIGINT', () => process.emit('SIGINT'));
    const answer = await prompt.question(question, { signal }).finally(() => prompt.close());
    if (!/^y(es)?$/i.test(answer.trim())) {
      throw new CliError(exitCode.failed, `${name} is not closed: you said no`);
    }
  }
  await change('closeDataset', 'Transition')(context, options, name);
  return exitCode.done;
}

interface SweepOptions extends TransitionOptions {
  readonly store?: string;
  readonly timeout?: number;
  readonly wait: boolean;
}

const openFilesQuery = `query OpenFiles($name: String!, $first: Int!, $after: String) {
  dataset(name: $name) {
    files(filter: { isBackedUp: false }, first: $first, after: $after) {
      nodes { lfn sizeBytes } ${pageFields}
    }
  }
}`;

async function sweepDataset(
  context: Context,
  options: SweepOptions,
  name: string,
): Promise<ExitCode> {
  const before = await readSweep(context, name);
  if (before === null) throw noDataset(name);
  context.output.outliveReader();
  const files = new Map<string, number>();
  if (options.wait && before.status === 'OPEN') {
    const open = paged(
      context.client,
      openFilesQuery,
      { name },
      (data: { dataset: { files: Connection<{ lfn: string; sizeBytes: number }> } | null }) => {
        if (data.dataset === null) throw noDataset(name);
        return data.dataset.files;
      },
      { all: true, limit: 0 },
    );
    for await (const file of open) files.set(file.lfn, file.sizeBytes);
  }
  const { store, reason, expectVersion } = options;
  await startSweep(context, name, store, { reason, expectedVersion: expectVersion });
  if (options.wait) {
    const wasClosed = before.status === 'CLOSED';
    return followSweep(context, name, files, { ...options, wasClosed });
  }
  await context.output.result(
    { dataset: name, status: before.status, isRunning: before.status !== 'CLOSED' },
    before.status === 'CLOSED'
      ? `${name} is already CLOSED`
      : `${name} is being swept: watch it with "sweepbook dataset watch ${name}"`,
  );
  return exitCode.done;
}

interface FilesOptions {
  readonly filesFrom?: string;
  readonly expectVersion?: number;
}

const filesMutations = {
  add: { field: 'addFilesToDataset', done: 'added to' },
  remove: { field: 'removeFilesFromDataset', done: 'removed from' },
} as const;

function changeFiles(verb: keyof typeof filesMutations) {
  const { field, done } = filesMutations[verb];
  const query = `mutation Files($input: DatasetFilesInput!) {
    ${field}(input: $input) { ${changedFields} }
  }`;
  return async (
    { client, output }: Context,
    options: FilesOptions,
    dataset: string,
    given: string[],
  ): Promise<void> => {
    const lfns = [...given, ...(await readList(options.filesFrom))];
    if (lfns.length === 0) throw wrongUsage(`name the files to ${verb}, or use --files-from`);
    let expectedVersion = options.expectVersion;
    let count = 0;
    let last: Changed | undefined;
    for (const call of inCalls(lfns)) {
      const answer = await client.call<Record<string, Changed>>(query, {
        input: { dataset, lfns: call, expectedVersion },
      });
      last = answer[field];
      count += last?.changedCount ?? 0;
      // The first piece changed the version ourselves.
      if (expectedVersion !== undefined) expectedVersion = last?.dataset.version;
    }
    if (last === undefined) throw noDataset(dataset);
    await output.result(
      { ...last, changed: count > 0, changedCount: count },
      `${counted(count, 'file')} ${done} ${dataset}, ${lfns.length - count} unchanged: ` +
        `it has ${counted(last.dataset.fileCount, 'file')} now`,
    );
  };
}

/** Names from a file, one a line; nothing without a file. */
export async function readList(file: string | undefined): Promise<string[]> {
  if (file === undefined) return [];
  try {
    const content = file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8');
    return content.split(/\r?\n/).filter((line) => line !== '');
  } catch (error) {
    throw unreadable(file, error);
  }
}

interface CreateOptions extends FilesOptions {
  readonly kind: string;
  readonly owner?: string;
  readonly stream?: string;
  readonly release?: string;
  readonly tree?: string;
  readonly description?: string;
  readonly waive?: string;
  readonly file?: string[];
}

function addCreate(noun: Command): void {
  const command = addVerb(noun, 'create <name>', 'make a dataset, OPEN')
    .requiredOption('--kind <kind>', datasetKinds.join(', '), wordOf(datasetKinds))
    .option('--owner <principal>', 'whom it belongs to; you if not given')
    .option('--stream <name>', 'stream of its files')
    .option('--release <name>', 'software release of its files')
    .option('--tree <name>', 'ROOT tree that jobs read')
    .option('--description <text>', 'what it is')
    .option('--waive <reason>', 'it may be closed without backup, and why')
    .option('--file <lfn>', 'a registered file in it; several times', repeated)
    .option('--files-from <file>', 'LFNs, one a line; - = standard input');
  runs<CreateOptions, [string]>(command, createDataset);
}

const createQuery = `mutation Create($input: CreateDatasetInput!) {
  createDataset(input: $input) {
    changed dataset { name status version fileCount sizeBytes badMark { reason } }
  }
}`;

async function createDataset(
  { client, output }: Context,
  options: CreateOptions,
  name: string,
): Promise<void> {
  const files = [...(options.file ?? []), ...(await readList(options.filesFrom))];
  const { kind, owner, stream, release, tree, description, waive } = options;
  const input = {
    name,
    kind,
    owner,
    stream,
    release,
    treeName: tree,
    description,
    backupWaived: waive !== undefined,
    waiverReason: waive,
    files,
  };
  const { createDataset: result } = await client.call<{ createDataset: Changed }>(createQuery, {
    input,
  });
  await output.result(result, describeChange(result));
}
