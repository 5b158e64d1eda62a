import { Field, ID, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { PoolCopyStatus as StatusName } from './pools.rules.ts';

export const PoolCopyStatus = enumType<StatusName>(
  'PoolCopyStatus',
  'State of a copy in a pool (docs/lifecycle.md).',
  {
    REQUESTED: 'Waits for a worker, for room, or for the time of the next attempt.',
    RECALLING: 'Its store brings it from tape.',
    COPYING: 'A worker copies and reads it back.',
    ONLINE: 'It is there.',
    EVICTING: 'It makes room.',
    EVICTED: 'It has made room.',
    LOST: 'An incident has taken it.',
    FAILED: 'Given up, with the reason; ask again.',
    CANCELLED: 'Released before it was there.',
  },
);

export type StageStateName = 'RUNNING' | 'ONLINE' | 'FAILED' | 'GONE' | 'RELEASED';
export const StageState = enumType<StageStateName>('StageState', 'How a stage request stands.', {
  RUNNING: 'Files are on their way.',
  ONLINE: 'All its files are in the pool.',
  FAILED: 'Nothing is on its way, and some files FAILED.',
  GONE: 'Nothing is on its way, and some files were there once: pins ended, or an incident took them.',
  RELEASED: 'It was released.',
});

@ObjectType({ description: 'How a stage request comes along; counts are files.' })
export class StageProgress {
  @Field(() => StageState, { description: 'In one word.' })
  state!: StageStateName;

  @Field(() => SafeInt, { description: 'In all.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Bytes in all.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Wait for a worker or for room.' })
  waiting!: number;

  @Field(() => SafeInt, { description: 'Come from tape.' })
  recalling!: number;

  @Field(() => SafeInt, { description: 'Are copied.' })
  copying!: number;

  @Field(() => SafeInt, { description: 'Are in the pool.' })
  online!: number;

  @Field(() => SafeInt, { description: 'Were given up.' })
  failed!: number;

  @Field(() => SafeInt, { description: 'Were evicted, lost or released.' })
  gone!: number;

  @Field(() => SafeInt, { description: 'Bytes that are in the pool.' })
  copiedBytes!: number;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When the first of its pins ends; null = none has begun.',
  })
  pinnedUntil!: Date | null;

  @Field(() => String, { nullable: true, description: 'What went wrong with one of its files.' })
  lastError!: string | null;
}

@ObjectType('StageRequest', {
  implements: NodeType,
  description: 'Files that somebody wants to lie in a pool, and for how long.',
})
export class StageRequestType extends NodeType {
  @Field(() => String, { description: 'The pool.' })
  pool!: string;

  @Field(() => String, {
    nullable: true,
    description: 'The dataset, if it was named and you see it.',
  })
  dataset!: string | null;

  @Field(() => String, { description: 'Who asked.' })
  principal!: string;

  @Field(() => DateTime, { description: 'When.' })
  requestedAt!: Date;

  @Field(() => Int, {
    description: 'How long each file stays pinned from when it is there, seconds.',
  })
  pinSeconds!: number;

  @Field(() => DateTime, { nullable: true, description: 'When it was released.' })
  releasedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Who released it.' })
  releasedBy!: string | null;

  @Field(() => SafeInt, { description: 'How many files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Their bytes.' })
  sizeBytes!: number;
}

export const StageRequestConnection = connectionType('StageRequest', () => StageRequestType);

@ObjectType({ description: 'A file of a stage request.' })
export class StagedFile {
  @Field(() => String, { description: 'Logical file name.' })
  lfn!: string;

  @Field(() => SafeInt, { description: 'Size in bytes.' })
  sizeBytes!: number;

  @Field(() => PoolCopyStatus, { description: 'State of its copy in the pool.' })
  status!: StatusName;

  @Field(() => SafeInt, { description: 'Bytes that are in the pool.' })
  copiedBytes!: number;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When the pin of this request ends; null = it is not there yet.',
  })
  pinnedUntil!: Date | null;

  @Field(() => Boolean, { description: 'This request holds it no more.' })
  isReleased!: boolean;

  @Field(() => Int, { description: 'Attempts so far.' })
  attempts!: number;

  @Field(() => DateTime, { nullable: true, description: 'When it is tried next.' })
  nextAttemptAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'A code of docs/errors.md.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'Why the last attempt failed.' })
  lastError!: string | null;
}

export const StagedFileConnection = connectionType('StagedFile', () => StagedFile);

@InputType({ description: 'Conditions on stage requests; all must hold.' })
export class StageRequestFilter {
  @Field(() => String, { nullable: true, description: 'Into this pool.' })
  pool?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this dataset.' })
  dataset?: string | null;

  @Field(() => String, { nullable: true, description: 'Made by this principal.' })
  requestedBy?: string | null;

  @Field(() => Boolean, { nullable: true, description: 'Whether it was released.' })
  isReleased?: boolean | null;
}

@InputType({ description: 'What is to be staged: files, or a dataset.' })
export class StageFilesInput {
  @Field(() => [String], { nullable: true, description: 'LFNs, at most 10,000.' })
  lfns?: string[] | null;

  @Field(() => String, { nullable: true, description: 'Name of a dataset: all its files.' })
  dataset?: string | null;

  @Field(() => String, { nullable: true, description: 'The pool; the only one, if not given.' })
  pool?: string | null;

  @Field(() => Int, {
    nullable: true,
    description:
      'How long, from when a file is there; at least 60. As the pool has it, if not given.',
  })
  pinSeconds?: number | null;
}

@InputType({ description: 'What is to be released.' })
export class ReleaseStageInput {
  @Field(() => ID, { description: 'The stage request: its id or its number.' })
  request!: string;

  @Field(() => [String], {
    nullable: true,
    description: 'Only these files, at most 10,000; all, if not given.',
  })
  lfns?: string[] | null;
}

@ObjectType({ description: 'A stage request, and whether the call changed anything.' })
export class StagePayload {
  @Field(() => StageRequestType, { description: 'The request.' })
  request!: object;

  @Field(() => Boolean, { description: 'false = it was so already.' })
  changed!: boolean;
}
