import { backupSteps, type BackupStatus } from '../src/backups/backups.rules.ts';
import { datasetSteps, type DatasetStatus } from '../src/datasets/datasets.rules.ts';
import { replicaSteps, type ReplicaStatus } from '../src/files/files.rules.ts';
import { importSteps, type ImportStatus } from '../src/imports/imports.rules.ts';
import { incidentSteps, type IncidentStatus } from '../src/incidents/incidents.rules.ts';
import {
  publicationSteps,
  type PublicationStatus,
} from '../src/publications/publications.rules.ts';
import type { Step } from '../src/events/events.rules.ts';
import { poolCopySteps, type PoolCopyStatus } from '../src/pools/pools.rules.ts';
import { runSteps, type ProductionStatus } from '../src/runs/runs.rules.ts';
import { suspicionSteps, type SuspicionState } from '../src/suspicions/suspicions.rules.ts';

const datasetStates: Readonly<Record<DatasetStatus, string>> = {
  OPEN: 'Files come and go, unless a sweep has sealed it. Only producers, operators and its owner see it.',
  BACKED_UP:
    'Every one of its files has a confirmed backup, and no file comes or goes. Users do not see it yet.',
  CLOSED: 'Published, and immutable for good. Everybody sees it, unless it carries a bad mark.',
};

const backupStates: Readonly<Record<BackupStatus, string>> = {
  REQUESTED: 'Asked for; waits for a worker, or for the time of the next attempt.',
  COPYING: 'A worker holds the lease and copies under a temporary name.',
  COPIED: 'All bytes are in the store, and nobody has asked the store about them yet.',
  CONFIRMED: 'The store answered with the size and the checksums that were registered.',
  FAILED: 'Given up, with the reason; somebody has to ask again.',
  LOST: 'Was confirmed, and an audit found it gone or corrupt.',
};

const runStates: Readonly<Record<ProductionStatus, string>> = {
  IN_PRODUCTION:
    'Something of it is not written, not merged or not backed up. DQM learns only this.',
  AVAILABLE: 'All of it is safe; DQM sees its files, events and luminosity. It stays so.',
};

const replicaStates: Readonly<Record<ReplicaStatus, string>> = {
  AVAILABLE: 'It is there, as far as anybody knows.',
  STAGING: 'It is said to be there, or on its way from a mass store; nobody has read it yet.',
  LOST: 'It is gone, or something else; its incident says since when and why.',
  EVICTED: 'It was a copy in a pool, which is a cache: it has made room for others.',
};

const incidentStates: Readonly<Record<IncidentStatus, string>> = {
  OPEN: 'Something is lost, and what is told of it is looked at.',
  RECOVERING: 'Workers bring back what can be brought back, and read what may be there again.',
  CLOSED: 'All is back; or an operator has closed it, and what is not back stays lost.',
  UNDONE: 'It was a mistake: its replicas are AVAILABLE again, and its marks are gone.',
};

const suspicionStates: Readonly<Record<SuspicionState, string>> = {
  REPORTED: 'Jobs could not read a copy; too few of them to have it checked.',
  SUSPICIOUS: 'Enough different jobs said so: it waits for a worker that can read there.',
  CHECKING: 'A worker holds the lease and reads the copy in full.',
  CHECKED_GOOD: 'Size and checksums are the registered ones; the reports are closed with that.',
  BAD: 'Not what was registered, or gone. The copy is LOST, and what was found is kept.',
  UNREADABLE_FROM_HERE: 'No worker can read there: neither good nor bad.',
  OBSOLETE: 'The copy is known as lost meanwhile.',
};

const importStates: Readonly<Record<ImportStatus, string>> = {
  RUNNING: 'Workers fetch its files, verify them and back them up. Users see nothing of it.',
  ENTERED: 'Its dataset is closed, and everybody sees it.',
  FAILED: 'Something is missing, and nobody works on it; somebody has to ask again.',
  CANCELLED: 'It was called off, and what it brought to disk is removed.',
};

const poolCopyStates: Readonly<Record<PoolCopyStatus, string>> = {
  REQUESTED: 'Wanted; waits for a worker, for room, or for the time of the next attempt.',
  RECALLING: 'Its store brings it from tape. No worker is held by that.',
  COPYING: 'A worker holds the lease and copies under a temporary name.',
  ONLINE: 'It is in the pool, was read back, and jobs open it.',
  EVICTING: 'The pool needs its room: nobody is sent there any more.',
  EVICTED: 'It has made room.',
  LOST: 'An incident has taken it; stage it again, or recover the incident.',
  FAILED: 'Given up, with the reason; somebody has to ask again.',
  CANCELLED: 'Released before it was there.',
};

const publicationStates: Readonly<Record<PublicationStatus, string>> = {
  REQUESTED:
    'Asked for: a worker takes it next. Until it is PUBLISHED only its owner and operators see it.',
  AWAITING_APPROVAL: 'An operator says whether it may be published.',
  CHECKING: 'A worker holds the lease and reads each file.',
  MERGING: 'A worker holds the lease and makes composite files.',
  BACKING_UP: 'The composite files are registered, and go to mass storage.',
  CLOSING: 'All is safe: its dataset is made and closed next.',
  PUBLISHED: 'Its dataset is closed, and everybody sees it.',
  FAILED: 'It could not be published, with the reason. What it left on disk is removed.',
  WITHDRAWN: 'It was called off. What it left on disk is removed.',
};

/** docs/lifecycle.md, made from the tables of the rules. */
export function lifecycleText(): string {
  return [
    '# Life cycles',
    'Made by `npm run lifecycle` from the tables in `src/*/*.rules.ts`; the same steps stand in the table ' +
      '`lifecycle` of the database, whose triggers refuse every other. Each step writes one event in the ' +
      'transaction that takes it.',
    chapter('Dataset', datasetSteps, datasetStates),
    'A sweep seals an OPEN dataset and takes it to CLOSED by itself. A bad mark is no state: it can be ' +
      'set in each of them, and hides the dataset for as long as it stands.',
    chapter('Backup record', backupSteps, backupStates),
    'A worker that has lost its lease has lost its attempt with it: the record has counted a new one, ' +
      'and refuses what the old one answers.',
    chapter('Run', runSteps, runStates),
    'The verdict of DQM (GOOD, BAD or none) is said apart from this, at any time.',
    chapter('Replica', replicaSteps, replicaStates),
    'A loss, and the undoing of one, moves up to a million replicas at once: the one line of the incident tells ' +
      'it, and its items are the list. Every other step of a replica has its own line.',
    chapter('Incident', incidentSteps, incidentStates),
    chapter('Suspicion', suspicionSteps, suspicionStates),
    'A suspicion is about one copy of a file, on disk or in a mass store. Reports alone never make a copy good or bad.',
    chapter('Import', importSteps, importStates),
    'The runs and the dataset of an import come in with its step to ENTERED, in one transaction.',
    chapter('Copy in a pool', poolCopySteps, poolCopyStates),
    'A copy that is ONLINE is a replica that is AVAILABLE. Pins decide what may be evicted; the last copy of a file never is.',
    chapter('Publication', publicationSteps, publicationStates),
    'The dataset of a publication is made and closed with its step to PUBLISHED, in one transaction.',
  ]
    .join('\n\n')
    .concat('\n');
}

function chapter<State extends string>(
  noun: string,
  steps: readonly Step<State>[],
  states: Readonly<Record<State, string>>,
): string {
  return [
    `## ${noun}`,
    diagram(steps, Object.keys(states) as State[]),
    table(
      ['State', 'Meaning'],
      Object.entries<string>(states).map(([state, meaning]) => [state, meaning]),
    ),
    table(
      ['From', 'To', 'Step', 'When'],
      steps.map(({ from, to, name, when }) => [from || '(nothing)', to, name, when]),
    ),
  ].join('\n\n');
}

function diagram<State extends string>(
  steps: readonly Step<State>[],
  states: readonly State[],
): string {
  const isLast = (state: State) => steps.every((step) => step.from !== state);
  return [
    '```mermaid',
    'stateDiagram-v2',
    ...steps.map(({ from, to, name }) => `  ${from || '[*]'} --> ${to}: ${name}`),
    ...states.filter(isLast).map((state) => `  ${state} --> [*]`),
    '```',
  ].join('\n');
}

/** A table that can be read as it is, too: its columns are as wide as their longest cell. */
function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const all = [head, ...lines];
  const widths = head.map((_, column) => Math.max(...all.map((line) => line[column]?.length ?? 0)));
  const write = (line: readonly string[]) =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [write(head), write(widths.map((width) => '-'.repeat(width))), ...lines.map(write)].join(
    '\n',
  );
}
