import { Field, Float, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { CountFilter, enumType, NameFilter, TimeFilter } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import { RunKey } from '../runs/runs.schema.ts';
import type { DatasetOrder as OrderName } from './datasets.queries.ts';
import type { DatasetKind as KindName, DatasetStatus as StatusName } from './datasets.rules.ts';

export const DatasetStatus = enumType<StatusName>('DatasetStatus', 'How far a dataset has come.', {
  OPEN: 'Files come and go. Seen by producers, operators and its owner.',
  BACKED_UP: 'Every file has a confirmed backup; no file comes or goes. Not yet visible to users.',
  CLOSED: 'Published, and immutable for good.',
});
export const DatasetKind = enumType<KindName>('DatasetKind', 'What a dataset is made of.', {
  PR: 'Prompt reconstruction of real runs.',
  SP: 'Simulation production.',
  SKIM: 'A selection.',
  IMPORT: 'Came from another production site.',
  USER: "A user's data, published on request.",
});
export const DatasetOrder = enumType<OrderName>('DatasetOrder', 'Order of datasets.', {
  NAME: 'By name.',
  CREATED_AT_DESC: 'The newest first.',
  CLOSED_AT_DESC: 'The last published first.',
  SIZE_DESC: 'The largest in bytes first.',
  EVENTS_DESC: 'The one with most events first.',
  FILES_DESC: 'The one with most files first.',
});

@ObjectType({ description: 'Why users do not see a dataset.' })
export class BadMark {
  @Field(() => String, { description: 'What is wrong with it.' })
  reason!: string;

  @Field(() => String, { description: 'Who marked it.' })
  markedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  markedAt!: Date;

  @Field(() => SafeInt, {
    nullable: true,
    description:
      'After a loss of storage: files that are not good now; none for a mark set by hand.',
  })
  lostFileCount!: number | null;

  @Field(() => SafeInt, { nullable: true, description: '… of so many files.' })
  fileCount!: number | null;
}

@ObjectType({ description: 'First and last run number.' })
export class RunRange {
  @Field(() => Int, { description: 'Lowest run number.' })
  first!: number;

  @Field(() => Int, { description: 'Highest run number.' })
  last!: number;
}

@ObjectType('Dataset', {
  implements: NodeType,
  description:
    'What users ask for by name: a set of merged files. Visible to users when it is CLOSED and not bad.',
})
export class DatasetType extends NodeType {
  @Field(() => String, { description: 'Its name, for good.' })
  name!: string;

  @Field(() => DatasetKind, { description: 'What it is made of.' })
  kind!: KindName;

  @Field(() => DatasetStatus, { description: 'How far it has come.' })
  status!: StatusName;

  @Field(() => String, { description: 'Whose it is.' })
  owner!: string;

  @Field(() => String, { nullable: true, description: 'Stream.' })
  stream!: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release!: string | null;

  @Field(() => String, { nullable: true, description: 'The ROOT tree that exports name.' })
  treeName!: string | null;

  @Field(() => String, { nullable: true, description: 'In words.' })
  description!: string | null;

  @Field(() => Boolean, { description: 'A sweep is under way: no file comes or goes.' })
  sealed!: boolean;

  @Field(() => Boolean, {
    description: 'Published without backup: after a disk crash it may be unreadable.',
  })
  backupWaived!: boolean;

  @Field(() => String, { nullable: true, description: 'Why the backup was waived.' })
  waiverReason!: string | null;

  @Field(() => Boolean, { description: 'CLOSED and not bad: users see it.' })
  isAvailable!: boolean;

  @Field(() => SafeInt, { description: 'Files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Files with a confirmed backup.' })
  confirmedCount!: number;

  @Field(() => SafeInt, { description: 'Size of all files, bytes.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Events in all files whose count is known.' })
  eventCount!: number;

  @Field(() => SafeInt, { description: 'Runs that its files hold data of.' })
  runCount!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Of its runs, each once, 1/pb; null = none of them says.',
  })
  luminosity!: number | null;

  @Field(() => Int, { description: 'Grows with each change: give it as expectedVersion.' })
  version!: number;

  @Field(() => DateTime, { description: 'When it was created.' })
  createdAt!: Date;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When its last file was confirmed and it was marked backed up.',
  })
  backedUpAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was published.' })
  closedAt!: Date | null;
}

export const DatasetConnection = connectionType('Dataset', () => DatasetType);

@InputType({
  description:
    'Conditions on datasets; all must hold. Without status and isBad: what is available.',
})
export class DatasetFilter {
  @Field(() => NameFilter, { nullable: true, description: 'By name.' })
  name?: NameFilter | null;

  @Field(() => [DatasetKind], { nullable: true, description: 'Of one of these kinds.' })
  kind?: KindName[] | null;

  @Field(() => [DatasetStatus], {
    nullable: true,
    description: 'In one of these states, as far as you see them.',
  })
  status?: StatusName[] | null;

  @Field(() => String, { nullable: true, description: 'Of this owner.' })
  owner?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this release.' })
  release?: string | null;

  @Field(() => Boolean, { nullable: true, description: 'Marked bad, for those who see such.' })
  isBad?: boolean | null;

  @Field(() => Boolean, { nullable: true, description: 'Published without backup, or not so.' })
  backupWaived?: boolean | null;

  @Field(() => String, {
    nullable: true,
    description: 'With data of a run in these ranges: "36172-39320,40001".',
  })
  runs?: string | null;

  @Field(() => RunKey, { nullable: true, description: 'With data of this run.' })
  holdsRun?: RunKey | null;

  @Field(() => SafeInt, { nullable: true, description: 'With so many events or more.' })
  minEvents?: number | null;

  @Field(() => CountFilter, { nullable: true, description: 'Of this size, bytes.' })
  sizeBytes?: CountFilter | null;

  @Field(() => CountFilter, { nullable: true, description: 'Of so many files.' })
  fileCount?: CountFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Created in this time.' })
  createdAt?: TimeFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Published in this time.' })
  closedAt?: TimeFilter | null;
}

@InputType({ description: 'Which changes of state to hear of; all must hold.' })
export class DatasetEventFilter {
  @Field(() => String, { nullable: true, description: 'Of the dataset of this name.' })
  dataset?: string | null;

  @Field(() => NameFilter, { nullable: true, description: 'Of datasets with such a name.' })
  name?: NameFilter | null;

  @Field(() => [DatasetKind], { nullable: true, description: 'Of one of these kinds.' })
  kind?: KindName[] | null;

  @Field(() => [DatasetStatus], { nullable: true, description: 'Into one of these states.' })
  to?: StatusName[] | null;
}

@InputType({ description: 'A new dataset.' })
export class CreateDatasetInput {
  @Field(() => String, {
    description: 'Letters, digits and . _ : / + = @ -, at most 200; for good.',
  })
  name!: string;

  @Field(() => DatasetKind, { description: 'What it is made of.' })
  kind!: KindName;

  @Field(() => String, { nullable: true, description: 'Whose it is; yours, if not given.' })
  owner?: string | null;

  @Field(() => String, { nullable: true, description: 'Stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release?: string | null;

  @Field(() => String, { nullable: true, description: 'The ROOT tree that exports name.' })
  treeName?: string | null;

  @Field(() => String, { nullable: true, description: 'In words.' })
  description?: string | null;

  @Field(() => Boolean, {
    defaultValue: false,
    description: 'Publish without backup. For admins; needs waiverReason.',
  })
  backupWaived!: boolean;

  @Field(() => String, { nullable: true, description: 'Why no backup is needed.' })
  waiverReason?: string | null;

  @Field(() => [String], {
    nullable: true,
    description: 'LFNs of its first files, at most 10,000.',
  })
  files?: string[] | null;

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'The new dataset.' })
export class CreateDatasetPayload {
  @Field(() => DatasetType, { description: 'As it is now.' })
  dataset!: DatasetType;

  @Field(() => Boolean, { description: 'Always true; a taken name is refused.' })
  changed!: boolean;
}

@InputType({ description: 'Files that come into a dataset or leave it; all or none.' })
export class DatasetFilesInput {
  @Field(() => String, { description: 'Name of the dataset.' })
  dataset!: string;

  @Field(() => [String], { description: 'LFNs of merged files, at most 10,000.' })
  lfns!: string[];

  @Field(() => Int, {
    nullable: true,
    description: 'Refuse (STALE_VERSION) if it has changed since.',
  })
  expectedVersion?: number | null;
}

@InputType({ description: 'A step of the life of a dataset.' })
export class DatasetTransitionInput {
  @Field(() => String, { description: 'Name of the dataset.' })
  dataset!: string;

  @Field(() => String, { nullable: true, description: 'Why; must be given for reopenDataset.' })
  reason?: string | null;

  @Field(() => Int, {
    nullable: true,
    description: 'Refuse (STALE_VERSION) if it has changed since.',
  })
  expectedVersion?: number | null;

  @Field(() => String, {
    nullable: true,
    description: 'sweepDataset: where to back up; the default store, if not given.',
  })
  store?: string | null;
}

@InputType({ description: 'A bad mark to set or to take off.' })
export class BadMarkInput {
  @Field(() => String, { description: 'Name of the dataset.' })
  dataset!: string;

  @Field(() => String, { description: 'Why: it stays in the history.' })
  reason!: string;

  @Field(() => Int, {
    nullable: true,
    description: 'Refuse (STALE_VERSION) if it has changed since.',
  })
  expectedVersion?: number | null;
}

@ObjectType({ description: 'The dataset after the call.' })
export class DatasetPayload {
  @Field(() => DatasetType, { description: 'As it is now.' })
  dataset!: DatasetType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;

  @Field(() => Int, { description: 'Files added, removed or asked for; 1 for a step.' })
  changedCount!: number;
}

@ObjectType({ description: 'A dataset took a step, or was marked bad or cleared.' })
export class DatasetStatusEvent {
  @Field(() => String, { description: 'Give it as after to go on from here.' })
  cursor!: string;

  @Field(() => DatasetType, { description: 'The dataset, as it is now.' })
  dataset!: DatasetType;

  @Field(() => DatasetStatus, { nullable: true, description: 'State before; none for a new one.' })
  from!: StatusName | null;

  @Field(() => DatasetStatus, {
    description: 'State after; the same as before when it was marked bad or cleared.',
  })
  to!: StatusName;

  @Field(() => BadMark, { nullable: true, description: 'The mark that it carries now.' })
  badMark!: BadMark | null;

  @Field(() => String, { description: 'Who did it.' })
  actor!: string;

  @Field(() => String, { nullable: true, description: 'Why.' })
  reason!: string | null;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
