import { Field, Float, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, NameFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { ContainerChangeKind as KindName } from './containers.rules.ts';

export const ContainerChangeKind = enumType<KindName>(
  'ContainerChangeKind',
  'What changed the content of a container.',
  {
    ADDED: 'Datasets were put in.',
    REMOVED: 'Datasets were taken out.',
    MARKED_BAD: 'Datasets were marked bad, and left by themselves.',
    CLEARED: 'Datasets were cleared of their bad marks, and came back by themselves.',
  },
);

@ObjectType({
  description:
    'What a set of datasets holds: a file in two of them counts once, and so does a run.',
})
export class ContainerTotals {
  @Field(() => SafeInt, { description: 'Datasets.' })
  datasetCount!: number;

  @Field(() => SafeInt, { description: 'Files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Size of all files, bytes.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Events in all files whose count is known.' })
  eventCount!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Of the runs, 1/pb; null = none of them says.',
  })
  luminosity!: number | null;
}

@ObjectType('Container', {
  implements: NodeType,
  description:
    'A named list of closed datasets that grows and shrinks, with its history. Everybody sees containers; what ' +
    'they list is seen as datasets are.',
})
export class ContainerType extends NodeType {
  @Field(() => String, { description: 'Its name, for good.' })
  name!: string;

  @Field(() => String, { description: 'Whose it is.' })
  owner!: string;

  @Field(() => String, { nullable: true, description: 'In words.' })
  description!: string | null;

  @Field(() => SafeInt, { description: 'Datasets that it lists now.' })
  datasetCount!: number;

  @Field(() => SafeInt, {
    description: 'Datasets that left because they are bad, and come back when they are cleared.',
  })
  suspendedCount!: number;

  @Field(() => SafeInt, { description: 'Files; one that is in two of its datasets counts once.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Size of all files, bytes.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Events in all files whose count is known.' })
  eventCount!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Of its runs, each once, 1/pb; null = none of them says.',
  })
  luminosity!: number | null;

  @Field(() => Int, { description: 'Grows with each change: give it as expectedVersion.' })
  version!: number;

  @Field(() => DateTime, { nullable: true, description: 'When something came or left last.' })
  changedAt!: Date | null;

  @Field(() => DateTime, { description: 'When it was created.' })
  createdAt!: Date;

  @Field(() => String, { description: 'Who created it.' })
  createdBy!: string;
}

export const ContainerConnection = connectionType('Container', () => ContainerType);

@ObjectType({ description: 'A dataset in a container: since when, and until when.' })
export class ContainerMember {
  @Field(() => String, { description: 'Name of the dataset.' })
  name!: string;

  @Field(() => Boolean, { description: 'It can be read now: false = marked bad.' })
  isAvailable!: boolean;

  @Field(() => DateTime, { description: 'When it came in.' })
  addedAt!: Date;

  @Field(() => String, { description: 'Who put it in.' })
  addedBy!: string;

  @Field(() => String, { nullable: true, description: 'Why it came in.' })
  addedReason!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it left; null = it has not.' })
  removedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Who took it out, or marked it bad.' })
  removedBy!: string | null;

  @Field(() => String, { nullable: true, description: 'Why it left.' })
  removedReason!: string | null;

  @Field(() => ContainerChangeKind, {
    nullable: true,
    description: 'How it left: REMOVED by hand, or MARKED_BAD.',
  })
  removedKind!: KindName | null;
}

export const ContainerMemberConnection = connectionType('ContainerMember', () => ContainerMember);

@ObjectType({
  description:
    'One line of the history of a container: what came or left at once. Lines never change.',
})
export class ContainerChange {
  @Field(() => String, {
    description: 'Its place in the log: a marker, once the log has settled up to it.',
  })
  cursor!: string;

  @Field(() => ContainerChangeKind, { description: 'What it was.' })
  kind!: KindName;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;

  @Field(() => String, { description: 'Who did it.' })
  actor!: string;

  @Field(() => String, { nullable: true, description: 'Why.' })
  reason!: string | null;

  @Field(() => ContainerTotals, {
    description: 'What came in: files and runs that were not in it before.',
  })
  added!: ContainerTotals;

  @Field(() => ContainerTotals, {
    description: 'What left: files and runs that are not in it any more.',
  })
  removed!: ContainerTotals;

  @Field(() => ContainerTotals, { description: 'What there was afterwards, as it was then.' })
  total!: ContainerTotals;

  @Field(() => SafeInt, {
    description: 'Taken out while they were bad: they had left before, and do not come back.',
  })
  givenUpCount!: number;
}

export const ContainerChangeConnection = connectionType('ContainerChange', () => ContainerChange);

@ObjectType({
  description:
    'What is new in a container since a moment, and what has left; nothing of what came and went in between.',
})
export class ContainerDelta {
  @Field(() => String, {
    description: 'The moment up to which this is told: keep it, and ask from there the next time.',
  })
  marker!: string;

  @Field(() => SafeInt, {
    description:
      'Of those that left, how many are bad now. Their names are told to who may see them, and to who asks by name.',
  })
  unavailableCount!: number;
}

@InputType({ description: 'Conditions on containers; all must hold.' })
export class ContainerFilter {
  @Field(() => NameFilter, { nullable: true, description: 'By name.' })
  name?: NameFilter | null;

  @Field(() => String, { nullable: true, description: 'Of this owner.' })
  owner?: string | null;

  @Field(() => String, { nullable: true, description: 'Those that list the dataset of this name.' })
  holdsDataset?: string | null;
}

@InputType({ description: 'Of which containers to hear; all must hold.' })
export class ContainerEventFilter {
  @Field(() => String, { nullable: true, description: 'Of the container of this name.' })
  container?: string | null;

  @Field(() => NameFilter, { nullable: true, description: 'Of containers with such a name.' })
  name?: NameFilter | null;

  @Field(() => String, { nullable: true, description: 'Of containers of this owner.' })
  owner?: string | null;
}

@InputType({ description: 'A new container.' })
export class CreateContainerInput {
  @Field(() => String, {
    description: 'Letters, digits and . _ : / + = @ -, at most 200; for good.',
  })
  name!: string;

  @Field(() => String, { nullable: true, description: 'Whose it is; yours, if not given.' })
  owner?: string | null;

  @Field(() => String, { nullable: true, description: 'In words.' })
  description?: string | null;

  @Field(() => [String], {
    nullable: true,
    description: 'Names of its first datasets, at most 10,000; CLOSED and not bad.',
  })
  datasets?: string[] | null;

  @Field(() => String, { nullable: true, description: 'Why; it stays in the history.' })
  reason?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@InputType({ description: 'Datasets that come into a container or leave it; all or none.' })
export class ContainerDatasetsInput {
  @Field(() => String, { description: 'Name of the container.' })
  container!: string;

  @Field(() => [String], { description: 'Names of datasets, at most 10,000.' })
  datasets!: string[];

  @Field(() => String, {
    nullable: true,
    description: 'Why: it stays in the history. Must be given for removeFromContainer.',
  })
  reason?: string | null;

  @Field(() => Int, {
    nullable: true,
    description: 'Refuse (STALE_VERSION) if it has changed since.',
  })
  expectedVersion?: number | null;

  @Field(() => Boolean, {
    defaultValue: false,
    description: 'The same answer, and nothing is written.',
  })
  dryRun!: boolean;
}

@ObjectType({ description: 'The container after the call.' })
export class ContainerPayload {
  @Field(() => ContainerType, { description: 'As it is now.' })
  container!: ContainerType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;

  @Field(() => Int, { description: 'Datasets that came in, left, or were given up.' })
  changedCount!: number;

  @Field(() => ContainerTotals, { description: 'What came in or left with them.' })
  moved!: ContainerTotals;
}

@ObjectType({ description: 'A container was created, or its content has changed.' })
export class ContainerEvent {
  @Field(() => String, { description: 'Give it as after to go on from here; also a marker.' })
  cursor!: string;

  @Field(() => String, { description: 'Who did it.' })
  actor!: string;

  @Field(() => String, { nullable: true, description: 'Why.' })
  reason!: string | null;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
