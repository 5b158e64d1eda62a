import { Field, InputType, ObjectType } from 'type-graphql';
import { DateTime, SafeInt } from '../api/scalars.ts';
import { BackupRecordType } from '../backups/backups.schema.ts';

@ObjectType({ description: 'How far the last sweep of a dataset has come. Counts are files.' })
export class SweepProgress {
  @Field(() => Boolean, {
    description: 'It is under way: it ends by itself, whatever dies meanwhile.',
  })
  isRunning!: boolean;

  @Field(() => String, { description: 'Where files without a confirmed copy are backed up.' })
  store!: string;

  @Field(() => String, { description: 'Who asked for it.' })
  requestedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  requestedAt!: Date;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When it closed the dataset, or was called off.',
  })
  finishedAt!: Date | null;

  @Field(() => SafeInt, { description: 'Files of the dataset.' })
  total!: number;

  @Field(() => SafeInt, { description: 'With a confirmed copy.' })
  confirmed!: number;

  @Field(() => SafeInt, { description: 'Being copied, or waiting for the answer of the store.' })
  copying!: number;

  @Field(() => SafeInt, { description: 'Waiting for a worker or for the next attempt.' })
  requested!: number;

  @Field(() => SafeInt, { description: 'Given up: see lastError, then sweep again.' })
  failed!: number;

  @Field(() => String, { nullable: true, description: 'What went wrong last.' })
  lastError!: string | null;
}

@InputType({ description: 'A copy that was made elsewhere.' })
export class RecordBackupInput {
  @Field(() => String, { description: 'LFN of the registered file.' })
  lfn!: string;

  @Field(() => String, {
    nullable: true,
    description: 'The mass store; the one that requestBackup told, if not given.',
  })
  store?: string | null;

  @Field(() => String, { description: 'Where it lies: the path, or the key in the store.' })
  path!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Accepted and not needed: told again, a confirmed copy is no change.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'The record after the store was asked.' })
export class RecordBackupPayload {
  @Field(() => BackupRecordType, { description: 'As it is now: CONFIRMED.' })
  record!: BackupRecordType;

  @Field(() => Boolean, { description: 'false: it was confirmed already.' })
  changed!: boolean;
}
