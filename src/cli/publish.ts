import type { Command } from 'commander';
import { addVerb, runs, wordsOf, type Context } from './command.ts';
import { exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { complain } from './print.ts';
import { addArchiveCommands } from './publish-archive.ts';
import { publicationFields, stateText, type PublicationRow } from './publish-facts.ts';
import { addQuotaCommand } from './publish-quota.ts';
import { findPublication, showPublication, type ShowOptions } from './publish-show.ts';
import { findFiles, sizeOf, withEvents } from './publish-sources.ts';
import { watchPublication } from './publish-watch.ts';
import { counted, humanBytes } from './table.ts';

const statuses = [
  'REQUESTED',
  'AWAITING_APPROVAL',
  'CHECKING',
  'MERGING',
  'BACKING_UP',
  'CLOSING',
  'PUBLISHED',
  'FAILED',
  'WITHDRAWN',
];

export function addPublishCommands(program: Command): void {
  const noun = addVerb(
    program,
    'publish [files...]',
    'publish files of yours, or all below a folder: merged, backed up, for everybody',
  )
    .enablePositionalOptions()
    .option('--name <dataset>', 'name of the dataset that they become')
    .option('--description <text>', 'what it is, for those who find it')
    .option('--stream <name>', 'stream')
    .option('--release <name>', 'software release')
    .option('--tree <name>', 'ROOT tree that jobs read')
    .option('--events <file>', 'event counts: a line for each file, "COUNT NAME"')
    .option('--composite-size <size>', 'wanted size of a merged file, such as 5GB', sizeOf)
    .option('--group <name>', 'charge the quota of this group')
    .option('--store <name>', 'mass store to back up in; the default one if not given')
    .option('--no-wait', 'do not wait for the end');
  runs<PublishOptions, [string[]]>(noun, publish);
  const list = addVerb(noun, 'list', 'publications, the last one first')
    .option('--status <statuses>', `${statuses.join(', ')} or all`, wordsOf(statuses))
    .option('--of <owner>', 'those of this owner');
  runs<ListPublicationsOptions>(addListOptions(list), listPublications);
  const show = addVerb(noun, 'show <publication>', 'all about one publication, by its number')
    .option('--files', 'its files')
    .option('--faults', 'those of its files that cannot be published, and why')
    .option('--composites', 'the files that they are merged into');
  runs<ShowOptions, [string]>(addListOptions(show), showPublication);
  runs<object, [string]>(
    addVerb(noun, 'watch <publication>', 'follow a publication to its end'),
    async (context, _options, id) => {
      const found = await findPublication(context, id);
      return watchPublication(context, found.number, found.sizeBytes);
    },
  );
  const withdraw = addVerb(noun, 'withdraw <publication>', 'call it off before it is published');
  runs<ReasonOptions, [string]>(
    withdraw.option('--reason <text>', 'why; it stays in the history'),
    change('withdrawPublication', 'WithdrawPublicationInput', 'is withdrawn'),
  );
  const approve = addVerb(noun, 'approve <publication>', 'let it go on (operators)');
  runs<ReasonOptions, [string]>(
    approve.option('--reason <text>', 'why; it stays in the history'),
    change('decidePublication', 'DecidePublicationInput', 'goes on', { approve: true }),
  );
  const refuse = addVerb(noun, 'refuse <publication>', 'do not let it be published (operators)');
  runs<ReasonOptions, [string]>(
    refuse.requiredOption('--reason <text>', 'why; its owner reads it'),
    change('decidePublication', 'DecidePublicationInput', 'is refused', { approve: false }),
  );
  runs<object, [string]>(
    addVerb(noun, 'retry <publication>', 'try again at once what waits, and backups that FAILED'),
    retry,
  );
  addQuotaCommand(noun);
  addArchiveCommands(noun);
}

interface PublishOptions {
  readonly name?: string;
  readonly description?: string;
  readonly stream?: string;
  readonly release?: string;
  readonly tree?: string;
  readonly events?: string;
  readonly compositeSize?: number;
  readonly group?: string;
  readonly store?: string;
  readonly wait: boolean;
}

interface Changed {
  readonly changed: boolean;
  readonly publication: PublicationRow;
}

const requestQuery = `mutation RequestPublication($input: RequestPublicationInput!) {
  requestPublication(input: $input) { changed publication { ${publicationFields} } }
}`;

async function publish(
  context: Context,
  options: PublishOptions,
  given: string[],
): Promise<ExitCode> {
  const { client, output } = context;
  const { name, description, stream, release, tree, group, store, compositeSize } = options;
  if (given.length === 0) throw wrongUsage('name the files to publish, or a folder of them');
  if (name === undefined || description === undefined) {
    throw wrongUsage('--name NAME and --description TEXT say what it will be');
  }
  output.outliveReader();
  const { good, faults } = await findFiles(given);
  if (faults.length > 0 || good.length === 0) {
    for (const fault of faults.slice(0, 20)) complain(fault.message);
    if (faults.length > 20) complain(`and ${faults.length - 20} more`);
    complain(good.length === 0 ? 'there is nothing to publish' : 'nothing is published');
    return faults[0]?.exit ?? exitCode.failed;
  }
  const files = await withEvents(good, options.events);
  const { requestPublication: done } = await client.call<{ requestPublication: Changed }>(
    requestQuery,
    {
      input: {
        name,
        description,
        files,
        stream,
        release,
        treeName: tree,
        group,
        store,
        compositeBytes: compositeSize,
      },
    },
  );
  const { number, status, sizeBytes } = done.publication;
  if (output.json && !options.wait) await output.result(done.publication, '');
  await output.say(
    `publication ${number}: ${name}, ${counted(files.length, 'file')} (${humanBytes(sizeBytes)})` +
      (done.changed ? '' : ', is under way already'),
  );
  if (status === 'AWAITING_APPROVAL') {
    await output.say('an operator must approve of it; "sweepbook publish watch" tells how it goes');
    if (output.json && options.wait) await output.result(done.publication, '');
    return exitCode.done;
  }
  return options.wait ? watchPublication(context, number, sizeBytes) : exitCode.done;
}

interface ListPublicationsOptions extends ListOptions {
  readonly status?: string[];
  readonly of?: string;
}

const listQuery = `query Publications($filter: PublicationFilter, $first: Int, $after: String) {
  publications(filter: $filter, first: $first, after: $after) { nodes { ${publicationFields} } ${pageFields} }
}`;

async function listPublications(
  { client, output }: Context,
  options: ListPublicationsOptions,
): Promise<void> {
  const filter = { status: options.status, requestedBy: options.of };
  const found = paged<{ publications: Connection<PublicationRow> }, PublicationRow>(
    client,
    listQuery,
    { filter },
    (data) => data.publications,
    options,
  );
  await output.list(found, [
    { title: 'PUBLICATION', value: (row) => row.number, align: 'right' },
    { title: 'STATUS', value: (row) => row.status },
    { title: 'DATASET', value: (row) => row.datasetName },
    { title: 'OWNER', value: (row) => row.requestedBy },
    { title: 'ASKED', value: (row) => row.requestedAt },
    { title: 'HOW FAR', value: (row) => stateText(row.progress) },
  ]);
}

interface ReasonOptions {
  readonly reason?: string;
}

/** A command that takes a publication one step on. */
function change(field: string, type: string, now: string, more: object = {}) {
  const query = `mutation Change($input: ${type}!) {
    ${field}(input: $input) { changed publication { ${publicationFields} } }
  }`;
  return async (
    { client, output }: Context,
    { reason }: ReasonOptions,
    id: string,
  ): Promise<void> => {
    const data = await client.call<Record<string, Changed>>(query, {
      input: { publication: id, reason, ...more },
    });
    const done = data[field];
    await output.result(done, `publication ${id} ${now}${done?.changed ? '' : ' already'}`);
  };
}

const retryQuery = `mutation RetryPublication($publication: ID!) {
  retryPublication(publication: $publication) { changed publication { ${publicationFields} } }
}`;

async function retry({ client, output }: Context, _options: object, id: string): Promise<void> {
  const { retryPublication: done } = await client.call<{ retryPublication: Changed }>(retryQuery, {
    publication: id,
  });
  await output.result(
    done,
    done.changed ? `publication ${id} is tried again` : `publication ${id}: nothing to try again`,
  );
}
