import { Field, ID, InputType, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { NameFilter } from '../api/inputs.ts';
import { DateTime, Json } from '../api/scalars.ts';
import { DatasetKind } from '../datasets/datasets.schema.ts';

@ObjectType({ description: 'A dataset that a rule has found at another site.' })
export class FollowedDataset {
  @Field(() => String, { description: 'Its name, there and here.' })
  name!: string;

  @Field(() => DateTime, { description: 'When it was found.' })
  foundAt!: Date;

  @Field(() => String, {
    nullable: true,
    description: 'Code of why its import could not be begun.',
  })
  errorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'Why its import could not be begun.' })
  error!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Why it is bad, or not shown, at its site now; null = all is well there.',
  })
  badReason!: string | null;

  @Field(() => Boolean, {
    description:
      'It was marked bad here for that. A loss of storage there is told, and marks nothing here.',
  })
  isMarked!: boolean;

  @Field(() => DateTime, {
    nullable: true,
    description:
      'When it left the container that the rule follows; null = it is in it, or the rule follows none. It stays here.',
  })
  leftAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Why it left, as its site tells it.' })
  leftReason!: string | null;
}
export const FollowedDatasetConnection = connectionType('FollowedDataset', () => FollowedDataset);

@ObjectType({ description: 'A standing rule: import whatever matches from another site.' })
export class FollowRule {
  @Field(() => ID, { description: 'Its number.' })
  id!: number;

  @Field(() => String, { description: 'The site that is followed.' })
  site!: string;

  @Field(() => Json, { description: 'What is imported from there; {} = everything.' })
  filter!: unknown;

  @Field(() => String, { description: 'Mass store that files are backed up in.' })
  store!: string;

  @Field(() => String, {
    nullable: true,
    description: 'What the container that it keeps is called here; null = it follows none.',
  })
  mirror!: string | null;

  @Field(() => String, { description: 'Who made it: the owner of what it imports.' })
  createdBy!: string;

  @Field(() => DateTime, { description: 'When it was made.' })
  createdAt!: Date;

  @Field(() => DateTime, { nullable: true, description: 'The last look; null = not yet.' })
  lookedAt!: Date | null;

  @Field(() => DateTime, { description: 'The next look.' })
  nextLookAt!: Date;

  @Field(() => String, {
    nullable: true,
    description: 'Code of what went wrong with the last look.',
  })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'What went wrong with the last look.' })
  lastError!: string | null;
}
export const FollowRuleConnection = connectionType('FollowRule', () => FollowRule);

@InputType({
  description: 'What is imported: conditions on datasets of the other site; all must hold.',
})
export class FollowFilterInput {
  @Field(() => NameFilter, { nullable: true, description: 'By name.' })
  name?: NameFilter | null;

  @Field(() => [DatasetKind], { nullable: true, description: 'Of one of these kinds.' })
  kind?: string[] | null;

  @Field(() => String, { nullable: true, description: 'Of this stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this release.' })
  release?: string | null;

  @Field(() => String, {
    nullable: true,
    description:
      'What the container of this name lists there, now and later; without any other condition. It is kept here as a container, too; a ' +
      'dataset that leaves it stays here.',
  })
  container?: string | null;
}

@InputType({ description: 'A standing rule.' })
export class CreateFollowRuleInput {
  @Field(() => String, {
    description: 'One of the sites that an operator has named, with a server.',
  })
  site!: string;

  @Field(() => FollowFilterInput, {
    nullable: true,
    description: 'What is imported; everything if not given.',
  })
  filter?: FollowFilterInput | null;

  @Field(() => String, {
    nullable: true,
    description: 'Where to back up; the default store if not given.',
  })
  store?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'What the container of the filter is called here; its name there if not given.',
  })
  mirror?: string | null;
}

@ObjectType({ description: 'A rule and whether anything changed.' })
export class FollowRulePayload {
  @Field(() => FollowRule, { nullable: true, description: 'The rule; null = it is deleted.' })
  rule!: object | null;

  @Field(() => Boolean, { description: 'Something changed.' })
  changed!: boolean;
}
