import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, ItemError, NameFilter, RegistrationOutcome, TimeFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, Json, SafeInt } from '../api/scalars.ts';
import type { ConfirmLevel } from '../storage/contract.ts';
import type { BackupStatus as StatusName } from './backups.rules.ts';
import { ConfirmLevelType } from './stores.schema.ts';

export const BackupStatus = enumType<StatusName>('BackupStatus', 'How far a copy has come.', {
  REQUESTED: 'Asked for; waits for a worker or for its next attempt.',
  COPYING: 'A worker copies it.',
  COPIED: 'Copied; the store has not confirmed it yet.',
  CONFIRMED: 'The store answered size and checksums equal to the registered ones.',
  FAILED: 'Given up; lastError says why. Ask for it again when that is mended.',
  LOST: 'Was confirmed, and an audit found it gone or corrupt.',
});

@ObjectType('BackupRecord', {
  implements: NodeType,
  description: 'One copy of one file in one mass store, and how far it has come.',
})
export class BackupRecordType extends NodeType {
  @Field(() => String, { description: 'Name of the mass store.' })
  store!: string;

  @Field(() => BackupStatus, { description: 'How far it has come.' })
  status!: StatusName;

  @Field(() => String, { description: 'Who asked for it.' })
  requestedBy!: string;

  @Field(() => DateTime, { description: 'When it was asked for.' })
  requestedAt!: Date;

  @Field(() => Int, { description: 'Number of the last attempt.' })
  attempt!: number;

  @Field(() => Int, { description: 'Attempts that failed since it was asked for.' })
  failureCount!: number;

  @Field(() => String, { nullable: true, description: 'Who holds, or held, the last attempt.' })
  worker!: string | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When it is tried next, while it is REQUESTED.',
  })
  nextAttemptAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Its name in the store.' })
  storeKey!: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Size in bytes, as the store answered.' })
  storedSizeBytes!: number | null;

  @Field(() => String, { nullable: true, description: 'Adler-32, as the store answered.' })
  storedAdler32!: string | null;

  @Field(() => String, { nullable: true, description: 'SHA-256, as the store answered.' })
  storedSha256!: string | null;

  @Field(() => Json, {
    nullable: true,
    description: 'What was asked of the store, what it answered, when, and from where.',
  })
  evidence!: unknown;

  @Field(() => String, { nullable: true, description: 'Code of the last failure.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'What went wrong last.' })
  lastError!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was copied.' })
  copiedAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When the store confirmed it.' })
  confirmedAt!: Date | null;

  @Field(() => ConfirmLevelType, {
    nullable: true,
    description: 'What its confirmation covers, while it is CONFIRMED.',
  })
  confirmLevel!: ConfirmLevel | null;

  @Field(() => DateTime, {
    nullable: true,
    description:
      'COPIED, and waiting since then for the store to say that tape has it; no worker is held.',
  })
  awaitsTapeSince!: Date | null;

  @Field(() => DateTime, { description: 'When it changed last.' })
  updatedAt!: Date;
}

export const BackupRecordConnection = connectionType('BackupRecord', () => BackupRecordType);

@InputType({ description: 'Conditions on backup records; all must hold.' })
export class BackupRecordFilter {
  @Field(() => [BackupStatus], { nullable: true, description: 'In one of these states.' })
  status?: StatusName[] | null;

  @Field(() => String, { nullable: true, description: 'In the mass store of this name.' })
  store?: string | null;

  @Field(() => String, { nullable: true, description: 'Of files of the dataset of this name.' })
  dataset?: string | null;

  @Field(() => NameFilter, { nullable: true, description: 'Of files with such an LFN.' })
  lfn?: NameFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Asked for in this time.' })
  requestedAt?: TimeFilter | null;

  @Field(() => TimeFilter, {
    nullable: true,
    description: 'Changed last in this time: lt finds what is stuck.',
  })
  updatedAt?: TimeFilter | null;

  @Field(() => String, {
    nullable: true,
    description: 'Whose last failure had this code, for one NO_SPACE.',
  })
  errorCode?: string | null;
}

@InputType({ description: 'Files to back up.' })
export class RequestBackupInput {
  @Field(() => [String], { description: 'LFNs of registered files, at most 10,000.' })
  lfns!: string[];

  @Field(() => String, {
    nullable: true,
    description:
      'Where to. If not given: all stores that the policy of a file names; of one without a policy, the default store.',
  })
  store?: string | null;

  @Field(() => Boolean, {
    defaultValue: false,
    description:
      'You copy it yourself to upload.path, then call recordBackup with that path. Of several copies that it owes ' +
      'you make one, in upload.store; workers make the others if you do not within an hour.',
  })
  direct!: boolean;

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'Where the caller copies a file to.' })
export class UploadTarget {
  @Field(() => String, { description: 'Name of the mass store.' })
  store!: string;

  @Field(() => String, { description: 'Path to write to; then give it to recordBackup.' })
  path!: string;
}

@ObjectType({ description: 'What became of the request for one file.' })
export class BackupRequestResult {
  @Field(() => Int, { description: 'Its place in the call, from 0.' })
  index!: number;

  @Field(() => String, { description: 'Logical file name.' })
  lfn!: string;

  @Field(() => RegistrationOutcome, {
    description: 'REGISTERED: asked for now. EXISTING: under way or confirmed.',
  })
  outcome!: RegistrationOutcome;

  @Field(() => ItemError, { nullable: true, description: 'Why it was refused.' })
  error?: ItemError | null;
}

@ObjectType({ description: 'One answer for each file.' })
export class RequestBackupPayload {
  @Field(() => [BackupRequestResult], { description: 'In the order of the call.' })
  results!: BackupRequestResult[];

  @Field(() => Int, { description: 'How many were asked for now.' })
  requestedCount!: number;

  @Field(() => Int, { description: 'How many were under way or confirmed.' })
  existingCount!: number;

  @Field(() => Int, { description: 'How many were refused.' })
  refusedCount!: number;
}

@ObjectType({ description: 'How far a backup has come, as it happens.' })
export class BackupProgress {
  @Field(() => String, { description: 'Logical file name.' })
  lfn!: string;

  @Field(() => String, { description: 'Name of the mass store.' })
  store!: string;

  @Field(() => BackupStatus, { description: 'State of the record.' })
  status!: StatusName;

  @Field(() => Int, { description: 'Number of the attempt.' })
  attempt!: number;

  @Field(() => SafeInt, { description: 'Size of the file in bytes.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Bytes copied so far in this attempt.' })
  copiedBytes!: number;

  @Field(() => String, { nullable: true, description: 'What went wrong last.' })
  error!: string | null;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
