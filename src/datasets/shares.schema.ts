import { Field, InputType, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime } from '../api/scalars.ts';

export const ShareKind = enumType('ShareKind', 'With whom a dataset is shared.', {
  USER: 'A user.',
  GROUP: 'Whoever is in a group, now or later.',
});

@ObjectType({ description: 'Somebody who sees a dataset before it is published.' })
export class DatasetShare {
  @Field(() => ShareKind, { description: 'A user or a group.' })
  kind!: keyof typeof ShareKind;

  @Field(() => String, { description: 'The name of that.' })
  name!: string;

  @Field(() => String, { description: 'Who shared it.' })
  sharedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  sharedAt!: Date;
}

@InputType({ description: 'A dataset, and users and groups.' })
export class ShareDatasetInput {
  @Field(() => String, { description: 'Name of the dataset.' })
  dataset!: string;

  @Field(() => [String], { nullable: true, description: 'Users, as their tokens name them.' })
  users?: string[] | null;

  @Field(() => [String], { nullable: true, description: 'Groups.' })
  groups?: string[] | null;
}
