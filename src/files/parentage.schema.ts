import { Field, Int, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType } from '../api/inputs.ts';
import type { Direction as DirectionName } from './parentage.queries.ts';

export const Direction = enumType<DirectionName>(
  'AncestryDirection',
  'Which way a family is read.',
  {
    ANCESTORS: 'What it was made of: inputs of its merge, its parents, theirs, and so on.',
    DESCENDANTS:
      'What was made of it: the file it was merged into, its children, theirs, and so on.',
  },
);

@ObjectType({ description: 'A file of the same family.' })
export class Relative {
  @Field(() => Int, { description: 'Generations away, by the shortest way; from 1.' })
  generation!: number;
}

export const RelativeConnection = connectionType('Relative', () => Relative);
