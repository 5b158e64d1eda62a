import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, SafeInt } from '../api/scalars.ts';
import type {
  ImportFileStatus as FileStatusName,
  ImportStatus as StatusName,
} from './imports.rules.ts';

export const ImportStatus = enumType<StatusName>('ImportStatus', 'How far an import has come.', {
  RUNNING: 'Workers fetch its files, verify them and back them up. Users see nothing of it.',
  ENTERED: 'Its dataset is closed, and everybody sees it.',
  FAILED: 'Something is missing, and nobody works on it: look why, then ask again.',
  CANCELLED: 'It was called off, and what it brought to disk is removed.',
});
export const ImportFileStatus = enumType<FileStatusName>(
  'ImportFileStatus',
  'How far a file of an import is.',
  {
    WAITING: 'It is to be fetched: now, or at the time of the next attempt.',
    FETCHING: 'A worker reads it from the other site.',
    BACKING_UP: 'It is here and was verified; its backup is under way.',
    SAFE: 'It has a confirmed backup here.',
    FAILED: 'Given up, with the reason.',
  },
);
export const ImportOutcome = enumType('ImportOutcome', 'What a manifest means here.', {
  NEW: 'The dataset is not here: an import begins, or would begin.',
  RESUMED: 'Its import is under way: what FAILED is tried again.',
  IDENTICAL: 'The dataset is here, with the same files.',
  CONFLICT: 'Something contradicts what is known here; of dry runs only, else it is refused.',
});

@ObjectType({ description: 'Something in a manifest that contradicts what is known here.' })
export class ImportConflict {
  @Field(() => Int, { description: 'The line of the manifest, from 1.' })
  line!: number;

  @Field(() => String, { description: 'A code of docs/errors.md.' })
  code!: string;

  @Field(() => String, { description: 'What contradicts what.' })
  what!: string;
}

@ObjectType({ description: 'How the files of an import come along; counts are files.' })
export class ImportProgress {
  @Field(() => ImportStatus, { description: 'Of the import.' })
  status!: StatusName;

  @Field(() => SafeInt, { description: 'All its files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'All its bytes.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'To be fetched.' })
  waiting!: number;

  @Field(() => SafeInt, { description: 'Being fetched.' })
  fetching!: number;

  @Field(() => SafeInt, { description: 'Here, and being backed up.' })
  backingUp!: number;

  @Field(() => SafeInt, { description: 'With a confirmed backup.' })
  safe!: number;

  @Field(() => SafeInt, { description: 'Given up.' })
  failed!: number;

  @Field(() => SafeInt, { description: 'Bytes that are here.' })
  fetchedBytes!: number;

  @Field(() => String, { nullable: true, description: 'What went wrong with one of them.' })
  lastError!: string | null;
}

@ObjectType({ description: 'A file of an import.' })
export class ImportFile {
  @Field(() => String, { description: 'Its logical name, here as there.' })
  lfn!: string;

  @Field(() => SafeInt, { description: 'Size in bytes.' })
  sizeBytes!: number;

  @Field(() => ImportFileStatus, { description: 'How far it is.' })
  status!: FileStatusName;

  @Field(() => Int, { description: 'Its line in the manifest.' })
  line!: number;

  @Field(() => [String], { description: 'Where it may be read, the best first.' })
  urls!: string[];

  @Field(() => String, {
    nullable: true,
    description: 'Where it was read; null = it was here, or is to come.',
  })
  fetchedFrom!: string | null;

  @Field(() => SafeInt, { description: 'Bytes that are here.' })
  fetchedBytes!: number;

  @Field(() => Int, { description: 'Attempts at fetching it.' })
  attempts!: number;

  @Field(() => DateTime, { nullable: true, description: 'WAITING: when it is tried (again).' })
  nextAttemptAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Code of the last failure.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'The last failure, in words.' })
  lastError!: string | null;
}
export const ImportFileConnection = connectionType('ImportFile', () => ImportFile);

@ObjectType({ description: 'Where an imported dataset comes from: it stays for good.' })
export class DatasetOrigin {
  @Field(() => String, { description: 'The site that it was imported from.' })
  site!: string;

  @Field(() => String, { description: 'Its name there.' })
  dataset!: string;

  @Field(() => String, { description: 'Its id there.' })
  id!: string;

  @Field(() => String, { description: 'Its kind there.' })
  kind!: string;

  @Field(() => String, { description: 'Its owner there.' })
  owner!: string;

  @Field(() => DateTime, { description: 'When it was closed there.' })
  closedAt!: Date;

  @Field(() => DateTime, { description: 'When the manifest was written there.' })
  exportedAt!: Date;

  @Field(() => DateTime, { description: 'When it was entered here.' })
  enteredAt!: Date;

  @Field(() => String, { description: 'Who imported it.' })
  importedBy!: string;

  @Field(() => [String], {
    description: 'The sites that it came through, the one that made it first.',
  })
  sites!: string[];

  @Field(() => String, { description: 'Digest of the manifest (SHA-256).' })
  manifestSha256!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Key whose signature was verified; null = none was asked for.',
  })
  signedBy!: string | null;
}

@ObjectType('Import', {
  implements: NodeType,
  description: 'A dataset of another site on its way here.',
})
export class ImportType extends NodeType {
  @Field(() => ImportStatus, { description: 'How far it is.' })
  status!: StatusName;

  @Field(() => String, { description: 'Name of the dataset here.' })
  datasetName!: string;

  @Field(() => String, { description: 'The site that it comes from.' })
  sourceSite!: string;

  @Field(() => String, { description: 'Digest of the manifest (SHA-256).' })
  manifestSha256!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Key whose signature was verified; null = none was asked for.',
  })
  signedBy!: string | null;

  @Field(() => String, { description: 'Mass store that its files are backed up in.' })
  store!: string;

  @Field(() => SafeInt, { description: 'Files of the dataset.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Bytes of the dataset.' })
  sizeBytes!: number;

  @Field(() => SafeInt, { description: 'Events of the files whose count is known.' })
  eventCount!: number;

  @Field(() => SafeInt, { description: 'Runs in it.' })
  runCount!: number;

  @Field(() => String, { description: 'Who asked for it: the owner of the dataset here.' })
  requestedBy!: string;

  @Field(() => DateTime, { description: 'When.' })
  requestedAt!: Date;

  @Field(() => DateTime, { nullable: true, description: 'When it was entered or cancelled.' })
  finishedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'FAILED: the code of the reason.' })
  lastErrorCode!: string | null;

  @Field(() => String, { nullable: true, description: 'FAILED: why.' })
  lastError!: string | null;
}
export const ImportConnection = connectionType('Import', () => ImportType);

@InputType({ description: 'Conditions on imports; all must hold.' })
export class ImportFilter {
  @Field(() => [ImportStatus], { nullable: true, description: 'One of these.' })
  status?: StatusName[] | null;

  @Field(() => String, { nullable: true, description: 'From this site.' })
  site?: string | null;

  @Field(() => String, { nullable: true, description: 'Of the dataset of this name.' })
  dataset?: string | null;
}

@InputType({ description: 'A dataset of another site.' })
export class ImportDatasetInput {
  @Field(() => String, {
    description: 'The site, or the address of its server; one of those that an operator has named.',
  })
  from!: string;

  @Field(() => String, { description: 'Name of the dataset there.' })
  dataset!: string;

  @Field(() => String, { nullable: true, description: 'Its name here; the same if not given.' })
  name?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Where to back up; the default store if not given.',
  })
  store?: string | null;

  @Field(() => Boolean, { defaultValue: false, description: 'The same answer, nothing written.' })
  dryRun!: boolean;
}

@InputType({ description: 'An import to be called off.' })
export class CancelImportInput {
  @Field(() => String, { description: 'Its number or id.' })
  import!: string;

  @Field(() => String, { nullable: true, description: 'Why; it stays in the history.' })
  reason?: string | null;
}

@ObjectType({ description: 'An import and whether anything changed.' })
export class ImportPayload {
  @Field(() => ImportType, { description: 'The import, as it is now.' })
  import!: object;

  @Field(() => Boolean, { description: 'false = it was so already.' })
  changed!: boolean;
}

@ObjectType({ description: 'What a manifest means here, and what was done about it.' })
export class ImportDatasetPayload {
  @Field(() => ImportOutcome, { description: 'What it means here.' })
  outcome!: keyof typeof ImportOutcome;

  @Field(() => ImportType, { nullable: true, description: 'The import; null = there is none.' })
  import!: object | null;

  @Field(() => Boolean, { description: 'An import was begun, or tried again.' })
  changed!: boolean;

  @Field(() => Boolean, { description: 'Nothing was written.' })
  dryRun!: boolean;

  @Field(() => String, { description: 'Name of the dataset here.' })
  dataset!: string;

  @Field(() => String, { description: 'The site that it comes from.' })
  site!: string;

  @Field(() => SafeInt, { description: 'Files to be fetched.' })
  newFileCount!: number;

  @Field(() => SafeInt, { description: 'Bytes to be fetched.' })
  newBytes!: number;

  @Field(() => SafeInt, { description: 'Files that are here already, with the same content.' })
  hereFileCount!: number;

  @Field(() => SafeInt, { description: 'Runs that are not known here.' })
  newRunCount!: number;

  @Field(() => SafeInt, { description: 'Runs that are known here, and the same.' })
  hereRunCount!: number;

  @Field(() => SafeInt, { description: 'Runs that are known here, and of which more is told.' })
  filledRunCount!: number;

  @Field(() => SafeInt, {
    description: 'Runs of which DQM of this site says otherwise: its word stays.',
  })
  otherVerdictCount!: number;

  @Field(() => SafeInt, { description: 'What contradicts.' })
  conflictCount!: number;

  @Field(() => [ImportConflict], { description: 'The first 20 of them.' })
  conflicts!: ImportConflict[];
}
