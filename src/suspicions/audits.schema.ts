import { Field, ID, Int, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime, Json, SafeInt } from '../api/scalars.ts';
import type { AuditKind as KindName, AuditState as StateName } from './audits.rules.ts';

export const AuditKind = enumType<KindName>('AuditKind', 'What an audit does.', {
  READ_BACK: 'Reads back what was confirmed, what was confirmed longest ago first.',
  COMPARE: 'Lists the store and compares it with the catalogue, in both directions.',
});

export const AuditState = enumType<StateName>('AuditState', 'How far an audit has come.', {
  RUNNING: 'Under way, or waiting for a worker.',
  DONE: 'At its end; what was bad is lost, and asked for again.',
  ALARM: 'So much looks wrong that nothing more is done before somebody has looked.',
  DISMISSED: 'It was an alarm, and somebody found that it was none.',
});

const FindingKind = enumType<'BAD' | 'UNREADABLE' | 'UNKNOWN'>(
  'AuditFindingKind',
  'What was found.',
  {
    BAD: 'A confirmed copy that is not there, or not what was registered.',
    UNREADABLE: 'It could not be read, or nobody can tell.',
    UNKNOWN: 'A file in the store that the catalogue does not know. Nothing is done about it.',
  },
);

const Outcome = enumType<'LOST' | 'DISMISSED'>('AuditOutcome', 'What came of a finding.', {
  LOST: 'The copy is lost by an incident.',
  DISMISSED: 'It was not so, or not any more.',
});

@ObjectType({ description: 'Something that an audit found.' })
export class AuditFinding {
  @Field(() => String, { nullable: true, description: 'The file; null = not known.' })
  lfn!: string | null;

  @Field(() => String, { description: 'Where in the store.' })
  storeKey!: string;

  @Field(() => FindingKind, { description: 'What it is.' })
  what!: 'BAD' | 'UNREADABLE' | 'UNKNOWN';

  @Field(() => String, { description: 'In a sentence.' })
  says!: string;

  @Field(() => Json, { nullable: true, description: 'What was asked and answered.' })
  evidence!: unknown;

  @Field(() => DateTime, { description: 'When.' })
  foundAt!: Date;

  @Field(() => Outcome, { nullable: true, description: 'What came of it; null = nothing yet.' })
  outcome!: 'LOST' | 'DISMISSED' | null;
}

@ObjectType({ description: 'An audit of a mass store; counts are files.' })
export class StoreAudit {
  @Field(() => ID, { description: 'Its number.' })
  id!: number;

  @Field(() => String, { description: 'The store.' })
  store!: string;

  @Field(() => AuditKind, { description: 'What it does.' })
  what!: KindName;

  @Field(() => AuditState, { description: 'How far it has come.' })
  state!: StateName;

  @Field(() => String, { description: 'Who asked for it; "audit" = it was due.' })
  askedBy!: string;

  @Field(() => DateTime, { description: 'When it was asked for.' })
  startedAt!: Date;

  @Field(() => DateTime, { nullable: true, description: 'When it ended.' })
  finishedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'The worker that is at it now.' })
  worker!: string | null;

  @Field(() => SafeInt, { description: 'Read back, or listed.' })
  lookedCount!: number;

  @Field(() => SafeInt, { description: 'Bytes of those.' })
  lookedBytes!: number;

  @Field(() => SafeInt, { description: 'Not there, or not what was registered.' })
  wrongCount!: number;

  @Field(() => SafeInt, { description: 'Could not be read.' })
  unreadableCount!: number;

  @Field(() => SafeInt, { description: 'In the store, and not in the catalogue.' })
  unknownCount!: number;

  @Field(() => String, { nullable: true, description: 'In words: why it waits, or the alarm.' })
  detail!: string | null;
}

@ObjectType({ description: 'What a call did to an audit.' })
export class StoreAuditPayload {
  @Field(() => StoreAudit, { description: 'The audit.' })
  audit!: StoreAudit;

  @Field(() => Boolean, { description: 'False: it was so already.' })
  changed!: boolean;

  @Field(() => Int, { description: 'Copies that are lost by it.' })
  lostCount!: number;
}
