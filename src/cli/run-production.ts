import type { Command } from 'commander';
import { addVerb, runs, wordOf, type Context } from './command.ts';
import { readCursor, writeCursor } from './cursor-file.ts';
import { CliError, exitCode, Interrupted, type ExitCode } from './exit-codes.ts';
import { ageOf } from './duration.ts';
import { SeenCursors, watchLog } from './watching.ts';

interface SourceOptions {
  readonly source: string;
}

/** What DQM and production ask of runs; `withSource` adds the run number and --source. */
export function addRunQuestions(
  noun: Command,
  withSource: (command: Command) => Command,
  sources: readonly string[],
): void {
  const progress = addVerb(noun, 'progress', 'what production of a run has done and waits for');
  runs<SourceOptions, [number]>(withSource(progress), showProgress);
  const verdicts = addVerb(noun, 'verdicts', 'what DQM ever said of a run');
  runs<SourceOptions, [number]>(withSource(verdicts), showVerdicts);
  const good = addVerb(noun, 'good', 'the list of good runs, as 36172-36180,36185')
    .option('--dataset <name>', 'those that this dataset holds data of')
    .option('--numbers <list>', 'of these only: 36172-39320,40001')
    .option('--source <source>', 'DATA or SIMULATION', wordOf(sources), 'DATA')
    .option('--lines', 'one run number a line');
  runs<GoodOptions>(good, showGood);
  const watch = addVerb(noun, 'watch', 'each run that becomes AVAILABLE, as it happens')
    .option('--after <cursor>', 'go on after this line of an earlier watch; nothing is missed')
    .option('--cursor-file <file>', 'go on where this file says, and keep it up to date')
    .option('--numbers <list>', 'of these only: 36172-39320,40001')
    .option('--source <source>', 'DATA or SIMULATION', wordOf(sources))
    .option('--stream <name>', 'those with files of this stream');
  runs<WatchOptions>(watch, watchRuns);
}

function noRun(number: number, source: string): CliError {
  return new CliError(
    exitCode.notFound,
    `run ${number} (${source}): there is none that you may see`,
    'NOT_FOUND',
  );
}

interface Progress {
  readonly number: number;
  readonly source: string;
  readonly productionStatus: string;
  readonly production: {
    readonly streams: readonly {
      readonly stream: string | null;
      readonly isExpected: boolean;
      readonly state: string;
      readonly runFileCount: number;
      readonly runFileEventCount: number;
      readonly mergedRunFileCount: number;
      readonly mergedFileCount: number;
      readonly backedUpFileCount: number;
      readonly failedBackupCount: number;
      readonly lastError: string | null;
    }[];
    readonly waitingFor: readonly {
      readonly reason: string;
      readonly stream: string | null;
      readonly fileCount: number;
      readonly since: string;
    }[];
  } | null;
}

const progressQuery = `query Progress($number: Int!, $source: RunSource) {
  run(number: $number, source: $source) {
    number source productionStatus
    production {
      streams {
        stream isExpected state runFileCount runFileEventCount mergedRunFileCount
        mergedFileCount mergedEventCount backedUpFileCount failedBackupCount lastError
      }
      waitingFor { reason stream fileCount since }
    }
  }
}`;

const waitText: Readonly<Record<string, string>> = {
  NOT_ENDED: 'the end of the run is not told',
  NOT_WRITTEN: 'nothing is written',
  NOT_MERGED: 'run files not merged',
  NOT_BACKED_UP: 'merged files not backed up',
  NO_MERGED_FILE: 'no merged file holds it',
};

async function showProgress(
  { client, output }: Context,
  { source }: SourceOptions,
  number: number,
): Promise<void> {
  const { run } = await client.call<{ run: Progress | null }>(progressQuery, { number, source });
  if (run === null) throw noRun(number, source);
  if (output.json) return output.object(run, {});
  await output.say(`run ${run.number} (${run.source}) is ${run.productionStatus}`);
  if (run.production === null) return;
  await output.list(run.production.streams, [
    { title: 'STREAM', value: (row) => row.stream },
    { title: 'STATE', value: (row) => row.state },
    { title: 'WRITTEN', value: (row) => row.runFileCount, align: 'right' },
    { title: 'EVENTS', value: (row) => row.runFileEventCount, align: 'right' },
    { title: 'MERGED', value: (row) => row.mergedRunFileCount, align: 'right' },
    { title: 'INTO', value: (row) => row.mergedFileCount, align: 'right' },
    { title: 'BACKED UP', value: (row) => row.backedUpFileCount, align: 'right' },
    { title: 'FAILED', value: (row) => row.failedBackupCount, align: 'right' },
    { title: 'LAST ERROR', value: (row) => row.lastError },
  ]);
  for (const { reason, stream, fileCount, since } of run.production.waitingFor) {
    const where = stream === null ? '' : `${stream}: `;
    const count = fileCount === 0 ? '' : ` (${fileCount})`;
    const what = `waits: ${where}${waitText[reason] ?? reason}${count}`;
    await output.say(`${what}, for ${ageOf(since)} (since ${since})`);
  }
}

interface Verdict {
  readonly from: string | null;
  readonly to: string | null;
  readonly comment: string | null;
  readonly actor: string;
  readonly occurredAt: string;
}

const verdictsQuery = `query Verdicts($number: Int!, $source: RunSource) {
  run(number: $number, source: $source) { verdicts { from to comment actor occurredAt } }
}`;

async function showVerdicts(
  { client, output }: Context,
  { source }: SourceOptions,
  number: number,
): Promise<void> {
  const { run } = await client.call<{ run: { verdicts: readonly Verdict[] } | null }>(
    verdictsQuery,
    { number, source },
  );
  if (run === null) throw noRun(number, source);
  await output.list(run.verdicts, [
    { title: 'TIME', value: (row) => row.occurredAt },
    { title: 'VERDICT', value: (row) => (row.from === null ? row.to : `${row.from} → ${row.to}`) },
    { title: 'WHO', value: (row) => row.actor },
    { title: 'COMMENT', value: (row) => row.comment },
  ]);
}

interface GoodOptions extends SourceOptions {
  readonly dataset?: string;
  readonly numbers?: string;
  readonly lines?: boolean;
}

interface GoodRuns {
  readonly count: number;
  readonly ranges: string;
  readonly numbers: readonly number[];
}

const goodQuery = `query Good($source: RunSource, $numbers: String, $dataset: String) {
  goodRuns(source: $source, numbers: $numbers, dataset: $dataset) {
    count ranges numbers eventCount luminosity
  }
}`;

async function showGood({ client, output }: Context, options: GoodOptions): Promise<void> {
  const { source, numbers, dataset, lines } = options;
  const { goodRuns } = await client.call<{ goodRuns: GoodRuns | null }>(goodQuery, {
    source,
    numbers,
    dataset,
  });
  if (goodRuns === null) {
    throw new CliError(
      exitCode.notFound,
      `dataset ${dataset}: there is none that you may see`,
      'NOT_FOUND',
    );
  }
  const text = lines ? goodRuns.numbers.join('\n') : goodRuns.ranges;
  if (output.json) await output.object(goodRuns, {});
  // Nothing but the list, for scripts; no good run is an empty list.
  else if (text !== '') await output.write(`${text}\n`);
}

interface WatchOptions {
  readonly after?: string;
  readonly cursorFile?: string;
  readonly numbers?: string;
  readonly source?: string;
  readonly stream?: string;
}

interface RunEvent {
  readonly cursor: string;
  readonly actor: string;
  readonly occurredAt: string;
  readonly run: {
    readonly number: number;
    readonly source: string;
    readonly eventCount: number | null;
    readonly luminosity: number | null;
  };
}

const watchQuery = `subscription Runs($filter: RunFilter, $after: String) {
  runBecameAvailable(filter: $filter, after: $after) {
    cursor actor occurredAt run { number source eventCount luminosity conditions verdict }
  }
}`;

async function watchRuns(context: Context, options: WatchOptions): Promise<ExitCode> {
  const { numbers, source, stream, cursorFile } = options;
  const seen = new SeenCursors();
  let cursor = options.after ?? (await readCursor(cursorFile));
  try {
    await watchLog<{ runBecameAvailable: RunEvent }>(context, {
      query: watchQuery,
      variables: () => ({ filter: { numbers, source, stream }, after: cursor }),
      take: async ({ runBecameAvailable: event }) => {
        if (seen.isNew(event.cursor)) await context.output.result(event, lineOf(event));
        cursor = event.cursor;
        await writeCursor(cursorFile, cursor);
        return false;
      },
    });
    return exitCode.done;
  } catch (error) {
    if (!(error instanceof Interrupted) && !context.signal.aborted) throw error;
    throw new Interrupted(
      cursor === undefined ? 'interrupted' : `continue with: sweepbook run watch --after ${cursor}`,
    );
  }
}

function lineOf({ occurredAt, run, cursor }: RunEvent): string {
  const facts = [
    ...(run.eventCount === null ? [] : [`${run.eventCount} events`]),
    ...(run.luminosity === null ? [] : [`${run.luminosity} /pb`]),
  ];
  return [occurredAt, `${run.number} (${run.source})`, 'is AVAILABLE', ...facts, cursor].join('  ');
}
