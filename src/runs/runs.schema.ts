import { Field, Float, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, ItemError, RegistrationOutcome, TimeFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { RunOrder as OrderName } from './runs.queries.ts';
import type {
  ProductionStatus as StatusName,
  RunSource as SourceName,
  RunVerdict as VerdictName,
} from './runs.rules.ts';

export const RunSource = enumType<SourceName>('RunSource', 'Where a run comes from.', {
  DATA: 'The detector.',
  SIMULATION: 'Simulation production.',
});
export const ProductionStatus = enumType<StatusName>(
  'ProductionStatus',
  'Whether production of a run is done.',
  {
    IN_PRODUCTION: 'Not ended, not all written, not all merged, or not all backed up.',
    AVAILABLE:
      'Ended, every expected stream written, every run file merged, every merged file backed up.',
  },
);
export const RunVerdict = enumType<VerdictName>('RunVerdict', "DQM's word on a run.", {
  GOOD: 'Fit for analysis.',
  BAD: 'Not fit for analysis.',
});
export const RunOrder = enumType<OrderName>('RunOrder', 'Order of runs.', {
  NUMBER: 'By source, then by number.',
  AVAILABLE_AT_DESC: 'The last that left production first.',
});

@ObjectType('Run', {
  implements: NodeType,
  description:
    'One period of data taking, or one simulated run. What is said of a run in production is null for ' +
    'who may only know that it is in production.',
})
export class RunType extends NodeType {
  @Field(() => Int, { description: 'Run number.' })
  number!: number;

  @Field(() => RunSource, { description: 'Detector or simulation.' })
  source!: SourceName;

  @Field(() => ProductionStatus, { description: 'Whether production is done.' })
  productionStatus!: StatusName;

  @Field(() => DateTime, { nullable: true, description: 'Start of the run.' })
  startedAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'End of the run.' })
  endedAt!: Date | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events.' })
  eventCount!: number | null;

  @Field(() => Float, { nullable: true, description: 'Luminosity, 1/pb.' })
  luminosity!: number | null;

  @Field(() => String, { nullable: true, description: 'Conditions, for one ON_PEAK.' })
  conditions!: string | null;

  @Field(() => [String], { nullable: true, description: 'The streams it is to yield.' })
  expectedStreams!: string[] | null;

  @Field(() => DateTime, { nullable: true, description: 'When production was done.' })
  availableAt!: Date | null;

  @Field(() => RunVerdict, { nullable: true, description: "DQM's word." })
  verdict!: VerdictName | null;

  @Field(() => String, { nullable: true, description: 'What DQM said with it.' })
  verdictComment!: string | null;

  @Field(() => String, { nullable: true, description: 'Who gave the verdict.' })
  verdictBy!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was given.' })
  verdictAt!: Date | null;
}

export const RunConnection = connectionType('Run', () => RunType);

@InputType({
  description: 'Conditions on runs; all must hold. Without productionStatus: AVAILABLE ones.',
})
export class RunFilter {
  @Field(() => String, { nullable: true, description: 'Numbers and ranges: "36172-39320,40001".' })
  numbers?: string | null;

  @Field(() => RunSource, { nullable: true, description: 'Detector or simulation.' })
  source?: SourceName | null;

  @Field(() => ProductionStatus, {
    nullable: true,
    description: 'In production (for those who may know) or available.',
  })
  productionStatus?: StatusName | null;

  @Field(() => RunVerdict, { nullable: true, description: "With this word of DQM's." })
  verdict?: VerdictName | null;

  @Field(() => String, { nullable: true, description: 'With data in this stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Under these conditions, for one ON_PEAK.' })
  conditions?: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'With so many events or more.' })
  minEvents?: number | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Started in this time.' })
  startedAt?: TimeFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Ended in this time.' })
  endedAt?: TimeFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Left production in this time.' })
  availableAt?: TimeFilter | null;

  @Field(() => String, {
    nullable: true,
    description: 'With data in the dataset of this name, as far as you see it.',
  })
  inDataset?: string | null;
}

@InputType({ description: 'One run.' })
export class RunKey {
  @Field(() => Int, { description: 'Run number.' })
  number!: number;

  @Field(() => RunSource, { defaultValue: 'DATA', description: 'Detector or simulation.' })
  source!: SourceName;
}

@InputType({
  description: 'A run as production tells it. What is not known yet can be told later.',
})
export class RegisterRunInput {
  @Field(() => Int, { description: 'Run number, from 1.' })
  number!: number;

  @Field(() => RunSource, { defaultValue: 'DATA', description: 'Detector or simulation.' })
  source!: SourceName;

  @Field(() => DateTime, { nullable: true, description: 'Start of the run.' })
  startedAt?: Date | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'End of the run; until it is told, the run is in production.',
  })
  endedAt?: Date | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events.' })
  eventCount?: number | null;

  @Field(() => Float, { nullable: true, description: 'Luminosity, 1/pb.' })
  luminosity?: number | null;

  @Field(() => String, { nullable: true, description: 'Conditions, for one ON_PEAK.' })
  conditions?: string | null;

  @Field(() => [String], { nullable: true, description: 'The streams it is to yield.' })
  expectedStreams?: string[] | null;
}

@InputType({ description: 'Runs to register.' })
export class RegisterRunsInput {
  @Field(() => [RegisterRunInput], { description: 'At most 10,000.' })
  runs!: RegisterRunInput[];

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'What became of one run.' })
export class RunResult {
  @Field(() => Int, { description: 'Its place in the call, from 0.' })
  index!: number;

  @Field(() => Int, { description: 'Run number.' })
  number!: number;

  @Field(() => RunSource, { description: 'Detector or simulation.' })
  source!: SourceName;

  @Field(() => RegistrationOutcome, { description: 'New, filled in, known, or refused.' })
  outcome!: RegistrationOutcome;

  @Field(() => ItemError, { nullable: true, description: 'Why it was refused.' })
  error?: ItemError | null;
}

@ObjectType({ description: 'One answer for each run.' })
export class RegisterRunsPayload {
  @Field(() => [RunResult], { description: 'In the order of the call.' })
  results!: RunResult[];

  @Field(() => Int, { description: 'How many are new.' })
  registeredCount!: number;

  @Field(() => Int, { description: 'How many were filled in.' })
  updatedCount!: number;

  @Field(() => Int, { description: 'How many were known.' })
  existingCount!: number;

  @Field(() => Int, { description: 'How many were refused.' })
  refusedCount!: number;
}

@InputType({ description: "DQM's word on a run." })
export class RunVerdictInput {
  @Field(() => Int, { description: 'Run number.' })
  number!: number;

  @Field(() => RunSource, { defaultValue: 'DATA', description: 'Detector or simulation.' })
  source!: SourceName;

  @Field(() => RunVerdict, { description: 'The verdict.' })
  verdict!: VerdictName;

  @Field(() => String, { nullable: true, description: 'What there is to say about it.' })
  comment?: string | null;
}

@ObjectType({ description: 'The run after the call.' })
export class RunPayload {
  @Field(() => RunType, { description: 'As it is now.' })
  run!: RunType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;
}

@ObjectType({ description: 'A run has left production.' })
export class RunEvent {
  @Field(() => String, { description: 'Give it as after to go on from here.' })
  cursor!: string;

  @Field(() => String, { description: 'Whose deed completed it.' })
  actor!: string;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
