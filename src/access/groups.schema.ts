import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { DateTime } from '../api/scalars.ts';

@ObjectType({
  description: 'Users that datasets can be shared with, and that have a quota together.',
})
export class Group {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { nullable: true, description: 'What it is.' })
  description!: string | null;

  @Field(() => String, { description: 'Who made it.' })
  createdBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  createdAt!: Date;

  @Field(() => Int, { description: 'How many users are in it.' })
  memberCount!: number;
}
export const GroupConnection = connectionType('Group', () => Group);

@InputType({ description: 'A group, and who comes and goes.' })
export class ChangeGroupInput {
  @Field(() => String, { description: 'Its name; it is made if there is none.' })
  name!: string;

  @Field(() => String, { nullable: true, description: 'What it is.' })
  description?: string | null;

  @Field(() => [String], { nullable: true, description: 'Users to put in, at most 1,000.' })
  add?: string[] | null;

  @Field(() => [String], { nullable: true, description: 'Users to take out, at most 1,000.' })
  remove?: string[] | null;
}

@ObjectType({ description: 'A group and whether anything changed.' })
export class GroupPayload {
  @Field(() => Group, { description: 'The group, as it is now.' })
  group!: object;

  @Field(() => Boolean, { description: 'false = it was so already.' })
  changed!: boolean;
}
