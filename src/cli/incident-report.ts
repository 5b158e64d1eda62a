import type { Command } from 'commander';
import { addVerb, repeated, runs, type Context } from './command.ts';
import { exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { renderTable, counted, humanBytes } from './table.ts';
import { visible } from './visible.ts';

export function addReportCommand(noun: Command): void {
  const command = addVerb(
    noun,
    'report',
    'what a loss of storage hits; with --yes reports it: datasets that lost a file are marked bad',
  )
    .option('--volume <name>', 'all copies on this volume')
    .option('--site <name>', 'site of --volume, --path-prefix or --path')
    .option('--path-prefix <path>', 'all copies at the site whose path begins so')
    .option(
      '--store <name>',
      'backups in this mass store; with --path-prefix, --path or --lfn, those',
    )
    .option('--path <path>', 'the copy at this path; may be given several times', repeated)
    .option('--lfn <name>', 'the copies of this file; may be given several times', repeated)
    .option('--since <time>', 'only copies told since then (RFC 3339)')
    .option('--until <time>', 'only copies told until then')
    .option('--back-up-to <store>', 'with --store: where lost backups are asked for again')
    .requiredOption('--reason <text>', 'what happened')
    .option('--dry-run', 'only look (as without --yes)')
    .option('--yes', 'do it');
  runs<ReportOptions>(command, report);
}

interface ReportOptions {
  readonly volume?: string;
  readonly site?: string;
  readonly pathPrefix?: string;
  readonly store?: string;
  readonly path?: readonly string[];
  readonly lfn?: readonly string[];
  readonly since?: string;
  readonly until?: string;
  readonly backUpTo?: string;
  readonly reason: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

interface Loss {
  readonly incident: { readonly number: number } | null;
  readonly changed: boolean;
  readonly dryRun: boolean;
  readonly itemCount: number;
  readonly safeCount: number;
  readonly recoverableCount: number;
  readonly lostCount: number;
  readonly alreadyLostCount: number;
  readonly unknownCount: number;
  readonly unknown: readonly string[];
  readonly lostFileCount: number;
  readonly lostBytes: number;
  readonly runCount: number;
  readonly lostRunCount: number;
  readonly lostRuns: readonly { readonly source: string; readonly numbers: string }[];
  readonly datasetCount: number;
  readonly markedDatasetCount: number;
  readonly ownerCount: number;
  readonly derivedCount: number;
  readonly items: readonly {
    readonly finding: string;
    readonly lfn: string;
    readonly sizeBytes: number;
    readonly place: string;
    readonly path: string;
  }[];
  readonly datasets: readonly {
    readonly name: string;
    readonly owner: string;
    readonly status: string;
    readonly fileCount: number;
    readonly hitCount: number;
    readonly lostCount: number;
    readonly unbackedCount: number;
    readonly isMarked: boolean;
  }[];
  readonly owners: readonly {
    readonly owner: string;
    readonly datasetCount: number;
    readonly markedCount: number;
  }[];
  readonly derived: readonly {
    readonly lfn: string;
    readonly lostInputCount: number;
    readonly inputCount: number;
    readonly datasets: readonly string[];
  }[];
}

const query = `mutation ReportLoss($input: ReportStorageLossInput!) {
  reportStorageLoss(input: $input) {
    incident { number } changed dryRun itemCount safeCount recoverableCount lostCount alreadyLostCount
    unknownCount unknown fileCount lostFileCount lostBytes runCount lostRunCount lostRuns { source numbers }
    datasetCount markedDatasetCount ownerCount derivedCount
    items { finding lfn sizeBytes place path }
    datasets { name owner status backupWaived fileCount hitCount lostCount unbackedCount isMarked }
    owners { owner datasetCount markedCount lostCount }
    derived { lfn lostInputCount inputCount isLost datasets }
  }
}`;

/** Lines of each list on a terminal; --json and "incident show" have all. */
const mostShown = 20;

async function report({ client, output }: Context, options: ReportOptions): Promise<ExitCode> {
  if (options.yes && options.dryRun) throw wrongUsage('--yes or --dry-run: one of the two');
  const { volume, site, pathPrefix, store, path, lfn, since, until, backUpTo, reason } = options;
  const input = {
    volume,
    site,
    pathPrefix,
    massStore: store,
    paths: path,
    lfns: lfn,
    since,
    until,
    backUpTo,
    reason,
    dryRun: !options.yes,
  };
  const { reportStorageLoss: loss } = await client.call<{ reportStorageLoss: Loss }>(query, {
    input,
  });
  if (output.json) await output.write(`${JSON.stringify(loss)}\n`);
  else await output.write(textOf(loss));
  return loss.itemCount === 0 && loss.unknownCount > 0 ? exitCode.notFound : exitCode.done;
}

function textOf(loss: Loss): string {
  const lines = [
    `${counted(loss.itemCount, 'copy').replace(/copys$/, 'copies')} hit: ${loss.safeCount} safe, ` +
      `${loss.recoverableCount} recoverable, ${loss.lostCount} lost ` +
      `(${counted(loss.lostFileCount, 'file')}, ${humanBytes(loss.lostBytes)})`,
    `${counted(loss.datasetCount, 'dataset')} hit, ${loss.markedDatasetCount} marked bad, of ${counted(loss.ownerCount, 'owner')}`,
    `${counted(loss.runCount, 'run')} hit, ${loss.lostRunCount} with lost data` +
      loss.lostRuns.map((of) => `; ${of.source} ${of.numbers.slice(0, 200)}`).join(''),
    ...(loss.alreadyLostCount > 0 ? [`${loss.alreadyLostCount} were lost before`] : []),
    ...(loss.unknownCount > 0
      ? [
          `${loss.unknownCount} unknown: ${loss.unknown.slice(0, mostShown).map(visible).join(', ')}`,
        ]
      : []),
  ];
  return `${lines.join('\n')}\n${tables(loss)}${ending(loss)}\n`;
}

function tables(loss: Loss): string {
  const parts: string[] = [];
  const add = (all: number, shown: number, table: string) => {
    const rest = all - shown;
    parts.push(`\n${table}${rest > 0 ? `… and ${rest} more: --json, or "incident show"\n` : ''}`);
  };
  const items = loss.items.filter((item) => item.finding !== 'SAFE').slice(0, mostShown);
  if (items.length > 0) {
    const table = renderTable(items, [
      { title: 'FOUND', value: (row) => row.finding },
      { title: 'FILE', value: (row) => row.lfn },
      { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
      { title: 'PLACE', value: (row) => row.place },
      { title: 'PATH', value: (row) => row.path },
    ]);
    add(loss.recoverableCount + loss.lostCount, items.length, table);
  }
  const datasets = loss.datasets.slice(0, mostShown);
  if (datasets.length > 0) {
    const table = renderTable(datasets, [
      { title: 'DATASET', value: (row) => row.name },
      { title: 'OWNER', value: (row) => row.owner },
      { title: 'STATUS', value: (row) => row.status },
      { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
      { title: 'HIT', value: (row) => row.hitCount, align: 'right' },
      { title: 'LOST', value: (row) => row.lostCount, align: 'right' },
      { title: 'NO BACKUP', value: (row) => row.unbackedCount, align: 'right' },
      { title: 'BAD', value: (row) => (row.isMarked ? 'yes' : 'no') },
    ]);
    add(loss.datasetCount, datasets.length, table);
  }
  const derived = loss.derived.slice(0, mostShown);
  if (derived.length > 0) {
    const table = renderTable(derived, [
      { title: 'MADE OF LOST FILES', value: (row) => row.lfn },
      { title: 'LOST INPUTS', value: (row) => `${row.lostInputCount} of ${row.inputCount}` },
      { title: 'IN DATASETS', value: (row) => row.datasets.join(', ') },
    ]);
    add(loss.derivedCount, derived.length, table);
  }
  return parts.join('');
}

function ending(loss: Loss): string {
  if (loss.dryRun) {
    return loss.itemCount === 0
      ? '\nnothing would be changed'
      : '\nnothing was changed: with --yes it is reported';
  }
  if (loss.changed) {
    return `\nincident ${loss.incident?.number} is OPEN: "sweepbook incident recover ${loss.incident?.number}" brings back what can be`;
  }
  return loss.incident === null
    ? '\nnothing was hit, nothing was changed'
    : `\nnothing was changed: incident ${loss.incident.number} tells of it already`;
}
