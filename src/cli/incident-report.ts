import type { Command } from 'commander';
import { addVerb, repeated, runs, type Context } from './command.ts';
import { exitCode, wrongUsage, type ExitCode } from './exit-codes.ts';
import { tableFields, textOfReport, type Report } from './incident-table.ts';
import { visibleJson } from '../text.ts';

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

const query = `mutation ReportLoss($input: ReportStorageLossInput!) {
  reportStorageLoss(input: $input) {
    incident { number } changed dryRun alreadyLostCount unknownCount unknown ${tableFields}
  }
}`;

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
  const { reportStorageLoss: loss } = await client.call<{ reportStorageLoss: Report }>(query, {
    input,
  });
  if (output.json) await output.write(`${visibleJson(loss)}\n`);
  else await output.write(textOfReport(loss));
  return loss.itemCount === 0 && loss.unknownCount > 0 ? exitCode.notFound : exitCode.done;
}
