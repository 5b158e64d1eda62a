import { Field, Float, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import { BackupStatus } from '../backups/backups.schema.ts';
import type {
  DatasetTrouble as DatasetTroubleName,
  SweepTrouble as SweepTroubleName,
  BackupWaitReason as WaitingName,
} from './stuck.rules.ts';

const SweepTrouble = enumType<SweepTroubleName>(
  'SweepTrouble',
  'What to look at first in a sweep that does not end.',
  {
    BACKUPS_FAILED: 'Backups were given up.',
    STORE_DOWN: 'Its store cannot be used from the server.',
    COPYING: 'Copies are under way.',
    WAITING: 'Files wait for a worker or for their next attempt.',
  },
);
const BackupWaitReason = enumType<WaitingName>(
  'BackupWaitReason',
  'What a backup waits for that is neither confirmed nor given up.',
  {
    STORE_DOWN: 'The store cannot be used from the server.',
    WORKER_SILENT: 'Its worker fell silent; another one takes over.',
    SOURCE_UNREADABLE: 'No worker that tried could read the path of the file.',
    NEXT_ATTEMPT: 'An attempt failed; the next one is due at nextAttemptAt.',
    STORE_BUSY: 'The store takes no more copies at once.',
    NO_WORKER: 'It is due, the store is up and has room, and no worker takes it.',
    LEFT_TO_PRODUCER: 'The producer copies it himself and has not reported it yet.',
    TAPE_LATE: 'The store has it and has not brought it to tape, for longer than its tapeHours.',
    AWAITS_TAPE: 'The store has it and brings it to tape.',
    COPYING: 'A worker holds it and is alive.',
  },
);
const DatasetTrouble = enumType<DatasetTroubleName>(
  'DatasetTrouble',
  'Why a dataset that is not being swept is not closed.',
  {
    EMPTY: 'It has no file.',
    NOT_BACKED_UP: 'Files have no confirmed backup, and no sweep was asked for.',
    READY_TO_MARK: 'Every file has its backup, and nobody marked it backed up.',
    READY_TO_CLOSE: 'It could be closed, and nobody did.',
  },
);

@ObjectType({ description: 'A sweep that has been under way for long. Counts are files.' })
export class StuckSweep {
  @Field(() => String, { description: 'Name of the mass store.' })
  store!: string;

  @Field(() => String, { description: 'Who asked for it.' })
  requestedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  requestedAt!: Date;

  @Field(() => SafeInt, { description: 'Files of the dataset.' })
  total!: number;

  @Field(() => SafeInt, { description: 'With a confirmed copy.' })
  confirmed!: number;

  @Field(() => SafeInt, { description: 'Whose backup was given up.' })
  failed!: number;

  @Field(() => SafeInt, { description: 'In the hands of a worker.' })
  copying!: number;

  @Field(() => SafeInt, { description: 'Waiting for a worker or for the next attempt.' })
  waiting!: number;

  @Field(() => String, { nullable: true, description: 'What went wrong last.' })
  lastError!: string | null;

  @Field(() => SweepTrouble, { description: 'What to look at first.' })
  trouble!: SweepTroubleName;

  @Field(() => String, { description: 'What to do.' })
  advice!: string;
}
export const StuckSweepConnection = connectionType('StuckSweep', () => StuckSweep);

@ObjectType({ description: 'A dataset that is not closed and that nothing takes further.' })
export class StuckDataset {
  @Field(() => DatasetTrouble, { description: 'Why it is not closed.' })
  trouble!: DatasetTroubleName;

  @Field(() => String, { description: 'What to do.' })
  advice!: string;
}
export const StuckDatasetConnection = connectionType('StuckDataset', () => StuckDataset);

@ObjectType({ description: 'Backups in the same trouble.' })
abstract class BackupGroup {
  @Field(() => String, { description: 'Name of the mass store.' })
  store!: string;

  @Field(() => SafeInt, { description: 'How many backups.' })
  count!: number;

  @Field(() => Float, { description: 'Bytes of their files.' })
  sizeBytes!: number;

  @Field(() => String, { description: 'LFN of one of the files.' })
  exampleLfn!: string;

  @Field(() => String, { nullable: true, description: 'What went wrong with that file.' })
  lastError!: string | null;

  @Field(() => String, { description: 'What to do.' })
  advice!: string;
}

@ObjectType({
  description: 'Backups that were given up (FAILED) or found gone (LOST) for one reason.',
})
export class FailedBackups extends BackupGroup {
  @Field(() => BackupStatus, { description: 'FAILED or LOST.' })
  status!: 'FAILED' | 'LOST';

  @Field(() => String, { nullable: true, description: 'Code of docs/errors.md.' })
  errorCode!: string | null;

  @Field(() => DateTime, { description: 'When the first of them was given up.' })
  oldestAt!: Date;
}

@ObjectType({
  description: 'Backups that are neither confirmed nor given up, by what they wait for.',
})
export class WaitingBackups extends BackupGroup {
  @Field(() => BackupWaitReason, { description: 'What they wait for.' })
  reason!: WaitingName;

  @Field(() => DateTime, { description: 'When the first of them was asked for.' })
  oldestAt!: Date;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When the first of them is tried next; null = they are due.',
  })
  nextAttemptAt!: Date | null;
}

@ObjectType({
  description: 'Datasets that carry a bad mark of the same incident, or of the same reason.',
})
export class BadDatasets {
  @Field(() => String, { description: 'What is wrong with them; of an incident, its reason.' })
  reason!: string;

  @Field(() => Int, {
    nullable: true,
    description: 'Number of the incident that marked them; null = somebody marked them.',
  })
  incidentNumber!: number | null;

  @Field(() => SafeInt, { description: 'How many datasets.' })
  datasetCount!: number;

  @Field(() => SafeInt, { description: 'Those of them that users saw before.' })
  publishedCount!: number;

  @Field(() => SafeInt, { description: 'Files in them; a file in two of them counts twice.' })
  fileCount!: number;

  @Field(() => Float, { description: 'Bytes of these files.' })
  sizeBytes!: number;

  @Field(() => DateTime, { description: 'When the first of them was marked.' })
  oldestAt!: Date;

  @Field(() => String, { description: 'Who marked the first.' })
  markedBy!: string;

  @Field(() => String, { description: 'Name of the first.' })
  exampleDataset!: string;
}

@ObjectType({
  description:
    'What is stuck, and why: ask for the lists that you want. Lists are oldest or largest first; of very many ' +
    'backups the oldest 100,000 are looked at.',
})
export class Stuck {
  @Field(() => DateTime, { description: 'The moment of this look.' })
  asOf!: Date;
}
