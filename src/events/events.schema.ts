import { Field, InputType, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, TimeFilter } from '../api/inputs.ts';
import { DateTime } from '../api/scalars.ts';
import type { EventOrder as OrderName } from './events.queries.ts';
import type { EventKind as EventKindName } from './events.rules.ts';

export const EventKind = enumType<EventKindName>('EventKind', 'What a line of the log tells.', {
  RUN_STATUS: 'A run was registered, or has left production.',
  RUN_VERDICT: 'DQM said its word on a run.',
  FILE_REGISTERED: 'A file was registered.',
  MERGE_RECORDED: 'Run files were merged into a file.',
  BACKUP_STATUS: 'A backup record took a step.',
  DATASET_STATUS: 'A dataset was created, or took a step of its life.',
  DATASET_SEALED: 'A sweep began: no file comes or goes.',
  DATASET_UNSEALED: 'A sweep was called off.',
  DATASET_FILES_ADDED: 'Files came into a dataset.',
  DATASET_FILES_REMOVED: 'Files left a dataset.',
  DATASET_MARKED_BAD: 'A dataset was marked bad.',
  DATASET_CLEARED: 'A bad mark was taken off.',
  CONTAINER_CREATED: 'A container was created.',
  CONTAINER_CHANGED: 'Datasets came into a container or left it.',
  INCIDENT_STATUS: 'A loss of storage was reported, or its repair took a step.',
  REPLICA_STATUS:
    'A copy on disk was found good or bad. That it was lost is told by the line of its incident.',
  COPY_SUSPICION: 'Jobs could not read a copy; or what was found when it was read.',
  POOL_COPY_STATUS: 'A copy comes into a pool, is there, or makes room.',
  IMPORT_STATUS: 'A dataset of another site is on its way here, or has come.',
  PUBLICATION_STATUS: 'What a user wants to publish took a step.',
  DATASET_SHARED: 'A dataset was shown to somebody before it is published.',
  DATASET_UNSHARED: 'That was ended.',
});

export const EventOrder = enumType<OrderName>('EventOrder', 'Which way the log is read.', {
  OLDEST_FIRST: 'As it was written.',
  NEWEST_FIRST: 'Backwards from the last line.',
});

@ObjectType('Event', {
  description:
    'One line of the log: who changed the state of what, when and why. Lines never change.',
})
export class EventType {
  @Field(() => String, {
    description: 'Its place in the log: give it as after to go on from here.',
  })
  cursor!: string;

  @Field(() => EventKind, { description: 'What it tells.' })
  kind!: EventKindName;

  @Field(() => String, { description: 'Who did it.' })
  actor!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Why, as the actor said; or what went wrong.',
  })
  reason!: string | null;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;

  @Field(() => String, { nullable: true, description: 'State before; none where life begins.' })
  fromState!: string | null;

  @Field(() => String, { nullable: true, description: 'State after.' })
  toState!: string | null;
}

export const EventConnection = connectionType('Event', () => EventType);

@InputType({ description: 'Conditions on lines of the log; all must hold.' })
export class EventFilter {
  @Field(() => [EventKind], { nullable: true, description: 'One of these kinds.' })
  kind?: EventKindName[] | null;

  @Field(() => String, { nullable: true, description: 'Of the dataset of this name.' })
  dataset?: string | null;

  @Field(() => String, { nullable: true, description: 'Of the container of this name.' })
  container?: string | null;

  @Field(() => String, { nullable: true, description: 'Of the file of this LFN.' })
  lfn?: string | null;

  @Field(() => Int, { nullable: true, description: 'Of the run of this number.' })
  run?: number | null;

  @Field(() => String, { nullable: true, description: 'DATA (if not given) or SIMULATION.' })
  runSource?: string | null;

  @Field(() => String, { nullable: true, description: 'Done by this principal.' })
  actor?: string | null;

  @Field(() => TimeFilter, { nullable: true, description: 'Written in this time.' })
  occurredAt?: TimeFilter | null;
}
