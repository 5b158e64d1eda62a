import type { Command } from 'commander';
import {
  addSourceOptions,
  backUp,
  checkSourceOptions,
  describe,
  type SourceOptions,
} from './backup.ts';
import { addVerb, runs, wordOf, type Context } from './command.ts';
import { datasetKinds } from './dataset-facts.ts';
import { copyDirectly } from './direct-copy.ts';
import { CliError, exitCode, type ExitCode } from './exit-codes.ts';
import { complain } from './print.ts';
import { demandServer, exitOfFaults, hashAndRegister, inCalls, noneGood } from './register.ts';
import { parseRunList } from './run-list.ts';
import { checkFiles, lfnOf } from './source-files.ts';
import { followSweep, readSweep, startSweep, type SweepState } from './sweep-follow.ts';
import { counted } from './table.ts';

interface SweepOptions extends SourceOptions {
  readonly dataset: string;
  readonly datasetKind: string;
  readonly tree?: string;
  readonly description?: string;
  readonly run?: string;
  readonly runSource: string;
  readonly waive?: string;
}

export function addSweepCommand(program: Command): void {
  const command = addVerb(
    program,
    'sweep <file...>',
    'take files all the way: register, back up with confirmation, close the dataset that holds them',
  ).requiredOption('--dataset <name>', 'dataset, made if there is none of this name');
  addSourceOptions(command, 'default /NAME of the dataset')
    .option('--dataset-kind <kind>', 'PR, SP, SKIM, IMPORT or USER', wordOf(datasetKinds), 'USER')
    .option('--tree <name>', 'ROOT tree that jobs read')
    .option('--description <text>', 'what the dataset is')
    .option('--run <list>', 'registered runs that are in each file: 36172-39320,40001')
    .option('--run-source <source>', 'DATA or SIMULATION', wordOf(['DATA', 'SIMULATION']), 'DATA')
    .option('--waive <reason>', 'close without backup, and why');
  runs<SweepOptions, [string[]]>(command, sweep);
}

async function sweep(context: Context, options: SweepOptions, given: string[]): Promise<ExitCode> {
  checkSourceOptions(options, given);
  context.output.outliveReader();
  const runList = options.run === undefined ? undefined : parseRunList(options.run);
  const own = () => `/${options.dataset}`;
  const checked = await checkFiles(given, (name) => lfnOf(name, options.lfnPrefix, own));
  const exit = noneGood(checked);
  if (exit !== undefined) return exit;
  await demandServer(context);
  const before = await readSweep(context, options.dataset);
  if (before?.status === 'CLOSED') {
    await demandAllIn(
      context,
      options.dataset,
      checked.good.map((file) => file.lfn),
    );
  }
  const source = options.runSource;
  const { files, faults } = await hashAndRegister(context, checked, {
    ...describe(options),
    runs: runList?.map((number) => ({ number, source })),
  });
  if (files.length === 0) return exitOfFaults(faults);
  const lfns = files.map((file) => file.lfn);
  if (before?.status !== 'CLOSED') await putInDataset(context, options, before, lfns);

  if (faults.length > 0) {
    return leftOut(context, options, faults.length, () => backUp(context, files, faults, options));
  }
  if (options.direct && before?.status !== 'CLOSED' && options.waive === undefined) {
    const refused = await copyDirectly(context, files, options.store);
    if (refused.size > 0) {
      const rest = files.filter((file) => !refused.has(file.lfn));
      const back = () =>
        rest.length === 0
          ? Promise.resolve(exitOfFaults([...refused.values()]))
          : backUp(context, rest, [...refused.values()], options);
      return leftOut(context, options, refused.size, back);
    }
  }
  const sizes = new Map(files.map((file) => [file.lfn, file.hashed.sizeBytes]));
  const wasClosed = before?.status === 'CLOSED';
  if (!wasClosed) await startSweep(context, options.dataset, options.store);
  return followSweep(context, options.dataset, sizes, { ...options, wasClosed });
}

/** A dataset is not closed with files missing: the good ones are only backed up. */
async function leftOut(
  { output }: Context,
  { dataset }: SweepOptions,
  count: number,
  backUpGoodOnes: () => Promise<ExitCode>,
): Promise<ExitCode> {
  await output.say(
    `${counted(count, 'file')} left out: ${dataset} is not closed, the other files are backed up`,
  );
  const exit = await backUpGoodOnes();
  complain(`${dataset} is not closed: ${counted(count, 'file')} of the command could not be taken`);
  return exit;
}

const filesQuery = `query InDataset($name: String!, $lfns: [String!]!, $count: Int!) {
  dataset(name: $name) { files(filter: { lfn: { in: $lfns } }, first: $count) { nodes { lfn } } }
}`;

/** Those of the files that are not in the dataset. */
async function missingIn(
  { client }: Context,
  name: string,
  lfns: readonly string[],
): Promise<string[]> {
  const missing: string[] = [];
  for (const call of inCalls(lfns, 500)) {
    const { dataset } = await client.call<{
      dataset: { files: { nodes: { lfn: string }[] } } | null;
    }>(filesQuery, { name, lfns: call, count: call.length });
    const held = new Set(dataset?.files.nodes.map((file) => file.lfn));
    missing.push(...call.filter((lfn) => !held.has(lfn)));
  }
  return missing;
}

async function demandAllIn(context: Context, name: string, lfns: readonly string[]): Promise<void> {
  const missing = await missingIn(context, name, lfns);
  if (missing.length === 0) return;
  throw new CliError(
    exitCode.refused,
    `dataset ${name} is CLOSED and its files never change; ${missing.length} of yours ` +
      `${missing.length === 1 ? 'is' : 'are'} not in it (${missing[0]}): choose a new name`,
    'ILLEGAL_TRANSITION',
  );
}

const createQuery = `mutation Create($input: CreateDatasetInput!) {
  createDataset(input: $input) { changed dataset { name } }
}`;
const addQuery = `mutation Add($input: DatasetFilesInput!) {
  addFilesToDataset(input: $input) { changedCount }
}`;

async function putInDataset(
  context: Context,
  options: SweepOptions,
  before: SweepState | null,
  lfns: readonly string[],
): Promise<void> {
  const { client } = context;
  const name = options.dataset;
  if (before === null) {
    const input = {
      name,
      kind: options.datasetKind,
      stream: options.stream,
      release: options.release,
      treeName: options.tree,
      description: options.description,
      backupWaived: options.waive !== undefined,
      waiverReason: options.waive,
      files: lfns.slice(0, 1000),
    };
    try {
      await client.call(createQuery, { input });
    } catch (error) {
      // Somebody made it since we looked: our files are added as to any other.
      const isTaken = error instanceof CliError && error.code === 'DUPLICATE';
      if (!isTaken || (await readSweep(context, name)) === null) throw error;
    }
  }
  for (const call of inCalls(await missingIn(context, name, lfns))) {
    await client.call(addQuery, { input: { dataset: name, lfns: call } });
  }
}
