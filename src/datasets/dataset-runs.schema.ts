import { Field, Float, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { SafeInt } from '../api/scalars.ts';

@ObjectType('DatasetRun', { description: 'What one dataset holds of one run.' })
export class DatasetRunType {
  @Field(() => SafeInt, { description: 'Files of the dataset with data of this run.' })
  fileCount!: number;

  @Field(() => SafeInt, {
    description: 'Events of this run in the dataset, in all files whose count is known.',
  })
  eventCount!: number;

  @Field(() => SafeInt, {
    description: 'Size of these files, bytes; a file of several runs counts for each of them.',
  })
  sizeBytes!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Luminosity of the run, 1/pb; null = not known.',
  })
  luminosity!: number | null;
}

export const DatasetRunConnection = connectionType('DatasetRun', () => DatasetRunType);

@ObjectType({ description: 'Sums over the runs that were asked for, in one dataset.' })
export class DatasetRunTotals {
  @Field(() => String, { description: 'Name of the dataset.' })
  dataset!: string;

  @Field(() => SafeInt, { description: 'Such runs.' })
  runCount!: number;

  @Field(() => SafeInt, { description: 'Events of these runs in the dataset.' })
  eventCount!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Luminosity of these runs, 1/pb; null = none of them says.',
  })
  luminosity!: number | null;
}
