import { Field, ID, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { PublicationStatus as StatusName } from './publications.rules.ts';

export const PublicationStatus = enumType<StatusName>(
  'PublicationStatus',
  'How far a publication has come. Until it is PUBLISHED its owner and operators see it, and nobody else.',
  {
    REQUESTED: 'Asked for: a worker takes it next.',
    AWAITING_APPROVAL: 'An operator says whether it may be published.',
    CHECKING: 'A worker reads each file: is it there, whole, counted, and there once?',
    MERGING: 'A worker makes composite files.',
    BACKING_UP: 'The composite files are registered, and go to mass storage.',
    CLOSING: 'All is safe: its dataset is made and closed.',
    PUBLISHED: 'Its dataset is closed, and everybody sees it.',
    FAILED: 'It could not be published; lastError says what to mend. What it wrote is removed.',
    WITHDRAWN: 'It was called off. What it wrote is removed.',
  },
);
export const MergeTool = enumType('MergeTool', 'How files are merged.', {
  TAR: 'Into tar archives, with an index, from which each can be read back.',
  COMMAND: 'By the merging tool of the site, such as hadd.',
});
export const QuotaKind = enumType('QuotaKind', 'Whose quota.', {
  USER: 'Of a user.',
  GROUP: 'Of a group.',
});

@ObjectType({ description: 'How a publication comes along.' })
export class PublicationProgress {
  @Field(() => PublicationStatus, { description: 'The step that is under way.' })
  status!: StatusName;

  @Field(() => SafeInt, { description: 'All its files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'All its bytes; as told, until they are checked.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Files that are checked.' })
  checked!: number;

  @Field(() => SafeInt, { description: 'Of these, files that cannot be published.' })
  faulty!: number;

  @Field(() => SafeInt, { description: 'Files that are in a composite file.' })
  merged!: number;

  @Field(() => SafeInt, { description: 'Composite files that there will be; 0 = not planned yet.' })
  compositeCount!: number;

  @Field(() => SafeInt, { description: 'Composite files that are made.' })
  made!: number;

  @Field(() => SafeInt, { description: 'Composite files with all their confirmed backups.' })
  safe!: number;

  @Field(() => SafeInt, { description: 'Bytes that the step under way is done with.' })
  doneBytes!: number;

  @Field(() => String, { nullable: true, description: 'What stands in the way, or went wrong.' })
  lastError!: string | null;
}

@ObjectType({ description: 'A file of the user in a publication.' })
export class PublicationFile {
  @Field(() => String, { description: 'Where it lies.' })
  path!: string;

  @Field(() => String, { description: 'Its name among the members of the archive.' })
  name!: string;

  @Field(() => SafeInt, { nullable: true, description: 'Size in bytes; null = not checked yet.' })
  sizeBytes!: number | null;

  @Field(() => String, { nullable: true, description: 'SHA-256; null = not checked yet.' })
  sha256!: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events; null = not known.' })
  eventCount!: number | null;

  @Field(() => String, { nullable: true, description: 'It cannot be published: the code.' })
  faultCode!: string | null;

  @Field(() => String, { nullable: true, description: 'It cannot be published: why.' })
  fault!: string | null;

  @Field(() => String, { nullable: true, description: 'LFN of the composite file it goes into.' })
  compositeLfn!: string | null;

  @Field(() => SafeInt, {
    nullable: true,
    description: 'Where its bytes begin in that, if it is an archive.',
  })
  memberOffset!: number | null;
}
export const PublicationFileConnection = connectionType('PublicationFile', () => PublicationFile);

@ObjectType({ description: 'A composite file: files of a user, merged.' })
export class PublicationComposite {
  @Field(() => String, { description: 'Its logical name.' })
  lfn!: string;

  @Field(() => SafeInt, { description: 'Files that go into it.' })
  fileCount!: number;

  @Field(() => SafeInt, { nullable: true, description: 'Size in bytes; null = not made yet.' })
  sizeBytes!: number | null;

  @Field(() => String, { nullable: true, description: 'Adler-32; null = not made yet.' })
  adler32!: string | null;

  @Field(() => String, { nullable: true, description: 'SHA-256; null = not made yet.' })
  sha256!: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events; null = not known.' })
  eventCount!: number | null;

  @Field(() => Boolean, { description: 'It has all its confirmed backups.' })
  isSafe!: boolean;
}
export const PublicationCompositeConnection = connectionType(
  'PublicationComposite',
  () => PublicationComposite,
);

@ObjectType('Publication', {
  implements: NodeType,
  description: 'Files of a user on their way to everybody.',
})
export class PublicationType extends NodeType {
  @Field(() => PublicationStatus, { description: 'How far it is.' })
  status!: StatusName;

  @Field(() => String, { description: 'Name of the dataset that it becomes.' })
  datasetName!: string;

  @Field(() => String, { description: 'Its owner, and that of the dataset.' })
  requestedBy!: string;

  @Field(() => String, { nullable: true, description: 'Group whose quota it is charged to.' })
  group!: string | null;

  @Field(() => String, { description: 'What it is.' })
  description!: string;

  @Field(() => String, { nullable: true, description: 'Stream.' })
  stream!: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release!: string | null;

  @Field(() => String, { nullable: true, description: 'ROOT tree that jobs read.' })
  treeName!: string | null;

  @Field(() => String, { description: 'Mass store that its files are backed up in.' })
  store!: string;

  @Field(() => MergeTool, { description: 'How its files are merged.' })
  mergeTool!: keyof typeof MergeTool;

  @Field(() => SafeInt, { description: 'Wanted size of a composite file, in bytes.' })
  compositeBytes!: number;

  @Field(() => SafeInt, { description: 'Files of the user.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Their bytes; as told, until they are checked.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { nullable: true, description: 'Their events; null = not all are known.' })
  eventCount!: number | null;

  @Field(() => DateTime, { description: 'When it was asked for.' })
  requestedAt!: Date;

  @Field(() => String, { nullable: true, description: 'The operator who decided on it.' })
  decidedBy!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When that was.' })
  decidedAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was over.' })
  finishedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Code of what stands in the way.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'What stands in the way, or went wrong.' })
  lastError!: string | null;
}
export const PublicationConnection = connectionType('Publication', () => PublicationType);

@InputType({ description: 'Conditions on publications; all must hold.' })
export class PublicationFilter {
  @Field(() => [PublicationStatus], { nullable: true, description: 'One of these.' })
  status?: StatusName[] | null;

  @Field(() => String, { nullable: true, description: 'Of the dataset of this name.' })
  dataset?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this owner.' })
  requestedBy?: string | null;
}

@InputType({ description: 'A file that is to be published.' })
export class PublicationFileInput {
  @Field(() => String, {
    description: 'Where it lies: an absolute path that a worker of the site can read.',
  })
  path!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Its name among the members; the last part of the path if not given.',
  })
  name?: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Its size in bytes, as far as is known.' })
  sizeBytes?: number | null;

  @Field(() => SafeInt, {
    nullable: true,
    description: 'Its events. Where the site can count them, they must be right.',
  })
  eventCount?: number | null;
}

@InputType({ description: 'What is to be published.' })
export class RequestPublicationInput {
  @Field(() => String, { description: 'Name of the dataset.' })
  name!: string;

  @Field(() => String, { description: 'What it is, for those who find it.' })
  description!: string;

  @Field(() => [PublicationFileInput], { description: '1 to 10,000 files.' })
  files!: PublicationFileInput[];

  @Field(() => String, { nullable: true, description: 'Stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release?: string | null;

  @Field(() => String, { nullable: true, description: 'ROOT tree that jobs read.' })
  treeName?: string | null;

  @Field(() => String, { nullable: true, description: 'Charge the quota of this group.' })
  group?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Where to back up; the default store if not given.',
  })
  store?: string | null;

  @Field(() => SafeInt, {
    nullable: true,
    description: 'Wanted size of a composite file, in bytes; that of the site if not given.',
  })
  compositeBytes?: number | null;

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key it is not done twice.',
  })
  idempotencyKey?: string | null;
}

@InputType({ description: 'A publication to be called off.' })
export class WithdrawPublicationInput {
  @Field(() => ID, { description: 'Its number or id.' })
  publication!: string;

  @Field(() => String, { nullable: true, description: 'Why; it stays in the history.' })
  reason?: string | null;
}

@InputType({ description: 'The word of an operator.' })
export class DecidePublicationInput {
  @Field(() => ID, { description: 'Its number or id.' })
  publication!: string;

  @Field(() => Boolean, { description: 'Whether it may be published.' })
  approve!: boolean;

  @Field(() => String, { nullable: true, description: 'Why; needed to say no.' })
  reason?: string | null;
}

@ObjectType({ description: 'A publication and whether anything changed.' })
export class PublicationPayload {
  @Field(() => PublicationType, { description: 'The publication, as it is now.' })
  publication!: object;

  @Field(() => Boolean, { description: 'false = it was so already.' })
  changed!: boolean;
}

@ObjectType({ description: 'What may be, or is, published.' })
export class QuotaNumbers {
  @Field(() => SafeInt, { description: 'Files.' })
  files!: number;

  @Field(() => SafeInt, { description: 'Bytes.' })
  bytes!: number;

  @Field(() => Int, { description: 'Requests under way.' })
  running!: number;
}

@ObjectType({ description: 'What a user or a group may publish, and has.' })
export class PublicationQuota {
  @Field(() => QuotaKind, { description: 'Whose.' })
  kind!: keyof typeof QuotaKind;

  @Field(() => String, { description: 'Of the user or the group.' })
  name!: string;

  @Field(() => QuotaNumbers, { description: 'The most.' })
  limit!: QuotaNumbers;

  @Field(() => QuotaNumbers, {
    description: 'Published and under way; FAILED and WITHDRAWN do not count.',
  })
  used!: QuotaNumbers;

  @Field(() => Boolean, {
    description: 'Operators have set it; else it is the default of the site.',
  })
  isSet!: boolean;
}

@InputType({ description: 'A quota; without numbers it is the default of the site again.' })
export class SetPublicationQuotaInput {
  @Field(() => QuotaKind, { description: 'Whose.' })
  kind!: keyof typeof QuotaKind;

  @Field(() => String, { description: 'Of the user or the group.' })
  name!: string;

  @Field(() => SafeInt, { nullable: true, description: 'Most files.' })
  files?: number | null;

  @Field(() => SafeInt, { nullable: true, description: 'Most bytes.' })
  bytes?: number | null;

  @Field(() => Int, { nullable: true, description: 'Most requests under way.' })
  running?: number | null;
}
