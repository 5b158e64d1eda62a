import { Field, InputType, ObjectType, registerEnumType } from 'type-graphql';
import type { NameConditions } from '../database/name-filter.ts';
import type { CountConditions, TimeConditions } from '../database/range-filter.ts';
import { DateTime, SafeInt } from './scalars.ts';

/** Registers an enum whose values are their own names, each with its meaning. */
export function enumType<V extends string>(
  name: string,
  description: string,
  values: Record<V, string>,
): Record<V, V> {
  const names = Object.keys(values) as V[];
  const type = Object.fromEntries(names.map((value) => [value, value])) as Record<V, V>;
  registerEnumType(type, {
    name,
    description,
    valuesConfig: Object.fromEntries(
      names.map((value) => [value, { description: values[value] }]),
    ) as Record<V, { description: string }>,
  });
  return type;
}

export const RegistrationOutcome = enumType(
  'RegistrationOutcome',
  'What became of one item of a bulk call.',
  {
    REGISTERED: 'New.',
    UPDATED: 'Was known; what was not known of it yet has been filled in.',
    EXISTING: 'Was known already, the same: nothing changed.',
    REFUSED: 'Not taken; error says why. The other items are not touched by it.',
  },
);
export type RegistrationOutcome = keyof typeof RegistrationOutcome;

@ObjectType({ description: 'Why one item was refused.' })
export class ItemError {
  @Field(() => String, { description: 'A code of docs/errors.md.' })
  code!: string;

  @Field(() => String, { description: 'What is wrong and what to do.' })
  message!: string;
}

@InputType({ description: 'Conditions on a name; several given must all hold.' })
export class NameFilter implements NameConditions {
  @Field(() => String, { nullable: true, description: 'Exactly this.' })
  eq?: string | null;

  @Field(() => [String], { nullable: true, description: 'One of these, at most 1,000.' })
  in?: string[] | null;

  @Field(() => String, { nullable: true, description: 'Begins with this.' })
  startsWith?: string | null;

  @Field(() => String, {
    nullable: true,
    description:
      '* stands for anything, ? for one character. LFNs: at least 3 characters before the first of them.',
  })
  glob?: string | null;
}

@InputType({ description: 'A span of time; both given = both must hold.' })
export class TimeFilter implements TimeConditions {
  @Field(() => DateTime, { nullable: true, description: 'At this moment or later.' })
  gte?: Date | null;

  @Field(() => DateTime, { nullable: true, description: 'Before this moment.' })
  lt?: Date | null;
}

@InputType({ description: 'A span of numbers; both given = both must hold.' })
export class CountFilter implements CountConditions {
  @Field(() => SafeInt, { nullable: true, description: 'So many or more.' })
  gte?: number | null;

  @Field(() => SafeInt, { nullable: true, description: 'Less than this.' })
  lt?: number | null;
}

/** How many items came out how. */
export function countOutcomes(results: readonly { outcome: RegistrationOutcome }[]) {
  const of = (outcome: RegistrationOutcome) =>
    results.filter((item) => item.outcome === outcome).length;
  return {
    registeredCount: of('REGISTERED'),
    updatedCount: of('UPDATED'),
    existingCount: of('EXISTING'),
    refusedCount: of('REFUSED'),
  };
}
