import { Field, ID, InputType, Int, ObjectType } from 'type-graphql';
import { DateTime, SafeInt } from '../api/scalars.ts';
import { DatasetStatus } from '../datasets/datasets.schema.ts';
import { RunSource } from '../runs/runs.schema.ts';
import type { Finding as FindingName } from './incidents.rules.ts';
import { IncidentType, LossFinding } from './incidents.schema.ts';

@InputType({
  description:
    'A loss of storage, said in one way: volume (with site, if the name is not unique) · site and pathPrefix · ' +
    'massStore (with pathPrefix, or paths = keys, or lfns) · paths (with site, if you like) · lfns.',
})
export class ReportStorageLossInput {
  @Field(() => String, { nullable: true, description: 'All copies on this volume.' })
  volume?: string | null;

  @Field(() => String, { nullable: true, description: 'The site of volume, pathPrefix or paths.' })
  site?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'All copies at the site whose path begins so; in a mass store, whose key does.',
  })
  pathPrefix?: string | null;

  @Field(() => String, { nullable: true, description: 'Backups in this mass store.' })
  massStore?: string | null;

  @Field(() => [String], {
    nullable: true,
    description: 'Copies at these paths, at most 10,000; in a mass store, keys.',
  })
  paths?: string[] | null;

  @Field(() => [String], {
    nullable: true,
    description:
      'All copies on disk of these files, at most 10,000; with massStore, their backups in it.',
  })
  lfns?: string[] | null;

  @Field(() => DateTime, { nullable: true, description: 'Only copies told since then.' })
  since?: Date | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'Only copies told until then; now, if not given.',
  })
  until?: Date | null;

  @Field(() => String, {
    description: 'What happened: it stands in the history of every dataset that is hit.',
  })
  reason!: string;

  @Field(() => Boolean, {
    defaultValue: false,
    description: 'Only look: the same answer, nothing written.',
  })
  dryRun!: boolean;

  @Field(() => String, {
    nullable: true,
    description:
      'Of lost backups: the store where they are asked for again; the same one, if not given.',
  })
  backUpTo?: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Sent again with the same key: the first answer.',
  })
  idempotencyKey?: string | null;
}

@ObjectType({ description: 'A copy that is hit.' })
export class HitCopy {
  @Field(() => LossFinding, { description: 'What its loss means.' })
  finding!: FindingName;

  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => SafeInt, { description: 'Size of the file in bytes.' })
  sizeBytes!: number;

  @Field(() => String, { description: 'Volume or mass store.' })
  place!: string;

  @Field(() => String, { description: 'Path, or key in the store.' })
  path!: string;
}

@ObjectType({ description: 'A dataset that is hit. Counts are files.' })
export class HitDataset {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { description: 'Whose it is.' })
  owner!: string;

  @Field(() => DatasetStatus, { description: 'How far it has come.' })
  status!: keyof typeof DatasetStatus;

  @Field(() => Boolean, { description: 'Published without backup.' })
  backupWaived!: boolean;

  @Field(() => SafeInt, { description: 'All its files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'With a copy that is hit.' })
  hitCount!: number;

  @Field(() => SafeInt, { description: 'That nothing holds any more.' })
  lostCount!: number;

  @Field(() => SafeInt, { description: 'With a copy on disk, and no confirmed backup any more.' })
  unbackedCount!: number;

  @Field(() => Boolean, { description: 'It is marked bad for this.' })
  isMarked!: boolean;
}

@ObjectType({ description: 'Somebody whose datasets are hit.' })
export class HitOwner {
  @Field(() => String, { description: 'The owner.' })
  owner!: string;

  @Field(() => SafeInt, { description: 'His datasets that are hit.' })
  datasetCount!: number;

  @Field(() => SafeInt, { description: 'Of these, marked bad.' })
  markedCount!: number;

  @Field(() => SafeInt, { description: 'Lost files in them.' })
  lostCount!: number;
}

@ObjectType({ description: 'A list of datasets of which some are hit.' })
export class HitContainer {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { description: 'Whose it is.' })
  owner!: string;

  @Field(() => SafeInt, { description: 'Its datasets that are hit.' })
  datasetCount!: number;

  @Field(() => SafeInt, {
    description: 'Of these, marked bad: they leave the list until the mark goes.',
  })
  markedCount!: number;

  @Field(() => SafeInt, { description: 'Lost files in them.' })
  lostCount!: number;
}

@ObjectType({
  description:
    'A file made from lost files, or from such files: merged of them, or a child. It is good, and never marked bad ' +
    'for this, as long as it is held itself; it cannot be made again.',
})
export class HitDerived {
  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => Int, { description: '1 = made of a lost file, 2 = made of such a file, …' })
  generation!: number;

  @Field(() => SafeInt, { description: 'Inputs and parents of its own that are lost.' })
  lostInputCount!: number;

  @Field(() => SafeInt, { description: 'All its inputs and parents.' })
  inputCount!: number;

  @Field(() => Boolean, { description: 'It is lost itself.' })
  isLost!: boolean;

  @Field(() => [String], { description: 'Datasets that hold it, at most 20.' })
  datasets!: string[];
}

@ObjectType({ description: 'A dataset that holds files made from lost ones. Counts are files.' })
export class HitDerivedDataset {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { description: 'Whose it is.' })
  owner!: string;

  @Field(() => SafeInt, { description: 'All its files.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Made from lost ones.' })
  derivedCount!: number;

  @Field(() => Boolean, { description: 'It is marked bad, for files of its own that are lost.' })
  isMarked!: boolean;
}

@ObjectType({ description: 'Runs of one source.' })
export class RunList {
  @Field(() => RunSource, { description: 'Detector or simulation.' })
  source!: keyof typeof RunSource;

  @Field(() => String, { description: 'Their numbers, as "36172-39320,40001".' })
  numbers!: string;
}

@ObjectType({
  description:
    'What a loss hits. Lists are cut as they say; the incident has all copies and datasets.',
})
export class StorageLossTable {
  @Field(() => SafeInt, { description: 'Copies that are hit.' })
  itemCount!: number;

  @Field(() => SafeInt, { description: 'Of these, with another copy like it.' })
  safeCount!: number;

  @Field(() => SafeInt, { description: 'Of these, that can be made again.' })
  recoverableCount!: number;

  @Field(() => SafeInt, { description: 'Of these, that are the last copy of their file.' })
  lostCount!: number;

  @Field(() => SafeInt, { description: 'Files that are hit.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Files that nothing holds any more.' })
  lostFileCount!: number;

  @Field(() => SafeInt, { description: 'Their bytes.' })
  lostBytes!: number;

  @Field(() => SafeInt, { description: 'Runs with data in a file that is hit.' })
  runCount!: number;

  @Field(() => SafeInt, { description: 'Runs with data in a file that is lost.' })
  lostRunCount!: number;

  @Field(() => [RunList], { description: 'These runs, the first 10,000.' })
  lostRuns!: RunList[];

  @Field(() => SafeInt, { description: 'Datasets with a file that is hit.' })
  datasetCount!: number;

  @Field(() => SafeInt, { description: 'Of these, marked bad.' })
  markedDatasetCount!: number;

  @Field(() => SafeInt, { description: 'Containers that list a dataset that is hit.' })
  containerCount!: number;

  @Field(() => SafeInt, { description: 'Owners of datasets that are hit.' })
  ownerCount!: number;

  @Field(() => SafeInt, { description: 'Files made from lost files, over all generations.' })
  derivedCount!: number;

  @Field(() => SafeInt, { description: 'Datasets that hold such files.' })
  derivedDatasetCount!: number;

  @Field(() => [HitCopy], { description: 'Last copies first, at most 1,000.' })
  items!: HitCopy[];

  @Field(() => [HitDataset], { description: 'Marked ones first, at most 200.' })
  datasets!: HitDataset[];

  @Field(() => [HitOwner], { description: 'Those with most marked datasets first, at most 200.' })
  owners!: HitOwner[];

  @Field(() => [HitContainer], {
    description: 'Those with most marked datasets first, at most 200.',
  })
  containers!: HitContainer[];

  @Field(() => [HitDerived], { description: 'The nearest first, at most 100.' })
  derived!: HitDerived[];

  @Field(() => [HitDerivedDataset], {
    description: 'Those with most such files first, at most 100.',
  })
  derivedDatasets!: HitDerivedDataset[];
}

@ObjectType({ description: 'What a loss hits: the same for a dry run as for the real one.' })
export class ReportStorageLossPayload extends StorageLossTable {
  @Field(() => IncidentType, {
    nullable: true,
    description:
      'The new incident; the earlier one, when nothing new was hit; none for a dry run or no hit.',
  })
  incident!: IncidentType | null;

  @Field(() => Boolean, { description: 'false: nothing was written.' })
  changed!: boolean;

  @Field(() => Boolean, { description: 'It was only looked at.' })
  dryRun!: boolean;

  @Field(() => SafeInt, { description: 'Copies named here that were lost before.' })
  alreadyLostCount!: number;

  @Field(() => SafeInt, { description: 'Names that stand for no copy at all.' })
  unknownCount!: number;

  @Field(() => [String], { description: 'The first 100 of them.' })
  unknown!: string[];
}

@InputType({ description: 'An incident to bring back.' })
export class RecoverIncidentInput {
  @Field(() => ID, { description: 'Its id or its number.' })
  incident!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Restage to this volume; to where they were, if not given.',
  })
  volume?: string | null;

  @Field(() => String, { nullable: true, description: 'Beginning of the paths that is replaced …' })
  pathFrom?: string | null;

  @Field(() => String, { nullable: true, description: '… by this one.' })
  pathTo?: string | null;
}

@InputType({ description: 'An incident to end, and why.' })
export class EndIncidentInput {
  @Field(() => ID, { description: 'Its id or its number.' })
  incident!: string;

  @Field(() => String, { description: 'Why: it stays in the history.' })
  reason!: string;
}

@ObjectType({ description: 'The incident after the call.' })
export class IncidentPayload {
  @Field(() => IncidentType, { description: 'As it is now.' })
  incident!: IncidentType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;
}
