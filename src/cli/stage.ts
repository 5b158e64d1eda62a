import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { durationSeconds } from './duration.ts';
import { CliError, exitCode, Interrupted, wrongUsage, type ExitCode } from './exit-codes.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';
import { complain } from './print.ts';
import { startProgress } from './progress.ts';
import {
  bytesText,
  pinText,
  stageFields,
  stageProgressFields,
  stageText,
  type StageProgress,
  type StageRow,
} from './stage-facts.ts';
import { humanBytes } from './table.ts';
import { watchLog } from './watching.ts';

export function addStageCommands(program: Command): void {
  const noun = addVerb(
    program,
    'stage [files...]',
    'bring files from the mass stores into a pool, and pin them there; by LFN, or a whole dataset',
  )
    .enablePositionalOptions()
    .option('--dataset <name>', 'all files of this dataset')
    .option('--pool <name>', 'into this pool; the only one, if not given')
    .option(
      '--pin <time>',
      'how long they stay, from when they are there: 12h, 7d',
      durationSeconds,
    )
    .option('--wait', 'wait until they are there');
  runs<StageOptions, [string[]]>(noun, stage);
  const list = addVerb(noun, 'list', 'what was staged, the last one first')
    .option('--pool <name>', 'into this pool')
    .option('--dataset <name>', 'of this dataset')
    .option('--by <principal>', 'by whom, for operators')
    .option('--released', 'what was released too');
  runs<ListStagesOptions>(addListOptions(list), listStages);
  const show = addVerb(noun, 'show <request>', 'all about one request, by its number')
    .option('--files', 'its files')
    .option('--failed', 'its files that FAILED, with the reason');
  runs<ShowOptions, [string]>(addListOptions(show), showStage);
  runs<object, [string]>(
    addVerb(noun, 'watch <request>', 'follow a request until nothing is on its way'),
    async (context, _options, id) => watchStage(context, await findStage(context, id)),
  );
  runs<object, [string, string[]]>(
    addVerb(noun, 'release <request> [files...]', 'take its pins off, or those of some files'),
    release,
  );
}

interface StageOptions {
  readonly dataset?: string;
  readonly pool?: string;
  readonly pin?: number;
  readonly wait?: boolean;
}

const payload = `changed request { ${stageFields} }`;
const stageQuery = `mutation Stage($input: StageFilesInput!) { stageFiles(input: $input) { ${payload} } }`;

async function stage(
  context: Context,
  { dataset, pool, pin, wait }: StageOptions,
  files: readonly string[],
): Promise<ExitCode> {
  if ((dataset !== undefined) === files.length > 0) {
    throw wrongUsage('name files, or a dataset with --dataset');
  }
  const input = {
    ...(dataset === undefined ? { lfns: files } : { dataset }),
    pool,
    pinSeconds: pin,
  };
  const { stageFiles } = await context.client.call<{
    stageFiles: { changed: boolean; request: StageRow };
  }>(stageQuery, { input });
  const { request, changed } = stageFiles;
  if (wait) return watchStage(context, request);
  await context.output.result(
    { ...request, changed },
    `stage request ${request.number}, pool ${request.pool}: ${stageText(request.progress)}`,
  );
  return exitCode.done;
}

const watchQuery = `subscription StageProgress($request: ID!) {
  stageProgress(request: $request) { ${stageProgressFields} }
}`;

/** Follows a request, with a bar, until nothing is on its way. Exit 0 all online, 3 something is not. */
async function watchStage(context: Context, request: StageRow): Promise<ExitCode> {
  const { output, signal } = context;
  const { number, pool } = request;
  let last: StageProgress | undefined;
  const bar = startProgress('staging', request.sizeBytes);
  const take = async ({ stageProgress }: { stageProgress: StageProgress }): Promise<boolean> => {
    last = stageProgress;
    bar.update(last.copiedBytes, stageText(last));
    return last.state !== 'RUNNING';
  };
  try {
    // What happens while the connection is lost is in the next answer.
    await watchLog(context, {
      query: watchQuery,
      variables: () => ({ request: String(number) }),
      take,
    });
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Interrupted(
      `interrupted; the files still come: watch them with "sweepbook stage watch ${number}"`,
    );
  } finally {
    bar.stop();
  }
  if (!last) return exitCode.failed;
  const pinned = pinText(last);
  await output.result(
    { number, pool, ...last },
    `stage request ${number}, pool ${pool}: ${stageText(last)}${pinned === null ? '' : `, pinned until ${pinned}`}`,
  );
  if (last.state === 'ONLINE') return exitCode.done;
  if (last.lastError !== null) complain(last.lastError);
  complain(`look at "sweepbook stage show ${number} --files"`);
  return exitCode.partly;
}

interface ListStagesOptions extends ListOptions {
  readonly pool?: string;
  readonly dataset?: string;
  readonly by?: string;
  readonly released?: boolean;
}

const listQuery = `query Stages($filter: StageRequestFilter, $first: Int, $after: String) {
  stageRequests(filter: $filter, first: $first, after: $after) { nodes { ${stageFields} } ${pageFields} }
}`;

async function listStages({ client, output }: Context, options: ListStagesOptions): Promise<void> {
  const { pool, dataset, by, released } = options;
  const filter = { pool, dataset, requestedBy: by, isReleased: released ? null : false };
  const found = paged<{ stageRequests: Connection<StageRow> }, StageRow>(
    client,
    listQuery,
    { filter },
    (data) => data.stageRequests,
    options,
  );
  await output.list(found, [
    { title: 'REQUEST', value: (row) => row.number, align: 'right' },
    { title: 'STATE', value: ({ progress }) => progress.state },
    { title: 'POOL', value: (row) => row.pool },
    { title: 'BY', value: (row) => row.principal },
    { title: 'DATASET', value: (row) => row.dataset },
    { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
    { title: 'FILES', value: ({ progress }) => stageText(progress) },
    { title: 'PINNED UNTIL', value: ({ progress }) => pinText(progress) },
  ]);
}

const findQuery = `query Stage($id: ID!) { stageRequest(id: $id) { ${stageFields} } }`;

async function findStage({ client }: Context, id: string): Promise<StageRow> {
  const { stageRequest } = await client.call<{ stageRequest: StageRow | null }>(findQuery, { id });
  if (stageRequest) return stageRequest;
  throw new CliError(exitCode.notFound, `no stage request ${id}: look at "stage list"`);
}

interface ShowOptions extends ListOptions {
  readonly files?: boolean;
  readonly failed?: boolean;
}

async function showStage(context: Context, options: ShowOptions, id: string): Promise<void> {
  if (options.files || options.failed) return showFiles(context, options, id);
  const found = await findStage(context, id);
  const { progress } = found;
  await context.output.object(found, {
    request: String(found.number),
    state: progress.state,
    pool: found.pool,
    dataset: found.dataset,
    files: stageText(progress),
    bytes: bytesText(progress),
    'asked for': `${found.requestedAt} by ${found.principal}`,
    'pinned until': pinText(progress),
    released: found.releasedAt && `${found.releasedAt} by ${found.releasedBy}`,
    error: progress.lastError,
  });
}

interface FileRow {
  readonly lfn: string;
  readonly sizeBytes: number;
  readonly status: string;
  readonly copiedBytes: number;
  readonly pinnedUntil: string | null;
  readonly isReleased: boolean;
  readonly attempts: number;
  readonly nextAttemptAt: string | null;
  readonly lastError: string | null;
}

const filesQuery = `query StagedFiles($id: ID!, $status: [PoolCopyStatus!], $first: Int, $after: String) {
  stageRequest(id: $id) { files(status: $status, first: $first, after: $after) {
    nodes { lfn sizeBytes status copiedBytes pinnedUntil isReleased attempts nextAttemptAt lastErrorCode lastError }
    ${pageFields} } }
}`;

async function showFiles(context: Context, options: ShowOptions, id: string): Promise<void> {
  const { client, output } = context;
  await findStage(context, id);
  const found = paged<{ stageRequest: { files: Connection<FileRow> } }, FileRow>(
    client,
    filesQuery,
    { id, status: options.failed ? ['FAILED'] : null },
    (data) => data.stageRequest.files,
    options,
  );
  await output.list(found, [
    { title: 'STATUS', value: (file) => file.status },
    { title: 'LFN', value: (file) => file.lfn },
    { title: 'HERE', value: (file) => humanBytes(file.copiedBytes), align: 'right' },
    { title: 'SIZE', value: (file) => humanBytes(file.sizeBytes), align: 'right' },
    {
      title: 'PINNED UNTIL',
      value: (file) => (file.isReleased ? 'released' : file.pinnedUntil),
    },
    { title: 'NEXT', value: (file) => file.nextAttemptAt },
    { title: 'ERROR', value: (file) => file.lastError },
  ]);
}

const releaseQuery = `mutation Release($input: ReleaseStageInput!) { releaseStage(input: $input) { ${payload} } }`;

async function release(
  { client, output }: Context,
  _options: object,
  request: string,
  files: readonly string[],
): Promise<void> {
  const input = { request, lfns: files.length > 0 ? files : null };
  const { releaseStage } = await client.call<{
    releaseStage: { changed: boolean; request: StageRow };
  }>(releaseQuery, { input });
  const what = files.length > 0 ? `${files.length} files of stage request` : 'stage request';
  await output.result(
    { ...releaseStage.request, changed: releaseStage.changed },
    releaseStage.changed ? `${what} ${request} released` : `${what} ${request}: released already`,
  );
}
