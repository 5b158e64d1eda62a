import { Field, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { DateTime } from '../api/scalars.ts';
import type { RunVerdict as VerdictName } from './runs.rules.ts';
import { RunEvent, RunVerdict } from './runs.schema.ts';

export const RunEventConnection = connectionType('RunEvent', () => RunEvent);

@ObjectType({ description: "One change of DQM's word on a run." })
export class RunVerdictChange {
  @Field(() => RunVerdict, { nullable: true, description: 'The word before; none at first.' })
  from!: VerdictName | null;

  @Field(() => RunVerdict, { nullable: true, description: 'The word since.' })
  to!: VerdictName | null;

  @Field(() => String, { nullable: true, description: 'What was said with it.' })
  comment!: string | null;

  @Field(() => String, { description: 'Who said it.' })
  actor!: string;

  @Field(() => DateTime, { description: 'When.' })
  occurredAt!: Date;
}
