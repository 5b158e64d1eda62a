import type { Command } from 'commander';
import { addVerb, runs, wholeNumber, type Context } from './command.ts';
import { noContainer, totalsFields, type Totals } from './container-facts.ts';
import { readList } from './dataset-changes.ts';
import { wrongUsage } from './exit-codes.ts';
import { counted, humanBytes } from './table.ts';

/** The commands that change a container. */
export function addContainerChangeCommands(noun: Command): void {
  const create = addDatasetOptions(
    addVerb(noun, 'create <name> [dataset...]', 'make a container, with its first datasets'),
  )
    .option('--owner <principal>', 'whom it belongs to; you if not given')
    .option('--description <text>', 'what it is')
    .option('--reason <text>', 'why; it stays in the history');
  runs<CreateOptions, [string, string[]]>(create, createContainer);
  for (const [verb, what] of [
    ['add', 'put closed datasets in'],
    ['remove', 'take datasets out, for a reason'],
  ] as const) {
    const command = addDatasetOptions(addVerb(noun, `${verb} <name> [dataset...]`, what))
      .option('--expect-version <number>', 'refuse if it changed since', wholeNumber)
      .option('--dry-run', 'say what would come of it, and do nothing');
    const text = 'why; it stays in the history';
    if (verb === 'remove') command.requiredOption('--reason <text>', text);
    else command.option('--reason <text>', text);
    runs<ChangeOptions, [string, string[]]>(command, changeDatasets(verb));
  }
}

function addDatasetOptions(command: Command): Command {
  return command.option(
    '--datasets-from <file>',
    'names of datasets, one a line; - = standard input',
  );
}

interface DatasetOptions {
  readonly datasetsFrom?: string;
  readonly reason?: string;
}
interface CreateOptions extends DatasetOptions {
  readonly owner?: string;
  readonly description?: string;
}
interface ChangeOptions extends DatasetOptions {
  readonly expectVersion?: number;
  readonly dryRun?: boolean;
}

interface Changed {
  readonly changed: boolean;
  readonly changedCount: number;
  readonly moved: Totals;
  readonly container: Totals & { readonly name: string; readonly version: number };
}

const changedFields = `changed changedCount moved { ${totalsFields} } container { name version ${totalsFields} }`;

const createQuery = `mutation Create($input: CreateContainerInput!) {
  createContainer(input: $input) { ${changedFields} }
}`;

async function createContainer(
  { client, output }: Context,
  { datasetsFrom, owner, description, reason }: CreateOptions,
  name: string,
  given: string[],
): Promise<void> {
  const datasets = [...given, ...(await readList(datasetsFrom))];
  const { createContainer: result } = await client.call<{ createContainer: Changed }>(createQuery, {
    input: { name, owner, description, reason, datasets },
  });
  await output.result(result, `${name} lists ${describe(result.container)}`);
}

const mutations = {
  add: { field: 'addToContainer', done: 'added to' },
  remove: { field: 'removeFromContainer', done: 'removed from' },
} as const;

function changeDatasets(verb: keyof typeof mutations) {
  const { field, done } = mutations[verb];
  const query = `mutation Datasets($input: ContainerDatasetsInput!) {
    ${field}(input: $input) { ${changedFields} }
  }`;
  return async (
    { client, output }: Context,
    { datasetsFrom, reason, expectVersion, dryRun }: ChangeOptions,
    container: string,
    given: string[],
  ): Promise<void> => {
    const datasets = [...given, ...(await readList(datasetsFrom))];
    if (datasets.length === 0) {
      throw wrongUsage(`name the datasets to ${verb}, or use --datasets-from`);
    }
    // In one call, so that it is one line of the history, all or nothing.
    const answer = await client.call<Record<string, Changed>>(query, {
      input: { container, datasets, reason, expectedVersion: expectVersion, dryRun },
    });
    const result = answer[field];
    if (result === undefined) throw noContainer(container);
    const unchanged = new Set(datasets).size - result.changedCount;
    await output.result(
      { ...result, dryRun: dryRun === true },
      `${counted(result.changedCount, 'dataset')} ${dryRun ? 'would be ' : ''}${done} ${container}` +
        ` (${counted(result.moved.fileCount, 'file')}, ${result.moved.eventCount} events), ${unchanged} unchanged: ` +
        `it lists ${describe(result.container)}`,
    );
  };
}

function describe(totals: Totals): string {
  const { datasetCount, fileCount, sizeBytes, eventCount } = totals;
  return `${counted(datasetCount, 'dataset')}, ${counted(fileCount, 'file')}, ${humanBytes(sizeBytes)}, ${eventCount} events`;
}
