import { Field, Float, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type {
  StreamState as StateName,
  RunWaitReason as ReasonName,
} from './run-production.rules.ts';

const StreamState = enumType<StateName>('StreamState', 'How far a stream of a run is.', {
  NOT_WRITTEN: 'Expected, and no file of it is registered.',
  NOT_MERGED: 'Run files wait to be merged.',
  NOT_BACKED_UP: 'Merged files wait for a confirmed backup.',
  DONE: 'Written, merged, backed up.',
});
const RunWaitReason = enumType<ReasonName>('RunWaitReason', 'What keeps a run in production.', {
  NOT_ENDED: 'Nobody has told the end of the run: registerRuns with endedAt.',
  NOT_WRITTEN: 'An expected stream has no file.',
  NOT_MERGED: 'Run files of a stream are in no merged file: recordMerge.',
  NOT_BACKED_UP: 'Merged files have no confirmed backup.',
  NO_MERGED_FILE: 'No merged file holds the run, and no stream is expected of it.',
});

@ObjectType({ description: 'One stream of a run, and how far it is.' })
export class StreamProduction {
  @Field(() => String, { nullable: true, description: 'Its name; null = files without one.' })
  stream!: string | null;

  @Field(() => Boolean, { description: 'The run is to yield it.' })
  isExpected!: boolean;

  @Field(() => StreamState, { description: 'The first thing that is missing.' })
  state!: StateName;

  @Field(() => SafeInt, { description: 'Run files written.' })
  runFileCount!: number;

  @Field(() => Float, { description: 'Events in them, as far as they are counted.' })
  runFileEventCount!: number;

  @Field(() => SafeInt, { description: 'Those of the run files that are merged.' })
  mergedRunFileCount!: number;

  @Field(() => SafeInt, { description: 'Merged files that hold data of the run.' })
  mergedFileCount!: number;

  @Field(() => Float, { description: 'Events of the run in them, as far as they are told.' })
  mergedEventCount!: number;

  @Field(() => SafeInt, { description: 'Those of the merged files with a confirmed backup.' })
  backedUpFileCount!: number;

  @Field(() => SafeInt, { description: 'Backups that were given up and are still missing.' })
  failedBackupCount!: number;

  @Field(() => String, { nullable: true, description: 'What went wrong with one of them.' })
  lastError!: string | null;
}

@ObjectType({ description: 'One thing that keeps a run in production.' })
export class ProductionWait {
  @Field(() => RunWaitReason, { description: 'What is missing.' })
  reason!: ReasonName;

  @Field(() => String, { nullable: true, description: 'In this stream, if it is of one.' })
  stream!: string | null;

  @Field(() => SafeInt, { description: 'Files that it waits for; 0 where there is none yet.' })
  fileCount!: number;

  @Field(() => DateTime, { description: 'Since when: that of the oldest of the files.' })
  since!: Date;
}

@ObjectType({ description: 'How far production of a run is.' })
export class RunProduction {
  @Field(() => [StreamProduction], { description: 'By name: those expected and those seen.' })
  streams!: StreamProduction[];

  @Field(() => [ProductionWait], {
    description:
      'All that it waits for, in the order of the work; none = it is AVAILABLE. A run that is AVAILABLE stays so: then these are of files that came later.',
  })
  waitingFor!: ProductionWait[];
}
