import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import { NodeType } from '../api/node.ts';
import { DateTime, Json, SafeInt } from '../api/scalars.ts';
import type {
  Finding as FindingName,
  IncidentStatus as StatusName,
  ItemStatus as ItemStatusName,
  LossKind as KindName,
} from './incidents.rules.ts';

export const IncidentStatus = enumType<StatusName>(
  'IncidentStatus',
  'How far an incident has come.',
  {
    OPEN: 'Something is lost; what is told of it is looked at.',
    RECOVERING: 'Workers bring back what can be brought back.',
    CLOSED: 'All is back, or an operator has closed it: what is not back stays lost.',
    UNDONE: 'It was a mistake: replicas and marks are as they were.',
  },
);
export const LossKind = enumType<KindName>('LossKind', 'What an incident is about.', {
  REPLICAS: 'Copies on disk.',
  BACKUPS: 'Copies in a mass store.',
});
export const LossFinding = enumType<FindingName>('LossFinding', 'What the loss of a copy means.', {
  SAFE: 'Another copy like it is there: on another disk, or in another mass store.',
  RECOVERABLE: 'It can be made again: from a mass store, or for a lost backup from disk.',
  LOST: 'It was the last copy: nothing else holds the file.',
});
export const IncidentItemStatus = enumType<ItemStatusName>(
  'IncidentItemStatus',
  'What became of a copy that was hit.',
  {
    HIT: 'It is gone.',
    RESTORED: 'A copy of the file was read and found good, or confirmed by the store, since.',
    UNDONE: 'It was never gone.',
  },
);

@ObjectType('IncidentItem', { description: 'A copy that an incident hit, and what became of it.' })
export class IncidentItem {
  @Field(() => SafeInt, { description: 'Its place in the incident, from 1: last copies first.' })
  ordinal!: number;

  @Field(() => String, { description: 'Logical name of the file.' })
  lfn!: string;

  @Field(() => SafeInt, { description: 'Size of the file in bytes.' })
  sizeBytes!: number;

  @Field(() => LossFinding, { description: 'As it was found when the loss was reported.' })
  finding!: FindingName;

  @Field(() => IncidentItemStatus, { description: 'What became of it.' })
  status!: ItemStatusName;

  @Field(() => Boolean, { description: 'Nothing holds the file now.' })
  isLost!: boolean;

  @Field(() => String, {
    nullable: true,
    description: 'Volume or mass store; for producers and operators.',
  })
  place!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Path, or key in the store; for producers and operators.',
  })
  path!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When it was brought back.' })
  restoredAt!: Date | null;

  @Field(() => String, {
    nullable: true,
    description: 'Why it is not back; for producers and operators.',
  })
  lastError!: string | null;

  @Field(() => Json, {
    nullable: true,
    description: 'What was asked and answered when it was last read; for producers and operators.',
  })
  evidence!: unknown;
}
export const IncidentItemConnection = connectionType('IncidentItem', () => IncidentItem);

@ObjectType('IncidentDataset', {
  description: 'What an incident did to a dataset. Counts are files.',
})
export class IncidentDataset {
  @Field(() => String, { description: 'Name of the dataset.' })
  name!: string;

  @Field(() => SafeInt, { description: 'Files of the dataset when the loss was reported.' })
  fileCount!: number;

  @Field(() => SafeInt, { description: 'Files with a copy that was hit.' })
  hitCount!: number;

  @Field(() => SafeInt, { description: 'Files that nothing held when the loss was reported.' })
  lostTotal!: number;

  @Field(() => SafeInt, { description: 'Of these, files that nothing holds now.' })
  lostCount!: number;

  @Field(() => SafeInt, {
    description:
      'Files with a copy on disk that lost their only confirmed backup, and have none now.',
  })
  unbackedCount!: number;

  @Field(() => Boolean, { description: 'It carries a bad mark of this incident now.' })
  isMarked!: boolean;

  @Field(() => DateTime, { nullable: true, description: 'When this incident marked it bad.' })
  markedAt!: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'When that mark went.' })
  clearedAt!: Date | null;
}
export const IncidentDatasetConnection = connectionType('IncidentDataset', () => IncidentDataset);

@ObjectType('Incident', {
  implements: NodeType,
  description:
    'A loss of storage: what it hit and how it is repaired. Counts are copies if nothing else is said. An owner ' +
    'sees of it, and counts in it, only what is about his datasets.',
})
export class IncidentType extends NodeType {
  @Field(() => Int, { description: 'Its number, as people call it.' })
  number!: number;

  @Field(() => IncidentStatus, { description: 'How far it has come.' })
  status!: StatusName;

  @Field(() => LossKind, { description: 'What was lost.' })
  what!: KindName;

  @Field(() => String, { description: 'What happened, as it was reported.' })
  reason!: string;

  @Field(() => String, {
    nullable: true,
    description: 'What was named as lost; for producers and operators.',
  })
  scope!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'Only copies told since then were hit.' })
  since!: Date | null;

  @Field(() => DateTime, { description: 'Only copies told until then were hit.' })
  until!: Date;

  @Field(() => String, { description: 'Who reported it.' })
  reportedBy!: string;

  @Field(() => DateTime, { description: 'When it was reported.' })
  reportedAt!: Date;

  @Field(() => SafeInt, { description: 'Copies that were hit.' })
  itemCount!: number;

  @Field(() => SafeInt, { description: 'Of these, with another copy like it.' })
  safeCount!: number;

  @Field(() => SafeInt, { description: 'Of these, that can be made again.' })
  recoverableCount!: number;

  @Field(() => SafeInt, { description: 'Of these, that were the last copy of their file.' })
  lostCount!: number;

  @Field(() => SafeInt, { description: 'That need to be brought back, and are not.' })
  openCount!: number;

  @Field(() => SafeInt, { description: 'Whose file nothing holds now.' })
  stillLostCount!: number;

  @Field(() => SafeInt, { description: 'Brought back, read and found good.' })
  restoredCount!: number;

  @Field(() => SafeInt, { description: 'Datasets with a file that was hit.' })
  datasetCount!: number;

  @Field(() => SafeInt, { description: 'Datasets that it marked bad.' })
  markedDatasetCount!: number;

  @Field(() => SafeInt, { description: 'Datasets that carry its mark now.' })
  hiddenDatasetCount!: number;

  @Field(() => DateTime, { nullable: true, description: 'When it was closed or undone.' })
  closedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'By whom.' })
  closedBy!: string | null;

  @Field(() => String, { nullable: true, description: 'Why, or with what result.' })
  closingReason!: string | null;
}
export const IncidentConnection = connectionType('Incident', () => IncidentType);

@InputType({ description: 'Conditions on incidents; all must hold.' })
export class IncidentFilter {
  @Field(() => [IncidentStatus], { nullable: true, description: 'In one of these states.' })
  status?: StatusName[] | null;

  @Field(() => LossKind, { nullable: true, description: 'About copies on disk, or in a store.' })
  what?: KindName | null;

  @Field(() => String, { nullable: true, description: 'That hit this dataset.' })
  dataset?: string | null;

  @Field(() => String, { nullable: true, description: 'Reported of this volume.' })
  volume?: string | null;

  @Field(() => String, { nullable: true, description: 'Reported of this mass store.' })
  massStore?: string | null;
}

@InputType({ description: 'Conditions on copies that were hit; all must hold.' })
export class IncidentItemFilter {
  @Field(() => [LossFinding], { nullable: true, description: 'Found to be one of these.' })
  finding?: FindingName[] | null;

  @Field(() => [IncidentItemStatus], { nullable: true, description: 'In one of these states.' })
  status?: ItemStatusName[] | null;

  @Field(() => Boolean, {
    nullable: true,
    description: 'Nothing holds the file now, or something does.',
  })
  isLost?: boolean | null;
}

@ObjectType({ description: 'How far the repair of an incident has come. Counts are copies.' })
export class IncidentProgress {
  @Field(() => IncidentStatus, { description: 'How far the incident has come.' })
  status!: StatusName;

  @Field(() => SafeInt, { description: 'Copies that were hit.' })
  itemCount!: number;

  @Field(() => SafeInt, { description: 'That need to be brought back, and are not.' })
  openCount!: number;

  @Field(() => SafeInt, { description: 'Brought back.' })
  restoredCount!: number;

  @Field(() => SafeInt, { description: 'Whose file nothing holds.' })
  stillLostCount!: number;

  @Field(() => SafeInt, { description: 'Datasets that carry its mark.' })
  hiddenDatasetCount!: number;
}

@ObjectType({ description: 'An incident took a step.' })
export class IncidentEvent {
  @Field(() => String, { description: 'Give it as after to go on from here.' })
  cursor!: string;

  @Field(() => IncidentType, { description: 'The incident, as it is now.' })
  incident!: IncidentType;

  @Field(() => IncidentStatus, { nullable: true, description: 'State before; none for a new one.' })
  from!: StatusName | null;

  @Field(() => IncidentStatus, { description: 'State after.' })
  to!: StatusName;

  @Field(() => String, { description: 'Who did it.' })
  actor!: string;

  @Field(() => String, { nullable: true, description: 'Why.' })
  reason!: string | null;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
