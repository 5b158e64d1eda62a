import { Field, InputType, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { DateTime, Json } from '../api/scalars.ts';
import type { AnyRole } from './policy.ts';
import { Role } from './tokens.schema.ts';

@ObjectType('Identity', {
  description: 'Somebody who came with a JWT of an issuer that is trusted, as he was last seen.',
})
export class IdentityType {
  @Field(() => String, { description: 'The name that stands in events: name@issuer.' })
  principal!: string;

  @Field(() => String, { description: 'The issuer (iss).' })
  issuer!: string;

  @Field(() => String, { description: 'The subject (sub) there.' })
  subject!: string;

  @Field(() => [Role], { description: 'What he was allowed.' })
  roles!: AnyRole[];

  @Field(() => Json, {
    nullable: true,
    description: 'The sites that a role was bound to, by role; null = none was bound.',
  })
  sites!: unknown;

  @Field(() => [String], { description: 'Groups that the issuer vouched for.' })
  groups!: string[];

  @Field(() => DateTime, { description: 'When he first came.' })
  firstSeenAt!: Date;

  @Field(() => DateTime, { description: 'When he last came, to the minute.' })
  lastSeenAt!: Date;

  @Field(() => String, { nullable: true, description: 'The address that he last came from.' })
  lastSeenFrom!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'Since when he is kept out.' })
  blockedAt!: Date | null;

  @Field(() => String, { nullable: true, description: 'Who keeps him out.' })
  blockedBy!: string | null;

  @Field(() => String, { nullable: true, description: 'Why.' })
  blockedReason!: string | null;
}

export const IdentityConnection = connectionType('Identity', () => IdentityType);

@InputType({ description: 'Who is to be kept out.' })
export class BlockIdentityInput {
  @Field(() => String, { description: 'His name, as the list shows it.' })
  principal!: string;

  @Field(() => String, { description: 'Why; he is told. 1 to 2000 characters.' })
  reason!: string;
}

@ObjectType({ description: 'Somebody who was blocked, or let in again.' })
export class IdentityPayload {
  @Field(() => IdentityType, { description: 'How he stands now.' })
  identity!: IdentityType;

  @Field(() => Boolean, { description: 'false: it was so already.' })
  changed!: boolean;
}
