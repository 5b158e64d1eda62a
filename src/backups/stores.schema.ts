import { Field, Float, Int, ObjectType } from 'type-graphql';
import { enumType } from '../api/inputs.ts';
import { DateTime } from '../api/scalars.ts';
import type { ConfirmLevel } from '../storage/contract.ts';

export const ConfirmLevelType = enumType<ConfirmLevel>(
  'ConfirmLevel',
  'What a confirmation covers, from least to most.',
  {
    COPIED: 'Size and checksum as the store answers them.',
    READ_BACK: 'The bytes were read back and hashed by Sweepbook.',
    ARCHIVED: 'On tape, by the store’s own word; size and checksum besides.',
  },
);

@ObjectType({ description: 'One question of a self-test.' })
export class StoreTestFinding {
  @Field(() => String, { description: 'What lay there, or what it was compared with.' })
  step!: string;

  @Field(() => String, {
    nullable: true,
    description: 'SAYS: the store’s own word. READ_BACK: its bytes.',
  })
  asking?: string | null;

  @Field(() => String, { nullable: true, description: 'The right answer.' })
  expected?: string | null;

  @Field(() => String, { nullable: true, description: 'The answer that came.' })
  got?: string | null;

  @Field(() => String, { nullable: true, description: 'Why, where it was the wrong one.' })
  reason?: string | null;
}

@ObjectType({
  description: 'A self-test of a mass store: canaries, and what the store said of them.',
})
export class StoreTest {
  @Field(() => DateTime, { description: 'When.' })
  testedAt!: Date;

  @Field(() => String, { description: 'From which host.' })
  host!: string;

  @Field(() => Boolean, { description: 'Each answer was the right one.' })
  passed!: boolean;

  @Field(() => Boolean, { description: 'The store could be asked to the end.' })
  isConclusive!: boolean;

  @Field(() => [StoreTestFinding], { description: 'Question by question.' })
  findings!: readonly StoreTestFinding[];
}

@ObjectType({ description: 'When a copy that failed is tried again in a mass store.' })
export class StoreRetry {
  @Field(() => Float, { description: 'The wait after the first failure is up to so many seconds.' })
  firstSeconds!: number;

  @Field(() => Float, { description: 'It grows by so much with each failure,' })
  factor!: number;

  @Field(() => Float, { description: 'up to so many seconds.' })
  longestSeconds!: number;

  @Field(() => Int, {
    description:
      'A copy that has waited for tape for so many hours is told as late; it goes on waiting.',
  })
  tapeHours!: number;
}

@ObjectType({ description: 'A place where files are safe; jobs read from it.' })
export class MassStore {
  @Field(() => String, { description: 'Its name.' })
  name!: string;

  @Field(() => String, { description: 'What kind of store it is, for one directory.' })
  kind!: string;

  @Field(() => Boolean, { description: 'Used when no store is named.' })
  isDefault!: boolean;

  @Field(() => Int, { description: 'Copies at once, over all workers.' })
  concurrency!: number;

  @Field(() => Int, { description: 'Attempts at one file before it is FAILED.' })
  attemptLimit!: number;

  @Field(() => ConfirmLevelType, { description: 'What a backup needs before it counts.' })
  confirmLevel!: ConfirmLevel;

  @Field(() => Boolean, {
    description:
      'It passed its last self-test, or had none yet. One that failed is not taken at its word: what it holds is ' +
      'read back.',
  })
  isTrusted!: boolean;

  @Field(() => Boolean, {
    description:
      'It stands in the store file; others are kept for what they hold, and take nothing until they are back in it.',
  })
  isConfigured!: boolean;
}
