import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';
import { ageOf, durationSeconds } from './duration.ts';
import { exitCode, type ExitCode } from './exit-codes.ts';
import { counted, humanBytes } from './table.ts';

export function addStuckCommand(program: Command): void {
  const command = addVerb(program, 'stuck', 'what does not go on, why, and what to do about it')
    .option(
      '--older-than <time>',
      'sweeps, backups and datasets that wait longer than 90s, 30m, 12h, 1d, 2w ' +
        '(if not given: sweeps 1d, backups 1h, datasets 7d)',
      durationSeconds,
    )
    .addHelpText(
      'after',
      '\nExit code 0: nothing is stuck. 3: something is. Any other: the report could not be made.',
    );
  runs<StuckOptions>(command, showStuck);
}

interface StuckOptions {
  readonly olderThan?: number;
}

interface Group {
  readonly store: string;
  readonly count: number;
  readonly sizeBytes: number;
  readonly oldestAt: string;
  readonly exampleLfn: string;
  readonly lastError: string | null;
  readonly advice: string;
}

interface Report {
  readonly asOf: string;
  readonly storesDown: readonly { readonly name: string; readonly detail: string }[];
  readonly sweeps: {
    readonly totalCount: number;
    readonly nodes: readonly {
      readonly dataset: { readonly name: string; readonly owner: string };
      readonly store: string;
      readonly requestedBy: string;
      readonly requestedAt: string;
      readonly total: number;
      readonly confirmed: number;
      readonly failed: number;
      readonly copying: number;
      readonly waiting: number;
      readonly lastError: string | null;
      readonly trouble: string;
      readonly advice: string;
    }[];
  };
  readonly failedBackups: readonly (Group & { status: string; errorCode: string | null })[];
  readonly waitingBackups: readonly (Group & { reason: string; nextAttemptAt: string | null })[];
  readonly datasets: {
    readonly totalCount: number;
    readonly nodes: readonly {
      readonly dataset: {
        readonly name: string;
        readonly owner: string;
        readonly status: string;
        readonly createdAt: string;
        readonly fileCount: number;
        readonly confirmedCount: number;
      };
      readonly trouble: string;
      readonly advice: string;
    }[];
  };
  readonly badDatasets: readonly {
    readonly reason: string;
    readonly incidentNumber: number | null;
    readonly datasetCount: number;
    readonly publishedCount: number;
    readonly fileCount: number;
    readonly sizeBytes: number;
    readonly oldestAt: string;
    readonly markedBy: string;
    readonly exampleDataset: string;
  }[];
}

const group = 'store count sizeBytes oldestAt exampleLfn lastError advice';
const query = (age: string) => `query Stuck${age === '' ? '' : '($age: Int)'} {
  stuck {
    asOf
    storesDown { name detail }
    sweeps${age} {
      totalCount
      nodes {
        dataset { name owner } store requestedBy requestedAt total confirmed failed copying waiting
        lastError trouble advice
      }
    }
    failedBackups { ${group} status errorCode }
    waitingBackups${age} { ${group} reason nextAttemptAt }
    datasets${age} {
      totalCount
      nodes { dataset { name owner status createdAt fileCount confirmedCount } trouble advice }
    }
    badDatasets {
      reason incidentNumber datasetCount publishedCount fileCount sizeBytes oldestAt markedBy exampleDataset
    }
  }
}`;

/** One thing that is stuck: its lines for people, and itself for --json. */
interface Item {
  readonly kind: string;
  readonly value: object;
  readonly lines: readonly (string | undefined)[];
}

async function showStuck({ client, output }: Context, options: StuckOptions): Promise<ExitCode> {
  const { olderThan } = options;
  const { stuck } =
    olderThan === undefined
      ? await client.call<{ stuck: Report }>(query(''))
      : await client.call<{ stuck: Report }>(query('(olderThanSeconds: $age)'), { age: olderThan });
  const sections = sectionsOf(stuck);
  const items = sections.flatMap((section) => section.items);
  if (output.json) {
    await output.list(
      items.map(({ kind, value }) => ({ kind, ...value })),
      [],
    );
  } else if (items.length === 0) {
    await output.say('nothing is stuck');
  }
  for (const { title, items: shown } of sections) {
    if (shown.length === 0) continue;
    await output.say(title);
    for (const line of shown.flatMap((item) => item.lines)) {
      if (line !== undefined) await output.say(`  ${line}`);
    }
  }
  return items.length === 0 ? exitCode.done : exitCode.partly;
}

const error = (text: string | null) => (text === null ? undefined : `  last error: ${text}`);
const todo = (text: string) => `  → ${text}`;

function sectionsOf(stuck: Report): readonly { title: string; items: readonly Item[] }[] {
  const of = <Value extends object>(
    kind: string,
    values: readonly Value[],
    lines: (value: Value) => readonly (string | undefined)[],
  ): Item[] => values.map((value) => ({ kind, value, lines: lines(value) }));
  const { storesDown, sweeps, failedBackups, waitingBackups, datasets, badDatasets } = stuck;
  return [
    {
      title: `${counted(storesDown.length, 'mass store')} down`,
      items: of('STORE_DOWN', storesDown, (row) => [`${row.name}: ${row.detail}`]),
    },
    {
      title: `${counted(sweeps.totalCount, 'sweep')} under way for long`,
      items: of('SWEEP', sweeps.nodes, (row) => [
        `${row.dataset.name}: ${row.confirmed} of ${row.total} confirmed in ${row.store}, ${row.failed} failed, ` +
          `${row.copying} copying, ${row.waiting} waiting; asked for ${ageOf(row.requestedAt)} ago by ${row.requestedBy}`,
        error(row.lastError),
        todo(row.advice),
      ]),
    },
    {
      title: 'backups given up',
      items: of('FAILED_BACKUPS', failedBackups, (row) => [
        `${row.count} ${row.status} ${row.errorCode ?? ''} in ${row.store}, ${humanBytes(row.sizeBytes)}, ` +
          `since ${ageOf(row.oldestAt)}, ${row.exampleLfn} for one`,
        error(row.lastError),
        todo(row.advice),
      ]),
    },
    {
      title: 'backups that wait for long',
      items: of('WAITING_BACKUPS', waitingBackups, (row) => [
        `${row.count} ${row.reason} in ${row.store}, ${humanBytes(row.sizeBytes)}, for ${ageOf(row.oldestAt)}, ` +
          `${row.exampleLfn} for one${row.nextAttemptAt === null ? '' : `; next attempt ${row.nextAttemptAt}`}`,
        error(row.lastError),
        todo(row.advice),
      ]),
    },
    {
      title: `${counted(datasets.totalCount, 'dataset')} not closed for long`,
      items: of('DATASET', datasets.nodes, ({ dataset, trouble, advice }) => [
        `${dataset.name} (${dataset.owner}): ${dataset.status} for ${ageOf(dataset.createdAt)}, ` +
          `${dataset.confirmedCount} of ${counted(dataset.fileCount, 'file')} backed up: ${trouble}`,
        todo(advice),
      ]),
    },
    {
      title: 'bad datasets',
      items: of('BAD_DATASETS', badDatasets, (row) => [
        `${counted(row.datasetCount, 'dataset')} (${row.publishedCount} were published), ` +
          `${counted(row.fileCount, 'file')}, ${humanBytes(row.sizeBytes)}: “${row.reason}” ` +
          `(${row.markedBy}, ${ageOf(row.oldestAt)} ago), ${row.exampleDataset} for one`,
        row.incidentNumber === null
          ? undefined
          : todo(`"sweepbook incident show ${row.incidentNumber}" tells what each has lost.`),
      ]),
    },
  ];
}
