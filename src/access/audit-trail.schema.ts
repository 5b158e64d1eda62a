import { Field, Int, InputType, ObjectType } from 'type-graphql';
import { connectionType } from '../api/connection.ts';
import { enumType, TimeFilter } from '../api/inputs.ts';
import { DateTime } from '../api/scalars.ts';
import type { AuditKind as Kind } from './audit-trail.ts';
import type { AuditOutcome as Outcome } from './audit-trail.queries.ts';
import type { AnyRole } from './policy.ts';
import { Role } from './tokens.schema.ts';

const TrailKind = enumType<Kind>('TrailKind', 'What somebody did.', {
  QUERY: 'Asked for a field of Query.',
  MUTATION: 'Called a field of Mutation.',
  SUBSCRIPTION: 'Followed a field of Subscription.',
  REQUEST: 'Asked for another route of the server, /export for one.',
  CONNECTION: 'Opened a WebSocket, or asked for one.',
});

const TrailOutcome = enumType<Outcome>('TrailOutcome', 'What became of it.', {
  DONE: 'It was done, or answered.',
  REFUSED: 'It was refused; code says why.',
});

@ObjectType({ description: 'A line of the audit trail: who did what, from where, by which token.' })
export class AuditEntry {
  @Field(() => DateTime, { description: 'When.' })
  at!: Date;

  @Field(() => DateTime, {
    nullable: true,
    description: 'Nobody can remove the line before; null = ever.',
  })
  keptUntil!: Date | null;

  @Field(() => String, { description: 'Who; "unknown" for a token that was not known.' })
  principal!: string;

  @Field(() => [Role], { description: 'The roles that he had then.' })
  roles!: AnyRole[];

  @Field(() => String, { nullable: true, description: 'Prefix of the API token that he showed.' })
  tokenPrefix!: string | null;

  @Field(() => String, { nullable: true, description: 'Issuer of the JWT that he showed.' })
  issuer!: string | null;

  @Field(() => String, { nullable: true, description: 'Subject of that JWT.' })
  subject!: string | null;

  @Field(() => String, { nullable: true, description: 'Its own number (jti).' })
  jti!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'The address that it came from, behind proxies that are trusted.',
  })
  address!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Request id, as in the log and in x-request-id.',
  })
  requestId!: string | null;

  @Field(() => TrailKind, { description: 'What he did.' })
  kind!: Kind;

  @Field(() => String, {
    nullable: true,
    description:
      'What his client calls the operation; of other requests the path, of the WebSocket of another page its origin.',
  })
  operation!: string | null;

  @Field(() => String, { description: 'The root field; of other requests method and route.' })
  field!: string;

  @Field(() => TrailOutcome, { description: 'What became of it.' })
  outcome!: Outcome;

  @Field(() => String, {
    nullable: true,
    description: 'Why it was refused, a code of docs/errors.md.',
  })
  code!: string | null;

  @Field(() => Int, { description: 'How often within about a second, for refusals and reads.' })
  times!: number;
}

export const AuditEntryConnection = connectionType('AuditEntry', () => AuditEntry);

@InputType({ description: 'Which lines; several given must all hold.' })
export class AuditTrailFilter {
  @Field(() => String, { nullable: true, description: 'Of this principal.' })
  principal?: string | null;

  @Field(() => String, { nullable: true, description: 'From this address.' })
  address?: string | null;

  @Field(() => String, { nullable: true, description: 'By the API token with this prefix.' })
  tokenPrefix?: string | null;

  @Field(() => String, { nullable: true, description: 'Of this root field, or method and route.' })
  field?: string | null;

  @Field(() => [TrailKind], { nullable: true, description: 'Of one of these kinds.' })
  kind?: Kind[] | null;

  @Field(() => TrailOutcome, { nullable: true, description: 'With this outcome.' })
  outcome?: Outcome | null;

  @Field(() => String, { nullable: true, description: 'Refused with this code.' })
  code?: string | null;

  @Field(() => TimeFilter, { nullable: true, description: 'In this time.' })
  at?: TimeFilter | null;
}
