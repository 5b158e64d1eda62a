import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import {
  CountFilter,
  enumType,
  ItemError,
  NameFilter,
  RegistrationOutcome,
  TimeFilter,
} from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type { RunSource as SourceName } from '../runs/runs.rules.ts';
import { RunKey, RunSource } from '../runs/runs.schema.ts';
import type { FileOrder as OrderName } from './files.queries.ts';
import type { FileKind as KindName, ReplicaStatus as ReplicaStatusName } from './files.rules.ts';

export const FileKind = enumType<KindName>('FileKind', 'What a file is.', {
  RUN_FILE: 'Small: one run, one stream; is merged with others.',
  MERGED_FILE: 'Made of run files of one or many runs; what datasets hold.',
});
export const FileOrder = enumType<OrderName>('FileOrder', 'Order of files.', {
  LFN: 'By logical file name, byte by byte.',
  CREATED_AT_DESC: 'The last registered first.',
});
export const ReplicaStatus = enumType<ReplicaStatusName>(
  'ReplicaStatus',
  'State of a copy on disk.',
  {
    AVAILABLE: 'It is there.',
    STAGING: 'It is being brought back from the mass store.',
    LOST: 'It is gone.',
    EVICTED: 'It was a copy in a pool, and made room for others.',
  },
);

@ObjectType({ description: 'A copy of a file on a disk volume.' })
export class Replica {
  @Field(() => String, { description: 'The volume: a disk server, a pool, a scratch area.' })
  volume!: string;

  @Field(() => String, { description: 'Absolute path on it.' })
  path!: string;

  @Field(() => ReplicaStatus, { description: 'Whether it is there.' })
  status!: ReplicaStatusName;

  @Field(() => DateTime, { description: 'When it was told.' })
  createdAt!: Date;
}

@ObjectType('File', {
  implements: NodeType,
  description: 'One data file, known by its logical file name. What was registered never changes.',
})
export class FileType extends NodeType {
  @Field(() => String, { description: 'Logical file name.' })
  lfn!: string;

  @Field(() => FileKind, { description: 'Run file or merged file.' })
  kind!: KindName;

  @Field(() => String, { description: 'The site that made it.' })
  site!: string;

  @Field(() => String, { nullable: true, description: 'Stream.' })
  stream!: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release!: string | null;

  @Field(() => SafeInt, { description: 'Size in bytes.' })
  sizeBytes!: number;

  @Field(() => String, { description: 'Adler-32, 8 hexadecimal digits.' })
  adler32!: string;

  @Field(() => String, { nullable: true, description: 'SHA-256, 64 hexadecimal digits.' })
  sha256!: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events; null = not known.' })
  eventCount!: number | null;

  @Field(() => DateTime, { description: 'When it was registered.' })
  createdAt!: Date;

  @Field(() => String, { description: 'Who registered it.' })
  createdBy!: string;

  @Field(() => Boolean, {
    description:
      'Each store that it owes a copy in has confirmed it: one, or those of its backup policy.',
  })
  isBackedUp!: boolean;
}

export const FileConnection = connectionType('File', () => FileType);

@InputType({ description: 'Conditions on files; all must hold.' })
export class FileFilter {
  @Field(() => NameFilter, { nullable: true, description: 'By logical file name.' })
  lfn?: NameFilter | null;

  @Field(() => FileKind, { nullable: true, description: 'Run files or merged files.' })
  kind?: KindName | null;

  @Field(() => String, { nullable: true, description: 'Of this stream.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this release.' })
  release?: string | null;

  @Field(() => String, { nullable: true, description: 'Made at this site.' })
  site?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'With data of a run in these ranges: "36172-39320,40001".',
  })
  runs?: string | null;

  @Field(() => RunKey, { nullable: true, description: 'With data of this run.' })
  holdsRun?: RunKey | null;

  @Field(() => String, { nullable: true, description: 'In the dataset of this name.' })
  dataset?: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'With so many events or more.' })
  minEvents?: number | null;

  @Field(() => CountFilter, { nullable: true, description: 'Of this size, bytes.' })
  sizeBytes?: CountFilter | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Registered in this time.' })
  createdAt?: TimeFilter | null;

  @Field(() => Boolean, {
    nullable: true,
    description: 'Whether each store that it owes a copy in has confirmed it.',
  })
  isBackedUp?: boolean | null;
}

@InputType({ description: 'A run that a file holds data of.' })
export class FileRunInput {
  @Field(() => Int, { description: 'Run number.' })
  number!: number;

  @Field(() => RunSource, { defaultValue: 'DATA', description: 'Detector or simulation.' })
  source!: SourceName;

  @Field(() => SafeInt, { nullable: true, description: 'Events of this run in the file.' })
  eventCount?: number | null;
}

@InputType({ description: 'A file as its producer tells it.' })
export class RegisterFileInput {
  @Field(() => String, { description: 'Logical file name, as /store/PR/run1.root.' })
  lfn!: string;

  @Field(() => FileKind, { description: 'Run file or merged file.' })
  kind!: KindName;

  @Field(() => String, {
    nullable: true,
    description: 'Site that made it; this one, if not given.',
  })
  site?: string | null;

  @Field(() => String, { nullable: true, description: 'Stream; a run file has one.' })
  stream?: string | null;

  @Field(() => String, { nullable: true, description: 'Software release.' })
  release?: string | null;

  @Field(() => SafeInt, { description: 'Size in bytes, at least 1.' })
  sizeBytes!: number;

  @Field(() => String, { description: 'Adler-32, 8 hexadecimal digits with leading zeros.' })
  adler32!: string;

  @Field(() => String, { nullable: true, description: 'SHA-256, 64 hexadecimal digits.' })
  sha256?: string | null;

  @Field(() => SafeInt, { nullable: true, description: 'Events; leave it out if not known.' })
  eventCount?: number | null;

  @Field(() => [FileRunInput], {
    nullable: true,
    description: 'Its runs; a run file has exactly one.',
  })
  runs?: FileRunInput[] | null;

  @Field(() => [String], {
    nullable: true,
    description: 'LFNs of the registered files that it was derived from, at most 10,000.',
  })
  parents?: string[] | null;

  @Field(() => String, {
    nullable: true,
    description: 'Absolute path of the copy on disk, where workers read it.',
  })
  path?: string | null;

  @Field(() => String, { nullable: true, description: 'The volume that the path is on.' })
  volume?: string | null;
}

@InputType({ description: 'Files to register.' })
export class RegisterFilesInput {
  @Field(() => [RegisterFileInput], { description: 'At most 10,000.' })
  files!: RegisterFileInput[];

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'What became of one file.' })
export class FileResult {
  @Field(() => Int, { description: 'Its place in the call, from 0.' })
  index!: number;

  @Field(() => String, { description: 'Logical file name.' })
  lfn!: string;

  @Field(() => RegistrationOutcome, { description: 'New, known, or refused.' })
  outcome!: RegistrationOutcome;

  @Field(() => ItemError, { nullable: true, description: 'Why it was refused.' })
  error?: ItemError | null;
}

@ObjectType({ description: 'One answer for each file.' })
export class RegisterFilesPayload {
  @Field(() => [FileResult], { description: 'In the order of the call.' })
  results!: FileResult[];

  @Field(() => Int, { description: 'How many are new.' })
  registeredCount!: number;

  @Field(() => Int, { description: 'How many were known.' })
  existingCount!: number;

  @Field(() => Int, { description: 'How many were refused.' })
  refusedCount!: number;
}

@InputType({ description: 'Which run files were merged into which file.' })
export class RecordMergeInput {
  @Field(() => RegisterFileInput, {
    nullable: true,
    description: 'The merged file, registered on the way …',
  })
  output?: RegisterFileInput | null;

  @Field(() => String, { nullable: true, description: '… or the LFN of one that is registered.' })
  outputLfn?: string | null;

  @Field(() => [String], { description: 'LFNs of the run files, at most 10,000.' })
  inputs!: string[];

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'The merged file.' })
export class RecordMergePayload {
  @Field(() => FileType, { description: 'As it is now.' })
  file!: FileType;

  @Field(() => Boolean, { description: 'false: this merge was recorded already.' })
  changed!: boolean;
}
