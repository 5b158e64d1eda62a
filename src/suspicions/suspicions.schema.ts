import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, NameFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, Json, SafeInt } from '../api/scalars.ts';
import type { SuspicionState as StateName } from './suspicions.rules.ts';

export const SuspicionState = enumType<StateName>(
  'SuspicionState',
  'How far the suspicion against a copy has come. Reports alone never make it good or bad.',
  {
    REPORTED: 'Jobs could not read it; too few to have it checked.',
    SUSPICIOUS: 'Enough different jobs said so: a worker is going to read it in full.',
    CHECKING: 'A worker reads it.',
    CHECKED_GOOD: 'Size and checksums are the registered ones: the reports are closed with that.',
    BAD: 'It is not what was registered, or gone; the copy is LOST, evidence is kept.',
    UNREADABLE_FROM_HERE: 'No worker can read there: neither good nor bad.',
    OBSOLETE: 'The copy is known as lost meanwhile.',
  },
);

@ObjectType({ description: 'What one job said of a copy.' })
export class ReadFailure {
  @Field(() => String, { description: 'The job, as its batch system calls it.' })
  job!: string;

  @Field(() => String, { description: 'Who reported it.' })
  principal!: string;

  @Field(() => String, { description: 'What the job tried to open.' })
  url!: string;

  @Field(() => String, { description: 'What went wrong, as the job saw it.' })
  error!: string;

  @Field(() => Int, { description: 'How often this job said so.' })
  reportCount!: number;

  @Field(() => DateTime, { description: 'When it said so first.' })
  firstAt!: Date;

  @Field(() => DateTime, { description: 'When it said so last.' })
  lastAt!: Date;
}

@ObjectType('SuspiciousCopy', {
  implements: NodeType,
  description: 'A copy of a file, on disk or in a mass store, that jobs could not read.',
})
export class SuspiciousCopyType extends NodeType {
  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => String, { nullable: true, description: 'The volume, of a copy on disk.' })
  volume!: string | null;

  @Field(() => String, { nullable: true, description: 'The mass store, of a copy there.' })
  store!: string | null;

  @Field(() => String, { nullable: true, description: 'Path on the volume, or key in the store.' })
  path!: string | null;

  @Field(() => SuspicionState, { description: 'How far the suspicion has come.' })
  state!: StateName;

  @Field(() => Int, { description: 'Different jobs that could not read it; at most 100.' })
  jobCount!: number;

  @Field(() => SafeInt, { description: 'Reports in all, repeats of the same job too.' })
  reportCount!: number;

  @Field(() => DateTime, { description: 'When it was first reported.' })
  firstReportedAt!: Date;

  @Field(() => DateTime, { description: 'When it was last reported.' })
  lastReportedAt!: Date;

  @Field(() => String, { nullable: true, description: 'What the last job saw.' })
  lastError!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When a worker read it, or gave up.' })
  checkedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'The worker that read it, or reads it.' })
  worker!: string | null;

  @Field(() => String, { nullable: true, description: 'What reading it came to, in a sentence.' })
  finding!: string | null;

  @Field(() => Json, { nullable: true, description: 'What was asked and answered then.' })
  evidence!: unknown;
}

export const SuspiciousCopyConnection = connectionType('SuspiciousCopy', () => SuspiciousCopyType);

@InputType({ description: 'Conditions on suspicious copies; all must hold.' })
export class SuspiciousCopyFilter {
  @Field(() => [SuspicionState], {
    nullable: true,
    description: 'One of these; all but CHECKED_GOOD and OBSOLETE, if not given.',
  })
  state?: StateName[] | null;

  @Field(() => NameFilter, { nullable: true, description: 'By logical file name.' })
  lfn?: NameFilter | null;

  @Field(() => String, { nullable: true, description: 'On this volume.' })
  volume?: string | null;

  @Field(() => String, { nullable: true, description: 'In this mass store.' })
  store?: string | null;
}

@InputType({ description: 'That a job could not read a copy of a file.' })
export class ReportReadFailureInput {
  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => String, {
    description: 'What the job tried to open, as the file list has it; at most 4,096 bytes.',
  })
  url!: string;

  @Field(() => String, {
    description: 'What went wrong; the first 1,000 characters are kept.',
  })
  error!: string;

  @Field(() => String, {
    description:
      'The job, as its batch system calls it, at most 200 characters: reports count once for each job.',
  })
  job!: string;
}

@ObjectType({ description: 'What became of a report.' })
export class ReportReadFailurePayload {
  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => Boolean, { description: 'false: this job had said so before.' })
  isNew!: boolean;

  @Field(() => SuspicionState, { description: 'How far the suspicion against the copy has come.' })
  state!: StateName;
}

@ObjectType({ description: 'A suspicious copy after a change.' })
export class SuspiciousCopyPayload {
  @Field(() => SuspiciousCopyType, { description: 'The copy.' })
  copy!: SuspiciousCopyType;

  @Field(() => Boolean, { description: 'false: it is being checked already, or was.' })
  changed!: boolean;
}
