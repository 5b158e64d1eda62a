import type { Command } from 'commander';
import { addVerb, runs, wordsOf, type Context } from './command.ts';
import { addListOptions, paged, pageFields, type Connection, type ListOptions } from './pages.ts';

const states = [
  'REPORTED',
  'SUSPICIOUS',
  'CHECKING',
  'CHECKED_GOOD',
  'BAD',
  'UNREADABLE_FROM_HERE',
  'OBSOLETE',
];

/** Under the noun "file": what jobs could not read, and what came of it. */
export function addSuspicionCommands(noun: Command): void {
  const report = addVerb(
    noun,
    'report-failure <lfn> <url>',
    'say that a job could not read a copy; enough different jobs, and a worker reads it. <url> = what the job tried to open',
  )
    .requiredOption('--error <text>', 'what went wrong')
    .requiredOption('--job <id>', 'the job, as its batch system calls it');
  runs<ReportOptions, [string, string]>(report, reportFailure);

  const list = addVerb(noun, 'suspicious', 'copies that jobs could not read, the newest first')
    .option(
      '--state <states>',
      `${states.join(', ')}; several with commas, or all`,
      wordsOf(states),
    )
    .option('--lfn <pattern>', 'files of such names (* and ?)')
    .option('--volume <name>', 'copies on this volume')
    .option('--store <name>', 'copies in this mass store');
  runs<SuspiciousOptions>(addListOptions(list), listSuspicious);

  runs<object, [string]>(
    addVerb(noun, 'check-copy <id>', 'have a suspicious copy read now, however few jobs said so'),
    checkCopy,
  );
}

interface ReportOptions {
  readonly error: string;
  readonly job: string;
}

const reportQuery = `mutation ReportReadFailure($input: ReportReadFailureInput!) {
  reportReadFailure(input: $input) { lfn isNew state }
}`;

async function reportFailure(
  { client, output }: Context,
  { error, job }: ReportOptions,
  lfn: string,
  url: string,
): Promise<void> {
  const { reportReadFailure: done } = await client.call<{
    reportReadFailure: { lfn: string; isNew: boolean; state: string };
  }>(reportQuery, { input: { lfn, url, error, job } });
  const known = done.isNew ? '' : ' (this job had said so before)';
  await output.result(done, `${lfn}: reported${known}, the copy is ${done.state}`);
}

interface SuspiciousOptions extends ListOptions {
  readonly state?: string[];
  readonly lfn?: string;
  readonly volume?: string;
  readonly store?: string;
}

interface SuspiciousCopy {
  readonly id: string;
  readonly lfn: string;
  readonly volume: string | null;
  readonly store: string | null;
  readonly path: string | null;
  readonly state: string;
  readonly jobCount: number;
  readonly reportCount: number;
  readonly lastReportedAt: string;
  readonly lastError: string | null;
  readonly finding: string | null;
}

const copyFields = `id lfn volume store path state jobCount reportCount firstReportedAt lastReportedAt lastError
  checkedAt worker finding reports { job principal url error reportCount lastAt }`;

const listQuery = `query Suspicious($filter: SuspiciousCopyFilter, $first: Int, $after: String) {
  suspiciousCopies(filter: $filter, first: $first, after: $after) { nodes { ${copyFields} } ${pageFields} }
}`;

async function listSuspicious(
  { client, output }: Context,
  { state, lfn, volume, store, ...options }: SuspiciousOptions,
): Promise<void> {
  const filter = { state, volume, store, ...(lfn === undefined ? {} : { lfn: { glob: lfn } }) };
  const copies = paged<{ suspiciousCopies: Connection<SuspiciousCopy> }, SuspiciousCopy>(
    client,
    listQuery,
    { filter },
    (data) => data.suspiciousCopies,
    options,
  );
  await output.list(copies, [
    { title: 'ID', value: (copy) => copy.id },
    { title: 'STATE', value: (copy) => copy.state },
    { title: 'JOBS', value: (copy) => String(copy.jobCount), align: 'right' },
    { title: 'LFN', value: (copy) => copy.lfn },
    { title: 'COPY', value: (copy) => `${copy.volume ?? copy.store}:${copy.path ?? ''}` },
    { title: 'LAST REPORT', value: (copy) => copy.lastReportedAt },
    { title: 'WHY', value: (copy) => copy.finding ?? copy.lastError },
  ]);
}

const checkQuery = `mutation CheckSuspiciousCopy($id: ID!) {
  checkSuspiciousCopy(id: $id) { changed copy { ${copyFields} } }
}`;

async function checkCopy({ client, output }: Context, _options: object, id: string): Promise<void> {
  const { checkSuspiciousCopy: done } = await client.call<{
    checkSuspiciousCopy: { changed: boolean; copy: SuspiciousCopy };
  }>(checkQuery, { id });
  const { lfn, state } = done.copy;
  await output.result(
    done,
    done.changed ? `${lfn}: a worker is going to read it` : `${lfn}: the copy is ${state}`,
  );
}
