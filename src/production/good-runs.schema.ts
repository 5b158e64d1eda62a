import { Field, Float, Int, ObjectType } from 'type-graphql';

@ObjectType({ description: 'The runs that DQM calls good.' })
export class GoodRuns {
  @Field(() => Int, { description: 'How many.' })
  count!: number;

  @Field(() => String, {
    description:
      'The run numbers in short, "36172-36180,36185"; what lies in a range is good without exception.',
  })
  ranges!: string;

  @Field(() => [Int], { description: 'The run numbers, ascending.' })
  numbers!: readonly number[];

  @Field(() => Float, { description: 'Events of these runs, as registered with them.' })
  eventCount!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Luminosity of these runs, 1/pb; null when none of them tells it.',
  })
  luminosity!: number | null;
}
