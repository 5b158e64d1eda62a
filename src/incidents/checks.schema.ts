import { Field, InputType, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime, Json } from '../api/scalars.ts';

export const ReplicaCheckStatus = enumType(
  'ReplicaCheckStatus',
  'How far the reading of a copy has come.',
  {
    REQUESTED: 'Waits for a worker, or for the next attempt.',
    RUNNING: 'A worker reads it, or copies it from a mass store first.',
    GOOD: 'It was read, and is what was registered.',
    BAD: 'It was read, and is something else.',
    FAILED: 'It could not be read; lastError says why.',
  },
);

@ObjectType({ description: 'A reading of one copy on disk, and what was found.' })
export class ReplicaCheck {
  @Field(() => String, { description: 'The volume.' })
  volume!: string;

  @Field(() => String, { description: 'Path of the copy.' })
  path!: string;

  @Field(() => ReplicaCheckStatus, { description: 'How far it has come.' })
  status!: keyof typeof ReplicaCheckStatus;

  @Field(() => String, { description: 'Who asked for it.' })
  requestedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  requestedAt!: Date;

  @Field(() => DateTime, { nullable: true, description: 'When it was over.' })
  finishedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Code of what went wrong last.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'What went wrong last.' })
  lastError!: string | null;

  @Field(() => Json, { nullable: true, description: 'What was read, when and by which host.' })
  evidence!: unknown;
}

@InputType({ description: 'A copy that is on disk, or on disk again.' })
export class ConfirmReplicaInput {
  @Field(() => String, { description: 'LFN of the registered file.' })
  lfn!: string;

  @Field(() => String, { description: 'Absolute path of the copy.' })
  path!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Its volume; "default", if not given and not known.',
  })
  volume?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Site of the volume; this one, if not given.',
  })
  site?: string | null;
}

@ObjectType({ description: 'The reading that was asked for.' })
export class ConfirmReplicaPayload {
  @Field(() => ReplicaCheck, { description: 'As it is now; ask File.replicaChecks for its end.' })
  check!: ReplicaCheck;

  @Field(() => Boolean, { description: 'false: it was asked for already.' })
  changed!: boolean;
}
